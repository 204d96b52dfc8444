//! `lap du`, `lap prune`, `lap rmi`, and the cap on the store's size.

use std::fs;
use std::process::Command;
use std::time::{Duration, Instant};

use lapstrake_fixtures::{host::missing, require};
use serde_json::Value;

use crate::support::{Lap, RUN};

fn du(lap: &Lap) -> Value {
    serde_json::from_str(&lap.ok(["du", "--format", "json"])).expect("JSON")
}

fn number(value: &Value) -> u64 {
    value.as_u64().unwrap_or_else(|| panic!("{value} is a number"))
}

/// What du(1) says, as whoever may look into everything.
fn disk(lap: &Lap) -> u64 {
    let output = Command::new("du").args(["-s", "-B1"]).arg(lap.root()).output().expect("du");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.split_whitespace().next().expect("a number").parse().expect("a number")
}

/// A text of so many bytes that no other one has.
fn unlike(seed: usize, bytes: usize) -> String {
    let line = format!("{seed} and more of it\n");
    line.repeat(bytes.div_ceil(line.len()))
}

fn assert_adds_up(lap: &Lap) {
    let usage = du(lap);
    let total = number(&usage["total"]);
    let owners = usage["owners"].as_object().expect("owners");
    assert_eq!(owners.values().map(number).sum::<u64>(), total, "{owners:?}");
    let measured = disk(lap);
    assert!(total.abs_diff(measured) * 100 <= measured, "{total}, and du says {measured}");
}

#[test]
fn every_byte_has_one_owner() {
    if !require(&RUN) || missing(lapstrake_fixtures::Need::Root).is_some() {
        return;
    }
    let lap = Lap::with_busybox("du");
    let run = "FROM busybox\nRUN --mount=type=cache,id=downloads,target=/cache \
               cat /bin/busybox > /cache/f; cat /bin/busybox > /own\nCOPY a /\n";
    lap.build("run:1", run, &[("a", &unlike(1, 300_000))]);
    lap.build(
        "copy:1",
        "FROM scratch\nCOPY a b /\n",
        &[("a", &unlike(2, 200_000)), ("b", &unlike(1, 300_000))],
    );
    lap.ok(["save", "-o", "copy.tar", "copy:1"]);
    lap.ok(["load", "-q", "-i", "copy.tar"]);
    lap.build("gone:1", "FROM scratch\nCOPY a /\n", &[("a", &unlike(3, 400_000))]);
    lap.ok(["rmi", "gone:1"]);
    assert_adds_up(&lap);
    let usage = du(&lap);
    let image = |name: &str, part: &str| {
        let images = usage["images"].as_array().expect("a list");
        let named = |image: &&Value| {
            image["reference"].as_str().is_some_and(|it| it.ends_with(&format!("/{name}")))
        };
        number(&images.iter().find(named).expect("it")[part])
    };
    let busybox = fs::metadata(lap.work.join("busybox/bin/busybox")).expect("it is there").len();
    // The file in common with run:1 lies in a pack once.
    assert!((180_000..400_000).contains(&image("copy:1", "exclusive")), "{usage:#}");
    assert!(image("copy:1", "shared") >= 280_000, "{usage:#}");
    assert!(image("run:1", "shared") >= busybox + 280_000, "{usage:#}");
    assert!(image("run:1", "exclusive") >= busybox, "{usage:#}");
    assert!(number(&usage["mounts"]["downloads"]) >= busybox, "{usage:#}");
    assert!(number(&usage["owners"]["cached"]) >= 390_000, "{usage:#}");
    let text = lap.ok(["du", "-v"]);
    for word in ["run:1", "downloads", "build cache", "what nothing needs", "cached", "total"] {
        assert!(text.contains(word), "{text}");
    }
    // Own is what removing frees.
    let before = disk(&lap);
    let own = image("run:1", "exclusive");
    lap.ok(["rmi", "run:1"]);
    lap.ok(["prune", "--all"]);
    assert!(before - disk(&lap) >= own, "{before} {own}");
    assert_adds_up(&lap);
    assert_eq!(number(&du(&lap)["owners"]["unused"]), 0);
    lap.is_whole();
}

