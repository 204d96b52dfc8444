//! From the libraries' errors to what a person is told: kind, words, hints.

use super::{CommandError, Kind};
use crate::ui::diagnostic;
use lapstrake_builder::error::{BuildError, ErrorKind as BuildKind};
use lapstrake_builder::remote::RemoteError;
use lapstrake_layerstore::StoreError;
use lapstrake_layerstore::error::ErrorKind as StoreKind;
use lapstrake_layerstore::reference::ReferenceError;
use lapstrake_layerstore::transfer::TransferError;
use lapstrake_registry::{Fault, Kind as RegistryKind, Operation, RegistryError};
use lapstrake_runner::{EnterError, ForeignError, RunError};
use std::error::Error;
use std::io;

impl From<StoreError> for CommandError {
    fn from(error: StoreError) -> Self {
        let kind = match error.kind() {
            StoreKind::Input => Kind::Input,
            StoreKind::Host => Kind::Host,
            StoreKind::Corrupt => Kind::Corrupt,
            StoreKind::Bug => Kind::Bug,
        };
        with_host_hints(Self::chain(kind, &error), &error)
    }
}

impl From<TransferError> for CommandError {
    fn from(error: TransferError) -> Self {
        match error {
            TransferError::Store(inner) => inner.into(),
            // Only a pipe breaks, and whoever read it has seen enough.
            TransferError::Write { source } if source.kind() == io::ErrorKind::BrokenPipe => {
                Self::from_stdout(source)
            }
            TransferError::Write { .. } | TransferError::File { .. } => {
                with_host_hints(Self::chain(Kind::Host, &error), &error)
            }
            TransferError::NotAnImage => Self::chain(Kind::Input, &error)
                .hint("the archive of a root file system is taken by `lap import`"),
            TransferError::Platform { .. } => {
                Self::chain(Kind::Input, &error).hint("name another with --platform")
            }
            TransferError::Lying { .. }
            | TransferError::Size { .. }
            | TransferError::Missing { .. }
            | TransferError::Archive { .. } => Self::chain(Kind::Input, &error).hint(
                "the archive is damaged or incomplete: make or copy it again; nothing of \
                     it was kept",
            ),
            other => Self::chain(Kind::Input, &other),
        }
    }
}

impl From<ReferenceError> for CommandError {
    fn from(error: ReferenceError) -> Self {
        Self::chain(Kind::Usage, &error)
    }
}

impl From<EnterError> for CommandError {
    fn from(error: EnterError) -> Self {
        Self::chain(Kind::Host, &error).hint("`lap doctor` says what this machine allows")
    }
}

impl From<RunError> for CommandError {
    fn from(error: RunError) -> Self {
        let kind = match &error {
            RunError::Spec { .. } => Kind::Bug,
            _ => Kind::Host,
        };
        with_run_hints(Self::chain(kind, &error), &error)
    }
}

impl From<RegistryError> for CommandError {
    fn from(error: RegistryError) -> Self {
        let kind = match error.kind() {
            RegistryKind::Input => Kind::Input,
            RegistryKind::Host => Kind::Host,
            RegistryKind::Remote => Kind::Remote,
            RegistryKind::Corrupt => Kind::Corrupt,
        };
        with_registry_hints(Self::chain(kind, &error), &error)
    }
}

impl From<BuildError> for CommandError {
    fn from(error: BuildError) -> Self {
        let error = match error {
            BuildError::Several { errors } => {
                let shown = errors.into_iter().map(Self::from);
                return shown
                    .reduce(|all, one| all.and(&one))
                    .expect("because `Several` holds at least two");
            }
            one => one,
        };
        let kind = build_kind(&error);
        match &error {
            BuildError::Dockerfile { file, diagnostics } => {
                let excerpts =
                    diagnostics.iter().map(|one| diagnostic::render(file, one)).collect();
                Self::new(kind, error.to_string()).excerpts(excerpts)
            }
            BuildError::AtInstruction { file, span, cause, .. } => {
                let root = cause.root();
                if let BuildError::Dockerfile { .. } = root {
                    return Self::chain(kind, root);
                }
                let excerpt = diagnostic::render_at(file, *span, &root.to_string());
                with_build_hints(Self::chain(kind, root).excerpts(vec![excerpt]), root)
            }
            other => with_build_hints(Self::chain(kind, other), other),
        }
    }
}

