//! Instructions that change the config, and WORKDIR, which makes a directory besides.

use super::stage::{Planner, Problem};
use super::{Action, Step};
use crate::instruction::format::{go_list, go_quote_list};
use crate::instruction::{ArgDecl, Command, Healthcheck, Located, expose, signal};
use lapstrake_layerstore::oci;
use std::sync::Arc;

/// The shell of shell-form instructions when no SHELL says otherwise.
const DEFAULT_SHELL: [&str; 2] = ["/bin/sh", "-c"];

/// Arguments that tell the builder something, and no step: they are in the history alone.
const NOT_IN_ENV: [&str; 2] = ["BUILDKIT_SBOM_SCAN_CONTEXT", "BUILDKIT_SBOM_SCAN_STAGE"];

pub(super) fn arg(
    planner: &mut Planner<'_>,
    located: &Located,
    args: &[ArgDecl],
) -> Result<(), Problem> {
    let mut shown = String::from("ARG");
    for arg in args {
        let value = match (planner.given.value(&arg.name), &arg.default) {
            (Some(given), _) => {
                planner.note_read(arg.name.clone(), true);
                Some(given.to_owned())
            }
            (None, Some(default)) => {
                let place = planner.in_file(located, arg.span);
                Some(planner.expand(default).map_err(|problem| problem.at(place))?)
            }
            (None, None) => {
                let value = planner.input.graph.global.value(&arg.name).map(str::to_owned);
                planner.note_read(arg.name.clone(), value.is_some());
                value
            }
        };
        if let Some(value) = value.as_ref().filter(|_| !NOT_IN_ENV.contains(&&*arg.name)) {
            planner.set(&arg.name, value)?;
        }
        shown.push(' ');
        shown.push_str(&arg.name);
        if let Some(value) = &value {
            shown.push('=');
            shown.push_str(value);
        }
        // A name declared again keeps its place and takes the new value.
        match planner.state.args.iter_mut().find(|(name, _)| *name == arg.name) {
            Some(old) => old.1 = value,
            None => planner.state.args.push((arg.name.clone(), value)),
        }
    }
    planner.history(shown, false);
    planner.check_variables()
}

/// Expand the pairs of one instruction, all with the same old values.
fn pairs(
    planner: &Planner<'_>,
    located: &Located,
    raw: &[(String, String)],
) -> Result<Vec<(String, String)>, Problem> {
    let (mut pairs, mut problems) = (Vec::with_capacity(raw.len()), Vec::new());
    for (index, (name, value)) in raw.iter().enumerate() {
        match planner.expand(name).and_then(|name| Ok((name, planner.expand(value)?))) {
            Ok(pair) => pairs.push(pair),
            Err(problem) => problems.push(problem.at(located.word_span(index))),
        }
    }
    Problem::together(problems).map(|()| pairs)
}

fn shown_pairs(instruction: &str, pairs: &[(String, String)]) -> String {
    let length = pairs.iter().map(|(name, value)| name.len() + value.len() + 2).sum::<usize>();
    let mut shown = String::with_capacity(instruction.len() + length);
    shown.push_str(instruction);
    for (name, value) in pairs {
        for part in [" ", name, "=", value] {
            shown.push_str(part);
        }
    }
    shown
}

pub(super) fn env(
    planner: &mut Planner<'_>,
    located: &Located,
    raw: &[(String, String)],
) -> Result<(), Problem> {
    let pairs = pairs(planner, located, raw)?;
    for (name, value) in &pairs {
        planner.set(name, value)?;
        let pair = [name, "=", value].concat();
        let env = &mut planner.state.config.env;
        let same = |old: &&mut String| {
            old.strip_prefix(name.as_str())
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('='))
        };
        match env.iter_mut().find(same) {
            Some(old) => *old = pair,
            None => env.push(pair),
        }
    }
    planner.history(shown_pairs("ENV", &pairs), false);
    planner.check_variables()
}

pub(super) fn label(
    planner: &mut Planner<'_>,
    located: &Located,
    raw: &[(String, String)],
) -> Result<(), Problem> {
    let pairs = pairs(planner, located, raw)?;
    planner.history(shown_pairs("LABEL", &pairs), false);
    planner.state.config.labels.extend(pairs);
    Ok(())
}

impl Planner<'_> {
    /// The words that run a shell-form command.
    pub(super) fn with_shell(&self, text: String) -> Vec<String> {
        let shell = &self.state.config.shell;
        let mut words = Vec::with_capacity(shell.len().max(DEFAULT_SHELL.len()) + 1);
        if shell.is_empty() {
            words.extend(DEFAULT_SHELL.map(str::to_owned));
        } else {
            words.extend_from_slice(shell);
        }
        words.push(text);
        words
    }

    fn command(&self, command: &Command) -> Vec<String> {
        match command {
            Command::Exec(words) => words.clone(),
            Command::Shell(text) => self.with_shell(text.clone()),
        }
    }
}

