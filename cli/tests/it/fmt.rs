//! `lap fmt`: in place, from standard input, and for CI.

use crate::support::Lap;
use std::fs;
use std::io::Write;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::process::Stdio;

const BEFORE: &str = "from  busybox\n\n\n#why\nrun  a &&\\\n     b\nCOPY a\\\n b /c/";
const AFTER: &str = "FROM busybox\n\n# why\nRUN a && \\\n    b\nCOPY a \\\n    b /c/\n";

/// `lap fmt` with this standard input: code, standard output, standard error.
fn fed(lap: &Lap, arguments: &[&str], input: &str) -> (Option<i32>, String, String) {
    let mut command = lap.command(arguments);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("lap can be started");
    let mut stdin = child.stdin.take().expect("it is piped");
    stdin.write_all(input.as_bytes()).expect("lap reads");
    drop(stdin);
    let output = child.wait_with_output().expect("lap ends");
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

#[test]
fn in_place_with_its_mode_and_nothing_beside_it() {
    let lap = Lap::new("fmt");
    lap.work.write("src/Dockerfile", BEFORE);
    let file = lap.work.join("src/Dockerfile");
    fs::set_permissions(&file, fs::Permissions::from_mode(0o640)).expect("ours");
    let output = lap.command(["fmt"]).current_dir(lap.work.join("src")).output().expect("starts");
    assert_eq!((output.status.code(), output.stdout.len()), (Some(0), 0), "{output:?}");
    assert_eq!(fs::read_to_string(&file).expect("there"), AFTER);
    assert_eq!(file.metadata().expect("there").permissions().mode() & 0o777, 0o640);
    assert!(crate::support::holds_only(&lap.work.join("src"), &["Dockerfile"]));
    let written = file.metadata().expect("there").modified().expect("known");
    lap.ok(["fmt", "src/Dockerfile"]);
    assert_eq!(file.metadata().expect("there").modified().expect("known"), written, "not again");
}

#[test]
fn links_stay_links() {
    let lap = Lap::new("fmt-links");
    lap.work.write("real/file", BEFORE);
    symlink("real/file", lap.work.join("Dockerfile")).expect("a link can be made");
    lap.ok(["fmt"]);
    assert!(lap.work.join("Dockerfile").is_symlink());
    assert_eq!(fs::read_to_string(lap.work.join("real/file")).expect("there"), AFTER);
}

#[test]
fn standard_input_to_standard_output() {
    let lap = Lap::new("fmt-stdin");
    assert_eq!(fed(&lap, &["fmt", "-"], BEFORE), (Some(0), AFTER.to_owned(), String::new()));
    assert_eq!(fed(&lap, &["fmt", "-"], AFTER), (Some(0), AFTER.to_owned(), String::new()));
    assert_eq!(fed(&lap, &["fmt", "--check", "-"], BEFORE).1, "<stdin>\n");
}

#[test]
fn check_and_diff_write_nothing() {
    let lap = Lap::new("fmt-check");
    lap.work.write("a", BEFORE);
    lap.work.write("b", AFTER);
    let output = lap.run(["fmt", "--check", "a", "b"]);
    assert_eq!((output.code, output.stdout.as_str()), (Some(1), "a\n"), "{}", output.stderr);
    let output = lap.run(["fmt", "--diff", "a", "b"]);
    assert_eq!(output.code, Some(1));
    for line in ["--- a\n", "+++ a\n", "-from  busybox\n", "+FROM busybox\n", "+    b /c/\n"] {
        assert!(output.stdout.contains(line), "{}", output.stdout);
    }
    assert_eq!(fs::read_to_string(lap.work.join("a")).expect("there"), BEFORE);
    assert_eq!(lap.run(["fmt", "--check", "b"]).code, Some(0));
    assert_eq!(lap.run(["fmt", "--check", "--diff", "b"]).code, Some(2));
}

/// One file with an error, and no file is touched.
#[test]
fn errors_leave_every_file_alone() {
    let lap = Lap::new("fmt-errors");
    lap.work.write("good", BEFORE);
    lap.work.write("bad", "FROM a\nCPOY a b\n");
    lap.refused(["fmt", "good", "bad"], 3, &["bad:2:1", "D005", "nothing was written"]);
    lap.refused(["fmt", "none"], 3, &["cannot read none"]);
    lap.refused(["fmt", "."], 3, &["is a directory"]);
    lap.refused(["fmt"], 3, &["there is no Dockerfile"]);
    assert_eq!(fs::read_to_string(lap.work.join("good")).expect("there"), BEFORE);
}

/// A full disk, or a limit as here: the file is what it was, and nothing is beside it.
#[test]
fn a_write_that_fails_leaves_the_file() {
    let lap = Lap::new("fmt-full");
    lap.work.write("src/Dockerfile", BEFORE);
    for action in ["fmt Dockerfile", "check --fix ."] {
        let lap_itself = lap.command([""; 0]).get_program().to_owned();
        let mut command = std::process::Command::new("sh");
        command.current_dir(lap.work.join("src"));
        command
            .args(["-c", &format!("trap '' XFSZ; ulimit -f 0; exec \"$0\" {action} 2>&1 | cat")]);
        let output = command.arg(lap_itself).output().expect("there is a shell");
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(said.contains("cannot write"), "{action}: {said}");
        let file = lap.work.join("src/Dockerfile");
        assert_eq!(fs::read_to_string(file).expect("there"), BEFORE, "{action}");
        assert!(crate::support::holds_only(&lap.work.join("src"), &["Dockerfile"]), "{action}");
    }
}

/// Files that are odd and right.
#[test]
fn odd_files() {
    let lap = Lap::new("fmt-odd");
    for (before, after) in [
        ("FROM a\r\nrun x \\\r\n  y\r\n", "FROM a\r\nRUN x \\\r\n  y\r\n"),
        ("\u{feff}from a\n", "FROM a\n"),
        (
            "FROM a\nonbuild  RUN <<E cat\nx\n  y\nE\nONBUILD copy <<A <<\"B c\" /d/\n1\nA\n 2\nB c\n",
            "FROM a\nONBUILD RUN <<E cat\nx\n  y\nE\nONBUILD copy <<A <<\"B c\" /d/\n1\nA\n 2\nB c\n",
        ),
        ("#escape=`\nfrom a\nworkdir C:\\\n", "# escape=`\nFROM a\nWORKDIR C:\\\n"),
        ("FROM a\nRUN x \\\n#c\n\n  && y", "FROM a\nRUN x \\\n  # c\n  && y\n"),
    ] {
        assert_eq!(fed(&lap, &["fmt", "-"], before), (Some(0), after.to_owned(), String::new()));
        assert_eq!(fed(&lap, &["fmt", "--check", "-"], after).0, Some(0), "{after}");
    }
    for (broken, why) in [
        ("", "the Dockerfile cannot be empty"),
        ("# only this\n", "file with no instructions"),
        ("FROM a\nCOPY <<E /\n", "heredoc"),
    ] {
        let (code, stdout, stderr) = fed(&lap, &["fmt", "-"], broken);
        assert_eq!((code, stdout.as_str()), (Some(3), ""), "{broken}");
        assert!(stderr.contains(why), "{stderr}");
    }
}
