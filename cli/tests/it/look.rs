//! Looking at images: names, layers, differences.

use serde_json::Value;

use crate::support::Lap;

/// Two versions of an image: a file changed, one added, one removed.
fn two_versions(purpose: &str) -> Lap {
    let lap = Lap::new(purpose);
    let first = "FROM scratch\nCOPY keep gone /d/\nENV A=1\n";
    lap.build("app:1", first, &[("keep", "1\n"), ("gone", "12345\n")]);
    let second = "FROM app:1\nCOPY --chmod=600 keep /d/keep\nCOPY more /more\nCOPY link /d/gone\n";
    lap.build("app:2", second, &[("keep", "22\n"), ("more", "x"), ("link", "")]);
    lap
}

fn json(text: &str) -> Value {
    serde_json::from_str(text).expect("standard output is JSON")
}

#[test]
fn differences_are_named() {
    let lap = two_versions("diff");
    let output = lap.run(["diff", "--ignore", "mtime", "app:1", "app:2"]);
    assert_eq!(output.code, Some(1), "{}", output.stderr);
    let expected = "C /d/gone  size 6 B -> 0 B, content\nC /d/keep  mode 0644 -> 0600, size 2 B \
         -> 3 B, content\nA /more  1 B\n";
    assert_eq!(output.stdout, expected);
    assert_eq!(
        output.stderr,
        "1 added, 2 changed, 0 deleted; their files: 8 B before, 4 B after\n"
    );
    let same = lap.run(["diff", "app:1", "app:1"]);
    assert_eq!((same.code, same.stdout.as_str()), (Some(0), ""));
    assert_eq!(lap.run(["diff", "-q", "app:1", "app:2"]).code, Some(1));
    assert_eq!(lap.run(["diff", "app:1", "nope"]).code, Some(3));
    assert_eq!(lap.run(["diff", "app:1"]).code, Some(2));
}

#[test]
fn differences_have_a_json_form() {
    let lap = two_versions("diff-json");
    let changes =
        json(&lap.run(["diff", "--ignore", "mtime", "--format", "json", "app:1", "app:2"]).stdout);
    assert_eq!(changes["summary"]["changed"], 2);
    let keep = &changes["changes"][1];
    assert_eq!(keep["path"], "/d/keep");
    assert_eq!(keep["change"], "changed");
    assert_eq!(keep["attributes"], serde_json::json!(["mode", "size", "content"]));
    assert_eq!(
        (&keep["old"]["size"], &keep["new"]["mode"]),
        (&Value::from(2), &Value::from("0600"))
    );
}

#[test]
fn layers_of_one_image_are_compared() {
    let lap = two_versions("diff-layer");
    assert_eq!(
        lap.run(["diff", "--layer", "3", "app:2"]).stdout.lines().last(),
        Some("A /more  1 B")
    );
    let all = lap.run(["diff", "--layer", "0..1", "app:2"]);
    assert_eq!(all.stdout, "A /d/\nA /d/gone  6 B\nA /d/keep  2 B\n");
    assert_eq!(lap.run(["diff", "--layer", "9", "app:2"]).code, Some(3));
}

#[test]
fn layers_are_counted() {
    let lap = two_versions("layers");
    let layers = json(&lap.ok(["layers", "--format", "json", "app:2"]));
    let counts: Vec<(u64, u64, u64)> = layers
        .as_array()
        .expect("it is a list")
        .iter()
        .map(|layer| {
            ["added", "changed", "removed"]
                .map(|key| layer[key].as_u64().expect("it is a number"))
                .into()
        })
        .collect();
    assert_eq!(counts, [(3, 0, 0), (0, 1, 0), (1, 0, 0), (0, 1, 0)]);
    assert_eq!(layers[1]["instruction"], "COPY --chmod=600 keep /d/keep");
    let text = lap.ok(["layers", "app:2"]);
    assert!(
        text.starts_with("LAYER  SIZE  BLOB  ADDED  CHANGED  REMOVED  INSTRUCTION\n    1   8 B"),
        "{text}"
    );
}

#[test]
fn names_come_and_go() {
    let lap = two_versions("names");
    lap.ok(["tag", "app:1", "127.0.0.1:5000/team/app:x"]);
    let id = lap.ok(["images", "-q", "--no-trunc", "app:1"]);
    assert_eq!(lap.ok(["images", "-q", "--no-trunc", "127.0.0.1:5000/team/app"]), id);
    let listed = json(&lap.ok(["images", "--format", "json"]));
    assert_eq!(listed.as_array().map(Vec::len), Some(3));
    let short = &id.trim_start_matches("sha256:")[..8];
    let inspected = json(&lap.ok(["inspect", short]));
    assert_eq!(inspected[0]["Id"], id.trim_end());
    assert_eq!(inspected[0]["RepoTags"], serde_json::json!(["127.0.0.1:5000/team/app:x", "app:1"]));
    assert!(
        inspected[0]["Config"]["Env"].as_array().is_some_and(|env| env.contains(&"A=1".into()))
    );
    lap.ok(["tag", short, "third:1"]);
    assert_eq!(lap.ok(["rmi", "app:1"]), "untagged app:1\n");
    assert_eq!(lap.run(["rmi", "app:1"]).code, Some(3));
    lap.ok(["rmi", "-f", "app:1"]);
    assert_eq!(lap.ok(["rmi", short]), "untagged 127.0.0.1:5000/team/app:x\nuntagged third:1\n");
    assert_eq!(json(&lap.ok(["images", "--format", "json"])).as_array().map(Vec::len), Some(1));
    lap.ok(["prune", "--all"]);
    lap.is_whole();
    lap.ok(["layers", "app:2"]);
}

#[test]
fn history_reads_like_docker_s() {
    let lap = two_versions("history");
    let history = json(&lap.ok(["history", "--format", "json", "app:1"]));
    assert_eq!(history[0]["created_by"], "ENV A=1");
    assert_eq!(
        (&history[1]["size"], &history[1]["empty_layer"]),
        (&Value::from(8), &Value::from(false))
    );
    assert!(lap.ok(["history", "app:1"]).starts_with("CREATED"));
}

#[test]
fn a_reader_that_leaves_is_no_error() {
    use std::process::Stdio;
    let lap = two_versions("pipe");
    let mut child = lap
        .command(["save", "app:2"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!(
        (output.status.code(), String::from_utf8_lossy(&output.stderr).as_ref()),
        (Some(0), "")
    );
}
