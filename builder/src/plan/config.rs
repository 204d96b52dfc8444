//! Instructions that change the config, and WORKDIR, which makes a directory besides.

use super::stage::{Planner, Problem, StageState};
use super::{Action, Step};
use crate::instruction::format::{go_list, push_go_list, push_go_quote_list};
use crate::instruction::{ArgDecl, Command, Healthcheck, Located, expose, signal};
use crate::text::Text;
use crate::tree::clean_onto;
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
    let mut shown = planner.room();
    shown.push_str("ARG");
    for arg in args {
        let value = match (planner.given.value(&arg.name), &arg.default) {
            (Some(given), _) => {
                planner.note_read(arg.name.clone(), true);
                Some(Text::from(given))
            }
            (None, Some(default)) => {
                let place = planner.in_file(located, arg.span);
                Some(planner.expand(default).map_err(|problem| problem.at(place))?)
            }
            (None, None) => {
                let value = planner.input.graph.global.shared_value(&arg.name).cloned();
                planner.note_read(arg.name.clone(), value.is_some());
                value
            }
        };
        if let Some(value) = value.as_ref().filter(|_| !NOT_IN_ENV.contains(&&*arg.name)) {
            planner.set(&arg.name, value.clone())?;
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
    planner.arguments_changed();
    planner.history_in(shown, false);
    planner.check_variables()
}

/// Expand the pairs of one instruction, all with the same old values.
fn pairs(
    planner: &Planner<'_>,
    located: &Located,
    raw: &[(Text, Text)],
) -> Result<Vec<(Text, Text)>, Problem> {
    let (mut pairs, mut problems) = (Vec::with_capacity(raw.len()), Vec::new());
    for (index, (name, value)) in raw.iter().enumerate() {
        match planner.expand(name).and_then(|name| Ok((name, planner.expand(value)?))) {
            Ok(pair) => pairs.push(pair),
            Err(problem) => problems.push(problem.at(located.word_span(index))),
        }
    }
    Problem::together(problems).map(|()| pairs)
}

fn show_pairs(planner: &mut Planner<'_>, instruction: &str, pairs: &[(Text, Text)]) {
    let mut shown = planner.room();
    shown.push_str(instruction);
    for (name, value) in pairs {
        for part in [" ", name, "=", value] {
            shown.push_str(part);
        }
    }
    planner.history_in(shown, false);
}

pub(super) fn env(
    planner: &mut Planner<'_>,
    located: &Located,
    raw: &[(Text, Text)],
) -> Result<(), Problem> {
    let pairs = pairs(planner, located, raw)?;
    for (name, value) in &pairs {
        planner.set(name, value.clone())?;
        let env = &mut planner.state.config.env;
        let same = |old: &&mut String| {
            old.strip_prefix(name.as_str())
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('='))
        };
        match env.iter_mut().find(same) {
            Some(old) => {
                old.truncate(name.len());
                old.push('=');
                old.push_str(value);
            }
            None => env.push([name.as_str(), "=", value].concat()),
        }
    }
    show_pairs(planner, "ENV", &pairs);
    planner.check_variables()
}

pub(super) fn label(
    planner: &mut Planner<'_>,
    located: &Located,
    raw: &[(Text, Text)],
) -> Result<(), Problem> {
    let pairs = pairs(planner, located, raw)?;
    show_pairs(planner, "LABEL", &pairs);
    let labels = &mut planner.state.config.labels;
    for (name, value) in pairs {
        match labels.get_mut(name.as_str()) {
            Some(old) => value.as_str().clone_into(old),
            None => drop(labels.insert(name.as_str().into(), value.as_str().into())),
        }
    }
    Ok(())
}

impl Planner<'_> {
    /// The words that run a shell-form command.
    pub(super) fn with_shell(&self, text: Text) -> Vec<Text> {
        let mut words = Vec::with_capacity(self.state.shell.len() + 1);
        words.extend_from_slice(&self.state.shell);
        words.push(text);
        words
    }

    fn command(&self, command: &Command) -> Vec<Text> {
        match command {
            Command::Exec(words) => words.clone(),
            Command::Shell(text) => self.with_shell(text.clone()),
        }
    }

    /// Fills in what the state keeps in a form that steps can share.
    pub(super) fn share_config(state: &mut StageState) {
        let config = &state.config;
        state.user = Text::from(&config.user);
        // The root is where steps run when nothing else is said.
        let dir = if config.working_dir.is_empty() { "/" } else { &config.working_dir };
        state.workdir = Text::from(dir);
        state.shell = if config.shell.is_empty() {
            DEFAULT_SHELL.map(Text::from).into()
        } else {
            config.shell.iter().map(Text::from).collect()
        };
    }
}

pub(super) fn cmd(planner: &mut Planner<'_>, command: &Command) {
    let words = planner.command(command);
    show_quoted(planner, "CMD ", &words);
    write_strings(&mut planner.state.config.cmd, &words);
    planner.state.config.args_escaped = true;
    planner.state.cmd_set = true;
}

pub(super) fn entrypoint(planner: &mut Planner<'_>, command: &Command) {
    let words = planner.command(command);
    show_quoted(planner, "ENTRYPOINT ", &words);
    write_strings(&mut planner.state.config.entrypoint, &words);
    if !planner.state.cmd_set {
        planner.state.config.cmd.clear();
    }
}

