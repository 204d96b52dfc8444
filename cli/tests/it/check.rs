//! `lap check`: what it shows, how it ends, what it repairs.

use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::process::Stdio;

use lapstrake_builder::diagnostic::code;
use lapstrake_builder::lint;
use serde_json::Value;

use crate::support::Lap;

/// Set to anything, the expected texts are written anew, to be read by a person.
const ACCEPT: &str = "LAP_ACCEPT_SNAPSHOTS";

/// Rules that need more than a file: the builder's own tests have them.
const NEED_FACTS: [&str; 2] = ["InvalidBaseImagePlatform", "LargeContextWithoutIgnoreFile"];

#[test]
fn every_code_and_rule_has_its_snapshot() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fixtures/check");
    let lap = Lap::new("check-snapshots");
    let mut seen = String::new();
    let mut wrong = Vec::new();
    for entry in fs::read_dir(&folder).expect("the folder is there") {
        let case = entry.expect("it can be read").path();
        let mut command = lap.command(["check"]);
        let output = command.current_dir(&case).output().expect("lap can be started");
        let shown = String::from_utf8_lossy(&output.stdout).into_owned();
        assert_eq!(output.status.code(), Some(3), "{}", case.display());
        let name = case.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let own = name.split('-').next().unwrap_or_default();
        let is_code = code::ALL.contains(&own) || lint::is_rule(own);
        assert!(!is_code || shown.contains(&format!("[{own}]")), "{name}:\n{shown}");
        let expected = case.join("expected.txt");
        if std::env::var_os(ACCEPT).is_some() {
            fs::write(&expected, &shown).expect("it can be written");
        }
        if fs::read_to_string(&expected).unwrap_or_default() != shown {
            wrong.push(format!("{name}:\n{shown}"));
        }
        seen.push_str(&shown);
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    let rules = lint::all_rules().map(|rule| rule.name);
    for code in code::ALL.into_iter().chain(rules).filter(|code| !NEED_FACTS.contains(code)) {
        assert!(seen.contains(&format!("[{code}]")), "{code} has no snapshot");
    }
}

#[test]
fn the_exit_code_says_whether_anything_was_found() {
    let lap = Lap::new("check-exit");
    let context = lap.context("good", "FROM scratch\nCOPY a /\n");
    let good = lap.run(["check", &context]);
    assert_eq!((good.code, good.stdout.as_str()), (Some(0), ""));
    assert!(good.stderr.ends_with("nothing found\n"), "{}", good.stderr);
    let own = lap.context("own", "FROM debian\n");
    assert_eq!(lap.run(["check", &own]).code, Some(3));
    assert_eq!(lap.run(["build", "--check", &own]).code, Some(0), "docker has no such rule");
    let raised = lap.context("raised", "# check=error=true\nFROM debian:12\nMAINTAINER x\n");
    let output = lap.run(["build", "--check", &raised]);
    assert_eq!(output.code, Some(3));
    assert!(output.stdout.starts_with("error[MaintainerDeprecated]"), "{}", output.stdout);
    assert_eq!(lap.run(["check", "--target", "nope", &context]).code, Some(3));
    assert_eq!(lap.run(["check", "/nowhere/at/all"]).code, Some(3));
    let call = lap.run(["build", "--call", "check,format=json", &raised]);
    assert_eq!((call.code, call.stdout.starts_with('[')), (Some(3), true));
    assert!(!lap.root().exists(), "a check needs no store");
}

