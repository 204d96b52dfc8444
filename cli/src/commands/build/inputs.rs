//! From flags to build options: the Dockerfile, contexts, arguments, secrets, sockets.

use super::deferred::{self, Deferred, Dockerfile, Origin};
use crate::error::{CommandError, Kind};
use crate::settings::{Settings, named_variable};
use crate::values;
use lapstrake_builder::exec::is_archive;
use lapstrake_builder::limits::ARCHIVE_PROBE_BYTES;
use lapstrake_builder::options::{ContextSource, LayoutImage, NamedContext};
use lapstrake_builder::remote::Remote;
use lapstrake_layerstore::reference::Reference;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};

/// No Dockerfile is larger; what is, is a mistake (the context's archive, a binary).
pub(crate) const DOCKERFILE_BYTES_MAX: u64 = 16 << 20;
/// An ignore file that is larger would take longer to match than the files it hides.
const IGNORE_BYTES_MAX: u64 = 4 << 20;
/// BuildKit's own limit of a secret.
const SECRET_BYTES_MAX: u64 = 500 << 10;

/// The Dockerfile, where its files come from, and its own ignore file.
#[derive(Debug)]
pub(crate) struct Inputs {
    pub(crate) dockerfile: Vec<u8>,
    pub(crate) name: String,
    /// The file, if it is one.
    pub(crate) path: Option<PathBuf>,
    pub(crate) context: ContextSource,
    pub(crate) ignore_file: Option<(String, Vec<u8>)>,
}

/// What `PATH` and `-f` name: read, or to be fetched when there is a store to put it into.
#[derive(Debug)]
pub(crate) enum Given {
    Ready(Inputs),
    Deferred(Deferred, ContextSource),
}

/// Reads what `PATH` and `-f` name, as far as it is here.
pub(crate) fn read(context: &str, file: Option<&Path>) -> Result<Given, CommandError> {
    if context == "-" {
        return from_stdin(file);
    }
    let is_here = Path::new(context).exists();
    let remote = if is_here { None } else { parse_remote(context)? };
    let url = file.and_then(Path::to_str).map(parse_remote).transpose()?.flatten();
    if let Some(remote) = remote {
        let dockerfile = match (file, url) {
            (_, Some(url)) => Dockerfile::Url(url),
            (Some(file), _) if file == Path::new("-") => {
                Dockerfile::Here(stdin_dockerfile(Vec::new())?, "Dockerfile".into())
            }
            (Some(file), _) if file.is_absolute() => deferred::local(file)?,
            (file, _) => Dockerfile::InContext(file.map(Path::to_owned)),
        };
        let deferred = Deferred { context: Some(Origin::Remote(remote)), dockerfile };
        return Ok(Given::Deferred(deferred, ContextSource::Empty));
    }
    let directory = directory(context)?;
    if let Some(url) = url {
        let deferred = Deferred { context: None, dockerfile: Dockerfile::Url(url) };
        return Ok(Given::Deferred(deferred, ContextSource::Directory(directory)));
    }
    local(&directory, file).map(Given::Ready)
}

/// A directory, and a Dockerfile of this machine.
fn local(directory: &Path, file: Option<&Path>) -> Result<Inputs, CommandError> {
    let context = ContextSource::Directory(directory.to_owned());
    if file == Some(Path::new("-")) {
        let dockerfile = stdin_dockerfile(Vec::new())?;
        let (name, path, ignore_file) = ("Dockerfile".into(), None, None);
        return Ok(Inputs { dockerfile, name, path, context, ignore_file });
    }
    let path = match file {
        Some(file) => named_dockerfile(file, directory)?,
        None => default_dockerfile(directory)?,
    };
    let dockerfile = read_bounded(&path, DOCKERFILE_BYTES_MAX)?;
    let ignore = suffixed(&path, ".dockerignore");
    let ignore_file = if ignore.is_file() {
        Some((ignore.display().to_string(), read_bounded(&ignore, IGNORE_BYTES_MAX)?))
    } else {
        None
    };
    let name = path.strip_prefix("./").unwrap_or(&path).display().to_string();
    Ok(Inputs { dockerfile, name, path: Some(path), context, ignore_file })
}

