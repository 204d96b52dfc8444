//! Versions of a layer share the files that they have in common, and no step can tell.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, UNIX_EPOCH};

use lapstrake_fixtures::require;

use crate::support::{Lap, RUN};

/// File systems on which a version is a reflink: XFS, btrfs, bcachefs.
const SHARES_BLOCKS: [rustix::fs::FsWord; 3] = [0x5846_5342, 0x9123_683e, 0xca45_1a4e];

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

/// The inodes that this path has in all trees of the store, and how many names each has.
fn inodes(lap: &Lap, path: &str) -> BTreeMap<u64, u64> {
    let layers = fs::read_dir(lap.root().join("layers")).expect("layers");
    let trees = layers.map(|layer| layer.expect("a layer").path().join("tree").join(path));
    let found = trees.filter_map(|file| fs::symlink_metadata(file).ok());
    found.map(|meta| (meta.ino(), meta.nlink())).collect()
}

/// As root, and as an ordinary user whose trees have files of ids that are not its own: there the kernel
/// links only what the user namespace owns (`fs.protected_hardlinks`).
#[test]
fn versions_are_one_inode_whoever_owns_the_files() {
    if !require(&RUN) {
        return;
    }
    let lap = Lap::with_busybox("sharing-owners");
    let owners = ["0:0", "1000:1000", "12345:54321"];
    let copy = |(n, owner)| format!("COPY --chown={owner} d /d{n}\n");
    let copies: String = owners.iter().enumerate().map(copy).collect();
    let text = format!(
        "FROM busybox\n{copies}RUN for d in /d0 /d1 /d2; do stat -c %u:%g $d/7; done; \
         echo new > /d0/7; chmod 4755 /d1/7\n",
    );
    let context = lap.context("context", &text);
    for round in ["1\n", "2\n", "3\n"] {
        version(&lap.work.join("context/d"), round);
        let said = lap.run(["build", "--progress=plain", "-t", "x:1", &context]);
        assert_eq!(said.code, Some(0), "{}", said.stderr);
        for owner in owners {
            assert!(said.stderr.contains(&format!("| {owner}\n")), "{}", said.stderr);
        }
    }
    if rustix::fs::statfs(lap.root()).is_ok_and(|stat| SHARES_BLOCKS.contains(&stat.f_type)) {
        println!("skipped in part: this file system has reflinks, and other inodes");
        return;
    }
    for folder in ["d0", "d1", "d2"] {
        let of = |name: &str| inodes(&lap, &format!("{folder}/{name}"));
        assert_eq!(of("8").values().collect::<Vec<_>>(), [&3], "one file for three versions");
        assert_eq!(of("changed").len(), 3, "what differs is a file of its own");
    }
    // What the step wrote and changed is in its own layers, which share with nobody.
    for name in ["d0/7", "d1/7"] {
        let mut names: Vec<u64> = inodes(&lap, name).into_values().collect();
        names.sort_unstable();
        // Steps that wrote the same within one second made the same layer.
        let (copied, written) = names.split_last().expect("they are there");
        assert!(*copied == 3 && !written.is_empty(), "{names:?}");
        assert!(written.iter().all(|names| *names == 1), "{names:?}");
    }
    lap.ok(["prune", "--all"]);
    lap.is_whole();
    let shown = lap.ok(["run", "x:1", "sh", "-c", "cat /d0/7 /d1/7 /d2/changed; id -u"]);
    assert_eq!(shown, "new\nthe same\n3\n0\n");
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
