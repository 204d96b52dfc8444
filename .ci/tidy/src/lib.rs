//! Repository checks that are plain tests: see `tests/`. This library is what they share.
//!
//! A rule that a person would have to remember in review is written as a test here instead.

#![forbid(unsafe_code)]

use std::fs;
use std::path::{Path, PathBuf};

/// The crates of the project, in reading order.
pub const CRATES: [&str; 6] = ["builder", "layerstore", "runner", "registry", "cli", "fixtures"];

/// The repository's root folder.
#[must_use]
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../..")
        .canonicalize()
        .expect("because we lie in it")
}

/// One source file.
#[derive(Debug, Clone)]
pub struct Source {
    /// Path relative to the repository, with `/`.
    pub path: String,
    /// Its text.
    pub text: String,
}

impl Source {
    /// Whether the whole file is test code.
    #[must_use]
    pub fn is_test(&self) -> bool {
        let parts: Vec<&str> = self.path.split('/').collect();
        parts.contains(&"tests") || parts.contains(&"benches") || self.path.ends_with("/tests.rs")
    }

    /// The lines that are not unit tests: everything up to the test module, which comes last.
    pub fn code(&self) -> impl Iterator<Item = (usize, &str)> {
        let lines = self.text.lines().enumerate().map(|(index, line)| (index + 1, line));
        lines.take_while(|(_, line)| *line != "#[cfg(test)]")
    }

    /// The crate that the file belongs to.
    #[must_use]
    pub fn krate(&self) -> &str {
        self.path.split('/').next().unwrap_or_default()
    }
}

/// Every Rust file of the repository, sorted by path.
///
/// # Panics
/// When a folder cannot be read.
#[must_use]
pub fn sources() -> Vec<Source> {
    let root = root();
    let mut files = Vec::new();
    for folder in CRATES.iter().copied().chain([".ci"]) {
        collect(&root.join(folder), &mut files);
    }
    files.sort();
    files
        .into_iter()
        .map(|file| {
            let relative = file.strip_prefix(&root).expect("because the walk began at the root");
            let path = relative.to_string_lossy().into_owned();
            let text = fs::read_to_string(&file).unwrap_or_else(|error| panic!("{path}: {error}"));
            Source { path, text }
        })
        .collect()
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) {
    let entries =
        fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    for entry in entries {
        let path = entry.unwrap_or_else(|error| panic!("{}: {error}", folder.display())).path();
        let name = path.file_name().unwrap_or_default();
        if path.is_dir() && name != "target" {
            collect(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
}

/// Fails with every finding on a line of its own.
///
/// # Panics
/// When there are findings.
pub fn assert_none(rule: &str, findings: &[String]) {
    assert!(findings.is_empty(), "{rule}:\n  {}", findings.join("\n  "));
}
