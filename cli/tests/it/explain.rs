//! `lap build --explain` and `lap explain`: what each kind of change is told as.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::time::{Duration, SystemTime};

use lapstrake_fixtures::require;
use serde_json::Value;

use crate::support::{Lap, RUN};

const FILES: &str = "FROM scratch AS files\nARG WHO=nobody\nCOPY src/* /src/\nWORKDIR /$WHO\n";

/// Builds `ctx` and returns the explanation.
fn explain(lap: &Lap, more: &[&str]) -> String {
    let context = lap.work.join("ctx").display().to_string();
    let mut arguments = vec!["build", "--explain"];
    arguments.extend(more);
    arguments.push(&context);
    lap.ok(arguments)
}

/// The lines of an explanation that tell of `line` of the Dockerfile: its outcome, then its reasons.
fn of_line(text: &str, line: usize) -> Vec<String> {
    let head = format!(" {line}  ");
    let is_head = |text: &str| text.starts_with("  ") && !text.starts_with("     ");
    let mut lines = text.lines().skip_while(|text| !(is_head(text) && text.contains(&head)));
    let first = lines.next().unwrap_or_default().split_whitespace().next().unwrap_or_default();
    let reasons = lines.take_while(|text| text.starts_with("     ")).map(str::trim);
    std::iter::once(first).chain(reasons).map(str::to_owned).collect()
}

fn files(purpose: &str) -> Lap {
    let lap = Lap::new(purpose);
    lap.context("ctx", FILES);
    lap.work.write("ctx/src/a", "one\n");
    lap.work.write("ctx/src/b", "two\n");
    lap
}

#[test]
fn files_that_changed_are_named() {
    let lap = files("explain-files");
    let first = explain(&lap, &[]);
    assert!(first.contains("the first of this Dockerfile here"), "{first}");
    assert!(of_line(&first, 3)[1].starts_with("no build of this Dockerfile"), "{first}");
    assert_eq!(of_line(&explain(&lap, &[]), 3), ["hit"]);

    lap.work.write("ctx/src/a", "other\n");
    let changed = explain(&lap, &[]);
    let told = of_line(&changed, 3);
    assert_eq!((told.len(), told[0].as_str()), (2, "miss"), "{changed}");
    assert!(told[1].starts_with("changed  src/a: 4 B → 6 B, "), "{changed}");
    assert_eq!(
        of_line(&changed, 4),
        ["miss", "line 3 below it made another layer: COPY src/* /src/"],
        "{changed}"
    );

    let path = lap.work.join("ctx/src/b");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    lap.work.write("ctx/src/new.c", "");
    fs::remove_file(lap.work.join("ctx/src/a")).unwrap();
    let told = of_line(&explain(&lap, &[]), 3);
    assert_eq!(told.len(), 4, "{told:?}");
    assert!(told[1].starts_with("gone     src/a: it was 6 B, "), "{told:?}");
    assert!(told[2].ends_with("0755 (only the mode changed)"), "{told:?}");
    assert_eq!(told[3], "new      src/new.c: empty, mode 0644, taken by `src/*`");
}

#[test]
fn a_hit_on_an_older_result_is_what_the_next_build_is_compared_with() {
    let lap = files("explain-back");
    explain(&lap, &[]);
    lap.work.write("ctx/src/a", "other\n");
    explain(&lap, &[]);
    lap.work.write("ctx/src/a", "one\n");
    assert_eq!(of_line(&explain(&lap, &[]), 3), ["hit"]);
    lap.work.write("ctx/src/b", "2\n");
    let told = of_line(&explain(&lap, &[]), 3);
    assert_eq!(told.len(), 2, "{told:?}");
    assert!(told[1].starts_with("changed  src/b: "), "{told:?}");
}

#[test]
fn a_touched_file_is_a_hit() {
    let lap = files("explain-touch");
    explain(&lap, &[]);
    let file = fs::File::options().write(true).open(lap.work.join("ctx/src/a")).unwrap();
    file.set_modified(SystemTime::now() - Duration::from_secs(3600)).unwrap();
    assert_eq!(of_line(&explain(&lap, &[]), 3), ["hit"]);
}

#[test]
fn edited_inserted_and_removed_instructions_are_told() {
    let lap = files("explain-text");
    explain(&lap, &[]);
    lap.context("ctx", &FILES.replace("WORKDIR /$WHO", "WORKDIR /else"));
    let told = of_line(&explain(&lap, &[]), 4);
    assert!(told[1].starts_with("the instruction was:  WORKDIR /"), "{told:?}");
    assert_eq!(told[2], "is now: WORKDIR /else");

    lap.context("ctx", &FILES.replace("COPY", "COPY src/a /first/\nCOPY"));
    let inserted = explain(&lap, &[]);
    assert_eq!(of_line(&inserted, 4)[1], "line 3 below it made another layer: COPY src/a /first/");

    lap.context("ctx", &FILES.replace("COPY src/* /src/\n", "COPY src/a /\n"));
    explain(&lap, &[]);
    lap.context("ctx", &FILES.replace("COPY src/* /src/\n", ""));
    let removed = explain(&lap, &["--no-cache-filter", "none"]);
    assert_eq!(of_line(&removed, 3)[1], "a step below it is gone: COPY src/a /", "{removed}");
}