fn show_quoted(planner: &mut Planner<'_>, instruction: &str, words: &[Text]) {
    let mut shown = planner.room();
    shown.push_str(instruction);
    push_go_quote_list(&mut shown, words);
    planner.history_in(shown, false);
}

/// Puts strings in the place of others, in the memory of those.
fn write_strings(strings: &mut Vec<String>, words: &[Text]) {
    strings.truncate(words.len());
    for (at, word) in words.iter().enumerate() {
        match strings.get_mut(at) {
            Some(old) => word.as_str().clone_into(old),
            None => strings.push(word.as_str().to_owned()),
        }
    }
}

pub(super) fn shell(planner: &mut Planner<'_>, words: &[Text]) {
    write_strings(&mut planner.state.config.shell, words);
    planner.state.shell = words.into();
    planner.history_of(["SHELL ", &go_list(words)]);
}

pub(super) fn user(planner: &mut Planner<'_>, user: &Text) -> Result<(), Problem> {
    let user = planner.expand(user)?;
    planner.history_of(["USER ", &user]);
    user.as_str().clone_into(&mut planner.state.config.user);
    planner.state.user = user;
    Ok(())
}

pub(super) fn workdir(
    planner: &mut Planner<'_>,
    located: &Located,
    path: &Text,
) -> Result<(), Problem> {
    let path = planner.expand(path)?;
    // An absolute path is kept as it is written, and so is the present one when none is given; a
    // relative one is cleaned by being joined.
    let dir = match &*path {
        "" => planner.state.workdir.clone(),
        _ if path.starts_with('/') => path,
        _ => absolute(&planner.state.workdir, &path).into(),
    };
    dir.as_str().clone_into(&mut planner.state.config.working_dir);
    planner.state.workdir = dir.clone();
    // Other ways to write the root make a layer, an empty one.
    let makes_layer = dir != "/";
    let mut title = planner.room();
    title.push_str("WORKDIR ");
    title.push_str(&dir);
    planner.history_in(title, makes_layer);
    if makes_layer {
        let entry = planner.state.history.last();
        let entry = entry.expect("because one was added");
        let title = Text::from(Arc::clone(&entry.created_by));
        planner.steps.push(Step {
            span: located.span,
            title,
            action: Action::Workdir { path: dir, user: planner.state.user.clone() },
        });
    }
    Ok(())
}

/// Join a path to the working directory and clean it: no `.`, no `..`, no slash at the end.
pub(super) fn absolute(workdir: &str, path: &str) -> String {
    let mut clean = Vec::with_capacity(workdir.len() + path.len() + "//".len());
    if !path.starts_with('/') {
        clean_onto(&mut clean, workdir.as_bytes());
    }
    clean_onto(&mut clean, path.as_bytes());
    if clean.is_empty() {
        clean.push(b'/');
    }
    String::from_utf8(clean).expect("because whole parts of texts are text")
}

pub(super) fn expose(
    planner: &mut Planner<'_>,
    located: &Located,
    raw: &[Text],
) -> Result<(), Problem> {
    let (mut ports, mut problems) = (Vec::new(), Vec::new());
    for (index, word) in raw.iter().enumerate() {
        let words = planner.expand_words(word);
        let read = words.and_then(|words| {
            expose::push_ports(&mut ports, &words).map_err(|e| Problem::arguments(&e))
        });
        problems.extend(read.err().map(|problem| problem.at(located.word_span(index))));
    }
    Problem::together(problems)?;
    let mut shown = planner.room();
    shown.push_str("EXPOSE ");
    push_go_list(&mut shown, &ports);
    planner.history_in(shown, false);
    for port in ports {
        planner.state.config.exposed_ports.insert(port);
    }
    Ok(())
}

pub(super) fn volume(
    planner: &mut Planner<'_>,
    located: &Located,
    raw: &[Text],
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
    planner.history_of(["VOLUME ", &go_list(&paths)]);
    for path in paths {
        planner.state.config.volumes.insert(&*path);
    }
    Ok(())
}

pub(super) fn healthcheck(planner: &mut Planner<'_>, check: &Healthcheck) {
    let mut shown = planner.room();
    shown.push_str("HEALTHCHECK ");
    check.push_history(&mut shown);
    planner.history_in(shown, false);
    planner.state.config.healthcheck = Some(oci::Healthcheck {
        test: check.test.clone(),
        interval: check.interval.nanoseconds(),
        timeout: check.timeout.nanoseconds(),
        start_period: check.start_period.nanoseconds(),
        start_interval: check.start_interval.nanoseconds(),
        retries: i64::from(check.retries),
    });
}

pub(super) fn stop_signal(planner: &mut Planner<'_>, raw: &Text) -> Result<(), Problem> {
    let text = planner.expand(raw)?;
    signal::check(&text).map_err(|e| Problem::arguments(&e))?;
    planner.history_of(["STOPSIGNAL ", &text]);
    text.as_str().clone_into(&mut planner.state.config.stop_signal);
    Ok(())
}

pub(super) fn maintainer(planner: &mut Planner<'_>, name: &str) {
    planner.history_of(["MAINTAINER ", name]);
    name.clone_into(&mut planner.state.author);
}