pub(super) fn cmd(planner: &mut Planner<'_>, command: &Command) {
    let words = planner.command(command);
    planner.history(format!("CMD {}", go_quote_list(&words)), false);
    planner.state.config.cmd = words;
    planner.state.config.args_escaped = true;
    planner.state.cmd_set = true;
}

pub(super) fn entrypoint(planner: &mut Planner<'_>, command: &Command) {
    let words = planner.command(command);
    planner.history(format!("ENTRYPOINT {}", go_quote_list(&words)), false);
    planner.state.config.entrypoint = words;
    if !planner.state.cmd_set {
        planner.state.config.cmd.clear();
    }
}

pub(super) fn shell(planner: &mut Planner<'_>, words: &[String]) {
    planner.state.config.shell = words.to_vec();
    planner.history(format!("SHELL {}", go_list(words)), false);
}

pub(super) fn user(planner: &mut Planner<'_>, user: &str) -> Result<(), Problem> {
    let user = planner.expand(user)?;
    planner.history(format!("USER {user}"), false);
    planner.state.config.user = user;
    Ok(())
}

pub(super) fn workdir(
    planner: &mut Planner<'_>,
    located: &Located,
    path: &str,
) -> Result<(), Problem> {
    let path = planner.expand(path)?;
    // An absolute path is kept as it is written, and so is the present one when none is given; a
    // relative one is cleaned by being joined.
    let dir = match path.as_str() {
        "" => planner.workdir().to_owned(),
        _ if path.starts_with('/') => path,
        _ => absolute(planner.workdir(), &path),
    };
    planner.state.config.working_dir.clone_from(&dir);
    // Other ways to write the root make a layer, an empty one.
    let makes_layer = dir != "/";
    let title: Arc<str> = ["WORKDIR ", &dir].concat().into();
    planner.history(Arc::clone(&title), makes_layer);
    if makes_layer {
        planner.steps.push(Step {
            span: located.span,
            title,
            action: Action::Workdir { path: dir, user: planner.state.config.user.clone() },
        });
    }
    Ok(())
}

/// Join a path to the working directory and clean it: no `.`, no `..`, no slash at the end.
pub(super) fn absolute(workdir: &str, path: &str) -> String {
    let joined = if path.starts_with('/') { path.to_owned() } else { format!("{workdir}/{path}") };
    let mut parts: Vec<&str> = Vec::new();
    for part in joined.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            name => parts.push(name),
        }
    }
    format!("/{}", parts.join("/"))
}

pub(super) fn expose(
    planner: &mut Planner<'_>,
    located: &Located,
    raw: &[String],
) -> Result<(), Problem> {
    let (mut ports, mut problems) = (Vec::new(), Vec::new());
    for (index, word) in raw.iter().enumerate() {
        let words = planner.expand_words(word);
        match words.and_then(|w| expose::parse_ports(&w).map_err(|e| Problem::arguments(&e))) {
            Ok(more) => ports.extend(more),
            Err(problem) => problems.push(problem.at(located.word_span(index))),
        }
    }
    Problem::together(problems)?;
    planner.history(format!("EXPOSE {}", go_list(&ports)), false);
    for port in ports {
        planner.state.config.exposed_ports.insert(port);
    }
    Ok(())
}

pub(super) fn volume(
    planner: &mut Planner<'_>,
    located: &Located,
    raw: &[String],
) -> Result<(), Problem> {
    let (mut paths, mut problems) = (Vec::with_capacity(raw.len()), Vec::new());
    for (index, word) in raw.iter().enumerate() {
        match planner.expand(word) {
            Ok(path) if path.is_empty() => problems.push(
                Problem::arguments("VOLUME specified can not be an empty string")
                    .at(located.word_span(index)),
            ),
            Ok(path) => paths.push(path),
            Err(problem) => problems.push(problem.at(located.word_span(index))),
        }
    }
    Problem::together(problems)?;
    planner.history(format!("VOLUME {}", go_list(&paths)), false);
    for path in paths {
        planner.state.config.volumes.insert(path);
    }
    Ok(())
}

pub(super) fn healthcheck(planner: &mut Planner<'_>, check: &Healthcheck) {
    planner.history(format!("HEALTHCHECK {}", check.history()), false);
    planner.state.config.healthcheck = Some(oci::Healthcheck {
        test: check.test.clone(),
        interval: check.interval.nanoseconds(),
        timeout: check.timeout.nanoseconds(),
        start_period: check.start_period.nanoseconds(),
        start_interval: check.start_interval.nanoseconds(),
        retries: i64::from(check.retries),
    });
}

pub(super) fn stop_signal(planner: &mut Planner<'_>, raw: &str) -> Result<(), Problem> {
    let text = planner.expand(raw)?;
    signal::check(&text).map_err(|e| Problem::arguments(&e))?;
    planner.history(format!("STOPSIGNAL {text}"), false);
    planner.state.config.stop_signal = text;
    Ok(())
}

pub(super) fn maintainer(planner: &mut Planner<'_>, name: &str) {
    planner.history(format!("MAINTAINER {name}"), false);
    name.clone_into(&mut planner.state.author);
}
