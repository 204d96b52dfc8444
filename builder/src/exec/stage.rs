//! One stage: its steps, one after the other.

use super::Planned;
use super::board::{Board, LayerName, StageResult};
use super::session::Session;
use super::together::Made;
use super::{copy, run};
use crate::copy::Selected;
use crate::error::BuildError;
use crate::event::{Event, StepId};
use crate::explain::Outcome;
use crate::graph::Base;
use crate::key::StepKey;
use crate::plan::{Action, StagePlan, Step};
use lapstrake_layerstore::layers::Layer;
use lapstrake_layerstore::oci::Platform;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// What a step works in.
#[derive(Clone, Copy)]
pub(crate) struct StepContext<'a> {
    pub(crate) session: &'a Session<'a>,
    pub(crate) planned: &'a Planned,
    pub(crate) board: &'a Board,
    pub(crate) id: StepId,
    /// The stage so far.
    pub(crate) below: &'a StageResult,
}

/// What is shorter is not told: nobody waited who did not notice.
const WAIT_MIN: Duration = Duration::from_millis(1);

impl StepContext<'_> {
    /// What another stage made, as soon as it is there.
    pub(crate) fn wait(&self, stage: usize) -> Result<StageResult, BuildError> {
        let begun = Instant::now();
        if !self.board.has_ended(stage) {
            self.session.deps.observer.event(Event::StepWaiting { id: self.id, stage });
        }
        let result = self.board.wait(stage);
        self.waited(Some(stage), begun);
        result
    }

    fn waited(&self, stage: Option<usize>, begun: Instant) {
        let elapsed = begun.elapsed();
        if elapsed >= WAIT_MIN {
            let event = Event::StepWaited { id: self.id, stage, elapsed };
            self.session.deps.observer.event(event);
        }
    }

    /// The platform that programs of the stage are for.
    pub(crate) fn platform(&self) -> &Platform {
        self.planned.graph.platform(self.id.stage)
    }
}

/// A step that has its key and only waits to be executed.
pub(crate) trait Prepared {
    /// The key.
    fn key(&self) -> &StepKey;
    /// The files whose digest is in the key.
    fn read(&self) -> Vec<&[Selected]> {
        Vec::new()
    }

    /// How many files were selected, and their bytes, when the step copies files.
    fn files(&self) -> Option<(u64, u64)> {
        None
    }
    /// Make the layer.
    fn execute(self: Box<Self>, at: &StepContext<'_>) -> Result<Arc<Layer>, BuildError>;
}

/// Run all steps of a stage.
pub(crate) fn run(
    session: &Session<'_>,
    planned: &Planned,
    board: &Board,
    index: usize,
    plan: &StagePlan,
) -> Result<StageResult, BuildError> {
    let (id, nothing) = (StepId { stage: index, step: 0 }, StageResult::empty());
    let mut state = start(&StepContext { session, planned, board, id, below: &nothing })?;
    for (number, step) in plan.steps.iter().enumerate() {
        let id = StepId { stage: index, step: number };
        let at = StepContext { session, planned, board, id, below: &state };
        let (layer, created) = run_step(&at, step).map_err(|cause| match cause {
            BuildError::Cancelled => cause,
            cause => BuildError::AtInstruction {
                file: Arc::clone(&planned.file),
                span: step.span,
                step: step.title.to_string(),
                cause: Box::new(cause),
            },
        })?;
        let epoch = step.action.epoch(session.options.epoch);
        if session.is_in_image(index) {
            session.digests.begin(&layer, epoch);
        }
        state.chain = state.chain.with_layer(layer.id());
        state.layers.push(layer);
        state.names.push(LayerName::At(epoch));
        // With an epoch an image says nothing of when its steps were first done.
        state.times.push(session.options.epoch.unwrap_or(created));
    }
    Ok(state)
}

/// What the stage builds on.
fn start(at: &StepContext<'_>) -> Result<StageResult, BuildError> {
    match &at.planned.graph.stages[at.id.stage].base {
        Base::Scratch => Ok(StageResult::empty()),
        Base::Stage(parent) => at.wait(*parent),
        Base::Named(name) => copy::context_as_base(at.session, name),
        Base::Image(image) => at.planned.bases.start(image),
    }
}

fn run_step(at: &StepContext<'_>, step: &Step) -> Result<(Arc<Layer>, i64), BuildError> {
    let (session, observer) = (at.session, at.session.deps.observer);
    if session.deps.cancel.is_cancelled() {
        return Err(BuildError::Cancelled);
    }
    observer.event(Event::StepStarted { id: at.id });
    let begun = Instant::now();
    let result = prepare(at, step).and_then(|prepared| {
        let no_cache = session.ignores_cache(at.id.stage);
        session.journal.keyed(at.id, prepared.key(), no_cache, || prepared.read());
        let hit = |found: Made| {
            session.journal.ended(at.id, Outcome::Hit, Some(*found.0.id()), begun.elapsed());
            observer.event(Event::StepCached { id: at.id, layer: *found.0.id() });
            session.note_made(at.id, prepared.key(), &step.title, &found);
            found
        };
        if let Some(found) = session.lookup(at.id.stage, prepared.key())? {
            return Ok(hit(found));
        }
        let waiting = Instant::now();
        let making = match session.claim(prepared.key()) {
            Ok(making) => making,
            Err(made) => {
                at.waited(None, waiting);
                return Ok(hit(made));
            }
        };
        let _permit = session.together.permits.permit();
        at.waited(None, waiting);
        if session.deps.cancel.is_cancelled() {
            return Err(BuildError::Cancelled);
        }
        observer.event(Event::StepRunning { id: at.id });
        let key = prepared.key().clone();
        let layer = prepared.execute(at)?;
        let (layer, created) = session.record(&key, &step.title, layer)?;
        let elapsed = begun.elapsed();
        session.journal.ended(at.id, Outcome::Miss, Some(*layer.id()), elapsed);
        observer.event(Event::StepDone { id: at.id, layer: *layer.id(), elapsed });
        let made = (layer, created);
        making.made(&made);
        session.note_made(at.id, &key, &step.title, &made);
        Ok(made)
    });
    if result.as_ref().is_err_and(|e| !matches!(e, BuildError::Cancelled)) {
        session.journal.ended(at.id, Outcome::Failed, None, begun.elapsed());
        observer.event(Event::StepFailed { id: at.id, elapsed: begun.elapsed() });
    }
    result
}

/// Key a step.
pub(crate) fn prepare<'s>(
    at: &StepContext<'s>,
    step: &'s Step,
) -> Result<Box<dyn Prepared + 's>, BuildError> {
    match &step.action {
        Action::Copy(step) => copy::prepare(at, step),
        Action::Run(step) => run::prepare(at, step),
        Action::Workdir { path, user } => Ok(copy::prepare_workdir(at, path, user)),
    }
}
