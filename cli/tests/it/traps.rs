//! What makes caches wrong: each with what must happen, through the binary.
//!
//! | trap | must | test |
//! |---|---|---|
//! | a RUN reads a time that an earlier RUN set; the time is edited | miss, and read the new one | [`a_time_that_a_step_set_is_read_by_the_next`] |
//! | the same when only `--no-cache-filter` made the earlier RUN set another | miss | the same |
//! | a context file is touched, or cloned anew | hit | [`a_touched_file_hits`] |
//! | its mode changes | miss, and only what reads it | [`a_mode_counts_where_it_is_read`] |
//! | a context file gets an xattr, `security.capability` among them: none is kept from there | hit | [`attributes_of_the_context_do_not_count`] |
//! | a file of a stage has another `security.capability`, and nothing else differs | miss, and it is in the image (S-81) | [`a_capability_of_a_stage_counts`] |
//! | a file is renamed | miss | [`a_renamed_file_is_another`] |
//! | two files of one size and time are swapped, inodes and all | miss | [`swapped_files_are_noticed`] |
//! | another content of the same size and time is written in place | miss | [`the_same_size_and_time_is_not_the_same_file`] |
//! | a symlink is retargeted, to a file of the same content even | miss | [`a_link_that_leads_elsewhere_counts`] |
//! | the file that a copied link leads to changes | miss | the same |
//! | `ARG`s change their order: a RUN sees them in it | miss, COPY hits | [`arguments_count_in_the_order_that_a_step_sees`] |
//! | `--build-arg`s change theirs | hit | the same |
//! | an `ARG` moves below the step, or its value comes as its default | miss; hit | the same |
//! | two builds make one key at once, with the same result or two | both succeed, the third hits | [`two_builds_make_one_key_at_once`] |
//! | two stages of one build make it | done once | [`two_stages_make_one_key_at_once`] |
//! | a bind mount's file changes, or one that is not mounted | miss; hit | [`a_mounted_file_counts`] |
//! | an ignored file changes | hit | [`an_ignored_file_does_not_count`] |
//!
//! The keys themselves are tested in `builder/src/key`, and `random` makes what nobody thought of.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails where it stands")]

use std::fs::{self, File, Permissions};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use lapstrake_fixtures::{raw_tar, require};
use serde_json::Value;

use crate::support::{Lap, Output, RUN};

/// A time that no test lives in.
const THEN: u64 = 1_000_000_000;

/// Builds `context`; for each step, in file order, whether it was found, and what was printed.
fn steps(lap: &Lap, more: &[&str]) -> (Vec<bool>, Output) {
    let context = lap.work.join("context").display().to_string();
    let mut arguments = vec!["build", "--progress=rawjson", "-t", "x:1", context.as_str()];
    arguments.extend(more);
    let said = lap.run(&arguments);
    assert_eq!(said.code, Some(0), "{}", said.stderr);
    let events = said.stderr.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let mut steps: Vec<((u64, u64), bool)> = events
        .filter_map(|event| {
            let found = match event["event"].as_str()? {
                "step-cached" => true,
                "step-running" => false,
                _ => return None,
            };
            Some(((event["stage"].as_u64()?, event["step"].as_u64()?), found))
        })
        .collect();
    steps.sort_unstable();
    (steps.into_iter().map(|(_, found)| found).collect(), said)
}

fn hits(lap: &Lap) -> Vec<bool> {
    steps(lap, &[]).0
}

/// The file, with its time long ago, so that no clock explains what the cache says.
fn write(lap: &Lap, path: &str, content: &str) {
    let file = lap.work.write(format!("context/{path}"), content);
    set_time(&file, UNIX_EPOCH + Duration::from_secs(THEN));
}

fn set_time(file: &Path, time: SystemTime) {
    File::options().write(true).open(file).unwrap().set_modified(time).unwrap();
}

/// Three steps: one that reads everything, one that reads `a` alone, one that reads neither.
fn three(purpose: &str) -> Lap {
    let lap = Lap::new(purpose);
    lap.context(
        "context",
        "FROM scratch AS all\nCOPY d /d\nFROM scratch AS one\nCOPY d/a /a\n\
         FROM scratch\nWORKDIR /w\nCOPY --from=all /d /d\nCOPY --from=one /a /a\n",
    );
    write(&lap, "d/a", "one\n");
    write(&lap, "d/b", "two\n");
    assert_eq!(hits(&lap), [false; 5]);
    assert_eq!(hits(&lap), [true; 5]);
    lap
}

