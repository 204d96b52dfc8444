//! Versions of a layer share the files that they have in common, and no step can tell.

use std::fs::{self, File};
use std::path::Path;
use std::time::{Duration, UNIX_EPOCH};

use lapstrake_fixtures::require;

use crate::support::{Lap, RUN};

/// Enough for the store to look for another version.
const FILES: usize = 100;

/// A folder of files of one time, one of them with this content.
fn version(folder: &Path, content: &str) {
    fs::create_dir_all(folder).expect("a folder can be made");
    let write = |name: &str, content: &str| {
        let path = folder.join(name);
        fs::write(&path, content).expect("a file can be written");
        let time = UNIX_EPOCH + Duration::from_secs(1_000_000_000);
        let file = File::options().write(true).open(path).expect("it can be opened");
        file.set_modified(time).expect("its time can be set");
    };
    (0..FILES).for_each(|n| write(&format!("{n}"), "the same\n"));
    write("changed", content);
}

#[test]
fn a_step_that_writes_reaches_no_other_version() {
    if !require(&RUN) {
        return;
    }
    let lap = Lap::with_busybox("sharing");
    let context = lap.context(
        "context",
        "FROM busybox\nCOPY d /d\nRUN echo more >> /d/1; /bin/busybox chmod 600 /d/2; rm /d/3\n",
    );
    let look = "FROM busybox\nCOPY d /d\nRUN cat /d/changed /d/1 /d/2 /d/3; \
                /bin/busybox stat -c '%a %h' /d/2 > /seen\n";
    lap.work.write("look", look);
    let look = lap.work.join("look").display().to_string();
    for round in ["1\n", "2\n", "3\n"] {
        version(&lap.work.join("context/d"), round);
        let output = lap.run(["build", "-t", &format!("v{}", round.trim()), &context]);
        assert_eq!(output.code, Some(0), "{}", output.stderr);
        let output = lap.run(["build", "--progress", "plain", "--no-cache", "-f", &look, &context]);
        assert_eq!(output.code, Some(0), "{}", output.stderr);
        assert!(!output.stderr.contains("more"), "{}", output.stderr);
        assert_eq!(output.stderr.matches("the same").count(), 3, "{}", output.stderr);
    }
    for tag in ["v1", "v2", "v3"] {
        let seen = lap.ok(["run", tag, "sh", "-c", "cat /d/1 /d/changed; ls /d/3 || echo gone"]
            .map(str::to_owned));
        assert_eq!(seen, format!("the same\nmore\n{}\ngone\n", &tag[1..]), "{tag}");
    }
    lap.ok(["rmi", "v1"]);
    lap.ok(["prune", "--all"]);
    lap.is_whole();
    assert_eq!(lap.ok(["run", "v3", "cat", "/d/1"]), "the same\nmore\n");
}

#[test]
fn two_versions_in_one_step_are_two_files() {
    if !require(&RUN) {
        return;
    }
    let lap = Lap::with_busybox("sharing-mounts");
    version(&lap.work.join("one"), "1\n");
    version(&lap.work.join("two"), "2\n");
    let context = lap.context(
        "context",
        "FROM busybox\nRUN --mount=from=one,target=/one --mount=from=two,target=/two \
         --mount=from=one,target=/three,rw \
         /bin/busybox stat -c 'file %d:%i' /one/7 /two/7 /three/7; echo x >> /three/8; cat /two/8\n",
    );
    let contexts = ["one", "two"].map(|name| format!("{name}={}", lap.work.join(name).display()));
    let [one, two] = &contexts;
    let output = lap.run([
        "build",
        "--progress",
        "plain",
        "--build-context",
        one,
        "--build-context",
        two,
        &context,
    ]);
    assert_eq!(output.code, Some(0), "{}", output.stderr);
    let mut files: Vec<&str> = output
        .stderr
        .lines()
        .filter_map(|line| line.split_once("file "))
        .map(|(_, id)| id)
        .collect();
    files.sort_unstable();
    files.dedup();
    assert_eq!(files.len(), 3, "{}", output.stderr);
    assert!(!output.stderr.lines().any(|line| line.ends_with(" x")), "{}", output.stderr);
    lap.is_whole();
}
