//! A full disk, on a small file system of its own: a clear error, nothing half, and room again.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use lapstrake_fixtures::{Need, require};

use super::scene::text;
use crate::registry::Serving;
use crate::support::{Lap, RUN};

/// Kilobytes of the small file system: for an empty store and half of the big image.
const SMALL_KB: usize = 3000;
/// Kilobytes for an image that can run programs, and some of what a step writes.
const STEP_KB: usize = 24_000;
/// Bytes of the image that does not fit.
const BIG_BYTES: usize = 3 << 20;

/// A mounted tmpfs, unmounted at the end.
struct Small(PathBuf);

impl Small {
    fn mount(at: PathBuf, kilobytes: usize) -> Small {
        fs::create_dir_all(&at).expect("a folder");
        let size = format!("size={kilobytes}k");
        run(Command::new("mount").args(["-t", "tmpfs", "-o", &size, "tmpfs"]).arg(&at));
        Small(at)
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        run(Command::new("umount").arg(&self.0));
    }
}

fn run(command: &mut Command) {
    assert!(command.status().expect("it can be started").success(), "{command:?}");
}

/// Bytes that no codec makes smaller.
fn noise(length: usize) -> Vec<u8> {
    let mut random = super::Random(3);
    std::iter::repeat_with(|| u8::try_from(random.next(256)).expect("a byte"))
        .take(length)
        .collect()
}

#[test]
fn a_full_disk_is_said_and_loses_only_the_work_in_hand() {
    if !require(&[Need::Root, Need::Tool("mount")]) {
        return;
    }
    let source = Lap::new("full-source");
    source.work.write("context-big-1/noise", noise(BIG_BYTES));
    source.build("big:1", "FROM scratch\nCOPY noise /\n", &[]);
    let archive = source.work.join("big.tar");
    source.ok(["save", "-o", text(&archive), "big:1"]);
    let rootfs = source.work.join("root.tar");
    let context = source.work.join("context-big-1");
    run(Command::new("tar").args(["-cf", text(&rootfs), "-C", text(&context), "noise"]));
    let serving = Serving::start(&source, &["--writable"]);
    let remote = format!("{}/big:1", serving.address());
    source.ok(["tag", "big:1", &remote]);

    let lap = Lap::new("full");
    let _small = Small::mount(lap.root(), SMALL_KB);
    lap.build("kept:1", "FROM scratch\nCOPY a /\n", &[("a", "small")]);
    let before = lap.ok(["images", "-q"]);
    let commands: [&[&str]; 4] = [
        &["build", "-q", "-t", "big:1", text(&context)],
        &["load", "-i", text(&archive)],
        &["import", text(&rootfs), "big:1"],
        &["pull", "-q", &remote],
    ];
    for arguments in commands {
        lap.refused(arguments, 4, &["No space left on device"]);
        assert_eq!(lap.ok(["images", "-q"]), before, "{arguments:?}");
        lap.ok(["prune"]);
        lap.is_whole();
    }
    lap.build("again:1", "FROM scratch\nCOPY a /\n", &[("a", "there is room")]);
    lap.is_whole();
}

#[test]
fn a_step_that_fills_the_disk_gives_it_back() {
    if !require(&[&RUN[..], &[Need::Root, Need::Tool("mount")]].concat()) {
        return;
    }
    let lap = Lap::with_busybox("full-step");
    let archive = lap.work.join("busybox.tar");
    lap.ok(["save", "-o", text(&archive), "busybox"]);
    let small = Lap::new("full-step-small");
    let _small = Small::mount(small.root(), STEP_KB);
    small.ok(["load", "-i", text(&archive)]);
    let text = "FROM busybox\nRUN echo a > /a; cat /dev/zero > /big; cat /big > /more\n";
    let context = small.context("context", text);
    let said = small.run(["build", "-t", "full:1", &context]);
    assert_eq!(said.code, Some(1), "{}", said.stderr);
    assert!(said.stderr.contains("No space left on device"), "{}", said.stderr);
    let root = small.root().display().to_string();
    let hint = format!("hint: no room was left where the store is, {root}: `lap prune` frees");
    assert!(said.stderr.lines().last().is_some_and(|it| it.starts_with(&hint)), "{}", said.stderr);
    small.is_whole();
    small.refused(["inspect", "full:1"], 3, &["no image"]);
    // A step that fails for another reason says nothing of room.
    let context = small.context("context", "FROM busybox\nRUN exit 3\n");
    let said = small.run(["build", &context]);
    assert!(said.code == Some(1) && !said.stderr.contains("no room"), "{}", said.stderr);
    let context = small.context("context", "FROM busybox\nRUN echo there is room > /a\n");
    small.ok(["build", "-t", "ok:1", &context]);
    small.is_whole();
}

#[test]
fn an_archive_that_does_not_fit_is_not_there() {
    if !require(&[Need::Root, Need::Tool("mount"), Need::File("/dev/full")]) {
        return;
    }
    let lap = Lap::new("full-save");
    lap.work.write("context-big-1/noise", noise(BIG_BYTES));
    lap.build("big:1", "FROM scratch\nCOPY noise /\n", &[]);
    let small = Small::mount(lap.work.join("small"), SMALL_KB);
    for form in ["oci", "docker", "oci-dir"] {
        let file = small.0.join(form);
        // The first of them is refused for the archive, not for what the store has to make.
        lap.refused(["save", "--format", form, "-o", text(&file), "big:1"], 4, &["No space left"]);
        assert_eq!(fs::read_dir(&small.0).expect("it can be read").count(), 0, "{form}");
    }
    let full = fs::File::options().write(true).open("/dev/full").expect("it is there");
    let output = lap.command(["save", "big:1"]).stdout(full).output().expect("it can be started");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(4), "{errors}");
    assert!(errors.contains("No space left on device"), "{errors}");
    lap.is_whole();
}