#[test]
fn a_cap_holds_through_a_burst_of_builds() {
    let lap = Lap::new("cap");
    lap.build("kept:1", "FROM scratch\nCOPY a /\n", &[("a", &unlike(0, 500_000))]);
    let cap: u64 = 3_000_000;
    let build = |number: usize| {
        let name = format!("burst-{number}");
        let context = lap.context(&name, "FROM scratch\nCOPY a /\n");
        lap.work.write(format!("{name}/a"), unlike(number, 700_000));
        let mut command = lap.command(["build", "-q", &context]);
        command.env("LAP_KEEP_STORAGE", cap.to_string());
        command.stdout(std::process::Stdio::null());
        command.spawn().expect("lap can be started")
    };
    for burst in 0..4 {
        let children: Vec<_> = (1..=3).map(|number| build(burst * 3 + number)).collect();
        for mut child in children {
            assert!(child.wait().expect("it ends").success());
        }
    }
    // The last look of the last build comes after everything else, but for what it left to delete.
    lap.ok(["tag", "kept:1", "kept:2"]);
    build(99).wait().expect("it ends");
    let usage = du(&lap);
    let size = number(&usage["total"]) - number(&usage["work"]);
    assert!(size <= cap, "{usage:#}");
    assert!(size > cap / 4, "not everything had to go: {usage:#}");
    lap.ok(["inspect", "kept:1"]);
    lap.is_whole();
    // By flag, and by configuration.
    let context = lap.work.join("burst-99").display().to_string();
    lap.ok(["build", "-q", "--keep-storage", "1m", &context]);
    let usage = du(&lap);
    assert!(number(&usage["total"]) - number(&usage["work"]) <= 1 << 20, "{usage:#}");
    lap.work.write("config/lapstrake/config.json", "{\"keep-storage\": \"700k\"}");
    let configured = |word: &str| {
        lap.work.write("config/lapstrake/config.json", word);
        let mut command = lap.command(["build", "-q", &context]);
        command.env("XDG_CONFIG_HOME", lap.work.join("config"));
        command.output().expect("lap can be started")
    };
    assert!(configured("{\"keep-storage\": \"700k\"}").status.success());
    let usage = du(&lap);
    assert!(number(&usage["total"]) - number(&usage["work"]) <= 700 << 10, "{usage:#}");
    for (text, code, said) in [
        ("{\"keep-storage\": \"much\"}", 2, "is not a size"),
        ("{\"keep_storage\": \"1g\"}", 3, "unknown field"),
        ("[", 3, "config.json cannot be used"),
    ] {
        let output = configured(text);
        let errors = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(code), "{text}: {errors}");
        assert!(errors.contains(said), "{text}: {errors}");
    }
    lap.is_whole();
}

#[test]
fn nobody_waits_for_the_deletion_of_an_image() {
    let lap = Lap::new("rmi");
    let files = if cfg!(debug_assertions) { 2_000 } else { 50_000 };
    for number in 0..files {
        lap.work.write(format!("root/d{}/f{number}", number % 50), format!("file {number}"));
    }
    let tar = Command::new("tar")
        .args(["--owner=0", "--group=0", "-cf", "root.tar", "-C", "root", "."])
        .current_dir(lap.work.path())
        .status();
    assert!(tar.expect("tar").success());
    lap.ok(["import", "root.tar", "big:1"]);
    if missing(lapstrake_fixtures::Need::UserNamespaces).is_none() {
        // Unpacks the layer; there is no program in it.
        lap.run(["run", "--rm", "big:1", "/nothing"]);
    }
    let trees = || number(&du(&lap)["layers"].as_array().map_or(0, Vec::len).into());
    assert_eq!(trees(), 1);
    let begun = Instant::now();
    lap.ok(["rmi", "big:1"]);
    let took = begun.elapsed();
    assert!(took < Duration::from_secs(2), "{took:?}");
    eprintln!("rmi of {files} files: {took:?}");
    assert_eq!(trees(), 0);
    lap.is_whole();
    // The next command that works deletes it while it works.
    assert!(number(&du(&lap)["work"]) > 100_000);
    lap.build("next:1", "FROM scratch\nCOPY a /\n", &[("a", "1")]);
    lap.ok(["prune"]);
    assert!(number(&du(&lap)["work"]) < 100_000, "{:#}", du(&lap));
}

