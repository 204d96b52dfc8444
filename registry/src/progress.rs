//! What a transfer tells its observer. Nothing is printed here; the caller words it.

use std::fmt;
use std::time::Duration;

use lapstrake_layerstore::digest::Digest;

/// What a blob is to the image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// An index or manifest.
    Manifest,
    /// The image config.
    Config,
    /// A layer.
    Layer,
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Manifest => "manifest",
            Self::Config => "config",
            Self::Layer => "layer",
        })
    }
}

/// How a blob came to be where it should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// It was there already.
    Present,
    /// It was fetched and verified.
    Downloaded,
    /// It was sent.
    Uploaded,
    /// The registry took it from another repository of its own.
    Mounted {
        /// That repository.
        from: String,
    },
}

/// One thing that happened.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// A name was found to mean this manifest.
    Resolved {
        /// The manifest (or index) that the registry has under the name.
        digest: Digest,
    },
    /// Work on a blob began.
    Started {
        /// The blob.
        digest: Digest,
        /// What it is.
        part: Part,
        /// Its size.
        size: u64,
    },
    /// This many bytes of a blob are through; repeated, growing, and smaller again after a retry
    /// that has to start over.
    Bytes {
        /// The blob.
        digest: Digest,
        /// Bytes so far.
        done: u64,
    },
    /// A blob is where it should be.
    Done {
        /// The blob.
        digest: Digest,
        /// How.
        outcome: Outcome,
    },
    /// Something failed that may pass; it will be tried again.
    Waiting {
        /// What failed.
        reason: String,
        /// For how long nothing is tried.
        wait: Duration,
    },
}

/// Hears what a transfer does, from several threads at once.
pub trait Progress: Sync {
    /// Called for every event; should not block for long.
    fn event(&self, event: Event);
}

/// Hears nothing.
#[derive(Debug, Clone, Copy, Default)]
pub struct Silent;

impl Progress for Silent {
    fn event(&self, _: Event) {}
}
