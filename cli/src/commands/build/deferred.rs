//! What of a build's input needs the store before it can be read: contexts that are archives, URLs and
//! repositories, and the Dockerfiles in them.

use super::inputs::{DOCKERFILE_BYTES_MAX, Inputs, read_bounded};
use crate::error::CommandError;
use lapstrake_builder::exec::{ContextContent, FetchedContext, Fetcher};
use lapstrake_builder::options::ContextSource;
use lapstrake_builder::remote::Remote;
use lapstrake_layerstore::store::Store;
use std::io::{self, Cursor, Read};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// An input that is still to be fetched.
#[derive(Debug)]
pub(crate) struct Deferred {
    /// The context, unless it is here.
    pub(super) context: Option<Origin>,
    /// The Dockerfile.
    pub(super) dockerfile: Dockerfile,
}

/// Where a context comes from.
#[derive(Debug)]
pub(super) enum Origin {
    /// Standard input, whose beginning was read already.
    Stdin(Vec<u8>),
    /// A URL or a repository.
    Remote(Remote),
}

/// Where the Dockerfile is.
#[derive(Debug)]
pub(super) enum Dockerfile {
    /// In the context, by this name or by its usual one.
    InContext(Option<PathBuf>),
    /// Here, with its name for messages.
    Here(Vec<u8>, String),
    /// Behind a URL.
    Url(Remote),
}

impl Deferred {
    /// Fetches it; `ready` is where files come from when the context itself is here.
    pub(super) fn fetch(
        self,
        fetcher: &Fetcher<'_>,
        store: &Store,
        ready: ContextSource,
    ) -> Result<Inputs, CommandError> {
        let content = match self.context {
            None => None,
            Some(Origin::Remote(remote)) => Some(fetcher.context(&remote)?),
            Some(Origin::Stdin(head)) => {
                let stream = Cursor::new(head).chain(io::stdin());
                Some(fetcher.stream(stream, "standard input")?)
            }
        };
        let files = match content {
            None => return self.dockerfile.beside(fetcher, ready),
            Some(ContextContent::Files(files)) => files,
            Some(ContextContent::Dockerfile(text)) => {
                return match self.dockerfile {
                    Dockerfile::InContext(None) => {
                        Ok(inputs(text, "Dockerfile".to_owned(), ContextSource::Empty))
                    }
                    _ => Err(CommandError::usage(
                        "the context is a Dockerfile itself, and -f names another",
                    )),
                };
            }
        };
        match self.dockerfile {
            Dockerfile::InContext(name) => in_context(&files, store, name.as_deref()),
            other => other.beside(fetcher, ContextSource::Fetched(files)),
        }
    }
}

impl Dockerfile {
    /// A Dockerfile that does not lie in the context.
    fn beside(self, fetcher: &Fetcher<'_>, context: ContextSource) -> Result<Inputs, CommandError> {
        match self {
            Self::Here(text, name) => Ok(inputs(text, name, context)),
            Self::Url(remote) => match fetcher.context(&remote)? {
                ContextContent::Dockerfile(text) => {
                    Ok(inputs(text, remote.url().to_owned(), context))
                }
                ContextContent::Files(_) => Err(CommandError::input(format!(
                    "-f {}: that is an archive or a repository and no Dockerfile",
                    remote.url()
                ))),
            },
            Self::InContext(_) => Err(CommandError::input("there is no context to look into")),
        }
    }
}

fn in_context(
    files: &FetchedContext,
    store: &Store,
    name: Option<&Path>,
) -> Result<Inputs, CommandError> {
    let read = |name: &Path| files.read(store, name.as_os_str().as_bytes(), DOCKERFILE_BYTES_MAX);
    let names = match name {
        Some(name) => vec![name],
        None => vec![Path::new("Dockerfile"), Path::new("dockerfile")],
    };
    for name in names {
        let Some(text) = read(name)? else { continue };
        let mut ignore = name.as_os_str().to_owned();
        ignore.push(".dockerignore");
        let shown = ignore.to_string_lossy().into_owned();
        let ignore_file = read(Path::new(&ignore))?.map(|bytes| (shown, bytes));
        let context = ContextSource::Fetched(files.clone());
        let name = name.display().to_string();
        return Ok(Inputs { ignore_file, ..inputs(text, name, context) });
    }
    let wanted = name.unwrap_or(Path::new("Dockerfile")).display();
    Err(CommandError::input(format!("there is no {wanted} in {}", files.name))
        .hint("name it with -f FILE, seen from the root of the context"))
}

fn inputs(dockerfile: Vec<u8>, name: String, context: ContextSource) -> Inputs {
    Inputs { dockerfile, name, path: None, context, ignore_file: None }
}

/// A Dockerfile of this machine for a context that is not.
pub(super) fn local(path: &Path) -> Result<Dockerfile, CommandError> {
    let text = read_bounded(path, DOCKERFILE_BYTES_MAX)?;
    Ok(Dockerfile::Here(text, path.display().to_string()))
}
