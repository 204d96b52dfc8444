//! Every source file: opens with its purpose, stays readable in size, leaves nothing half said.

use std::fs;

use lapstrake_tidy::{CRATES, Source, assert_none, root, sources};

/// The wall for a file without its tests (aim: 250).
const LINES_MAX: usize = 600;
/// The wall for a line: rustfmt keeps code below 100, and leaves long texts alone.
const COLUMNS_MAX: usize = 160;

#[test]
fn every_file_opens_with_its_purpose() {
    let bare = |source: &&Source| {
        let first = source.text.lines().find(|line| !line.is_empty());
        // A file of unit tests beside its module has that module's purpose.
        !source.path.ends_with("/tests.rs") && !first.is_some_and(|line| line.starts_with("//! "))
    };
    let sources = sources();
    let findings: Vec<String> = sources.iter().filter(bare).map(|s| s.path.clone()).collect();
    assert_none("these files do not open with `//!`", &findings);
}

#[test]
fn no_file_is_longer_than_the_wall() {
    let mut findings = Vec::new();
    for source in sources().iter().filter(|source| !source.is_test()) {
        let lines = source.code().count();
        if lines > LINES_MAX {
            findings.push(format!("{}: {lines} lines without tests", source.path));
        }
    }
    assert_none("longer than 600 lines", &findings);
}

#[test]
fn lines_are_short_and_end_cleanly() {
    let mut findings = Vec::new();
    // Tests may hold odd text: that is what they are about.
    for source in sources().iter().filter(|source| !source.is_test()) {
        for (number, line) in source.code() {
            if line.chars().count() > COLUMNS_MAX || line.ends_with(' ') || line.starts_with('\t') {
                findings.push(format!("{}:{number}", source.path));
            }
        }
    }
    assert_none("lines that are too long, begin with a tab, or end with a space", &findings);
}

#[test]
fn nothing_is_left_for_later_in_a_comment() {
    // In pieces, so that this file does not find itself.
    let words =
        [concat!("TO", "DO"), concat!("FIX", "ME"), concat!("HA", "CK"), concat!("XX", "X:")];
    let mut findings = Vec::new();
    for source in sources() {
        for (number, line) in source.text.lines().enumerate() {
            if words.iter().any(|word| line.contains(word)) {
                findings.push(format!("{}:{}: {}", source.path, number + 1, line.trim()));
            }
        }
    }
    assert_none("what is left to do belongs into an issue", &findings);
}

#[test]
fn every_file_in_tests_it_is_listed() {
    let mut findings = Vec::new();
    for krate in CRATES {
        let folder = root().join(krate).join("tests/it");
        let Ok(main) = fs::read_to_string(folder.join("main.rs")) else { continue };
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_stem().unwrap().to_string_lossy().into_owned();
            let module = path.is_dir() || path.extension().is_some_and(|end| end == "rs");
            let listed = main.lines().any(|line| {
                line.trim().trim_start_matches("pub ").strip_prefix("mod ")
                    == Some(&format!("{name};"))
            });
            if module && name != "main" && !listed {
                findings.push(format!("{krate}/tests/it/{name}"));
            }
        }
    }
    assert_none("main.rs does not list these, so they are never run", &findings);
}