/// The steps of [`three`] when what `d` holds changed and `a` did not.
const ALL_BUT_ONE: [bool; 5] = [false, true, true, false, false];

/// The files of the image, each line a file's mode and name.
fn files(lap: &Lap) -> String {
    let context = lap.work.join("context").display().to_string();
    let out = format!("type=tar,dest={}", lap.work.join("out.tar").display());
    lap.ok(["build", "-o", &out, &context]);
    let listed = Command::new("tar").arg("-tvf").arg(lap.work.join("out.tar")).output().unwrap();
    String::from_utf8(listed.stdout).unwrap()
}

#[test]
fn a_time_that_a_step_set_is_read_by_the_next() {
    if !require(&RUN) {
        return;
    }
    let lap = Lap::with_busybox("trap-time");
    let text = |time: &str| {
        format!(
            "FROM busybox AS set\nRUN touch -d {time} /f\nRUN echo seen $(stat -c %Y /f)\n\
             FROM set\nRUN true\n"
        )
    };
    lap.context("context", &text("@1000000"));
    assert_eq!(hits(&lap), [false; 3]);
    assert_eq!(hits(&lap), [true; 3]);
    lap.context("context", &text("@2000000"));
    let (found, said) = steps(&lap, &[]);
    assert_eq!(found, [false; 3], "the files differ in nothing but a time");
    assert!(said.stderr.contains("seen 2000000"), "{}", said.stderr);
    lap.context("context", &text("@1000000"));
    assert_eq!(hits(&lap), [true; 3], "as it was before");
    // The same instruction, which makes another time when it runs again.
    let text = "FROM busybox AS set\nRUN cat /proc/uptime > /dev/null; \
                touch -d @$(($(date +%s) % 1000000 + 1)) /f\n\
                FROM set\nRUN echo seen $(stat -c %Y /f)\n";
    lap.context("context", text);
    assert_eq!(hits(&lap), [false; 2]);
    std::thread::sleep(Duration::from_millis(1100));
    assert_eq!(steps(&lap, &["--no-cache-filter=set"]).0, [false; 2]);
    assert_eq!(hits(&lap), [true; 2]);
    lap.is_whole();
}

#[test]
fn a_touched_file_hits() {
    let lap = three("trap-touch");
    for name in ["a", "b"] {
        set_time(&lap.work.join("context/d").join(name), SystemTime::now());
    }
    assert_eq!(hits(&lap), [true; 5]);
    let fresh = lap.work.join("clone");
    fs::rename(lap.work.join("context"), &fresh).unwrap();
    let copied = Command::new("cp").arg("-r").arg(&fresh).arg(lap.work.join("context")).status();
    assert!(copied.unwrap().success());
    assert_eq!(hits(&lap), [true; 5], "other inodes, other times");
}

#[test]
fn a_mode_counts_where_it_is_read() {
    let lap = three("trap-chmod");
    let chmod = |name: &str, mode: u32| {
        fs::set_permissions(lap.work.join("context").join(name), Permissions::from_mode(mode))
    };
    chmod("d/b", 0o755).unwrap();
    assert_eq!(hits(&lap), ALL_BUT_ONE);
    assert!(files(&lap).contains("-rwxr-xr-x 0/0               4 2001-09-09"), "{}", files(&lap));
    chmod("d", 0o700).unwrap();
    assert_eq!(hits(&lap), [true; 5], "a new directory has 0755, whatever its source has");
    chmod("d/b", 0o644).unwrap();
    assert_eq!(hits(&lap), [true; 5], "as it was before");
}

#[test]
fn attributes_of_the_context_do_not_count() {
    let lap = three("trap-context-xattr");
    let file = lap.work.join("context/d/b");
    let capability = [&[1, 0, 0, 2, 0, 4][..], &[0; 14]].concat();
    let set = |name: &str, value: &[u8]| {
        rustix::fs::setxattr(&file, name, value, rustix::fs::XattrFlags::empty())
    };
    if set("user.trap", b"1").is_err() {
        println!("skipped in part: this file system has no xattrs");
    }
    // An ordinary user may not; nothing is different then.
    let _may_be_refused = set("security.capability", &capability);
    assert_eq!(hits(&lap), [true; 5]);
}

