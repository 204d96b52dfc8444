//! `lap build --verify`: what does not come out twice is named by step and file.

use lapstrake_fixtures::require;

use crate::support::{Lap, RUN};

const EPOCH: &str = "--build-arg=SOURCE_DATE_EPOCH=1000000000";

#[test]
fn what_comes_out_twice_is_said() {
    let lap = Lap::new("verify-same");
    let context = lap.context("context", "FROM scratch\nCOPY Dockerfile /f\nWORKDIR /w\n");
    lap.ok(["build", &context]);
    let said = lap.run(["build", "--verify", "-t", "x:1", &context]);
    assert_eq!(said.code, Some(0), "{}", said.stderr);
    for words in ["[verify] building again without the cache", "2 steps gave the same files"] {
        assert!(said.stderr.contains(words), "{}", said.stderr);
    }
    assert!(said.stderr.contains("times of steps were not compared"), "{}", said.stderr);
    let said = lap.run(["build", "--verify", EPOCH, "-t", "x:2", &context]);
    assert!(said.stderr.contains("and the same image"), "{}", said.stderr);
    lap.ok(["inspect", "x:1", "x:2"]);
    lap.is_whole();
}

/// The second build only shows whether it is the same: neither its report nor its results stay.
#[test]
fn the_real_build_stays_the_newest() {
    if !require(&RUN) {
        return;
    }
    let lap = Lap::with_busybox("verify-report");
    let text = "FROM busybox\nCOPY Dockerfile /f\nRUN head -c 9 /dev/urandom | md5sum > /random\n";
    let context = lap.context("context", text);
    for (more, code) in [("--no-cache", 0), ("--verify", 1)] {
        let said = lap.run(["build", more, "--no-cache-filter=0", "-t", "x:1", &context]);
        assert_eq!(said.code, Some(code), "{}", said.stderr);
    }
    let listed = |lap: &Lap| -> Vec<serde_json::Value> {
        let json = lap.ok(["explain", "--list", "--format=json"]);
        serde_json::from_str(&json).unwrap()
    };
    let builds = listed(&lap).len();
    let before = lap.ok(["explain", "--format=json"]);
    // What the next build finds is what the first one made.
    let said = lap.run(["build", "--progress=plain", "-q", &context]);
    let report: serde_json::Value = serde_json::from_str(&before).unwrap();
    assert_eq!(report["image"], said.stdout.trim());
    let copied = lap.context("copied", "FROM scratch\nCOPY Dockerfile /f\nWORKDIR /w\n");
    lap.ok(["build", &copied]);
    lap.ok(["build", "--verify", &copied]);
    let newest: serde_json::Value =
        serde_json::from_str(&lap.ok(["explain", "--format=json"])).unwrap();
    let outcomes: Vec<_> = newest["stages"][0]["steps"].as_array().unwrap().iter().collect();
    assert!(outcomes.iter().all(|step| step["outcome"] == "hit"), "{newest:#}");
    assert_eq!(listed(&lap).len(), builds + 3, "each build that counts has a report");
}

#[test]
fn what_does_not_is_named_by_step_and_file() {
    if !require(&RUN) {
        return;
    }
    let lap = Lap::with_busybox("verify-other");
    let text = "FROM busybox AS build\nRUN echo same > /same\n\
                RUN mkdir /out && head -c 9 /dev/urandom | md5sum > /out/random && touch /out/empty\n\
                FROM busybox\nRUN true\nCOPY --from=build /out /out\n";
    let context = lap.context("context", text);
    for more in [None, Some(EPOCH)] {
        let mut arguments = vec!["build", "--verify", "-t", "x:1", &context];
        arguments.extend(more);
        let said = lap.run(&arguments);
        assert_eq!(said.code, Some(1), "{}", said.stderr);
        for words in [
            "Dockerfile:3: `RUN mkdir /out",
            "(stage build) made other files the second time",
            "C /out/random  content",
            // Two random texts begin alike now and then.
            "/out/random differs from byte ",
            " on: `",
            "1 later step came out otherwise, too",
        ] {
            assert!(said.stderr.contains(words), "`{words}` is not in:\n{}", said.stderr);
        }
        assert!(!said.stderr.contains("C /out/empty"), "{}", said.stderr);
    }
    lap.refused(["inspect", "x:1"], 3, &["no image"]);
    lap.is_whole();
}

#[test]
fn times_of_files_are_those_that_go_out() {
    if !require(&RUN) {
        return;
    }
    let lap = Lap::with_busybox("verify-times");
    let text = "FROM busybox\nRUN sleep 1 && touch /now && echo a > /a\n";
    let context = lap.context("context", text);
    for more in [None, Some(EPOCH)] {
        let mut arguments = vec!["build", "--verify", &context];
        arguments.extend(more);
        let said = lap.run(&arguments);
        assert_eq!(said.code, Some(0), "{}", said.stderr);
    }
    // A time that a step sets itself, before the epoch, is not now's.
    let text = "FROM busybox\nRUN touch -d @$(date +%s | tail -c 7) /early\n\
                RUN sleep 1\n";
    let context = lap.context("early", text);
    for more in [None, Some(EPOCH)] {
        let mut arguments = vec!["build", "--verify", &context];
        arguments.extend(more);
        let said = lap.run(&arguments);
        assert_eq!(said.code, Some(1), "{}", said.stderr);
        assert!(said.stderr.contains("C /early  mtime 1970-01-"), "{}", said.stderr);
    }
}