fn build_kind(error: &BuildError) -> Kind {
    match error.root() {
        // Errors of other crates know better what they are.
        BuildError::Store(inner) => match inner.kind() {
            StoreKind::Input => Kind::Input,
            StoreKind::Host => Kind::Host,
            StoreKind::Corrupt => Kind::Corrupt,
            StoreKind::Bug => Kind::Bug,
        },
        root => match root.kind() {
            BuildKind::Input | BuildKind::Dockerfile => Kind::Input,
            BuildKind::Step => Kind::Step,
            BuildKind::Host => Kind::Host,
            BuildKind::Remote => {
                registry_error(root).map_or(Kind::Remote, |inner| match inner.kind() {
                    RegistryKind::Corrupt => Kind::Corrupt,
                    RegistryKind::Host => Kind::Host,
                    RegistryKind::Input | RegistryKind::Remote => Kind::Remote,
                })
            }
            BuildKind::Corrupt => Kind::Corrupt,
            // A build is cancelled only by a signal, and then its error is not used.
            BuildKind::Cancelled => Kind::Cancelled(rustix::process::Signal::INT.as_raw()),
        },
    }
}

fn registry_error<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a RegistryError> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(found) = error.downcast_ref::<RegistryError>() {
            return Some(found);
        }
        next = error.source();
    }
    None
}

fn with_build_hints(shown: CommandError, error: &BuildError) -> CommandError {
    match error {
        BuildError::Plan { help: Some(help), .. } => shown.hint(help.clone()),
        BuildError::SourceNotFound { .. } => shown.hint(
            "paths are seen from the root of the build context (the PATH argument), or of \
                 the stage that --from names",
        ),
        BuildError::SourceIgnored { .. } => shown.hint(
            "change the ignore file, or copy \
             something else",
        ),
        BuildError::BaseNotFound { .. } => shown.hint(
            "`lap images` lists what is in the store; \
             `lap load`, `lap import` and `lap pull` add to it",
        ),
        BuildError::Base { .. } => match registry_error(error) {
            Some(inner) => with_registry_hints(shown, inner),
            None => shown,
        },
        BuildError::MissingInput { kind: "secret", id } => {
            shown.hint(format!("give it with --secret id={id},src=FILE"))
        }
        BuildError::MissingInput { id, .. } => {
            shown.hint(format!("give it with --ssh {id}=SOCKET"))
        }
        BuildError::UnknownName { .. } => shown.hint(
            "use a number, or make the user or group \
             in an earlier RUN",
        ),
        BuildError::ContextChanged { .. } => {
            shown.hint("build again when nothing else writes there")
        }
        BuildError::Step { kept, full, .. } => {
            with_step_hints(shown, kept.as_deref(), full.as_deref())
        }
        BuildError::Foreign(ForeignError::System { .. }) => shown,
        BuildError::Foreign(_) => shown.hint(
            "install an emulator that registers itself with binfmt_misc and the flag F (Debian: \
             qemu-user-binfmt or qemu-user-static); or run these steps in a stage FROM \
             --platform=$BUILDPLATFORM: COPY, ADD and configuration need no emulator",
        ),
        BuildError::Run(inner) => with_run_hints(shown, inner),
        BuildError::Remote(inner) => with_remote_hints(shown, inner),
        BuildError::Store(inner) => with_host_hints(shown, inner),
        _ => shown,
    }
}

fn with_step_hints(
    shown: CommandError,
    kept: Option<&str>,
    full: Option<&std::path::Path>,
) -> CommandError {
    let shown = match kept {
        Some(name) => shown.hint(format!(
            "its files are kept: lap run {name}, lap layers {name}; lap rmi {name} when you have seen \
             enough"
        )),
        None => shown,
    };
    match full {
        Some(root) => shown.hint(format!(
            "no room was left where the store is, {}: `lap prune` frees what nothing needs, or put the \
             store elsewhere with --root",
            root.display()
        )),
        None => shown,
    }
}

