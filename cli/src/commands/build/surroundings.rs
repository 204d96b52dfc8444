//! What steps may see and do: network, rights, times, and whether there is a runner at all; and what a
//! build is given of the world.

use crate::error::CommandError;
use crate::session::Session;
use crate::settings::Settings;
use crate::signals::Interrupts;
use crate::ui::terminal::note;
use crate::wiring;
use lapstrake_builder::event::Observer;
use lapstrake_builder::exec::BuildDeps;
use lapstrake_builder::options::NetworkMode;
use lapstrake_runner::{Cancel, Exit, RunError, Runner, Sandbox, Spec, Stream};
use std::io::{self, IsTerminal};

/// `--network`.
pub(super) fn network(text: &str) -> Result<NetworkMode, CommandError> {
    match text {
        "default" | "bridge" => Ok(NetworkMode::Default),
        "none" => Ok(NetworkMode::None),
        "host" => Ok(NetworkMode::Host),
        other => Err(CommandError::usage(format!(
            "there is no network `{other}`; there are default, none and host"
        ))),
    }
}

/// `--allow`: whether the host's network, whether everything.
pub(super) fn rights(given: &[String]) -> Result<(bool, bool), CommandError> {
    let (mut host_network, mut insecure) = (false, false);
    for right in given {
        match right.as_str() {
            "network.host" => host_network = true,
            "security.insecure" => insecure = true,
            other => {
                return Err(CommandError::usage(format!("there is no right `{other}`"))
                    .hint("there are network.host and security.insecure"));
            }
        }
    }
    Ok((host_network, insecure))
}

/// `SOURCE_DATE_EPOCH` of a build argument. One of the environment becomes a build argument, so that an
/// `ARG` of that name sees it.
pub(super) fn epoch(
    build_args: &mut Vec<(String, String)>,
    settings: &Settings,
) -> Result<Option<i64>, CommandError> {
    const NAME: &str = "SOURCE_DATE_EPOCH";
    let of_environment = settings.source_date_epoch.clone().filter(|text| !text.is_empty());
    if let (Some(text), false) = (of_environment, build_args.iter().any(|(name, _)| name == NAME)) {
        build_args.push((NAME.to_owned(), text));
    }
    let given = build_args.iter().rev().find(|(name, _)| name == NAME).map(|(_, value)| value);
    match given.filter(|text| !text.is_empty()) {
        None => Ok(None),
        Some(text) => text.parse().map(Some).map_err(|_| {
            CommandError::usage(format!("{NAME} is `{text}`, not a number of seconds since 1970"))
        }),
    }
}

/// What builds are given of the world besides the store, for all platforms of an image.
pub(super) struct World<'a> {
    session: &'a Session,
    interrupts: &'a Interrupts,
    images: wiring::LazyClient<'a>,
    remotes: wiring::Remotes,
    runner: Box<dyn Runner>,
}

impl<'a> World<'a> {
    /// Makes no connection yet. `progress` hears of transfers.
    pub(super) fn new(
        session: &'a Session,
        args: &super::Args,
        interrupts: &'a Interrupts,
        progress: &'a dyn lapstrake_registry::Progress,
    ) -> Self {
        Self {
            session,
            interrupts,
            images: wiring::LazyClient::new(&session.settings, &args.registry, progress),
            remotes: wiring::Remotes::new(&session.settings, &args.registry),
            runner: runner(session),
        }
    }

    /// The same as a build takes it.
    pub(super) fn deps<'w>(&'w self, observer: &'w dyn Observer) -> BuildDeps<'w> {
        BuildDeps {
            store: &self.session.store,
            runner: &*self.runner,
            images: &self.images,
            remotes: &self.remotes,
            observer,
            cancel: self.interrupts.cancel(),
        }
    }

    /// The store.
    pub(super) fn store(&self) -> &'a lapstrake_layerstore::store::Store {
        &self.session.store
    }

    /// The error that stopped a build: the interrupt, if there was one.
    pub(super) fn error(&self, error: impl FnOnce() -> CommandError) -> CommandError {
        self.interrupts.error().unwrap_or_else(error)
    }
}

/// The runner of this machine. Where programs cannot be run, the error comes when a step wants to:
/// until then everything else works.
fn runner(session: &Session) -> Box<dyn Runner> {
    match session.run_refusal() {
        None => Box::new(Sandbox::new()),
        Some(refusal) => Box::new(NoRunner { reason: refusal }),
    }
}

/// Whether a shell can be opened; that it cannot is said.
pub(super) fn has_terminal() -> bool {
    let has = io::stdin().is_terminal();
    if !has {
        note("warning: --debug-shell needs a terminal as standard input");
    }
    has
}

/// Stands where no program can be run.
#[derive(Debug)]
struct NoRunner {
    reason: String,
}

impl Runner for NoRunner {
    fn run(
        &self,
        _: &Spec,
        _: &mut dyn FnMut(Stream, &[u8]),
        _: &Cancel,
    ) -> Result<Exit, RunError> {
        Err(RunError::Start { source: io::Error::other(self.reason.clone()) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_understood() {
        assert_eq!(network("none").unwrap(), NetworkMode::None);
        assert!(network("container:x").is_err());
        assert_eq!(rights(&["network.host".to_owned()]).unwrap(), (true, false));
        assert!(rights(&["device".to_owned()]).is_err());
    }
}