#[test]
fn a_capability_of_a_stage_counts() {
    let lap = Lap::new("trap-capability");
    lap.context(
        "context",
        "FROM scratch AS set\nADD caps.tar /\nFROM scratch\nCOPY --from=set /f /f\nWORKDIR /w\n",
    );
    let caps = |bits: &str, time: u64| {
        let text = format!(
            "pax SCHILY.xattr.security.capability=\\x01\\0\\0\\x02{bits}\\0*14\n\
             file f mode=0000755\\0 mtime={time:011o}\\0 = x\\n\n"
        );
        fs::write(lap.work.join("context/caps.tar"), &raw_tar::parse(&text)[0]).unwrap();
    };
    let kept = |bits: u8| {
        files(&lap);
        let archive = fs::read(lap.work.join("out.tar")).unwrap();
        let record = [&b"SCHILY.xattr.security.capability=\x01\0\0\x02\0"[..], &[bits]].concat();
        archive.windows(record.len()).any(|bytes| bytes == record)
    };
    caps("\\0\\x04", THEN);
    assert_eq!(hits(&lap), [false; 3]);
    assert_eq!(hits(&lap), [true; 3]);
    assert!(kept(4) && !kept(8));
    caps("\\0\\x08", THEN);
    assert_eq!(hits(&lap), [false; 3], "nothing but the attribute differs");
    assert!(kept(8) && !kept(4));
    // The archive is another one, and its files are the same but for a time.
    caps("\\0\\x08", THEN + 1);
    assert_eq!(hits(&lap), [false, true, true]);
    lap.is_whole();
}

#[test]
fn a_renamed_file_is_another() {
    let lap = three("trap-rename");
    fs::rename(lap.work.join("context/d/b"), lap.work.join("context/d/c")).unwrap();
    assert_eq!(hits(&lap), ALL_BUT_ONE);
    let listed = files(&lap);
    assert!(listed.contains("d/c") && !listed.contains("d/b"), "{listed}");
}

#[test]
fn swapped_files_are_noticed() {
    let lap = three("trap-swap");
    let at = |name: &str| lap.work.join("context/d").join(name);
    fs::rename(at("a"), at("t")).unwrap();
    fs::rename(at("b"), at("a")).unwrap();
    fs::rename(at("t"), at("b")).unwrap();
    assert_eq!(hits(&lap), [false, false, true, false, false]);
    let out = lap.work.join("out").display().to_string();
    lap.ok(["build", "-o", &out, &lap.work.join("context").display().to_string()]);
    for (path, content) in [("d/a", "two\n"), ("d/b", "one\n"), ("a", "two\n")] {
        assert_eq!(fs::read_to_string(Path::new(&out).join(path)).unwrap(), content);
    }
}

#[test]
fn the_same_size_and_time_is_not_the_same_file() {
    let lap = three("trap-in-place");
    for content in ["2wo\n", "tw2\n", "two\n"] {
        write(&lap, "d/b", content);
        let expected = if content == "two\n" { [true; 5] } else { ALL_BUT_ONE };
        assert_eq!(hits(&lap), expected, "{content}");
    }
}

#[test]
fn a_link_that_leads_elsewhere_counts() {
    let lap = three("trap-link");
    let link = lap.work.join("context/d/l");
    let lead = |to: &str| {
        drop(fs::remove_file(&link));
        symlink(to, &link).unwrap();
    };
    write(&lap, "d/same", "two\n");
    lead("b");
    assert_eq!(hits(&lap), ALL_BUT_ONE);
    lead("same");
    assert_eq!(hits(&lap), ALL_BUT_ONE, "what it leads to has the same content");
    lead("b");
    assert_eq!(hits(&lap), [true; 5]);
    // A link that is named itself is followed: what it leads to counts, and how it says so does not.
    lap.context("context", "FROM scratch\nCOPY d/l /f\n");
    assert_eq!(hits(&lap), [false]);
    lead("../d/b");
    assert_eq!(hits(&lap), [true]);
    write(&lap, "d/b", "TWO\n");
    assert_eq!(hits(&lap), [false]);
}

