//! Dockerfiles of the shapes that people write: each is read, checked and planned without a false error,
//! and the reference's checks say what stands beside its name, no more and no less.

use lapstrake_builder::BuildOptions;
use lapstrake_builder::check::{Surroundings, check};
use lapstrake_builder::diagnostic::Diagnostic;
use lapstrake_builder::lint;
use lapstrake_builder::plan::{BuildPlan, plan};
use std::fs;
use std::path::Path;

/// Fewer files than this would be no proof.
const FILES_MIN: usize = 250;

/// One Dockerfile of `fixtures/dockerfiles`.
pub(crate) struct Real {
    pub(crate) name: String,
    /// The checks of the reference that find something, in order of name.
    expected: Vec<String>,
    pub(crate) text: String,
}

/// All of them. A file holds many, each after a line `#### name` or `#### name | Rule, Rule`.
pub(crate) fn all() -> Vec<Real> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fixtures/dockerfiles");
    let mut files: Vec<_> =
        fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    let mut found = Vec::new();
    for file in files {
        let group = file.file_stem().unwrap().to_string_lossy().into_owned();
        let text = fs::read_to_string(&file).unwrap();
        for part in text.split("#### ").skip(1) {
            let (head, text) = part.split_once('\n').unwrap();
            let (name, rules) = head.split_once('|').unwrap_or((head, ""));
            let rules = rules.split(',').map(|rule| rule.trim().to_owned());
            let mut expected: Vec<String> = rules.filter(|rule| !rule.is_empty()).collect();
            expected.sort();
            found.push(Real {
                name: format!("{group}/{}", name.trim()),
                expected,
                text: text.to_owned(),
            });
        }
    }
    found
}

fn options(text: &str) -> BuildOptions {
    let mut options = BuildOptions::of(text);
    options.platform = "linux/amd64".parse().unwrap();
    options.allow_host_network = true;
    options.allow_insecure = true;
    options
}

/// What is found: errors, and the names of the reference's checks.
fn findings(text: &str) -> (Vec<Diagnostic>, Vec<String>) {
    let report =
        check(&options(text), &Surroundings { own_rules: false, ..Surroundings::default() })
            .unwrap();
    let (errors, warnings): (Vec<_>, Vec<_>) =
        report.diagnostics.into_iter().partition(Diagnostic::is_error);
    let of_reference = |found: &Diagnostic| lint::RULES.iter().any(|rule| rule.name == found.code);
    let warnings = warnings.iter().filter(|found| of_reference(found));
    let mut names: Vec<String> = warnings.map(|found| found.code.to_owned()).collect();
    names.sort();
    (errors, names)
}

fn planned(real: &Real, text: &str) -> BuildPlan {
    plan(&options(text), &mut |_| None).unwrap_or_else(|e| panic!("{}: {e:?}", real.name))
}

/// Number, instruction and what kind each planned instruction is: what line ends must not change.
fn outline(plan: &BuildPlan) -> Vec<(usize, usize, &'static str)> {
    let stages = plan.stages.iter();
    stages
        .flat_map(|stage| stage.instructions.iter().map(|i| (stage.index, i.number, i.instruction)))
        .collect()
}

#[test]
fn real_files_are_read_and_planned_without_a_false_error() {
    let files = all();
    assert!(files.len() >= FILES_MIN, "only {} files", files.len());
    let mut wrong = Vec::new();
    let mut instructions = 0;
    for real in &files {
        let (errors, warnings) = findings(&real.text);
        if !errors.is_empty() || warnings != real.expected {
            wrong.push(format!("{}: {errors:?} {warnings:?}", real.name));
        }
        if errors.is_empty() {
            let plan = planned(real, &real.text);
            assert!(!plan.stages.is_empty(), "{}", real.name);
            instructions += outline(&plan).len();
        }
    }
    println!("{} files, {instructions} instructions planned", files.len());
    assert!(wrong.is_empty(), "{} files:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn line_ends_change_nothing() {
    for real in &all() {
        let unix = planned(real, &real.text);
        let windows = planned(real, &real.text.replace('\n', "\r\n"));
        assert_eq!(outline(&unix), outline(&windows), "{}", real.name);
        let cut = planned(real, real.text.trim_end_matches('\n'));
        assert_eq!(outline(&unix), outline(&cut), "{}", real.name);
        let marked = planned(real, &format!("\u{feff}{}", real.text));
        assert_eq!(outline(&unix), outline(&marked), "{}", real.name);
    }
}

#[test]
fn no_two_files_are_the_same() {
    let mut seen = std::collections::BTreeMap::new();
    for real in all() {
        let words: Vec<&str> = real.text.split_whitespace().collect();
        if let Some(other) = seen.insert(words.join(" "), real.name.clone()) {
            panic!("{} and {other} are the same", real.name);
        }
    }
}
