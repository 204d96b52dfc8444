//! Repairs that change nothing of what a file means, applied and proved.
//!
//! ```text
//! check ▶ edits that do not overlap ▶ new text ▶ the same plan of every stage? ▶ again, until nothing is left
//! ```
//!
//! *Invariant:* the plan of every stage of the result (base, steps, config, history) is that of the
//! file as it was. A repair that would change it is left out, whatever its rule promised.

use super::{Surroundings, check};
use crate::diagnostic::{Edit, has_errors};
use crate::error::BuildError;
use crate::expand::Budget;
use crate::graph;
use crate::instruction;
use crate::lint::is_rule;
use crate::options::BuildOptions;
use crate::plan::{BaseFacts, StageInput, StagePlan, plan_stage};
use crate::source::SourceFile;
use crate::syntax;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;

/// One repair may lay bare another (FROM's casing that of AS), and then there is nothing more.
const PASSES_MAX: usize = 4;

/// A file after its repairs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fixed {
    /// Its bytes.
    pub bytes: Vec<u8>,
    /// The rules whose findings were repaired, in order of place, once for each finding.
    pub rules: Vec<&'static str>,
}

/// Repairs the Dockerfile of these options. A file with errors is left as it is: what its broken lines
/// were meant to say is not known.
pub fn fix(options: &BuildOptions) -> Result<Fixed, BuildError> {
    let mut options = options.clone();
    let mut rules = Vec::new();
    let Some(meaning) = meaning(&options) else {
        return Ok(Fixed { bytes: options.dockerfile, rules });
    };
    for _ in 0..PASSES_MAX {
        let report = check(&options, &Surroundings::default())?;
        if report.diagnostics.iter().any(|found| found.is_error() && !is_rule(found.code)) {
            break;
        }
        let repairs = report
            .diagnostics
            .iter()
            .filter_map(|found| found.fix.as_ref().map(|fix| (found.code, fix.edits.as_slice())))
            .collect::<Vec<_>>();
        let Some((bytes, done)) = apply(&options, &repairs, &meaning) else { break };
        options.dockerfile = bytes;
        rules.extend(done);
    }
    Ok(Fixed { bytes: options.dockerfile, rules })
}

type Repair<'a> = (&'static str, &'a [Edit]);

/// The text with all repairs, or else with those that keep the meaning one by one; `None` if nothing
/// changes.
fn apply(
    options: &BuildOptions,
    repairs: &[Repair<'_>],
    wanted: &str,
) -> Option<(Vec<u8>, Vec<&'static str>)> {
    let keeps = |repairs: &[Repair<'_>]| {
        let bytes = edited(&options.dockerfile, repairs)?;
        let changed = BuildOptions { dockerfile: bytes, ..options.clone() };
        (meaning(&changed)? == wanted).then_some(changed.dockerfile)
    };
    let rules = |repairs: &[Repair<'_>]| repairs.iter().map(|repair| repair.0).collect::<Vec<_>>();
    if repairs.is_empty() {
        return None;
    }
    if let Some(bytes) = keeps(repairs) {
        return Some((bytes, rules(repairs)));
    }
    let mut kept: Vec<Repair<'_>> = Vec::new();
    let mut best = None;
    for repair in repairs {
        kept.push(*repair);
        match keeps(&kept) {
            Some(bytes) => best = Some(bytes),
            None => drop(kept.pop()),
        }
    }
    best.map(|bytes| (bytes, rules(&kept)))
}

/// The text with the edits; `None` if two of them overlap.
fn edited(text: &[u8], repairs: &[Repair<'_>]) -> Option<Vec<u8>> {
    let mut edits: Vec<&Edit> = repairs.iter().flat_map(|repair| repair.1).collect();
    edits.sort_by_key(|edit| edit.span);
    let mut bytes = Vec::with_capacity(text.len());
    let mut at = 0;
    for edit in edits {
        bytes.extend_from_slice(text.get(at..edit.span.start)?);
        bytes.extend_from_slice(edit.text.as_bytes());
        at = edit.span.end;
    }
    bytes.extend_from_slice(text.get(at..)?);
    Some(bytes)
}

/// What a build of any stage would do, written out; `None` if the file has errors.
fn meaning(options: &BuildOptions) -> Option<String> {
    let file = Arc::new(SourceFile::new(&options.dockerfile_name, options.dockerfile.clone()));
    let (ast, problems) = syntax::parse(&file);
    let (dockerfile, more) = instruction::lower(&ast);
    if has_errors(&problems) || has_errors(&more) {
        return None;
    }
    let (graph, _) = graph::lay_out(&dockerfile, options);
    let nothing_known = BaseFacts::default();
    let budget = Budget::of_file();
    let mut plans: BTreeMap<usize, StagePlan> = BTreeMap::new();
    let mut text = String::new();
    for stage in &graph.stages {
        let parent = stage.parent().and_then(|parent| plans.get(&parent));
        let base = stage.image().map(|_| &nothing_known);
        let _infallible = writeln!(text, "{:?} {:?}", stage.name, stage.base);
        match plan_stage(&StageInput {
            stage,
            parent,
            base,
            graph: &graph,
            options,
            file: &file,
            guess: false,
            budget: &budget,
        }) {
            Ok(plan) => {
                let actions: Vec<_> = plan.steps.iter().map(|step| &step.action).collect();
                let _infallible = writeln!(
                    text,
                    "{actions:?} {:?} {:?} {:?}",
                    plan.config(),
                    plan.author(),
                    plan.history()
                );
                plans.insert(stage.index, plan);
            }
            Err(BuildError::Dockerfile { diagnostics, .. }) => {
                let messages: Vec<_> = diagnostics.iter().map(|found| &found.message).collect();
                let _infallible = writeln!(text, "{messages:?}");
            }
            Err(_) => return None,
        }
    }
    Some(text)
}