fn with_remote_hints(shown: CommandError, error: &RemoteError) -> CommandError {
    match error {
        RemoteError::Status { status: 401 | 403, .. } => shown.hint(
            "give what opens it with --secret id=HTTP_AUTH_TOKEN_HOST (or HTTP_AUTH_HEADER_HOST)",
        ),
        RemoteError::Status { status: 404 | 410, .. } => shown.hint("is the address right?"),
        RemoteError::Http { .. } | RemoteError::Broken { .. } => {
            shown.hint("is the address right, and is there a network?")
        }
        RemoteError::Checksum { .. } => {
            shown.hint("if the new content is what you want, change the checksum")
        }
        RemoteError::NoGit { .. } => shown.hint("install git, or put the files into the context"),
        RemoteError::Git { message, .. } if message.contains("Host key verification failed") => {
            shown.hint("add the host's key to ~/.ssh/known_hosts, as ssh does when it is asked")
        }
        RemoteError::Git { message, .. } if message.contains("could not read Username") => shown
            .hint(
                "does it exist? what opens a private one is given with --secret id=GIT_AUTH_TOKEN",
            ),
        _ => shown,
    }
}

fn with_run_hints(shown: CommandError, error: &RunError) -> CommandError {
    match error {
        RunError::Setup(inner) => match inner.hint() {
            Some(hint) => shown.hint(hint),
            None => shown.hint("`lap doctor` says what this machine allows"),
        },
        RunError::Start { .. } | RunError::Prepare { .. } => shown.hint(
            "FROM, COPY, ADD and configuration work without RUN; `lap doctor` says what RUN needs",
        ),
        _ => shown,
    }
}

fn with_registry_hints(shown: CommandError, error: &RegistryError) -> CommandError {
    match &*error.fault {
        Fault::UnknownHost => shown.hint("is the registry's name right, and is there a network?"),
        Fault::Refused(_) => shown.hint(format!(
            "nothing listens at {}; is it running, and is \
             the port right?",
            error.registry
        )),
        Fault::Timeout(_) | Fault::Connection(_) => {
            shown.hint("try again; what was transferred is kept")
        }
        Fault::Tls(_) => shown.hint(
            "trust the registry's own authority with --ca-file FILE, or \
             allow plain http with --insecure=HOST",
        ),
        Fault::PlainHttp(host) => shown.hint(format!("allow it with --insecure={host}")),
        Fault::Unauthorized { had_credentials: true, .. } => {
            shown.hint(format!("log in again: lap login {}", error.registry))
        }
        Fault::Unauthorized { .. } | Fault::Denied { had_credentials: false, .. } => {
            shown.hint(format!("log in: lap login {}", error.registry))
        }
        Fault::Denied { .. } => shown.hint("this user may not do that there"),
        Fault::NotFound { .. } if error.operation == Operation::Push => {
            shown.hint("does the repository exist, and may you write there?")
        }
        Fault::NotFound { .. } => shown.hint(
            "check the name and the tag; a private image also \
             looks like this before a login",
        ),
        Fault::RateLimited { .. } => shown.hint("wait, or log in: limits are often higher then"),
        Fault::Digest { .. } | Fault::Size { .. } => shown.hint(
            "the registry, or something on \
             the way, sends wrong data; nothing of it was kept",
        ),
        Fault::Truncated { .. } => shown.hint("try again; what is complete is kept"),
        Fault::Platform { .. } => shown.hint("name another with --platform"),
        _ => shown,
    }
}

/// Hints that hang on what the operating system said.
fn with_host_hints(shown: CommandError, error: &(dyn Error + 'static)) -> CommandError {
    let shown = if let Some(StoreError::Archive(_)) = error.downcast_ref::<StoreError>() {
        shown.hint(
            "the archive is damaged or incomplete: make or copy it again; nothing of it was kept",
        )
    } else if shown.kind() == Kind::Corrupt {
        shown.hint("`lap fsck` names the damage, `lap fsck --repair` removes it")
    } else {
        shown
    };
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(io) = error.downcast_ref::<io::Error>() {
            return match io.kind() {
                io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => shown.hint(
                    "no room is left there: `lap prune` frees what the store does not need; --root puts \
                         it elsewhere, dest= what is written beside it",
                ),
                io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => shown.hint(
                    "another directory for the store can be named with --root or \
                         LAP_ROOT",
                ),
                _ => shown,
            };
        }
        next = error.source();
    }
    shown
}
