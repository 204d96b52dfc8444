//! What a build tells its observer while it runs: facts, never text for people.

use crate::explain::Recorded;
use lapstrake_layerstore::digest::LayerId;
use std::time::{Duration, Instant};

/// Receives events from any thread of the build.
pub trait Observer: Sync {
    /// Called for each event, in the order in which things happened within one step.
    fn event(&self, event: Event<'_>);
}

/// An observer that wants to know nothing.
#[derive(Debug, Default, Clone, Copy)]
pub struct Silent;

impl Observer for Silent {
    fn event(&self, _event: Event<'_>) {}
}

/// Identifies a step within one build: its stage and its place in the stage, both from 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StepId {
    /// Index of the stage in the Dockerfile.
    pub stage: usize,
    /// Index of the step among the steps of its stage that make layers.
    pub step: usize,
}

/// Which of a program's two outputs a chunk came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// One fact about the build.
#[derive(Debug)]
pub enum Event<'a> {
    /// The plan is made; what follows is about these stages.
    Planned {
        /// Stages that will be built, in file order.
        stages: &'a [StageSummary],
    },
    /// A base image is being looked for.
    BaseStarted {
        /// The reference as it will be asked for.
        reference: &'a str,
    },
    /// A base image is there.
    BaseResolved {
        /// The reference.
        reference: &'a str,
        /// Digest of the image's config.
        config_digest: String,
        /// Whether the store had it already.
        local: bool,
    },
    /// A step begins: its key is being worked out.
    StepStarted {
        /// Which step.
        id: StepId,
    },
    /// The step cannot go on before another stage is done.
    StepWaiting {
        /// Which step.
        id: StepId,
        /// The stage whose files it needs.
        stage: usize,
    },
    /// The step could not go on at once, and now does.
    StepWaited {
        /// Which step.
        id: StepId,
        /// The stage whose files it needs; without one, it waited for other steps to make room, or to
        /// make the same.
        stage: Option<usize>,
        /// How long it waited.
        elapsed: Duration,
    },
    /// The step's result was found in the cache.
    StepCached {
        /// Which step.
        id: StepId,
        /// The layer.
        layer: LayerId,
    },
    /// The step was not in the cache and is being executed.
    StepRunning {
        /// Which step.
        id: StepId,
    },
    /// Output of the step's program.
    Output {
        /// Which step.
        id: StepId,
        /// Which of its outputs.
        stream: Stream,
        /// The bytes as they came.
        data: &'a [u8],
    },
    /// The step made a layer.
    StepDone {
        /// Which step.
        id: StepId,
        /// The layer.
        layer: LayerId,
        /// How long it took.
        elapsed: Duration,
    },
    /// The step failed; the error follows as the build's result.
    StepFailed {
        /// Which step.
        id: StepId,
        /// How long it took.
        elapsed: Duration,
    },
    /// A layer got its diffID in the background, and its compressed form if that is wanted. Told when the
    /// image's config asks for it, which is later than it happened.
    Digested {
        /// The layer.
        layer: LayerId,
        /// When that began.
        begun: Instant,
        /// How long it took.
        elapsed: Duration,
        /// Whether it was compressed as well.
        compressed: bool,
        /// Whether that began while the layer's files were still being read.
        foreseen: bool,
    },
    /// All steps have ended, well or not, and the store has the report.
    Recorded {
        /// What was done, and why.
        report: &'a Recorded,
    },
    /// Something is not as it should be but does not stop the build.
    Warning {
        /// One sentence.
        message: String,
    },
}

/// A stage that will be built.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StageSummary {
    /// Index in the Dockerfile.
    pub index: usize,
    /// `AS name`, or the index in digits.
    pub name: String,
    /// What it builds on, as shown to people.
    pub base: String,
    /// The steps that make layers, in order, as text.
    pub steps: Vec<String>,
}
