//! `lap du` on file systems that share blocks: XFS and btrfs, each in a file that is mounted.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails where it stands")]
#![expect(clippy::print_stdout, reason = "a skipped test says so, and a measured one its figures")]

use std::fs::{self, File};
use std::path::PathBuf;
use std::process::Command;

use lapstrake_fixtures::{Need, TempDir, require};
use serde_json::Value;

use crate::support::{Lap, RUN};

/// Next to nothing of it is ever written.
const DISK_BYTES: u64 = 1 << 30;
/// What the versions of a layer have in common: a hundredth of it is far more than a file system's own
/// bookkeeping for a few hundred files.
const LARGE_BYTES: usize = 48 << 20;

/// A file system in a file, unmounted at the end.
struct Mounted {
    at: PathBuf,
    _image: TempDir,
}

impl Mounted {
    /// `None` where this host mounts no such file: the reason is printed.
    fn new(make: &[&str], at: PathBuf) -> Option<Mounted> {
        let directory = TempDir::new("reflink-disk");
        let image = directory.join("image");
        File::create(&image).unwrap().set_len(DISK_BYTES).unwrap();
        let made = Command::new(make[0]).args(&make[1..]).arg(&image).output().unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        fs::create_dir_all(&at).unwrap();
        let mounted = Command::new("mount").args(["-o", "loop"]).arg(&image).arg(&at).output();
        let mounted = mounted.unwrap();
        if mounted.status.success() {
            return Some(Mounted { at, _image: directory });
        }
        println!("skipped: {}", String::from_utf8_lossy(&mounted.stderr).trim());
        None
    }

    /// Bytes in use, each block once, however many files share it.
    fn used(&self) -> u64 {
        rustix::fs::syncfs(File::open(&self.at).unwrap()).unwrap();
        let stat = rustix::fs::statvfs(&self.at).unwrap();
        (stat.f_blocks - stat.f_bfree) * stat.f_frsize
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        drop(Command::new("umount").arg(&self.at).status());
    }
}

/// Bytes that nothing makes smaller.
fn noise(length: usize, seed: u64) -> Vec<u8> {
    let mut state = seed;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (state >> 56) as u8
    };
    (0..length).map(|_| next()).collect()
}

fn check(make: &[&'static str]) {
    let needs = [Need::Root, Need::Tool("mount"), Need::Tool(make[0])];
    if !require(&[&RUN[..], &needs].concat()) {
        return;
    }
    let source = Lap::with_busybox("reflink-source");
    source.ok(["save", "-o", "busybox.tar", "busybox"]);
    let archive = source.work.join("busybox.tar").display().to_string();
    let lap = Lap::new("reflink-du");
    let Some(disk) = Mounted::new(make, lap.root()) else { return };
    let empty = disk.used();
    lap.ok(["load", "-i", &archive]);
    let context = lap.context("context", "FROM busybox\nCOPY d /d\nRUN echo a >> /d/changed\n");
    lap.work.write("context/d/large", noise(LARGE_BYTES, 1));
    for file in 0..100 {
        lap.work.write(format!("context/d/{file}"), noise(6000, file + 2));
    }
    for version in ["1", "2", "3"] {
        lap.work.write("context/d/changed", version.repeat(5000));
        lap.ok(["build", "-t", &format!("x:{version}"), &context]);
    }
    let usage: Value = serde_json::from_str(&lap.ok(["du", "--format=json"])).unwrap();
    let of = |key: &str| usage[key].as_u64().unwrap();
    let (total, reflinked) = (of("total"), of("reflinked"));
    let said = Command::new("du").args(["-s", "-B1"]).arg(lap.root()).output().unwrap();
    let said = String::from_utf8(said.stdout).unwrap();
    let du: u64 = said.split_whitespace().next().unwrap().parse().unwrap();
    let within = |ours: u64, theirs: u64| ours.abs_diff(theirs) * 100 <= theirs;
    assert!(within(total, du), "{total} in all, and du says {du}");
    let used = disk.used() - empty;
    println!("{}: total {total}, du {du}, reflinked {reflinked}, on the disk {used}", make[0]);
    assert!(within(total - reflinked, used), "{total} - {reflinked}, and {used} are in use");
    assert!(reflinked > 2 * LARGE_BYTES as u64, "three trees and a pack have it: {reflinked}");
    let text = lap.ok(["du"]);
    assert!(text.contains("more than once (reflinks)") && text.contains("on the disk"), "{text}");
    lap.ok(["rmi", "x:1", "x:2"]);
    lap.ok(["prune", "--all"]);
    lap.is_whole();
}

#[test]
fn what_xfs_shares_is_told_apart() {
    check(&["mkfs.xfs", "-q", "-m", "reflink=1"]);
}

#[test]
fn what_btrfs_shares_is_told_apart() {
    check(&["mkfs.btrfs", "-q"]);
}