/// `lap build -`: a Dockerfile, or an archive of a whole context.
fn from_stdin(file: Option<&Path>) -> Result<Given, CommandError> {
    if file == Some(Path::new("-")) {
        return Err(CommandError::usage("-f - cannot be used with the context `-`")
            .hint("`lap build -` reads the Dockerfile or an archive from standard input"));
    }
    let mut head = Vec::new();
    let read = io::stdin().lock().take(ARCHIVE_PROBE_BYTES).read_to_end(&mut head);
    read.map_err(|error| CommandError::io(Kind::Host, "cannot read standard input", &error))?;
    if is_archive(&head) {
        let dockerfile = match file {
            Some(file) if file.is_absolute() => deferred::local(file)?,
            file => Dockerfile::InContext(file.map(Path::to_owned)),
        };
        let deferred = Deferred { context: Some(Origin::Stdin(head)), dockerfile };
        return Ok(Given::Deferred(deferred, ContextSource::Empty));
    }
    if file.is_some() {
        return Err(CommandError::usage(
            "standard input is no archive, so -f names nothing that is in it",
        )
        .hint("`lap build -` reads the Dockerfile itself from standard input"));
    }
    let (dockerfile, name) = (stdin_dockerfile(head)?, "Dockerfile".into());
    let (path, context, ignore_file) = (None, ContextSource::Empty, None);
    Ok(Given::Ready(Inputs { dockerfile, name, path, context, ignore_file }))
}

fn parse_remote(text: &str) -> Result<Option<Remote>, CommandError> {
    Remote::parse_context(text)
        .map_err(|error| CommandError::usage(format!("cannot use the address: {error}")))
}

/// The `.dockerignore` of a context, if it has one.
pub(crate) fn context_ignore_file(
    directory: &Path,
) -> Result<Option<(String, Vec<u8>)>, CommandError> {
    let path = directory.join(".dockerignore");
    if !path.is_file() {
        return Ok(None);
    }
    Ok(Some((path.display().to_string(), read_bounded(&path, IGNORE_BYTES_MAX)?)))
}

/// Standard input after its beginning `head`, which must be text.
fn stdin_dockerfile(head: Vec<u8>) -> Result<Vec<u8>, CommandError> {
    let failed =
        |error: io::Error| CommandError::io(Kind::Host, "cannot read standard input", &error);
    let mut dockerfile = head;
    io::stdin()
        .lock()
        .take(DOCKERFILE_BYTES_MAX + 1)
        .read_to_end(&mut dockerfile)
        .map_err(failed)?;
    if dockerfile.len() as u64 > DOCKERFILE_BYTES_MAX || is_archive(&dockerfile) {
        return Err(CommandError::input("standard input is not a Dockerfile")
            .hint("`lap build -` takes an archive of a whole context"));
    }
    Ok(dockerfile)
}

fn directory(context: &str) -> Result<PathBuf, CommandError> {
    let path = Path::new(context);
    let meta = path.metadata().map_err(|error| {
        CommandError::io(Kind::Input, format!("cannot use {context} as the build context"), &error)
    })?;
    if !meta.is_dir() {
        return Err(CommandError::input(format!("the build context {context} is not a directory"))
            .hint("to name a Dockerfile use -f FILE"));
    }
    Ok(path.to_owned())
}

/// `-f`: seen from the working directory as docker does, else from the context as BuildKit's own
/// clients do.
fn named_dockerfile(file: &Path, directory: &Path) -> Result<PathBuf, CommandError> {
    let below = directory.join(file);
    let found = [file, &below].into_iter().find(|path| path.exists()).map(Path::to_owned);
    found.ok_or_else(|| {
        CommandError::input(format!("there is no Dockerfile at {}", file.display())).cause(format!(
            "neither {} nor {} is there",
            file.display(),
            below.display()
        ))
    })
}

pub(crate) fn default_dockerfile(directory: &Path) -> Result<PathBuf, CommandError> {
    let names = ["Dockerfile", "dockerfile"].map(|name| directory.join(name));
    if let Some(path) = names.iter().find(|path| path.exists()) {
        return Ok(path.clone());
    }
    let missing = CommandError::input(format!("there is no Dockerfile in {}", directory.display()));
    let other = directory.join("Containerfile");
    Err(if other.exists() {
        missing.hint(format!("there is a Containerfile; name it with -f {}", other.display()))
    } else {
        missing.hint("name it with -f FILE, or give the directory that it is in")
    })
}

