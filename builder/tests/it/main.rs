//! Integration tests of the builder, one module for each subject.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on may panic")]

mod ahead;
mod cache;
mod copied;
mod corpus;
mod dialects;
mod invariants;
mod language;
mod hostile;
mod kept;
mod plan;
mod real_files;
mod repairs;
mod semantics;
mod threads;
mod statements;
mod support;