#[test]
fn no_cache_and_a_pruned_result_are_told() {
    let lap = files("explain-gone");
    explain(&lap, &[]);
    assert_eq!(of_line(&explain(&lap, &["--no-cache"]), 3), ["miss", "--no-cache"]);
    fs::remove_dir_all(lap.root().join("cache/keys")).unwrap();
    let told = of_line(&explain(&lap, &[]), 3);
    assert!(told[1].starts_with("it was made before, but the result is gone"), "{told:?}");
}

#[test]
fn variables_of_a_run_are_told_and_secrets_masked() {
    if !require(&RUN) {
        return;
    }
    let lap = Lap::with_busybox("explain-env");
    lap.context("ctx", "FROM busybox\nARG A=1\nARG DB_PASSWORD\nRUN true\nRUN false || true\n");
    let build = |a: &str, secret: &str| {
        let (a, secret) = (format!("A={a}"), format!("DB_PASSWORD={secret}"));
        explain(&lap, &["--build-arg", &a, "--build-arg", &secret])
    };
    build("1", "hunter1");
    let told = build("2", "hunter2");
    assert_eq!(of_line(&told, 4), ["miss", "A \"1\" → \"2\"", "DB_PASSWORD has another value"]);
    assert!(!told.contains("hunter"), "{told}");
    let context = lap.work.join("ctx").display().to_string();
    let json: Value = serde_json::from_str(&lap.ok(["explain", "--format", "json"])).unwrap();
    assert_eq!(json["stages"][0]["steps"][0]["reasons"][0]["name"], "A");
    assert!(json["id"].as_str().is_some_and(|id| id.len() == 16));
    // Early cutoff: the steps made the same layers, so what comes after them is found.
    let again = lap.ok(["build", "--explain=json", "--build-arg", "A=2", &context]);
    assert!(serde_json::from_str::<Value>(&again).is_ok());
}

#[test]
fn a_failed_step_is_explained_against_its_last_result() {
    if !require(&RUN) {
        return;
    }
    let lap = Lap::with_busybox("explain-failed");
    let dockerfile = "FROM busybox\nCOPY cmd /cmd\nRUN sh /cmd\n";
    lap.context("ctx", dockerfile);
    lap.work.write("ctx/cmd", "true\n");
    explain(&lap, &[]);
    lap.work.write("ctx/cmd", "exit 7\n");
    let context = lap.work.join("ctx").display().to_string();
    let failed = lap.run(["build", "--explain", &context]);
    assert_eq!(failed.code, Some(1), "{}", failed.stderr);
    assert_eq!(of_line(&failed.stdout, 3)[0], "failed", "{}", failed.stdout);
    lap.work.write("ctx/cmd", "true # again\n");
    let told = explain(&lap, &[]);
    assert!(of_line(&told, 2)[1].starts_with("changed  cmd: 7 B → 13 B"), "{told}");
    assert_eq!(of_line(&told, 3)[1], "line 2 below it made another layer: COPY cmd /cmd");
}

#[test]
fn past_builds_are_found_by_id_and_by_image() {
    let lap = files("explain-past");
    let none = lap.run(["explain"]);
    assert_eq!(none.code, Some(3));
    assert!(none.stderr.contains("no build to explain"), "{}", none.stderr);
    explain(&lap, &["-t", "one"]);
    lap.work.write("ctx/src/a", "other\n");
    explain(&lap, &["-t", "two"]);
    let list: Value =
        serde_json::from_str(&lap.ok(["explain", "--list", "--format", "json"])).unwrap();
    let ids: Vec<&str> =
        list.as_array().unwrap().iter().map(|build| build["id"].as_str().unwrap()).collect();
    assert_eq!(ids.len(), 2);
    assert!(lap.ok(["explain"]).starts_with(&format!("build {}", ids[0])));
    assert!(lap.ok(["explain", &ids[1][..8]]).starts_with(&format!("build {}", ids[1])));
    assert!(lap.ok(["explain", "one"]).starts_with(&format!("build {}", ids[1])));
    assert!(lap.ok(["explain", "--list"]).contains("DOCKERFILE"));
    let unknown = lap.run(["explain", "nothing"]);
    assert_eq!(unknown.code, Some(3));
    assert!(unknown.stderr.contains("lap explain --list"), "{}", unknown.stderr);
    lap.is_whole();
}
