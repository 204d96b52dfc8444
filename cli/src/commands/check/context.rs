//! How large a context without an ignore file is.
//!
//! The walk is bounded in entries, so that a check of a Dockerfile in `/` ends soon; what it could not
//! count is said to be more. Directories that cannot be read count as empty: a check reads none of
//! their files.

use lapstrake_builder::lint::{ContextFacts, ContextPart};
use std::fs;
use std::path::{Path, PathBuf};

/// Most entries that are looked at. Far more than makes a context large, and some hundred milliseconds.
const ENTRIES_MAX: u64 = 200_000;

/// Counts the files of a context.
pub(super) fn count(directory: &Path) -> ContextFacts {
    let mut facts = ContextFacts::default();
    let mut left = ENTRIES_MAX;
    for (path, is_directory, bytes) in entries(directory, &mut left) {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        facts.names.insert(name.clone());
        if !is_directory {
            facts.files += 1;
            facts.bytes += bytes;
            continue;
        }
        let part = part(name, path, &mut left);
        facts.files += part.files;
        facts.bytes += part.bytes;
        facts.parts.push(part);
    }
    facts.is_cut = left == 0;
    facts.parts.sort_by(|a, b| (b.bytes, b.files, &a.name).cmp(&(a.bytes, a.files, &b.name)));
    facts
}

/// Everything below one directory.
fn part(name: String, path: PathBuf, left: &mut u64) -> ContextPart {
    let mut part = ContextPart { name, files: 0, bytes: 0 };
    let mut directories = vec![path];
    while let Some(directory) = directories.pop() {
        for (path, is_directory, bytes) in entries(&directory, left) {
            if is_directory {
                directories.push(path);
            } else {
                part.files += 1;
                part.bytes += bytes;
            }
        }
    }
    part
}

/// The entries of a directory as long as any may be looked at: path, whether it is a directory (a link
/// is none), length.
fn entries(directory: &Path, left: &mut u64) -> Vec<(PathBuf, bool, u64)> {
    let mut found = Vec::new();
    // What cannot be read counts as empty.
    let Ok(entries) = fs::read_dir(directory) else { return found };
    for entry in entries.flatten() {
        if *left == 0 {
            break;
        }
        *left -= 1;
        if let Ok(meta) = entry.metadata() {
            found.push((entry.path(), meta.is_dir(), meta.len()));
        }
    }
    found
}
