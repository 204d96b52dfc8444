//! Docker's `config.json`, as far as passwords go. Keys that `lap` does not know stay as they are.

use crate::error::{CommandError, Kind};
use crate::settings::Settings;
use serde_json::{Map, Value, json};
use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// What the default registry is called in the file, for reasons of its own history.
const DEFAULT_REGISTRY_KEY: &str = "https://index.docker.io/v1/";

/// The name under which a registry's password is filed.
pub(crate) fn key(registry: Option<&str>) -> String {
    match registry {
        None | Some("docker.io" | "index.docker.io" | "registry-1.docker.io") => {
            DEFAULT_REGISTRY_KEY.into()
        }
        Some(host) => {
            let host = host.trim_start_matches("https://").trim_start_matches("http://");
            host.trim_end_matches('/').to_owned()
        }
    }
}

/// The file, read.
#[derive(Debug)]
pub(crate) struct DockerConfig {
    path: PathBuf,
    root: Map<String, Value>,
}

impl DockerConfig {
    /// Reads the file; one that is not there is empty.
    pub(crate) fn read(settings: &Settings) -> Result<Self, CommandError> {
        let directory = settings.docker_config.clone().ok_or_else(|| {
            CommandError::new(Kind::Host, "cannot tell where config.json is: HOME is not set")
                .hint("name its directory in DOCKER_CONFIG")
        })?;
        let path = directory.join("config.json");
        let root = match fs::read(&path) {
            Ok(bytes) => serde_json::from_slice(&bytes).map_err(|error| {
                CommandError::chain(Kind::Input, &error)
                    .cause(format!("{} is not a JSON object", path.display()))
            })?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Map::new(),
            Err(error) => return Err(CommandError::from_open(&path, &error)),
        };
        Ok(Self { path, root })
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// An error if a credential helper keeps this registry's password.
    pub(crate) fn refuse_helper(&self, registry: &str) -> Result<(), CommandError> {
        let own = self.root.get("credHelpers").and_then(|helpers| helpers.get(registry));
        match own.or_else(|| self.root.get("credsStore")).and_then(Value::as_str) {
            Some(helper) if !helper.is_empty() => Err(CommandError::usage(format!(
                "the credential helper `{helper}` keeps the password for {registry}"
            ))
            .hint(
                "log in with docker or with the program that the helper belongs to; lap asks \
                 the helper, too",
            )),
            _ => Ok(()),
        }
    }

    /// Files a password.
    pub(crate) fn set(&mut self, registry: &str, username: &str, password: &str) {
        let auths = self.root.entry("auths").or_insert_with(|| json!({}));
        auths[registry] = json!({"auth": base64(format!("{username}:{password}").as_bytes())});
    }

    /// Removes a password; whether there was one.
    pub(crate) fn remove(&mut self, registry: &str) -> bool {
        let auths = self.root.get_mut("auths").and_then(Value::as_object_mut);
        auths.is_some_and(|auths| auths.remove(registry).is_some())
    }

    /// Replaces the file, readable by its owner alone.
    pub(crate) fn write(&self) -> Result<(), CommandError> {
        let failed = |error: &io::Error| {
            CommandError::io(Kind::Host, format!("cannot write {}", self.path.display()), error)
        };
        let directory = self.path.parent().unwrap_or(Path::new("."));
        fs::create_dir_all(directory).map_err(|error| failed(&error))?;
        let mut file =
            tempfile::NamedTempFile::new_in(directory).map_err(|error| failed(&error))?;
        let text = format!("{:#}\n", Value::Object(self.root.clone()));
        let private = fs::Permissions::from_mode(0o600);
        file.write_all(text.as_bytes())
            .and_then(|()| file.as_file().set_permissions(private))
            .map_err(|error| failed(&error))?;
        file.persist(&self.path).map_err(|error| failed(&error.error)).map(drop)
    }
}

/// Standard base64 with padding.
fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let mut group = [0; 3];
        group[..chunk.len()].copy_from_slice(chunk);
        let bits = u32::from_be_bytes([0, group[0], group[1], group[2]]);
        for at in 0..4 {
            let index = (bits >> (18 - 6 * at)) & 63;
            text.push(if at <= chunk.len() { char::from(ALPHABET[index as usize]) } else { '=' });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_is_the_usual_one() {
        for (bytes, text) in [
            ("", ""),
            ("f", "Zg=="),
            ("fo", "Zm8="),
            ("foo", "Zm9v"),
            ("user:pass", "dXNlcjpwYXNz"),
        ] {
            assert_eq!(base64(bytes.as_bytes()), text);
        }
    }

    #[test]
    fn registries_have_docker_s_names() {
        assert_eq!(key(None), DEFAULT_REGISTRY_KEY);
        assert_eq!(key(Some("https://r.example:5000/")), "r.example:5000");
    }

    #[test]
    fn unknown_keys_stay() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("config.json");
        let root = serde_json::from_str(r#"{"other":1,"auths":{"a":{"auth":"x"}}}"#).unwrap();
        let mut config = DockerConfig { path: path.clone(), root };
        config.set("b", "user", "pass");
        assert!(config.remove("a") && !config.remove("a"));
        config.write().unwrap();
        let written: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        assert_eq!(written, json!({"other": 1, "auths": {"b": {"auth": "dXNlcjpwYXNz"}}}));
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    }
}
