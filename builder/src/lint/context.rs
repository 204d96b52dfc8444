//! What is known of the files of the main context, counted by whoever may look at it.

use std::collections::BTreeSet;

/// The size of a context, as a walk of bounded length found it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ContextFacts {
    /// Files that are not ignored.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Whether the walk ended before it had seen all: then there is more.
    pub is_cut: bool,
    /// The directories at the top, the largest first.
    pub parts: Vec<ContextPart>,
    /// The names at the top, ignored ones left out.
    pub names: BTreeSet<String>,
}

/// A directory at the top of a context.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContextPart {
    /// Its name.
    pub name: String,
    /// Files below it.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
}