#[test]
fn arguments_count_in_the_order_that_a_step_sees() {
    if !require(&RUN) {
        return;
    }
    let lap = Lap::with_busybox("trap-arguments");
    let text = |args: &str| {
        lap.context("context", &format!("FROM busybox\n{args}\nCOPY f /f\nRUN env\n"));
    };
    write(&lap, "f", "f\n");
    text("ARG A\nARG B");
    let given =
        |order: [&str; 2]| steps(&lap, &["--build-arg", order[0], "--build-arg", order[1]]).0;
    assert_eq!(given(["A=1", "B=2"]), [false, false]);
    assert_eq!(given(["B=2", "A=1"]), [true, true], "they are set by name");
    text("ARG B\nARG A");
    assert_eq!(given(["A=1", "B=2"]), [true, false], "env prints them in another order");
    text("ARG A=1\nARG B=2");
    assert_eq!(hits(&lap), [true, true], "the same values, from the file");
    assert_eq!(given(["A=1", "B=3"]), [true, false]);
    lap.context("context", "FROM busybox\nARG A=1\nCOPY f /f\nRUN env\nARG B=2\n");
    assert_eq!(hits(&lap), [true, false], "the step does not see what comes after it");
}

#[test]
fn two_builds_make_one_key_at_once() {
    if !require(&RUN) {
        return;
    }
    // Whether it makes the same each time, or never.
    for (same, program) in [(true, "echo x > /out"), (false, "head -c 9 /dev/urandom > /out")] {
        let lap = Lap::with_busybox("trap-at-once");
        let context = lap.context("context", &format!("FROM busybox\nRUN sleep 0.5; {program}\n"));
        let build = |tag: &str| {
            let mut command = lap.command(["build", "-q", "-t", tag, &context]);
            command.stdout(std::process::Stdio::piped()).spawn().unwrap()
        };
        let running = ["x:1", "x:2", "x:3"].map(build);
        let ids = running.map(|child| {
            let output = child.wait_with_output().unwrap();
            assert!(output.status.success());
            String::from_utf8(output.stdout).unwrap()
        });
        let (found, said) = steps(&lap, &["-q"]);
        assert_eq!(found, Vec::<bool>::new(), "nothing is told");
        assert!(ids.contains(&said.stdout), "{ids:?} {}", said.stdout);
        assert_eq!(hits(&lap), [true]);
        if same {
            assert!(ids.iter().all(|id| *id == ids[0]), "{ids:?}");
        }
        for (tag, id) in ["x:2", "x:3"].iter().zip(&ids[1..]) {
            assert!(lap.ok(["inspect", tag]).contains(id.trim()), "each has its name");
        }
        lap.is_whole();
    }
}

#[test]
fn two_stages_make_one_key_at_once() {
    if !require(&RUN) {
        return;
    }
    let lap = Lap::with_busybox("trap-stages");
    let run = "RUN --mount=type=cache,target=/c mkdir /c/once && sleep 0.5 && echo > /f";
    lap.context(
        "context",
        &format!(
            "FROM busybox AS a\n{run}\nFROM busybox AS b\n{run}\n\
             FROM scratch\nCOPY --from=a /f /a\nCOPY --from=b /f /b\n"
        ),
    );
    let (found, _) = steps(&lap, &["--no-cache", "--jobs=4"]);
    assert_eq!(found[..2].iter().filter(|found| **found).count(), 1, "{found:?}");
}

#[test]
fn a_mounted_file_counts() {
    if !require(&RUN) {
        return;
    }
    let lap = Lap::with_busybox("trap-mount");
    lap.context("context", "FROM busybox\nRUN --mount=target=/m,source=d cat /m/a > /a\n");
    write(&lap, "d/a", "one\n");
    write(&lap, "other", "one\n");
    assert_eq!(hits(&lap), [false]);
    write(&lap, "other", "two\n");
    assert_eq!(hits(&lap), [true]);
    write(&lap, "d/a", "two\n");
    assert_eq!(hits(&lap), [false]);
}

#[test]
fn an_ignored_file_does_not_count() {
    let lap = three("trap-ignored");
    write(&lap, ".dockerignore", "d/log\n");
    write(&lap, "d/log", "1\n");
    assert_eq!(hits(&lap), [true; 5]);
    write(&lap, "d/log", "2\n");
    assert_eq!(hits(&lap), [true; 5]);
    write(&lap, ".dockerignore", "d/none\n");
    assert_eq!(hits(&lap), ALL_BUT_ONE);
}
