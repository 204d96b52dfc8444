//! RUN into steps.

use super::config::absolute;
use super::stage::{Planner, Problem, StageState};
use super::{Action, Origin, PlannedMount, RunStep, Step};
use crate::diagnostic::code;
use crate::instruction::mount::MountKind;
use crate::instruction::{Located, MountFlag, Network, Run, RunScript, Security};
use crate::options::NetworkMode;
use crate::text::Text;
use std::fmt::Write as _;

/// Where heredoc scripts with a `#!` line are found in a step.
const SCRIPT_DIR: &str = "/dev/pipes";

pub(super) fn plan(planner: &mut Planner<'_>, located: &Located, run: &Run) -> Result<(), Problem> {
    let (argv, script) = match run.script() {
        RunScript::Exec(words) => (words, None),
        RunScript::Shell(text) => (planner.with_shell(text), None),
        RunScript::File { name, content } => {
            let path = format!("{SCRIPT_DIR}/{name}");
            (planner.with_shell(Text::from(&path)), Some((path, content)))
        }
    };
    let mounts = mounts(planner, located, run)?;
    let step = RunStep {
        env: planner.state.env.shared(),
        cwd: planner.state.workdir.clone(),
        user: planner.state.user.clone(),
        mounts,
        network: network(planner, run.network)?,
        insecure: insecure(planner, run.security)?,
        devices: run.devices.clone(),
        script,
        argv,
    };
    history(planner, &step.argv);
    let action = Action::Run(Box::new(step));
    planner.steps.push(Step { span: located.span, title: located.text.clone(), action });
    Ok(())
}

/// All mounts, or what is wrong in each of them.
fn mounts(
    planner: &Planner<'_>,
    located: &Located,
    run: &Run,
) -> Result<Vec<PlannedMount>, Problem> {
    let (mut mounts, mut problems) = (Vec::with_capacity(run.mounts.len()), Vec::new());
    for flag in &run.mounts {
        match mount(planner, flag) {
            Ok(mount) => mounts.push(mount),
            Err(problem) => problems.push(problem.at(planner.in_file(located, flag.span))),
        }
    }
    Problem::together(problems).map(|()| mounts)
}

fn mount(planner: &Planner<'_>, flag: &MountFlag) -> Result<PlannedMount, Problem> {
    let bad = |message: String| Problem::new(code::BAD_MOUNT, message);
    let mount = flag
        .resolve(&mut |word| planner.try_expand(&flag.text, word))
        .map_err(|e| bad(e.to_string()))?;
    let origin = match &mount.from {
        Some(from) => planner
            .input
            .graph
            .mount_origin(planner.input.stage.index, from)
            .map_err(|e| Problem::new(code::UNKNOWN_STAGE, e.to_string()))?,
        None if mount.kind == MountKind::Bind => Origin::Context,
        None => Origin::Scratch,
    };
    if mount.kind == MountKind::Cache && mount.from.is_none() && mount.source.is_some() {
        return Err(bad(
            "source of a cache mount needs from, which says what it is a path in".into()
        ));
    }
    let target = absolute(planner.workdir(), &mount.target);
    // Secrets and agents have a place of their own where none is named; the others would be the working
    // directory.
    let has_place = matches!(mount.kind, MountKind::Secret | MountKind::Ssh);
    if target == "/" && !(mount.target.is_empty() && has_place) {
        return Err(bad(format!("invalid mount target \"{}\"", mount.target)));
    }
    Ok(PlannedMount { mount, origin, target })
}

fn network(planner: &Planner<'_>, asked: Network) -> Result<NetworkMode, Problem> {
    let wanted = match asked {
        Network::Default => planner.input.options.network,
        Network::None => NetworkMode::None,
        Network::Host => NetworkMode::Host,
    };
    match wanted {
        NetworkMode::Host if !planner.input.options.allow_host_network => Err(Problem::arguments(
            "entitlement network.host is not allowed: build with --allow network.host",
        )),
        allowed => Ok(allowed),
    }
}

fn insecure(planner: &Planner<'_>, asked: Security) -> Result<bool, Problem> {
    match asked {
        Security::Sandbox => Ok(false),
        Security::Insecure if planner.input.options.allow_insecure => Ok(true),
        Security::Insecure => Err(Problem::arguments(
            "entitlement security.insecure is not allowed: build with --allow security.insecure",
        )),
    }
}

/// `RUN |2 a=1 b=2 /bin/sh -c …`: the declared arguments, each once, with their present values.
fn history(planner: &mut Planner<'_>, argv: &[Text]) {
    let mut text = planner.room();
    if let Some(head) = &planner.run_head {
        text.push_str(head);
    } else {
        push_head(&mut text, &planner.state);
        planner.run_head = Some(text.clone());
    }
    for word in argv {
        text.push(' ');
        text.push_str(word);
    }
    text.push_str(" # buildkit");
    planner.history_in(text, true);
}

/// What comes before the words of every RUN as long as no variable changes.
fn push_head(text: &mut String, state: &StageState) {
    text.push_str("RUN");
    if !state.args.is_empty() {
        let written = write!(text, " |{}", state.args.len());
        written.expect("because writing to a String cannot fail");
    }
    for (name, value) in &state.args {
        let value = state.env.value(name).or(value.as_deref()).unwrap_or_default();
        for part in [" ", name, "=", value] {
            text.push_str(part);
        }
    }
}