/// What a prune says that it removed: records, mounts, layers and blobs.
fn pruned(lap: &Lap, more: &[&str]) -> [usize; 4] {
    let report = lap.ok([&["prune", "--format=json"], more].concat());
    let report: Value = serde_json::from_str(&report).expect("JSON");
    lap.is_whole();
    let many = |key: &str| report[key].as_array().map_or(0, Vec::len);
    let records = usize::try_from(number(&report["cache_records"])).expect("few");
    [records, many("mounts"), many("layers"), many("blobs")]
}

#[test]
fn filters_say_what_of_the_cache_goes() {
    if !require(&RUN) {
        return;
    }
    let lap = Lap::with_busybox("prune-filters");
    let text = "FROM busybox\nRUN --mount=type=cache,id=m,target=/m echo a > /m/a; echo b > /b\n\
                COPY a /a\n";
    let build = || lap.build("x:1", text, &[("a", &unlike(1, 1000))]);
    build();
    for (filter, removed) in [
        ("type=source.http", [0; 4]),
        ("inuse=true", [0; 4]),
        ("shared=false", [0, 1, 0, 0]),
        ("type=exec.cachemount", [0; 4]),
        ("id=m", [0; 4]),
        ("description~=no step says this", [0; 4]),
        ("description~=COPY a", [1, 0, 0, 0]),
    ] {
        assert_eq!(pruned(&lap, &["--filter", filter]), removed, "{filter}");
    }
    let said = build();
    assert!(said.contains("1 of 2 steps cached"), "the other's result is gone: {said}");
    assert_eq!(pruned(&lap, &["--filter=shared=true", "--filter=description~=COPY a"])[0], 1);
    // By the layer's name, as `lap du -v` shows it, and together with an age.
    let layer = lap.ok(["layers", "--format=json", "x:1"]);
    assert_eq!(pruned(&lap, &["--filter=type=regular", "--filter=until=1h"]), [0; 4], "{layer}");
    let usage = du(&lap);
    let layers = usage["layers"].as_array().expect("layers");
    let run = layers.iter().find(|layer| layer["origin"] == "tree").expect("the step's");
    let id = format!("id={}", run["layer"].as_str().expect("a name"));
    assert_eq!(pruned(&lap, &["--filter", &id])[0], 1, "{usage:#}");
    assert_eq!(pruned(&lap, &["--filter", &id])[0], 0);
    lap.refused(["prune", "--filter", "color=red"], 2, &["no filter `color`", "description"]);
    lap.refused(["prune", "--filter", "dangling=false"], 2, &["lap rmi"]);
}

#[test]
fn filters_say_which_images_without_a_name_go() {
    let lap = Lap::new("prune-labels");
    let context = lap.context("context", "FROM scratch\nCOPY a /\n");
    let build = |content: usize, more: &[&str]| {
        lap.work.write("context/a", unlike(content, 1000));
        lap.ok([&["build", "-t", "x:1", context.as_str()], more].concat());
    };
    build(1, &["--label=stage=ci"]);
    build(2, &["--label=stage=release"]);
    build(3, &[]);
    build(4, &["--label=stage=ci"]);
    assert_eq!(pruned(&lap, &["--filter=label=stage=none"]), [0; 4]);
    assert_eq!(pruned(&lap, &["--filter=label=stage=ci", "--filter=until=1h"]), [0; 4]);
    // The cache still has the layer; the image that has a name stays.
    assert_eq!(pruned(&lap, &["--filter=label=stage=ci"]), [0, 0, 0, 1]);
    assert_eq!(pruned(&lap, &["--filter=label=stage=ci"]), [0; 4]);
    assert_eq!(pruned(&lap, &["--all", "--filter=label!=stage=release"]), [1, 0, 1, 1]);
    assert_eq!(pruned(&lap, &["--all", "--filter=dangling=true"]), [1, 0, 1, 1]);
    lap.ok(["inspect", "x:1"]);
    assert_eq!(pruned(&lap, &["--all"])[2..], [1, 0], "the first's layer, which the cache had");
    lap.refused(["prune", "--filter=label=a", "--filter=id=b"], 2, &["one after the other"]);
    lap.refused(["prune", "--filter=label=a", "--keep-storage=1g"], 2, &["without a name"]);
}
