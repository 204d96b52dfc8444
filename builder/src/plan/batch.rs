//! Stages that do not build on each other, planned at once.
//!
//! *Invariant:* what comes out, and which problem is told, does not depend on the threads: if anything
//! fails, the stages are planned again, one after the other.

use super::{BaseFacts, StageInput, StagePlan, plan_stage};
use crate::error::BuildError;
use crate::expand::Budget;
use crate::graph::{Graph, StageNode};
use crate::instruction::LONG_FILE;
use crate::options::BuildOptions;
use crate::pieces;
use crate::source::SourceFile;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

/// Stages of about so many instructions are planned at once, so that what they may take together is
/// looked at often enough.
const BATCH_INSTRUCTIONS: usize = 8192;

/// All that planning a stage needs but a budget: what threads use is summed up when they have ended.
pub(super) struct Unplanned<'a> {
    pub(super) stage: &'a StageNode,
    pub(super) parent: Option<&'a StagePlan>,
    pub(super) base: Option<&'a BaseFacts>,
    pub(super) graph: &'a Graph,
    pub(super) options: &'a BuildOptions,
    pub(super) file: &'a Arc<SourceFile>,
    pub(super) guess: bool,
}

impl Unplanned<'_> {
    fn plan(&self, budget: &Budget) -> Result<StagePlan, BuildError> {
        let Self { stage, parent, base, graph, options, file, guess } = *self;
        plan_stage(&StageInput { stage, parent, base, graph, options, file, guess, budget })
    }
}

/// How many of the first of these stages can be planned at once: none builds on another of them, and
/// together they are not much longer than one that is worth a thread of its own.
pub(super) fn independent(
    graph: &Graph,
    plans: &BTreeMap<usize, StagePlan>,
    stages: &[usize],
) -> usize {
    let mut entries = 0;
    let fits = |index: &&usize| {
        let stage = &graph.stages[**index];
        let parent = stage.parent().map(|parent| plans.get(&parent));
        let before = entries;
        entries += stage.instructions.len();
        entries += parent.flatten().map_or(0, |plan| plan.history().len());
        parent.is_none_or(|plan| plan.is_some()) && before < BATCH_INSTRUCTIONS
    };
    stages.iter().take_while(fits).count().max(1)
}

/// Plans stages that do not build on each other, by several threads if they are long.
pub(super) fn plan_all(
    stages: &[Unplanned<'_>],
    budget: &Budget,
) -> Result<Vec<StagePlan>, BuildError> {
    let length = stages.iter().map(|input| input.stage.instructions.len()).sum::<usize>();
    if stages.len() > 1 && length >= LONG_FILE {
        let (plans, used) = at_once(stages, budget.left());
        if let (Ok(plans), true) = (plans, used <= budget.left()) {
            budget.spend(used).expect("because so much was left");
            return Ok(plans);
        }
    }
    stages.iter().map(|stage| stage.plan(budget)).collect()
}

/// Also tells how many steps were used.
fn at_once(stages: &[Unplanned<'_>], left: usize) -> (Result<Vec<StagePlan>, BuildError>, usize) {
    let used = AtomicUsize::new(0);
    let plans = pieces::all(stages.len(), |index| {
        let left = left.saturating_sub(used.load(Relaxed));
        let budget = Budget::with_left(left);
        let plan = stages[index].plan(&budget);
        used.fetch_add(left - budget.left(), Relaxed);
        plan
    });
    (plans.into_iter().collect(), used.into_inner())
}
