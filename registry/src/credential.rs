//! Who we are to a registry: docker's `config.json`, credential helpers, containers' `auth.json`.
//!
//! Credentials are looked up at the moment of use, never kept longer than a client lives, and the
//! library learns from its caller which files to read: it reads no environment. (A credential
//! helper is a program of the user's choice, `docker-credential-NAME`, found through `PATH`.)

use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use docker_credential::{CredentialRetrievalError as Retrieval, DockerCredential};

use crate::error::clean;
use crate::limits;
use crate::secret::Secret;

/// What proves who we are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Credential {
    /// A user name and a password or access token.
    Basic {
        /// The user name.
        username: String,
        /// The password.
        password: Secret,
    },
    /// A refresh token that the token endpoint exchanges for access tokens.
    IdentityToken(Secret),
}

/// Where credentials come from.
pub trait CredentialSource: std::fmt::Debug + Send + Sync {
    /// The credential for a repository of a registry (`host[:port]`, `docker.io` for the default
    /// one), or `None` to go on as nobody.
    fn credential(
        &self,
        registry: &str,
        repository: &str,
    ) -> Result<Option<Credential>, CredentialError>;
}

/// A credential that is there and cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum CredentialError {
    /// The file cannot be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The file is larger than any credential file.
    #[error("{} is larger than {} bytes", path.display(), limits::CREDENTIAL_FILE_BYTES)]
    TooLarge {
        /// The file.
        path: PathBuf,
    },
    /// The file does not say what such a file says.
    #[error("cannot use {} for {registry}: {why}", path.display())]
    Parse {
        /// The file.
        path: PathBuf,
        /// The registry asked for.
        registry: String,
        /// What is wrong.
        why: &'static str,
    },
    /// The credential helper failed.
    #[error("the credential helper named in {} failed for {registry}: {message}", path.display())]
    Helper {
        /// The file that names the helper.
        path: PathBuf,
        /// The registry asked for.
        registry: String,
        /// What the helper said.
        message: String,
    },
}

/// No credentials: anonymous access only.
#[derive(Debug, Clone, Copy, Default)]
pub struct Anonymous;

impl CredentialSource for Anonymous {
    fn credential(&self, _: &str, _: &str) -> Result<Option<Credential>, CredentialError> {
        Ok(None)
    }
}

/// One credential for one registry, as `--creds` gives it.
#[derive(Debug, Clone)]
pub struct FixedCredential {
    /// The registry it is for; no other ever sees it.
    pub registry: String,
    /// The credential.
    pub credential: Credential,
}

impl CredentialSource for FixedCredential {
    fn credential(&self, registry: &str, _: &str) -> Result<Option<Credential>, CredentialError> {
        Ok((registry == self.registry).then(|| self.credential.clone()))
    }
}

/// Credential files in order of preference; the first that knows the registry wins, absent files
/// are passed over.
#[derive(Debug, Clone, Default)]
pub struct CredentialFiles {
    files: Vec<PathBuf>,
}

impl CredentialFiles {
    /// Docker `config.json` and containers `auth.json` files; the two have one format.
    pub fn new(files: Vec<PathBuf>) -> Self {
        Self { files }
    }
}

impl CredentialSource for CredentialFiles {
    fn credential(
        &self,
        registry: &str,
        repository: &str,
    ) -> Result<Option<Credential>, CredentialError> {
        for path in &self.files {
            let Some(bytes) = read_bounded(path)? else { continue };
            for key in keys(registry, repository) {
                if let Some(found) = look_up(path, &bytes, &key)? {
                    return Ok(Some(found));
                }
            }
        }
        Ok(None)
    }
}

/// The names under which credentials for a repository may be filed: containers tools file by
/// repository or namespace too, docker files the default registry under its old address.
fn keys(registry: &str, repository: &str) -> Vec<String> {
    let mut keys = Vec::new();
    let mut path = Some(repository).filter(|path| !path.is_empty());
    while let Some(prefix) = path {
        keys.push(format!("{registry}/{prefix}"));
        path = prefix.rsplit_once('/').map(|(parent, _)| parent);
    }
    if registry == "docker.io" {
        keys.push("https://index.docker.io/v1/".to_owned());
    }
    keys.push(registry.to_owned());
    keys
}

/// The file's bytes, or `None` if there is no file.
fn read_bounded(path: &Path) -> Result<Option<Vec<u8>>, CredentialError> {
    let read = |source| CredentialError::Read { path: path.to_owned(), source };
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if is_absent(&error) => return Ok(None),
        Err(error) => return Err(read(error)),
    };
    let mut bytes = Vec::new();
    file.take(limits::CREDENTIAL_FILE_BYTES + 1).read_to_end(&mut bytes).map_err(read)?;
    if bytes.len() as u64 > limits::CREDENTIAL_FILE_BYTES {
        return Err(CredentialError::TooLarge { path: path.to_owned() });
    }
    Ok(Some(bytes))
}

