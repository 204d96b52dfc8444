//! `lap build` where it succeeds: inputs, outputs, cache, progress.

use std::fs;
use std::io::Write;
use std::process::Stdio;

use serde_json::Value;

use crate::support::{Lap, holds_only};

const COPY: &str = "FROM scratch\nCOPY . /\nARG X=none\nLABEL x=$X\n";

#[test]
fn progress_names_steps_and_counts_the_cache() {
    let lap = Lap::new("progress");
    let first = lap.build("app:1", COPY, &[("a", "1")]);
    assert!(first.contains("[stage 0 1/1] COPY . /\n"), "{first}");
    assert!(first.contains("[stage 0 1/1] done in "), "{first}");
    assert!(
        first
            .lines()
            .last()
            .is_some_and(|line| line.starts_with("built ") && line.ends_with("0 of 1 step cached")),
        "{first}"
    );
    let second = lap.build("app:1", COPY, &[]);
    assert!(second.contains("[stage 0 1/1] CACHED COPY . /\n"), "{second}");
    assert!(second.contains(" as app:1: 1 layer, "), "{second}");
    assert!(second.trim_end().ends_with("1 of 1 step cached"), "{second}");
}

#[test]
fn quiet_prints_the_id_and_json_prints_events() {
    let lap = Lap::new("quiet");
    let context = lap.context("context", COPY);
    let quiet = lap.run(["build", "-q", "--iidfile", "id", "--metadata-file", "meta", &context]);
    assert_eq!((quiet.code, quiet.stderr.as_str()), (Some(0), ""));
    assert_eq!(quiet.stdout.trim_end(), fs::read_to_string(lap.work.join("id")).unwrap());
    let metadata: Value =
        serde_json::from_slice(&fs::read(lap.work.join("meta")).unwrap()).unwrap();
    assert_eq!(metadata["containerimage.config.digest"], quiet.stdout.trim_end());
    let events = lap.run(["build", "--progress", "rawjson", &context]).stderr;
    let last: Value = serde_json::from_str(events.lines().last().unwrap()).unwrap();
    assert_eq!(
        (&last["event"], &last["image"]),
        (&"built".into(), &quiet.stdout.trim_end().into())
    );
}

#[test]
fn arguments_and_labels_reach_the_image() {
    let lap = Lap::new("arguments");
    let context = lap.context("context", COPY);
    let mut command =
        lap.command(["build", "-q", "-t", "a", "--build-arg", "X", "--label", "y=2", &context]);
    assert!(command.env("X", "from-env").output().unwrap().status.success());
    let labels = |lap: &Lap| {
        let inspected: Value = serde_json::from_str(&lap.ok(["inspect", "a"])).unwrap();
        inspected[0]["Config"]["Labels"].clone()
    };
    assert_eq!(labels(&lap), serde_json::json!({"x": "from-env", "y": "2"}));
    lap.ok(["build", "-q", "-t", "a", "--build-arg", "LAP_TEST_NOT_SET", &context]);
    assert_eq!(labels(&lap), serde_json::json!({"x": "none"}));
}

