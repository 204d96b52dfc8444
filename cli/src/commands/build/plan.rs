//! `lap build --plan`: what the build would do and what each step reads, without doing it.

use super::report;
use super::surroundings::World;
use crate::error::{CommandError, printable};
use crate::exit::Exit;
use crate::ui::terminal::{note, print, print_json};
use crate::ui::{diagnostic, format};
use clap::ValueEnum;
use lapstrake_builder::BuildOptions;
use lapstrake_builder::exec::forecast;
use lapstrake_builder::plan::{
    Base, BuildPlan, CacheState, ImagePlace, ImageUse, Kind, Mounted, Place, PlannedInstruction,
    PlannedStage, Reads,
};
use lapstrake_layerstore::oci::Platform;
use std::fmt::Write as _;

/// How a plan is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub(crate) enum PlanFormat {
    /// Lines for people.
    #[default]
    Text,
    /// The plan as a value: docs/formats/plan.md.
    Json,
}

/// How wide an instruction is shown at most.
const TEXT_WIDTH: usize = 88;
/// How many names of variables are shown of a RUN's environment.
const NAMES_MAX: usize = 12;

/// Plans for each platform, looks every step up, prints. Of several platforms each has a plan of its
/// own; as JSON they are an array. What is wrong with the file is told once.
pub(super) fn show(
    world: &World<'_>,
    options: &mut BuildOptions,
    platforms: &[Platform],
    chosen: PlanFormat,
) -> Result<Exit, CommandError> {
    let deps = world.deps(&report::WarningsOnly);
    let mut plans: Vec<BuildPlan> = Vec::new();
    for platform in platforms {
        options.platform = platform.clone();
        let ahead = forecast(options, &deps)
            .map_err(|error| world.error(|| super::locate::explain(error, options)))?;
        let warnings = if plans.is_empty() { ahead.warnings.as_slice() } else { &[] };
        for warning in warnings {
            note(diagnostic::render(&ahead.file, warning).trim_end());
        }
        plans.push(ahead.plan);
    }
    match (chosen, plans.as_slice()) {
        (PlanFormat::Json, [plan]) => print_json(&serde_json::json!(plan))?,
        (PlanFormat::Json, plans) => print_json(&serde_json::json!(plans))?,
        (PlanFormat::Text, plans) => {
            let texts: Vec<String> = plans.iter().map(text).collect();
            print(&printable(&texts.join("\n")))?;
        }
    }
    Ok(Exit::OK)
}

fn text(plan: &BuildPlan) -> String {
    let mut out = String::new();
    let target = plan.stage(plan.target).map(PlannedStage::shown_name).unwrap_or_default();
    line(&mut out, &format!("{} for {}, target {target}", plan.dockerfile, plan.platform));
    for stage in &plan.stages {
        let name = stage.name.as_ref().map(|name| format!(" {name}")).unwrap_or_default();
        line(&mut out, "");
        line(
            &mut out,
            &format!(
                "stage {}{name}, line {}: FROM {}",
                stage.index,
                stage.line,
                base(plan, stage)
            ),
        );
        if !stage.instructions.is_empty() {
            line(&mut out, " line step  cache   instruction");
        }
        for instruction in &stage.instructions {
            shown_instruction(&mut out, plan, instruction);
        }
    }
    let (hits, misses, unknown) = plan.forecast();
    line(&mut out, "");
    let steps = format::count(hits + misses + unknown, "step");
    line(&mut out, &format!("{steps}: {hits} hit, {misses} miss, {unknown} not known yet"));
    out
}

fn line(out: &mut String, text: &str) {
    out.push_str(text);
    out.push('\n');
}

fn base(plan: &BuildPlan, stage: &PlannedStage) -> String {
    match &stage.base {
        Base::Scratch => "scratch".to_owned(),
        Base::Stage { index } => place(plan, &Place::Stage { index: *index }),
        Base::Context { name } => format!("context {name}"),
        Base::Image { reference } => {
            let used = plan.images.iter().find(|image| image.reference == *reference);
            format!("{reference}{}", used.map(found).unwrap_or_default())
        }
    }
}

fn found(image: &ImageUse) -> String {
    let digest = image.config.as_deref().map(format::short_id).unwrap_or_default();
    match image.place {
        ImagePlace::Store => format!(" (in the store, {digest})"),
        ImagePlace::Registry => format!(" (in its registry, {digest})"),
        ImagePlace::Unknown => " (not found; what it sets is not in this plan)".to_owned(),
    }
}

