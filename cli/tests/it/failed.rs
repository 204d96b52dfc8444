//! What a RUN that failed leaves for those who look for the reason.

use std::io::Write;
use std::process::{Command, Stdio};

use lapstrake_fixtures::host::find_tool;
use lapstrake_fixtures::require;

use crate::support::{Lap, RUN};

const DOCKERFILE: &str = "FROM busybox\nENV A=b\nWORKDIR /home/app\nCOPY Dockerfile .\nUSER app\n\
                          RUN --mount=type=secret,id=s,mode=0444 echo half > /tmp/done && false\n";

fn failing(purpose: &str) -> (Lap, String) {
    let lap = Lap::with_busybox(purpose);
    lap.work.write("secret", "hush");
    let dockerfile = DOCKERFILE.replace("USER", "RUN mkdir -p -m 1777 /tmp\nUSER");
    let context = lap.context("context", &dockerfile);
    (lap, context)
}

#[test]
fn its_files_can_be_kept() {
    if !require(&RUN) {
        return;
    }
    let (lap, context) = failing("keep-failed");
    let secret = ["--secret", "id=s,src=secret"];
    let plain = lap.run(["build", secret[0], secret[1], &context]);
    assert_eq!(plain.code, Some(1), "{}", plain.stderr);
    assert!(!plain.stderr.contains("failed-step"), "{}", plain.stderr);
    let kept = lap.run(["build", "--keep-failed", secret[0], secret[1], &context]);
    assert_eq!(kept.code, Some(1), "{}", kept.stderr);
    let name = kept.stderr.split("lap run ").nth(1).unwrap().split(',').next().unwrap();
    assert!(name.starts_with("failed-step:"), "{}", kept.stderr);
    lap.is_whole();
    let seen = lap.ok(["run", "--rm", name, "sh", "-c", "cat /tmp/done; pwd; echo $A; id -un; ls"]);
    assert_eq!(seen, "half\n/home/app\nb\napp\nDockerfile\n");
    // Nothing of what was mounted is in there, and it stays until it is removed.
    lap.ok(["run", "--rm", name, "sh", "-c", "test ! -e /run/secrets/s"]);
    lap.ok(["prune", "--all", "--force"]);
    lap.ok(["rmi", name]);
    lap.is_whole();
}

#[test]
fn a_shell_opens_in_its_root() {
    if !require(&RUN) {
        return;
    }
    let Some(script) = find_tool("script") else {
        println!("skipped: there is no `script`, which makes a terminal");
        return;
    };
    let (lap, context) = failing("debug-shell");
    let no_terminal = lap.run(["build", "--debug-shell", "--secret", "id=s,src=secret", &context]);
    assert_eq!(no_terminal.code, Some(1));
    assert!(no_terminal.stderr.contains("needs a terminal"), "{}", no_terminal.stderr);
    let mut command =
        lap.command(["build", "--debug-shell", "--secret", "id=s,src=secret", &context]);
    let words: Vec<String> = std::iter::once(command.get_program())
        .chain(command.get_args())
        .map(|word| format!("'{}'", word.to_str().unwrap()))
        .collect();
    command = Command::new(script);
    command.args(["-qec", &words.join(" "), "/dev/null"]).current_dir(lap.work.path());
    command.env("HOME", lap.work.path()).env("SHELL", "/bin/sh");
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = child.stdin.take().unwrap();
    // The quotes keep what is echoed from what is printed.
    let typed = b"cat /tmp/done; pwd; id -u''n; echo $A''$(cat /run/secrets/s); echo me''nd > /tmp/done\nexit\n";
    input.write_all(typed).unwrap();
    let ended = child.wait_with_output().unwrap();
    drop(input);
    let said = String::from_utf8_lossy(&ended.stdout).replace('\r', "");
    for line in ["half\n", "/home/app\n", "app\n", "bhush\n"] {
        assert!(said.contains(line), "`{line}` is not in:\n{said}");
    }
    assert_eq!(ended.status.code(), Some(1), "the build fails all the same:\n{said}");
    lap.is_whole();
}

#[test]
fn how_it_was_killed_is_said() {
    if !require(&RUN) {
        return;
    }
    let lap = Lap::with_busybox("killed");
    for (command, words) in [
        ("kill -9 $$", "killed by signal 9 (SIGKILL); if nobody sent it"),
        ("sh -c 'kill -9 $$'; exit $?", "exit code: 137, which is signal 9 (SIGKILL)"),
        ("kill -11 $$", "killed by signal 11 (SIGSEGV)"),
        ("exit 3", "exit code: 3"),
    ] {
        let context = lap.context("context", &format!("FROM busybox\nRUN {command}\n"));
        let said = lap.run(["build", &context]);
        assert_eq!(said.code, Some(1), "{}", said.stderr);
        assert!(said.stderr.contains(words), "`{words}` is not in:\n{}", said.stderr);
    }
}
