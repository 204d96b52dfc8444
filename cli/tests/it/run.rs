//! `lap run`, and builds that run programs.

use std::fs;
use std::io::Write;
use std::process::Stdio;

use lapstrake_fixtures::require;

use crate::support::{Lap, RUN};

#[test]
fn programs_run_as_the_image_says() {
    if !require(&RUN) {
        return;
    }
    let lap = Lap::with_busybox("run");
    let dockerfile = "FROM busybox\nENV A=image B=image\nWORKDIR /home/app\nUSER \
         app\nENTRYPOINT [\"sh\", \"-c\"]\nCMD [\"id -un; pwd; echo $A $B $HOME\"]\n";
    lap.build("app:1", dockerfile, &[]);
    assert_eq!(lap.ok(["run", "--rm", "app:1"]), "app\n/home/app\nimage image /home/app\n");
    let other =
        lap.ok(["run", "-e", "B=flag", "-w", "/", "-u", "0", "app:1", "id -u; pwd; echo $A $B"]);
    assert_eq!(other, "0\n/\nimage flag\n");
    assert_eq!(
        lap.ok(["run", "--entrypoint", "cat", "app:1", "/etc/hosts"]).lines().next(),
        Some("127.0.0.1\tlocalhost lap")
    );
}

#[test]
fn exit_codes_and_input_are_passed_on() {
    if !require(&RUN) {
        return;
    }
    let lap = Lap::with_busybox("run-codes");
    assert_eq!(lap.run(["run", "busybox", "sh", "-c", "exit 7"]).code, Some(7));
    assert_eq!(lap.run(["run", "busybox", "sh", "-c", "kill -9 $$"]).code, Some(137));
    assert_eq!(lap.run(["run", "busybox", "nope"]).code, Some(127));
    let mut child = lap
        .command(["run", "-i", "busybox", "cat"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(b"through\n").unwrap();
    assert_eq!(child.wait_with_output().unwrap().stdout, b"through\n");
}

#[test]
fn changes_are_thrown_away_and_volumes_are_not() {
    if !require(&RUN) {
        return;
    }
    let lap = Lap::with_busybox("run-changes");
    lap.ok(["run", "busybox", "sh", "-c", "echo x > /new; mkdir /d"]);
    assert_eq!(lap.run(["run", "busybox", "ls", "/new"]).code, Some(1));
    fs::create_dir(lap.work.join("shared")).unwrap();
    let volume = format!("{}:/v", lap.work.join("shared").display());
    lap.ok(["run", "-v", &volume, "busybox", "sh", "-c", "echo kept > /v/file"]);
    assert_eq!(fs::read_to_string(lap.work.join("shared/file")).unwrap(), "kept\n");
    let read_only = format!("{volume}:ro");
    assert_ne!(
        lap.run(["run", "-v", &read_only, "busybox", "sh", "-c", "echo x > /v/file"]).code,
        Some(0)
    );
    lap.is_whole();
}

#[test]
fn steps_run_with_secrets_and_caches() {
    if !require(&RUN) {
        return;
    }
    let lap = Lap::with_busybox("steps");
    lap.work.write("secret", "hush");
    let dockerfile = "FROM busybox AS one\nRUN --mount=type=secret,id=s cat /run/secrets/s > \
         /got\nRUN --mount=type=cache,target=/c echo x >> /c/f && cat /c/f > /count\nFROM busybox\nCOPY --from=one /got /count /\n";
    let context = lap.context("context", dockerfile);
    let first = lap.run(["build", "-t", "a", "--secret", "id=s,src=secret", &context]);
    assert_eq!(first.code, Some(0), "{}", first.stderr);
    assert_eq!(lap.ok(["run", "a", "cat", "/got", "/count"]), "hushx\n");
    let again =
        lap.run(["build", "--no-cache", "-t", "a", "--secret", "id=s,src=secret", &context]);
    assert!(again.stderr.trim_end().ends_with("0 of 3 steps cached"), "{}", again.stderr);
    assert_eq!(lap.ok(["run", "a", "cat", "/count"]), "x\nx\n");
    assert!(lap.ok(["du"]).contains("cache mounts"));
    lap.is_whole();
}
