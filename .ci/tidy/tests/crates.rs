//! The crate graph is the one of the design, and every crate's manifest says the same things.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

use lapstrake_tidy::{CRATES, assert_none, root};
use serde_json::Value;

/// Who may name whom (design §3); a new edge is a change of the architecture.
const MAY_NAME: [(&str, &[&str]); 6] = [
    ("builder", &["layerstore", "runner"]),
    ("cli", &["builder", "layerstore", "registry", "runner"]),
    ("fixtures", &[]),
    ("layerstore", &[]),
    ("registry", &["layerstore"]),
    ("runner", &[]),
];

fn metadata() -> Value {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .args(["metadata", "--format-version", "1", "--no-deps"])
        .current_dir(root())
        .output()
        .expect("cargo metadata");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("cargo metadata prints JSON")
}

/// Our crates that a package names, normally or (`kind` dev or build) otherwise.
fn ours(package: &Value, kind: Option<&str>) -> BTreeSet<String> {
    let dependencies = package["dependencies"].as_array().expect("because cargo lists them");
    dependencies
        .iter()
        .filter(|dependency| dependency["kind"].as_str() == kind)
        .filter_map(|dependency| dependency["name"].as_str()?.strip_prefix("lapstrake-"))
        .map(str::to_owned)
        .collect()
}

fn packages() -> BTreeMap<String, Value> {
    let metadata = metadata();
    let packages = metadata["packages"].as_array().expect("because cargo lists them");
    let named = packages.iter().map(|package| {
        let name = package["name"]
            .as_str()
            .expect("because a package has a name")
            .trim_start_matches("lapstrake-");
        (name.to_owned(), package.clone())
    });
    named.collect()
}

#[test]
fn the_graph_is_that_of_the_design() {
    let packages = packages();
    for (name, allowed) in MAY_NAME {
        let package = &packages[name];
        let allowed: BTreeSet<String> = allowed.iter().map(ToString::to_string).collect();
        let normal = ours(package, None);
        assert!(normal.is_subset(&allowed), "{name} names {normal:?}, may name {allowed:?}");
        assert!(ours(package, Some("build")).is_empty(), "{name} builds with ours");
        let dev = ours(package, Some("dev"));
        assert!(
            dev.iter().all(|other| other == "fixtures" || allowed.contains(other)),
            "{name}'s tests name {dev:?}"
        );
    }
}

#[test]
fn all_crates_share_their_fields_and_lints() {
    let mut findings = Vec::new();
    for folder in CRATES.into_iter().chain([".ci/tidy", ".ci/xtask"]) {
        let manifest = std::fs::read_to_string(root().join(folder).join("Cargo.toml")).unwrap();
        for field in ["version", "edition", "rust-version", "license", "publish"] {
            if !manifest.contains(&format!("{field}.workspace = true")) {
                findings.push(format!("{folder}: {field} is not the workspace's"));
            }
        }
        if !manifest.contains("[lints]\nworkspace = true") {
            findings.push(format!("{folder}: the lints are not the workspace's"));
        }
        let last = folder.rsplit('/').next().unwrap_or(folder);
        if !manifest.contains(&format!("name = \"lapstrake-{last}\"")) {
            findings.push(format!("{folder}: the package is not lapstrake-{last}"));
        }
        findings.extend(own_versions(&manifest).map(|line| format!("{folder}: {line}")));
    }
    assert_none("one version for each dependency, in the workspace's table", &findings);
}

/// Dependency lines of a manifest that bring their own version.
fn own_versions(manifest: &str) -> impl Iterator<Item = &str> {
    let dependencies = manifest.lines().skip_while(|line| !line.contains("dependencies]"));
    dependencies
        .filter(|line| line.contains('=') && !line.contains("workspace"))
        .take_while(|line| !line.starts_with('['))
        .filter(|line| {
            !["name", "path", "harness", "required-features"]
                .iter()
                .any(|key| line.starts_with(key))
        })
}
