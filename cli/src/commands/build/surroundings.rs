//! What steps may see and do: network, rights, times, and whether there is a runner at all.

use crate::error::CommandError;
use crate::session::Session;
use crate::settings::Settings;
use crate::ui::terminal::note;
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

/// `SOURCE_DATE_EPOCH`, from a build argument, else from the environment.
pub(super) fn epoch(
    build_args: &[(String, String)],
    settings: &Settings,
) -> Result<Option<i64>, CommandError> {
    let given = build_args
        .iter()
        .rev()
        .find(|(name, _)| name == "SOURCE_DATE_EPOCH")
        .map(|(_, value)| value);
    match given.or(settings.source_date_epoch.as_ref()).filter(|text| !text.is_empty()) {
        None => Ok(None),
        Some(text) => text.parse().map(Some).map_err(|_| {
            CommandError::usage(format!(
                "SOURCE_DATE_EPOCH is `{text}`, not a number of seconds since 1970"
            ))
        }),
    }
}

/// The runner of this machine. Where programs cannot be run, the error comes when a step wants to:
/// until then everything else works.
pub(super) fn runner(session: &Session) -> Box<dyn Runner> {
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
