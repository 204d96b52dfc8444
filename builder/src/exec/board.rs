//! Where stages leave their results and wait for those of others.

use crate::error::BuildError;
use crate::key::ChainId;
use lapstrake_layerstore::DiffId;
use lapstrake_layerstore::archive::Epoch;
use lapstrake_layerstore::layers::Layer;
use lapstrake_layerstore::view::View;
use std::collections::BTreeMap;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

/// How the diffID of a layer is found.
#[derive(Debug, Clone, Copy)]
pub(crate) enum LayerName {
    /// The base image's config says it.
    Known(DiffId),
    /// It is that of the layer's tar with its times changed like this.
    At(Option<Epoch>),
}

/// What a stage made.
#[derive(Debug, Clone)]
pub(crate) struct StageResult {
    /// Its layers, bottom first.
    pub(crate) layers: Vec<Arc<Layer>>,
    /// What each layer is called in an image's config, in the same order.
    pub(crate) names: Vec<LayerName>,
    /// When each layer that a step made was made, first to last, parent stages included.
    pub(crate) times: Vec<i64>,
    /// Identity of the stack.
    pub(crate) chain: ChainId,
}

impl StageResult {
    /// What stands on nothing.
    pub(crate) fn empty() -> Self {
        let (layers, names, times) = (Vec::new(), Vec::new(), Vec::new());
        Self { layers, names, times, chain: ChainId::empty() }
    }

    /// Its files.
    pub(crate) fn view(&self) -> Result<View, BuildError> {
        Ok(View::new(self.layers.clone())?)
    }
}

#[derive(Debug)]
enum Slot {
    Running,
    Done(StageResult),
    Failed(Option<BuildError>),
}

/// Results by stage.
#[derive(Debug)]
pub(crate) struct Board {
    slots: Mutex<BTreeMap<usize, Slot>>,
    changed: Condvar,
}

impl Board {
    /// All stages running.
    pub(crate) fn new(stages: impl Iterator<Item = usize>) -> Self {
        Self {
            slots: Mutex::new(stages.map(|s| (s, Slot::Running)).collect()),
            changed: Condvar::new(),
        }
    }

    /// Wait until a stage is done. A failed stage stops whoever waits for it; its own error is reported
    /// once, by itself.
    pub(crate) fn wait(&self, stage: usize) -> Result<StageResult, BuildError> {
        let mut slots = lock(&self.slots);
        loop {
            match slots.get(&stage) {
                Some(Slot::Done(result)) => return Ok(result.clone()),
                Some(Slot::Running) => {
                    slots = self.changed.wait(slots).unwrap_or_else(PoisonError::into_inner);
                }
                Some(Slot::Failed(_)) | None => return Err(BuildError::Cancelled),
            }
        }
    }

    /// Whether nobody has to wait for this stage any more.
    pub(crate) fn has_ended(&self, stage: usize) -> bool {
        !matches!(lock(&self.slots).get(&stage), Some(Slot::Running))
    }

    /// Leave a stage's result.
    pub(crate) fn finish(&self, stage: usize, result: Result<StageResult, BuildError>) {
        let slot = match result {
            Ok(result) => Slot::Done(result),
            Err(error) => Slot::Failed(Some(error)),
        };
        lock(&self.slots).insert(stage, slot);
        self.changed.notify_all();
    }

    /// All results, or what stopped the build: the errors of all stages that failed by themselves and not
    /// because another did, in file order.
    pub(crate) fn into_results(self) -> Result<BTreeMap<usize, StageResult>, BuildError> {
        let slots = self.slots.into_inner().unwrap_or_else(PoisonError::into_inner);
        let mut results = BTreeMap::new();
        let mut failed = Vec::new();
        let mut stopped = false;
        for (stage, slot) in slots {
            match slot {
                Slot::Done(result) => {
                    results.insert(stage, result);
                }
                Slot::Failed(Some(error)) if !matches!(error.root(), BuildError::Cancelled) => {
                    failed.push(error);
                }
                Slot::Failed(_) | Slot::Running => stopped = true,
            }
        }
        match (failed.pop(), failed.is_empty()) {
            (Some(error), true) => Err(error),
            (Some(last), false) => {
                failed.push(last);
                Err(BuildError::Several { errors: failed })
            }
            (None, _) if stopped => Err(BuildError::Cancelled),
            (None, _) => Ok(results),
        }
    }
}

/// A lock whose holder panicked still guards whole values.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(results: Vec<Result<StageResult, BuildError>>) -> Result<usize, BuildError> {
        let board = Board::new(0..results.len());
        for (stage, result) in results.into_iter().enumerate() {
            board.finish(stage, result);
        }
        board.into_results().map(|results| results.len())
    }

    #[test]
    fn all_that_failed_by_themselves_are_told() {
        let failed = |name: &str| Err(BuildError::plan(name.to_owned()));
        let fine = || Ok(StageResult::empty());
        assert_eq!(outcome(vec![fine(), fine()]).unwrap(), 2);
        let one = outcome(vec![Err(BuildError::Cancelled), failed("a"), fine()]).unwrap_err();
        assert_eq!(one.to_string(), "a");
        let two = outcome(vec![failed("a"), Err(BuildError::Cancelled), failed("b")]).unwrap_err();
        let BuildError::Several { errors } = two else { panic!("{two}") };
        let told: Vec<String> = errors.iter().map(ToString::to_string).collect();
        assert_eq!(told, ["a", "b"]);
        let stopped = outcome(vec![Err(BuildError::Cancelled), fine()]).unwrap_err();
        assert!(matches!(stopped, BuildError::Cancelled));
    }
}