/// Whether no file is there, also because a parent is no directory.
fn is_absent(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

/// Asks one file, and the helper that it may name, for one key.
fn look_up(path: &Path, bytes: &[u8], key: &str) -> Result<Option<Credential>, CredentialError> {
    let parse = |why| CredentialError::Parse { path: path.to_owned(), registry: key.into(), why };
    let helper = |message: String| CredentialError::Helper {
        path: path.to_owned(),
        registry: key.to_owned(),
        message,
    };
    match docker_credential::get_credential_from_reader(bytes, key) {
        Ok(DockerCredential::IdentityToken(token)) => {
            Ok(Some(Credential::IdentityToken(Secret::new(token))))
        }
        Ok(DockerCredential::UsernamePassword(username, password)) => {
            Ok(Some(Credential::Basic { username, password: Secret::new(password) }))
        }
        Err(Retrieval::NoCredentialConfigured | Retrieval::ConfigNotFound) => Ok(None),
        Err(Retrieval::ConfigReadError) => Err(parse("it is not a docker configuration")),
        Err(Retrieval::CredentialDecodingError) => Err(parse("its `auth` is not user:password")),
        Err(Retrieval::CredentialMismatchError) => {
            Err(parse("its `auth` and its `username` and `password` differ"))
        }
        Err(Retrieval::HelperFailure { stdout, stderr, .. }) => {
            // Every helper of docker's says these words when it has nothing.
            if stdout.contains("credentials not found") || stderr.contains("credentials not found")
            {
                return Ok(None);
            }
            Err(helper(clean(if stdout.trim().is_empty() { &stderr } else { &stdout })))
        }
        Err(Retrieval::HelperCommunicationError) => Err(helper("it could not be run".to_owned())),
        Err(Retrieval::MalformedHelperResponse) => {
            Err(helper("its answer could not be read".to_owned()))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(json: &str, registry: &str, repository: &str, expected: Option<(&str, &str)>) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("config.json");
        std::fs::write(&path, json).unwrap();
        let source = CredentialFiles::new(vec![folder.path().join("absent/auth.json"), path]);
        let found = source.credential(registry, repository).unwrap();
        let shown = found.as_ref().map(|found| match found {
            Credential::Basic { username, password } => (username.as_str(), password.expose()),
            Credential::IdentityToken(token) => ("<token>", token.expose()),
        });
        assert_eq!(shown, expected, "{json}");
    }

    #[test]
    fn files_of_docker_and_containers() {
        // dXNlcjpwYXNz is user:pass, YTpi is a:b.
        let one = r#"{"auths":{"r.example:5000":{"auth":"dXNlcjpwYXNz"}}}"#;
        check(one, "r.example:5000", "x/y", Some(("user", "pass")));
        check(one, "r.example", "x/y", None);
        let hub = r#"{"auths":{"https://index.docker.io/v1/":{"auth":"dXNlcjpwYXNz"}}}"#;
        check(hub, "docker.io", "library/alpine", Some(("user", "pass")));
        let hub = r#"{"auths":{"docker.io":{"auth":"dXNlcjpwYXNz"}}}"#;
        check(hub, "docker.io", "library/alpine", Some(("user", "pass")));
        let nested =
            r#"{"auths":{"q.example":{"auth":"dXNlcjpwYXNz"},"q.example/team":{"auth":"YTpi"}}}"#;
        check(nested, "q.example", "team/app", Some(("a", "b")));
        check(nested, "q.example", "other/app", Some(("user", "pass")));
        let token = r#"{"auths":{"t.example":{"auth":"YTpi","identitytoken":"tok"}}}"#;
        check(token, "t.example", "a", Some(("<token>", "tok")));
        check("{}", "t.example", "a", None);
    }

    #[test]
    fn broken_files_are_named_and_secrets_are_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("config.json");
        std::fs::write(&path, r#"{"auths":{"r":{"auth":"c2VjcmV0"}}}"#).unwrap();
        let error = CredentialFiles::new(vec![path.clone()]).credential("r", "a").unwrap_err();
        assert!(error.to_string().contains("config.json"), "{error}");
        assert!(!format!("{error:?}{error}").contains("c2VjcmV0"));
        std::fs::write(&path, "not json").unwrap();
        CredentialFiles::new(vec![path]).credential("r", "a").unwrap_err();
    }
}