#[test]
fn a_file_comes_on_standard_input() {
    let lap = Lap::new("check-stdin");
    let mut child = lap
        .command(["check", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("lap can be started");
    let mut input = child.stdin.take().expect("it is a pipe");
    input.write_all(b"FROM scratch\nCPOY a b\n").expect("it is read");
    drop(input);
    let output = child.wait_with_output().expect("it ends");
    assert_eq!(output.status.code(), Some(3));
    let shown = String::from_utf8_lossy(&output.stdout);
    assert!(shown.contains("error[D005]: unknown instruction: CPOY\n --> Dockerfile:2:1\n"));
    assert!(shown.contains("^^^^\nhint: did you mean `COPY`?\n"), "{shown}");
}

#[test]
fn programs_read_findings() {
    let lap = Lap::new("check-formats");
    lap.context("x", "FROM debian:12 AS a\nFROM debian:12 as A\n");
    lap.work.write("x/other", "FROM debian:12\nMAINTAINER x\n");
    let run = |format: &str| {
        let files = ["check", "-f", "x/Dockerfile", "-f", "x/other", "--format", format, "x"];
        let output = lap.run(files);
        assert_eq!(output.code, Some(3), "{}", output.stderr);
        output.stdout
    };
    let json: Value = serde_json::from_str(&run("json")).expect("it is JSON");
    let codes: Vec<&str> = json
        .as_array()
        .expect("it is an array")
        .iter()
        .filter_map(|found| found["code"].as_str())
        .collect();
    let expected =
        ["FromAsCasing", "DuplicateStageName", "StageNameCasing", "MaintainerDeprecated"];
    assert_eq!(codes, expected);
    assert_eq!(json[0]["fix"]["edits"][0]["text"], "AS");
    assert_eq!(json[1]["related"][0]["place"]["startLine"], 1);
    assert_eq!(json[3]["page"], "checks/MaintainerDeprecated.md");
    let sarif: Value = serde_json::from_str(&run("sarif")).expect("it is JSON");
    assert_eq!(sarif["version"], "2.1.0");
    let log = &sarif["runs"][0];
    let rules = log["tool"]["driver"]["rules"].as_array().expect("rules are an array");
    for result in log["results"].as_array().expect("results are an array") {
        let index = result["ruleIndex"].as_u64().and_then(|index| usize::try_from(index).ok());
        assert_eq!(rules[index.expect("it is a number")]["id"], result["ruleId"]);
        assert!(result["message"]["text"].is_string());
        let place = &result["locations"][0]["physicalLocation"];
        assert!(place["artifactLocation"]["uri"].is_string());
        assert!(place["region"]["startLine"].as_u64() >= Some(1));
    }
    assert_eq!(log["results"][1]["relatedLocations"][0]["message"]["text"], "first defined here");
    let edits = &log["results"][0]["fixes"][0]["artifactChanges"][0]["replacements"];
    assert_eq!(edits[0]["insertedContent"]["text"], "AS");
    let github = run("github");
    assert_eq!(github.lines().count(), 4, "{github}");
    assert!(github.starts_with("::warning file=x/Dockerfile,line=2,"), "{github}");
}

#[test]
fn repairs_are_written() {
    use std::os::unix::fs::PermissionsExt as _;
    let lap = Lap::new("check-fix");
    let context = lap.context("x", "from debian:12 AS b\nrun true\nENV a b\n");
    let path = lap.work.join("x/Dockerfile");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).expect("it is ours");
    let diff = lap.run(["check", "--diff", &context]);
    assert_eq!(diff.code, Some(3));
    assert!(diff.stdout.contains("-ENV a b\n+env a=b\n"), "{}", diff.stdout);
    assert!(fs::read_to_string(&path).expect("it is there").starts_with("from debian:12 AS"));
    assert_eq!(lap.run(["check", "--fix", &context]).code, Some(0));
    let text = fs::read_to_string(&path).expect("it is there");
    assert_eq!(text, "from debian:12 as b\nrun true\nenv a=b\n");
    assert_eq!(fs::metadata(&path).expect("it is there").permissions().mode() & 0o777, 0o640);
    assert_eq!(lap.run(["check", "--diff", &context]).code, Some(0));
}

/// A link stays a link, a broken file stays as it is, and a file that cannot be replaced is whole.
#[test]
fn repairs_touch_nothing_else() {
    use std::os::unix::fs::{MetadataExt as _, symlink};
    let lap = Lap::new("check-fix-files");
    lap.work.write("real/good", "FROM scratch as b\n");
    lap.work.write("bad", "FROM scratch as b\nCPOY x y\n");
    symlink("real/good", lap.work.join("link")).expect("a link can be made");
    let output = lap.run(["check", "--fix", "-f", "bad", "-f", "link", "."]);
    assert_eq!(output.code, Some(3), "{}", output.stderr);
    assert!(lap.work.join("link").is_symlink());
    let read = |name: &str| fs::read_to_string(lap.work.join(name)).expect("it is there");
    assert_eq!(read("real/good"), "FROM scratch AS b\n");
    assert_eq!(read("bad"), "FROM scratch as b\nCPOY x y\n");
    assert!(crate::support::holds_only(&lap.work.join("real"), &["good"]));
    let inode = || fs::metadata(lap.work.join("real/good")).expect("it is there").ino();
    let before = inode();
    lap.run(["check", "--fix", "-f", "link", "."]);
    assert_eq!(inode(), before, "a file without findings is not written");
    let diff = lap.run(["check", "--diff", "-f", "bad", "."]);
    assert_eq!((diff.code, diff.stdout.as_str()), (Some(0), ""), "{}", diff.stderr);
}