#[test]
fn a_dockerfile_may_come_on_standard_input() {
    let lap = Lap::new("stdin");
    lap.work.write("context/file", "1");
    for arguments in [
        &["build", "-q", "-t", "a", "-f", "-", "context"][..],
        &["build", "-q", "-t", "b", "-"][..],
    ] {
        let mut child =
            lap.command(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let text: &[u8] = if arguments.contains(&"context") {
            b"FROM scratch\nCOPY file /\n"
        } else {
            b"FROM scratch\nENV A=1\n"
        };
        child.stdin.take().unwrap().write_all(text).unwrap();
        assert!(child.wait().unwrap().success());
    }
    assert_eq!(lap.run(["diff", "b", "a"]).stdout, "A /file  1 B\n");
}

#[test]
fn named_contexts_and_ignore_files_count() {
    let lap = Lap::new("contexts");
    lap.work.write("other/o", "o");
    lap.work.write("context/a", "1");
    lap.work.write("context/b", "2");
    lap.work.write("context/x.df", "FROM scratch\nCOPY . /all/\nCOPY --from=other o /\n");
    lap.work.write("context/x.df.dockerignore", "*\n!a\n");
    lap.ok([
        "build",
        "-q",
        "-t",
        "a",
        "-f",
        "context/x.df",
        "--build-context",
        "docker.io/library/other:latest=other",
        "context",
    ]);
    let context = lap.context("empty", "FROM scratch\nENV A=1\n");
    lap.ok(["build", "-q", "-t", "none", &context]);
    assert_eq!(lap.run(["diff", "none", "a"]).stdout, "A /all/\nA /all/a  1 B\nA /o  1 B\n");
}

#[test]
fn files_are_written_where_they_shall_go() {
    let lap = Lap::new("outputs");
    lap.work.write("context/d/a", "text");
    let context = lap.context("context", "FROM scratch\nCOPY --chmod=750 d /d\n");
    fs::create_dir(lap.work.join("out")).unwrap();
    let mut arguments = vec!["build", "-q", "-t", "a:1"];
    for output in [
        "type=oci,dest=out/oci.tar",
        "type=docker,dest=out/docker.tar",
        "type=oci,dest=out/layout,tar=false,compression=zstd",
        "type=tar,dest=out/files.tar",
        "type=local,dest=out/files",
    ] {
        arguments.extend(["-o", output]);
    }
    arguments.push(&context);
    lap.ok(&arguments);
    assert!(holds_only(
        &lap.work.join("out"),
        &["docker.tar", "files", "files.tar", "layout", "oci.tar"]
    ));
    assert_eq!(fs::read_to_string(lap.work.join("out/files/d/a")).unwrap(), "text");
    let id = lap.ok(["images", "-q"]);
    for input in ["out/oci.tar", "out/docker.tar", "out/layout"] {
        let other = Lap::new("outputs-loaded");
        other.ok(["load", "-i", &lap.work.join(input).display().to_string()]);
        assert_eq!(other.ok(["images", "-q"]), id, "{input}");
        other.is_whole();
    }
    lap.ok(["import", "out/files.tar", "files:1"]);
    assert_eq!(lap.run(["diff", "a:1", "files:1"]).stdout, "");
}

#[test]
fn the_epoch_makes_archives_equal() {
    let archive = |purpose: &str| {
        let lap = Lap::new(purpose);
        lap.work.write("context/a", "1");
        let context = lap.context("context", "FROM scratch\nCOPY . /d/\nWORKDIR /w\n");
        let mut command =
            lap.command(["build", "-q", "-t", "a", "-o", "type=oci,dest=out.tar", &context]);
        assert!(command.env("SOURCE_DATE_EPOCH", "1700000000").output().unwrap().status.success());
        fs::read(lap.work.join("out.tar")).unwrap()
    };
    assert!(archive("epoch-one") == archive("epoch-two"), "two builds differ");
    // The environment's epoch is a build argument; it goes before the file's own.
    let lap = Lap::new("epoch-arg");
    let text = "ARG SOURCE_DATE_EPOCH=86400\nFROM scratch\nARG SOURCE_DATE_EPOCH\n\
        LABEL e=$SOURCE_DATE_EPOCH\nWORKDIR /w\n";
    let context = lap.context("context", text);
    let made = |epoch: &str, day: &str| {
        let mut command = lap.command(["build", "-q", "-t", "a", &context]);
        assert!(command.env("SOURCE_DATE_EPOCH", epoch).output().unwrap().status.success());
        let image: Value = serde_json::from_str(&lap.ok(["inspect", "a"])).unwrap();
        assert_eq!(image[0]["Created"], format!("1970-01-0{day}T00:00:00Z"));
        image[0]["Config"]["Labels"]["e"].clone()
    };
    assert_eq!(made("172800", "3"), "172800");
    assert_eq!(made("", "2"), "86400");
    let lap = Lap::new("epoch-bad");
    let context = lap.context("context", COPY);
    let mut command = lap.command(["build", &context]);
    assert_eq!(command.env("SOURCE_DATE_EPOCH", "soon").output().unwrap().status.code(), Some(2));
}

#[test]
fn a_timeline_is_a_page_of_its_own_even_of_a_failed_build() {
    let lap = Lap::new("timeline");
    let context = lap.context("context", COPY);
    let build = |text: &str| {
        lap.work.write("context/Dockerfile", text);
        let output = lap.run(["build", "--timeline", "t.html", "-o", "o.tar", &context]);
        (output.code, fs::read_to_string(lap.work.join("t.html")).unwrap())
    };
    let (code, page) = build(COPY);
    assert_eq!(code, Some(0));
    for word in ["[stage 0 1/1] COPY . /", "class=\"Run\"", "class=\"Output\"", "</html>"] {
        assert!(page.contains(word), "{word} is not in {page}");
    }
    let (code, page) = build("FROM scratch\nCOPY no<where /\n");
    assert_eq!(code, Some(3));
    assert!(page.contains("class=\"Failed\"") && page.contains("COPY no&lt;where /"), "{page}");
}

#[test]
fn two_stages_that_wait_say_for_whom() {
    let lap = Lap::new("waits");
    let text = "FROM scratch AS one\nCOPY . /\nFROM scratch\nCOPY --from=one / /\n";
    let context = lap.context("context", text);
    let events = lap.run(["build", "--progress", "rawjson", &context]).stderr;
    let events: Vec<Value> = events.lines().map(|l| serde_json::from_str(l).unwrap()).collect();
    // Whether the second stage has to wait at all is the scheduler's business.
    for event in events.iter().filter(|event| event["event"] == "step-waiting") {
        assert_eq!((&event["stage"], &event["for-stage"]), (&1.into(), &0.into()));
    }
    let digested = events.iter().filter(|event| event["event"] == "digested").count();
    assert_eq!(digested, 1, "{events:?}");
}

#[test]
fn switches_may_be_said_with_a_value() {
    let lap = Lap::new("switches");
    let context = lap.context("context", "FROM scratch\nCOPY Dockerfile /\n");
    let said = |flags: &[&str]| {
        let output = lap.run(["build"].iter().chain(flags).copied().chain([context.as_str()]));
        assert_eq!(output.code, Some(0), "{flags:?}: {}", output.stderr);
        output
    };
    said(&["--push=false", "--load=true", "--pull=0", "--no-cache=true"]);
    assert!(said(&["--no-cache=false"]).stderr.contains("1 of 1 step cached"));
    assert!(said(&["--no-cache"]).stderr.contains("0 of 1 step cached"));
    assert!(
        said(&["-qt", "x:1", "--compress", "--rm", "--force-rm=true"])
            .stdout
            .starts_with("sha256:")
    );
    assert!(said(&["--quiet=false"]).stderr.contains("built"));
}

#[test]
fn a_filter_that_means_nothing_is_told() {
    let lap = Lap::new("filter");
    let context = lap.context("context", "FROM scratch AS tests\nCOPY Dockerfile /\n");
    let said = |filter: &str| lap.run(["build", "--no-cache-filter", filter, &context]).stderr;
    assert!(!said("tests").contains("warning"));
    assert!(!said("0").contains("warning"));
    let typo = said("test");
    assert!(typo.contains("no stage is called `test`") && typo.contains("mean `tests`?"), "{typo}");
}

#[test]
fn a_failure_is_an_event_like_others() {
    let lap = Lap::new("rawjson-failed");
    let context = lap.context("context", "FROM scratch\nCOPY nope /\n");
    let output = lap.run(["build", "--progress", "rawjson", &context]);
    assert_eq!(output.code, Some(3));
    let events: Vec<Value> =
        output.stderr.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let last = events.last().unwrap();
    assert_eq!((last["event"].as_str(), last["exit"].as_u64()), (Some("failed"), Some(3)));
    let text = last["text"].as_str().unwrap();
    assert!(text.contains("\"/nope\": not found") && text.contains("Dockerfile:2:1"), "{text}");
}
