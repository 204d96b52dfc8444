//! Why a step was or was not found in the cache, told from what builds leave behind.
//!
//! Each build writes a [`Report`] into the store: its stages and steps, how each step ended, and for a
//! step that was not found, the [`Reason`]s. They come from comparing what went into the step's key
//! with the newest earlier result of the same step of the same Dockerfile:
//!
//! ```text
//! previous report ▶ pair (same stage, same step) ▶ compare (inputs of both keys, lists of files) ▶ Reasons
//! ```
//!
//! *Invariant:* nothing here decides anything. A report that is lost or damaged costs an explanation,
//! never a result.

mod compare;
mod files;
mod pair;
#[cfg(test)]
mod tests;

pub(crate) use compare::{Compared, files_digest, reasons};
pub(crate) use files::FileList;
pub use files::{FileChange, FileChanges, FileFacts};
pub(crate) use pair::{named_by, pair_stages, pair_steps};

use lapstrake_layerstore::store::BuildId;
use serde::{Deserialize, Serialize};

/// The version of [`Report`]'s JSON.
pub const REPORT_VERSION: u32 = 1;

/// What a build did.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// [`REPORT_VERSION`].
    pub version: u32,
    /// What the Dockerfile is called.
    pub dockerfile: String,
    /// The stage that was asked for, if one was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
    /// The platform that was built for.
    pub platform: String,
    /// When the build began, in seconds since 1970.
    pub started_unix: i64,
    /// How long it took.
    pub milliseconds: u64,
    /// The build that this one was compared with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub previous: Option<String>,
    /// The config digest of the image that was made; none if the build failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
    /// The stages that were built, in file order.
    pub stages: Vec<StageReport>,
    /// What earlier builds left of stages that this one did not need.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub other_stages: Vec<StageReport>,
}

/// A stage of a build.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StageReport {
    /// Index in the Dockerfile.
    pub index: usize,
    /// `AS name`, or the index in digits.
    pub name: String,
    /// What it builds on, as shown to people.
    pub base: String,
    /// The config digest of the base image, if it is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base_digest: Option<String>,
    /// The steps that make layers, in order.
    pub steps: Vec<StepReport>,
}

/// A step of a build.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StepReport {
    /// The line of the Dockerfile, from 1.
    pub line: usize,
    /// The instruction on one line.
    pub instruction: String,
    /// How it ended.
    pub outcome: Outcome,
    /// How long it took, key and all.
    pub milliseconds: u64,
    /// Why it was not found; empty for one that was, or that never began.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub reasons: Vec<Reason>,
    /// The newest result that is known, this build's or an earlier one's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub result: Option<StepResult>,
}

/// Where the result of a step is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepResult {
    /// Its cache key.
    pub key: String,
    /// The layer.
    pub layer: String,
    /// Digest of the files that it read, if it read any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub files: Option<String>,
    /// The name under which the list of these files is kept, and goes on being kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub list: Option<String>,
}

/// How a step of a build ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// Its result was in the cache.
    Hit,
    /// It was executed.
    Miss,
    /// It was executed and failed.
    Failed,
    /// It was stopped because something else failed, or by the user.
    Stopped,
    /// It never began.
    NotReached,
}

/// Why a step was not found.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "reason", rename_all = "kebab-case")]
pub enum Reason {
    /// No earlier build of this Dockerfile in this store made it.
    NeverBuilt,
    /// The cache was not to be used for it.
    NoCache,
    /// It was made before, but the result is gone: pruned, or damaged.
    ResultGone,
    /// A step below it made another layer.
    Below {
        /// The stage of that step.
        stage: String,
        /// Its line.
        line: usize,
        /// Its instruction.
        instruction: String,
    },
    /// A step below it is no longer there, or no longer in that place.
    StepRemoved {
        /// Its instruction.
        instruction: String,
    },
    /// The base image is another one.
    Base {
        /// What the stage builds on.
        base: String,
        /// Config digest before, or what the base was.
        old: String,
        /// Config digest now.
        new: String,
    },
    /// The layers below are others, and nothing that is known says why.
    OtherParent,
    /// The instruction reads differently.
    Instruction {
        /// Before.
        old: String,
        /// Now.
        new: String,
    },
    /// A variable that the step sees has another value. Values of variables that sound secret are
    /// replaced by `***`.
    Variable {
        /// Its name.
        name: String,
        /// Before; none if it was not set.
        old: Option<String>,
        /// Now; none if it is not set.
        new: Option<String>,
    },
    /// Something else that the step sees is different.
    Input {
        /// What, in words.
        name: String,
        /// Before; none if it was not there.
        old: Option<String>,
        /// Now; none if it is not there.
        new: Option<String>,
    },
    /// Files that it reads are different.
    Files(FileChanges),
}

impl Report {
    /// Reads a report as the store has it; none if it is of another version or damaged.
    #[must_use]
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let report: Self = serde_json::from_slice(bytes).ok()?;
        (report.version == REPORT_VERSION).then_some(report)
    }

    /// The bytes to store.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("because all keys are texts")
    }

    /// Whether the image is one that this build made, by any beginning of its digest.
    #[must_use]
    pub fn made(&self, digest: &str) -> bool {
        let hex = digest.strip_prefix("sha256:").unwrap_or(digest);
        let image = self.image.as_deref().and_then(|image| image.strip_prefix("sha256:"));
        !hex.is_empty() && image.is_some_and(|image| image.starts_with(hex))
    }
}

/// A report with the id that the store gave it.
#[derive(Debug, Clone, PartialEq)]
pub struct Recorded {
    /// The id; none if the store could not keep the report.
    pub id: Option<BuildId>,
    /// The report.
    pub report: Report,
}