fn place(plan: &BuildPlan, place: &Place) -> String {
    match place {
        Place::Context { name: None } => "the context".to_owned(),
        Place::Context { name: Some(name) } => format!("context {name}"),
        Place::Stage { index } => match plan.stage(*index).and_then(|stage| stage.name.as_ref()) {
            Some(name) => format!("stage {name}"),
            None => format!("stage {index}"),
        },
        Place::Image { reference } => format!("image {reference}"),
        Place::Scratch => "scratch".to_owned(),
    }
}

fn shown_instruction(out: &mut String, plan: &BuildPlan, instruction: &PlannedInstruction) {
    let state = match instruction.cache.as_ref().map(|cache| cache.state) {
        None => "config",
        Some(CacheState::Hit) => "hit",
        Some(CacheState::Miss) => "miss",
        Some(CacheState::Unknown) => "later",
    };
    let step = instruction.step.map(|step| step.to_string()).unwrap_or_default();
    let text = format::truncated(&command(instruction).replace('\n', " "), TEXT_WIDTH);
    let line = instruction.line;
    let _fits = writeln!(out, "{line:>5} {step:>4}  {state:<6}  {text}");
    let mut detail = |what: &str, text: &str| {
        let _fits = writeln!(out, "{:20}{what} {text}", "");
    };
    if let Some(cache) = &instruction.cache {
        if let Some(key) = &cache.key {
            detail("key", key.get(..16).unwrap_or(key));
        }
        if let Some(why) = &cache.why {
            detail("because", why);
        }
    }
    for read in described(plan, &instruction.reads) {
        detail("reads", &read);
    }
    if instruction.trigger {
        detail("from", "an ONBUILD of the base");
    }
    if let Some(problem) = &instruction.problem {
        detail("doubtful:", problem);
    }
}

/// The instruction without its mounts, which are told one by one.
fn command(instruction: &PlannedInstruction) -> String {
    let mut rest = instruction.text.as_str();
    if instruction.kind != Kind::Run {
        return rest.to_owned();
    }
    rest = rest.strip_prefix("RUN ").unwrap_or(rest);
    while rest.starts_with("--mount=") {
        rest = rest.split_once(' ').map_or("", |(_, after)| after);
    }
    format!("RUN {rest}")
}

/// What an instruction reads, one line per kind.
fn described(plan: &BuildPlan, reads: &Reads) -> Vec<String> {
    let mut lines = Vec::new();
    for files in &reads.files {
        let amount = match (files.count, files.bytes) {
            (Some(count), Some(bytes)) => {
                format!(
                    "{count} file{}, {}, of ",
                    if count == 1 { "" } else { "s" },
                    format::bytes(bytes)
                )
            }
            _ => String::new(),
        };
        let but = match files.excludes.as_slice() {
            [] => String::new(),
            patterns => format!(" but {}", patterns.join(" ")),
        };
        let from = place(plan, &files.from);
        lines.push(format!("{amount}{from}: {}{but}", files.paths.join(" ")));
    }
    lines.extend(reads.remote.iter().cloned());
    lines.extend(reads.mounts.iter().map(|mount| mounted(plan, mount)));
    let heredoc =
        |doc: &lapstrake_builder::plan::Heredoc| format!("<<{} ({} B)", doc.name, doc.bytes);
    lines.extend(reads.heredocs.iter().map(heredoc));
    let unset = |v: &lapstrake_builder::plan::Variable| {
        if v.set { format!("${}", v.name) } else { format!("${} (not set)", v.name) }
    };
    if !reads.variables.is_empty() {
        lines.push(reads.variables.iter().map(unset).collect::<Vec<_>>().join(" "));
    }
    if !reads.environment.is_empty() {
        let more = reads.environment.len().saturating_sub(NAMES_MAX);
        let shown: Vec<String> =
            reads.environment.iter().take(NAMES_MAX).map(|name| format!("${name}")).collect();
        let rest = if more > 0 { format!(" and {more} more") } else { String::new() };
        lines.push(format!("{}{rest}", shown.join(" ")));
    }
    lines.extend(reads.devices.iter().map(|device| format!("device {}", device.name)));
    lines
}

fn mounted(plan: &BuildPlan, mount: &Mounted) -> String {
    let mut text = format!("{} mount", mount.kind);
    if let Some(id) = mount.id.as_ref().filter(|id| **id != mount.target) {
        let _fits = write!(text, " {id}");
    }
    if !mount.target.is_empty() {
        let _fits = write!(text, " at {}", mount.target);
    }
    if let Some(name) = &mount.env {
        let _fits = write!(text, " as ${name}");
    }
    if let Some(from) = &mount.from {
        let path = mount.source.as_deref().unwrap_or("/");
        let _fits = write!(text, ": {path} of {}", place(plan, from));
    }
    text
}
