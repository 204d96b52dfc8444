//! Files made to use up time or memory, through the binary: each ends, within a bounded memory, and an
//! error names the limit. `builder/tests/it/hostile.rs` has more of them, `docs/benchmarks.md` the figures.

use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::Write as _;
use std::process::{Command, Stdio};

use crate::support::{Lap, Output};

/// Address space of the program: several times what any of these files takes (400 MiB for 15 MB of noise).
const MEMORY_MAX_KIB: u64 = 2 * 1024 * 1024;

/// Runs a command with bounded memory: more is refused by the kernel, and an abort has no exit code.
fn bounded(lap: &Lap, arguments: &[&str]) -> Output {
    let command = lap.command(arguments);
    let mut shell = Command::new("sh");
    shell.args(["-c", &format!("ulimit -v {MEMORY_MAX_KIB} && exec \"$0\" \"$@\"")]);
    shell.arg(command.get_program()).args(command.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => shell.env(name, value),
            None => shell.env_remove(name),
        };
    }
    let output = shell.current_dir(lap.work.path()).stdin(Stdio::null()).output();
    let output = output.expect("a shell can be started");
    Output {
        code: output.status.code(),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

const CHECK: [&str; 2] = ["check", "bad"];
const FORMAT: [&str; 3] = ["fmt", "--check", "bad/Dockerfile"];
const PLAN: [&str; 3] = ["build", "--plan", "bad"];

/// Each command ends with the code and names what is wrong.
#[track_caller]
fn ends(lap: &Lap, commands: &[&[&str]], code: i32, words: &str) {
    for arguments in commands {
        let output = bounded(lap, arguments);
        let said = output.stdout + &output.stderr;
        let shown: String = said.chars().take(2_000).collect();
        assert_eq!(output.code, Some(code), "{arguments:?}\n{shown}");
        assert!(said.contains(words), "{arguments:?}: `{words}` is not in:\n{shown}");
        assert!(!said.contains("panicked"), "{arguments:?}\n{shown}");
    }
}

#[test]
fn a_line_of_100_megabytes() {
    let lap = Lap::new("long-line");
    fs::create_dir(lap.work.join("bad")).unwrap();
    let mut file = File::create(lap.work.join("bad/Dockerfile")).unwrap();
    file.write_all(b"FROM scratch\nRUN ").unwrap();
    file.set_len(100_000_000).unwrap();
    let words = "is larger than the limit of 16777216 bytes";
    ends(&lap, &[&CHECK, &FORMAT, &PLAN], 3, words);
    let text = format!("FROM scratch\nRUN {}\n", "x".repeat(1_000_000));
    lap.context("bad", &text);
    let words = "line greater than max allowed size of 65535";
    ends(&lap, &[&CHECK, &FORMAT, &PLAN], 3, words);
}

#[test]
fn bytes_that_mean_nothing() {
    let lap = Lap::new("noise");
    let mut state = 1_u32;
    let mut byte = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    };
    let bytes: Vec<u8> = (0..200_000).map(|_| byte()).collect();
    lap.work.write("bad/Dockerfile", bytes);
    ends(&lap, &[&CHECK, &FORMAT, &PLAN], 3, "unknown instruction");
}

#[test]
fn a_hundred_thousand_stages() {
    let lap = Lap::new("stages");
    let chain = (0..100_000).fold(String::from("FROM scratch AS s\n"), |mut text, n| {
        let base = if n == 0 { "s".to_owned() } else { format!("s{}", n - 1) };
        writeln!(text, "FROM {base} AS s{n}").expect("because a String takes all text");
        text
    });
    lap.context("bad", &chain);
    ends(&lap, &[&CHECK, &PLAN], 3, "more than 1000 stages that the target needs");
}

#[test]
fn heredocs_without_end() {
    let lap = Lap::new("heredocs");
    let lines = (0..20_000).fold(String::from("FROM scratch\n"), |mut text, n| {
        writeln!(text, "RUN <<E{n}").expect("because a String takes all text");
        text
    });
    lap.context("bad", &lines);
    ends(&lap, &[&CHECK, &FORMAT, &PLAN], 3, "unterminated heredoc `E0`");
}

/// An ARG may name itself and later ones: it is what they are so far, nothing. The file can be built, and
/// the reference warns of it, too.
#[test]
fn arguments_that_refer_to_each_other() {
    let lap = Lap::new("arguments");
    let circle = "ARG A=$B\nARG B=$A\nARG A=${B:-$A}\nFROM scratch\nARG C=$D\nARG D=$C\nARG E=$E\n";
    lap.context("bad", &format!("{circle}WORKDIR /x$C$D$E\n"));
    ends(&lap, &[&FORMAT], 0, "");
    ends(&lap, &[&PLAN], 0, "WORKDIR /x\n");
    ends(&lap, &[&CHECK], 3, "0 errors, 2 warnings");
    let doubled =
        (1..60).fold(String::from("FROM scratch\nARG X0=0123456789abcdef\n"), |text, n| {
            let before = n - 1;
            text + &format!("ARG X{n}=$X{before}$X{before}\n")
        });
    lap.context("bad", &doubled);
    ends(&lap, &[&CHECK, &PLAN], 3, "the variables of a stage take more than 2097152 bytes");
}

#[test]
fn substitutions_a_thousand_deep() {
    let lap = Lap::new("nested");
    let word = "${a:-".repeat(1_000) + "x" + &"}".repeat(1_000);
    lap.context("bad", &format!("FROM scratch\nWORKDIR /{word}\n"));
    ends(&lap, &[&CHECK, &PLAN], 3, "nested more than 200 deep");
}

#[test]
fn patterns_that_blow_up_a_backtracking_matcher() {
    let lap = Lap::new("patterns");
    let evil = ("a*".repeat(1_000) + "b\n").repeat(9) + &"**/".repeat(600) + "x\n";
    lap.context("bad", "FROM scratch\nCOPY . /\n");
    lap.work.write("bad/.dockerignore", evil);
    lap.work.write(format!("bad/{}", "a".repeat(250)), "x");
    ends(&lap, &[&CHECK], 0, "");
    ends(&lap, &[&PLAN], 0, "COPY . /");
    lap.work.write("bad/.dockerignore", ("a*".repeat(1_000) + "b\n").repeat(100));
    ends(&lap, &[&CHECK, &PLAN], 3, "the patterns have more than 20000 wildcards");
}