fn suffixed(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

pub(crate) fn read_bounded(path: &Path, limit: u64) -> Result<Vec<u8>, CommandError> {
    let failed = |error: io::Error| CommandError::from_open(path, &error);
    let file = File::open(path).map_err(failed)?;
    if file.metadata().map_err(failed)?.is_dir() {
        return Err(CommandError::input(format!("{} is a directory", path.display())));
    }
    let mut bytes = Vec::new();
    file.take(limit + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() as u64 > limit {
        return Err(CommandError::input(format!(
            "{} is larger than the limit of {limit} bytes",
            path.display()
        )));
    }
    Ok(bytes)
}

/// `--build-arg NAME=VALUE`, or `NAME` for the value in the environment; a name that is not set
/// there is as if it had not been given.
pub(crate) fn build_args(given: &[String]) -> Result<Vec<(String, String)>, CommandError> {
    let mut all = Vec::new();
    for text in given {
        match text.split_once('=') {
            Some(("", _)) => {
                return Err(CommandError::usage(format!("--build-arg {text} has no name")));
            }
            Some((name, value)) => all.push((name.to_owned(), value.to_owned())),
            None => {
                let value = named_variable(text).map(|value| value.to_string_lossy().into_owned());
                all.extend(value.map(|value| (text.clone(), value)));
            }
        }
    }
    Ok(all)
}

/// `--build-context NAME=SOURCE`.
pub(super) fn named_contexts(
    given: &[String],
) -> Result<BTreeMap<String, NamedContext>, CommandError> {
    let mut all = BTreeMap::new();
    for text in given {
        let bad = |why: &str| CommandError::usage(format!("--build-context {text}: {why}"));
        let (name, source) = text.split_once('=').ok_or_else(|| bad("write it as NAME=SOURCE"))?;
        if name.is_empty() || source.is_empty() {
            return Err(bad("write it as NAME=SOURCE"));
        }
        // Stages and images are found by it, so it is written as their names are.
        let image = name.split_once("::").map_or(name, |(image, _platform)| image);
        Reference::parse(image).map_err(|e| bad(&format!("invalid context name: {e}")))?;
        let context = match source.split_once("://") {
            Some(("docker-image", image)) => NamedContext::Image(image.to_owned()),
            Some(("oci-layout", layout)) => NamedContext::Layout(layout_image(layout)?),
            _ if Path::new(source).is_dir() => NamedContext::Directory(source.into()),
            _ => match (Remote::parse_context(source), source.split_once("://")) {
                (Ok(Some(remote)), _) => NamedContext::Remote(remote),
                (Err(error), _) => return Err(bad(&error.to_string())),
                (Ok(None), Some((scheme, _))) => {
                    return Err(bad(&format!(
                        "{scheme}:// is none of docker-image://, oci-layout://, http(s):// and git's"
                    )));
                }
                (Ok(None), None) => {
                    return Err(CommandError::input(format!(
                        "--build-context {name}: {source} is not a directory"
                    )));
                }
            },
        };
        all.insert(name.to_owned(), context);
    }
    Ok(all)
}

/// `DIRECTORY[:TAG|@DIGEST]`
fn layout_image(text: &str) -> Result<LayoutImage, CommandError> {
    let (directory, image) = match text.split_once('@') {
        Some(found) => found,
        None => match text.rsplit_once(':').filter(|(_, tag)| !tag.contains('/')) {
            Some(found) if !Path::new(text).is_dir() => found,
            _ => (text, ""),
        },
    };
    if !Path::new(directory).join("oci-layout").is_file() {
        return Err(CommandError::input(format!("{directory} is no directory in OCI layout"))
            .hint("`lap save --help` says how to make one"));
    }
    Ok(LayoutImage { directory: directory.into(), image: image.to_owned() })
}

/// `--secret id=ID,src=FILE`, `id=ID,env=NAME`, or `id=ID`: the variable of that name, else the
/// file.
pub(super) fn secrets(given: &[String]) -> Result<BTreeMap<String, Vec<u8>>, CommandError> {
    let mut all = BTreeMap::new();
    for text in given {
        let (id, value) = secret(text)?;
        if all.insert(id.clone(), value).is_some() {
            return Err(CommandError::usage(format!("--secret: the id {id} is given twice")));
        }
    }
    Ok(all)
}

fn secret(text: &str) -> Result<(String, Vec<u8>), CommandError> {
    let bad = |why: &str| CommandError::usage(format!("--secret {text}: {why}"));
    let (mut id, mut file, mut variable, mut kind) = (None, None, None, None);
    for field in values::fields("--secret", text)? {
        let value = field.value.ok_or_else(|| bad("every field is KEY=VALUE"))?;
        match field.key.as_str() {
            "id" => id = Some(value),
            "src" | "source" => file = Some(PathBuf::from(value)),
            "env" => variable = Some(value),
            "type" if matches!(value.as_str(), "file" | "env") => kind = Some(value),
            "type" => return Err(bad("the type is file or env")),
            other => {
                return Err(bad(&format!(
                    "there is no key `{other}`; there are id, src, env and type"
                )));
            }
        }
    }
    let id = id.filter(|id| !id.is_empty()).ok_or_else(|| bad("it has no id"))?;
    if kind.as_deref() == Some("env") && variable.is_none() {
        // As docker has it, `src` names the variable then.
        variable = Some(file.take().map_or_else(|| id.clone(), |name| name.display().to_string()));
    }
    let by_type = kind.as_deref() == Some("file");
    let value = match (file, variable) {
        (Some(_), Some(_)) => return Err(bad("src and env exclude each other")),
        (Some(path), None) => read_bounded(&path, SECRET_BYTES_MAX)?,
        (None, Some(name)) => environment_secret(&name)?,
        (None, None) => match named_variable(&id).filter(|_| !by_type) {
            Some(value) => value.into_vec(),
            None => read_bounded(Path::new(&id), SECRET_BYTES_MAX)?,
        },
    };
    Ok((id, value))
}

fn environment_secret(name: &str) -> Result<Vec<u8>, CommandError> {
    let value = named_variable(name)
        .ok_or_else(|| CommandError::input(format!("--secret: the variable {name} is not set")))?;
    Ok(value.into_vec())
}

/// `--ssh ID=SOCKET`; without a socket, the user's agent.
pub(super) fn ssh_sockets(
    given: &[String],
    settings: &Settings,
) -> Result<BTreeMap<String, PathBuf>, CommandError> {
    let mut all = BTreeMap::new();
    for text in given {
        let (id, socket) =
            text.split_once('=').map_or((text.as_str(), None), |(id, socket)| (id, Some(socket)));
        let agent = || settings.ssh_auth_sock.clone();
        let socket = socket.map(PathBuf::from).or_else(agent).ok_or_else(|| {
            CommandError::input(format!(
                "--ssh {text}: no agent is running (SSH_AUTH_SOCK is not set)"
            ))
        })?;
        let meta = socket.metadata().map_err(|error| CommandError::from_open(&socket, &error))?;
        if !meta.file_type().is_socket() {
            return Err(CommandError::input(format!(
                "--ssh {id}: {} is not a socket",
                socket.display()
            ))
            .hint(
                "keys are not read; add the key to an agent with ssh-add and give the \
                     agent's socket",
            ));
        }
        all.insert(id.to_owned(), socket);
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_come_from_the_command_line_or_the_environment() {
        let given = ["A=1=2".to_owned(), "B=".into(), "LAP_TEST_IS_NOT_SET".into()];
        let expected = [("A".to_owned(), "1=2".to_owned()), ("B".into(), String::new())];
        assert_eq!(build_args(&given).unwrap(), expected);
        assert!(build_args(&["=x".to_owned()]).is_err());
    }

    #[test]
    fn the_dockerfile_is_found() {
        let dir = tempfile::tempdir().unwrap();
        let context = dir.path().to_str().unwrap();
        let read = |context: &str, file: Option<&Path>| match read(context, file) {
            Ok(Given::Ready(inputs)) => Ok(inputs),
            Ok(Given::Deferred(..)) => panic!("a directory is here"),
            Err(error) => Err(error),
        };
        assert_eq!(read(context, None).unwrap_err().exit(), crate::exit::Exit::INPUT);
        std::fs::write(dir.path().join("dockerfile"), "FROM scratch\n").unwrap();
        assert_eq!(read(context, None).unwrap().dockerfile, b"FROM scratch\n");
        std::fs::write(dir.path().join("x.df"), "FROM a\n").unwrap();
        std::fs::write(dir.path().join("x.df.dockerignore"), "*\n").unwrap();
        let inputs = read(context, Some(Path::new("x.df"))).unwrap();
        assert_eq!(
            (inputs.dockerfile.as_slice(), inputs.ignore_file.unwrap().1.as_slice()),
            (&b"FROM a\n"[..], &b"*\n"[..])
        );
        assert!(read(context, Some(Path::new("nope.df"))).is_err());
        assert!(read(context, Some(dir.path())).is_err());
    }

    #[test]
    fn secrets_are_read() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("tok");
        std::fs::write(&file, b"a\0b").unwrap();
        let given = format!("id=tok,src={}", file.display());
        assert_eq!(secrets(std::slice::from_ref(&given)).unwrap()["tok"], b"a\0b");
        assert!(secrets(&[given.clone(), given]).is_err());
        for bad in
            ["tok", "src=x", "id=a,src=b,env=c", "id=a,what=b", "id=a,env=LAP_TEST_IS_NOT_SET"]
        {
            assert!(secrets(&[bad.to_owned()]).is_err(), "{bad}");
        }
    }

    #[test]
    fn contexts_are_directories_or_images() {
        let given = ["base=docker-image://busybox".to_owned(), "here=.".into()];
        let all = named_contexts(&given).unwrap();
        assert!(matches!(&all["base"], NamedContext::Image(name) if name == "busybox"));
        assert!(matches!(&all["here"], NamedContext::Directory(_)));
        let given = ["a=https://h/x.tar".to_owned(), "b=https://h/x.git#main".into()];
        let all = named_contexts(&given).unwrap();
        assert!(matches!(&all["a"], NamedContext::Remote(Remote::Http(_))));
        assert!(matches!(&all["b"], NamedContext::Remote(Remote::Git(_))));
        for bad in
            ["x", "=.", "x=", "Base=.", "x=ftp://a", "x=oci-layout:///nowhere", "x=/nowhere/at/all"]
        {
            assert!(named_contexts(&[bad.to_owned()]).is_err(), "{bad}");
        }
    }
}
