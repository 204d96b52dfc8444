//! What is wrong gives one clear error, its documented exit code, no output, and a whole store.

use std::fs::{self, Permissions};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::process::Stdio;
use std::thread;
use std::time::{Duration, Instant};

use lapstrake_fixtures::{require, sha256_hex};

use crate::support::{Lap, RUN, holds_only};

/// A build that must be refused: no archive, and nothing else, may appear beside the context.
fn refused_build(lap: &Lap, dockerfile: &str, more: &[&str], code: i32, words: &[&str]) {
    let context = lap.context("bad/context", dockerfile);
    let archive = lap.work.join("bad/out.tar");
    let output = format!("type=oci,dest={}", archive.display());
    let mut arguments = vec!["build", "-t", "bad:1", "-o", &output];
    arguments.extend(more);
    arguments.push(&context);
    lap.refused(&arguments, code, words);
    assert!(holds_only(&lap.work.join("bad"), &["context"]), "something is left");
    assert!(!lap.ok(["images"]).contains("bad"), "the image has a name");
}

#[test]
fn the_dockerfile_is_missing() {
    let lap = Lap::new("no-dockerfile");
    fs::create_dir(lap.work.join("empty")).unwrap();
    lap.refused(["build", "empty"], 3, &["there is no Dockerfile in empty", "hint:", "-f FILE"]);
    lap.refused(["build", "-f", "nope.df", "empty"], 3, &["nope.df"]);
    lap.refused(["build", "nowhere"], 3, &["nowhere", "No such file"]);
    lap.work.write("file", "");
    lap.refused(["build", "file"], 3, &["is not a directory"]);
}

#[test]
fn the_dockerfile_is_wrong() {
    let lap = Lap::new("wrong-dockerfile");
    let words = [
        "error[D005]: unknown instruction: CPOY",
        "Dockerfile:2:1",
        "2 | CPOY a b",
        "did you mean `COPY`?",
    ];
    refused_build(&lap, "FROM scratch\nCPOY a b\n", &[], 3, &words);
    refused_build(&lap, "FROM scratch\nCOPY a\n", &[], 3, &["Dockerfile:2:6"]);
    refused_build(&lap, "", &[], 3, &["error"]);
}

#[test]
fn stages_are_unknown() {
    let lap = Lap::new("unknown-stage");
    let two = "FROM scratch AS builder\nFROM scratch\n";
    let words = ["\"bulder\" could not be found", "did you mean `builder`?"];
    refused_build(&lap, two, &["--target", "bulder"], 3, &words);
    let copy = "FROM scratch AS builder\nFROM scratch\nCOPY --from=127.0.0.1:1/x /a /b\n";
    let words = ["Dockerfile:3:", "connection refused", "nothing listens at 127.0.0.1:1"];
    refused_build(&lap, copy, &[], 5, &words);
}

#[test]
fn copied_files_are_missing() {
    let lap = Lap::new("missing-source");
    let words = ["\"/nope.txt\": not found", "Dockerfile:2:1", "hint:"];
    refused_build(&lap, "FROM scratch\nCOPY nope.txt /\n", &[], 3, &words);
    lap.work.write("bad/context/hidden", "x");
    lap.work.write("bad/context/.dockerignore", "hidden\n");
    let words = ["the ignore file excludes it", "Dockerfile:2:1"];
    refused_build(&lap, "FROM scratch\nCOPY hidden /\n", &[], 3, &words);
}

#[test]
fn flags_make_no_sense() {
    let lap = Lap::new("bad-flags");
    let dockerfile = "FROM scratch\nCOPY Dockerfile /\n";
    refused_build(&lap, dockerfile, &["--nonsense"], 2, &["--nonsense"]);
    refused_build(&lap, dockerfile, &["-t", "Bad Name"], 2, &["Bad Name"]);
    refused_build(&lap, dockerfile, &["-o", "type=zip"], 2, &["zip", "oci"]);
    refused_build(&lap, dockerfile, &["--platform", "a/b,c?/d"], 2, &["is not a platform"]);
    refused_build(&lap, dockerfile, &["--secret", "src=x"], 2, &["no id"]);
    refused_build(&lap, dockerfile, &["--secret", "id=x,src=nope"], 3, &["nope"]);
    refused_build(&lap, dockerfile, &["--cache-from", "x"], 2, &["type=local"]);
    refused_build(&lap, dockerfile, &["--network", "moon"], 2, &["moon"]);
    refused_build(&lap, dockerfile, &["--build-context", "a=./nope"], 3, &["./nope"]);
    lap.refused(["frobnicate"], 2, &["frobnicate"]);
    for (flags, why) in [
        (["--isolation=chroot"].as_slice(), "lap doctor"),
        (&["--builder", "x"], "lap itself"),
        (&["--memory-swap", "1g"], "systemd-run"),
        (&["-c", "2"], "--cpu-shares is not supported"),
        (&["--security-opt", "seccomp=unconfined"], "--allow security.insecure"),
        (&["--disable-content-trust=false"], "not verified"),
        (&["-D"], "--progress"),
        (&["--attest", "type=sbom"], "attestations"),
        (&["--push=maybe"], "true or false"),
    ] {
        refused_build(&lap, dockerfile, flags, 2, &[why]);
    }
}

#[test]
fn mounts_and_devices_make_no_sense() {
    let lap = Lap::new("bad-mounts");
    for mount in ["type=bind", "type=cache", "type=tmpfs", "type=bind,target=.."] {
        let dockerfile = format!("FROM scratch\nRUN --mount={mount} true\n");
        refused_build(&lap, &dockerfile, &[], 3, &["invalid mount target", "Dockerfile:2:5"]);
    }
    let device = "FROM scratch\nRUN --device=vendor.example/gpu=0,required true\n";
    refused_build(&lap, device, &[], 3, &["vendor.example/gpu=0", "hint: without `required`"]);
}

#[test]
fn the_machine_allows_no_threads() {
    let lap = Lap::new("no-threads");
    let context = lap.context("context", "FROM scratch\nCOPY Dockerfile /\n");
    lap.ok(["build", "-q", "-t", "some:1", &context]);
    lap.ok(["save", "-o", "some.tar", "some:1"]);
    fs::set_permissions(lap.work.path(), Permissions::from_mode(0o777)).expect("it is ours");
    // The limit counts for others than root; ids beyond those of any user have no processes.
    let script = "ulimit -u 1; exec \"$@\"";
    let mut command = std::process::Command::new("setpriv");
    command.args(["--reuid=3999999999", "--regid=3999999999", "--clear-groups"]);
    command.args(["bash", "-c", script, "bash"]).arg(lap.command([""; 0]).get_program());
    command.args(["--root", "other", "load", "-i", "some.tar"]);
    command.current_dir(lap.work.path()).env("HOME", lap.work.path());
    let output = command.output().expect("setpriv can be started");
    let said = String::from_utf8_lossy(&output.stderr);
    if said.contains("setpriv:") || said.contains("ulimit:") {
        return eprintln!("skipped: {said}");
    }
    assert_eq!(output.status.code(), Some(4), "{said}");
    assert!(said.contains("cannot start a thread") && !said.contains("panicked"), "{said}");
}

#[test]
fn outputs_cannot_be_written() {
    let lap = Lap::new("bad-output");
    let context = lap.context("context", "FROM scratch\nCOPY Dockerfile /\n");
    lap.refused(
        ["build", "--progress", "none", "-o", "type=oci,dest=no/such/out.tar", &context],
        4,
        &["no/such/out.tar"],
    );
    lap.refused(["save", "nope"], 3, &["there is no image `nope`"]);
    lap.ok(["build", "-q", "-t", "some:1", &context]);
    lap.refused(["save", "-o", "no/such/out.tar", "some:1"], 4, &["no/such/out.tar"]);
    lap.refused(["run", "smoe:1"], 3, &["there is no image `smoe:1`", "did you mean `some:1`?"]);
}

#[test]
fn archives_are_broken() {
    let lap = Lap::new("broken-archive");
    let context = lap.context("context", "FROM scratch\nCOPY Dockerfile /\n");
    lap.ok(["build", "-q", "-t", "some:1", &context]);
    lap.ok(["save", "-o", "whole.tar", "some:1"]);
    let whole = fs::read(lap.work.join("whole.tar")).unwrap();
    lap.ok(["rmi", "some:1"]);
    for length in [0, 1, 511, 512, 1024, whole.len() / 2, whole.len() - 1025] {
        lap.work.write("part.tar", &whole[..length]);
        lap.refused(["load", "-i", "part.tar"], 3, &["error"]);
        assert_eq!(lap.ok(["images", "-q"]), "", "after {length} bytes");
    }
    let mut lying = whole;
    let at =
        lying.windows(9).position(|bytes| bytes == b"\"rootfs\":").expect("the config is in it");
    lying[at + 1] = b'R';
    lap.work.write("lying.tar", &lying);
    lap.refused(["load", "-i", "lying.tar"], 3, &["damaged", "hint"]);
    lap.refused(["load", "-i", "nope.tar"], 3, &["nope.tar"]);
    lap.refused(["import", "context/Dockerfile", "x:1"], 3, &["archive"]);
    assert_eq!(lap.ok(["images", "-q"]), "");
}

#[test]
fn base_images_are_nowhere() {
    let lap = Lap::new("no-base");
    let words = ["127.0.0.1:1/base", "Dockerfile:1:6", "connection refused", "hint:"];
    refused_build(&lap, "FROM 127.0.0.1:1/base\n", &[], 5, &words);
    lap.refused(["pull", "-q", "127.0.0.1:1/base"], 5, &["connection refused", "nothing listens"]);
    lap.refused(["push", "-q", "127.0.0.1:1/base"], 3, &["there is no image"]);
}

#[test]
fn registries_refuse_and_lie() {
    let lap = Lap::new("bad-registry");
    let denied = fake_registry(|path| match path {
        "/v2/" => (200, String::new()),
        _ => (403, r#"{"errors":[{"code":"DENIED","message":"go away"}]}"#.into()),
    });
    lap.refused(["pull", "-q", &format!("{denied}/a/b:1")], 5, &["DENIED: go away", "lap login"]);
    refused_build(
        &lap,
        &format!("FROM {denied}/a/b:1\n"),
        &[],
        5,
        &["access denied", "Dockerfile:1:6"],
    );

    let missing =
        fake_registry(
            |path| if path == "/v2/" { (200, String::new()) } else { (404, String::new()) },
        );
    lap.refused(["pull", "-q", &format!("{missing}/a/b:1")], 3, &["not found"]);
    refused_build(&lap, &format!("FROM {missing}/a/b:1\n"), &[], 5, &["cannot find the image"]);

    let config =
        r#"{"architecture":"amd64","os":"linux","rootfs":{"type":"layers","diff_ids":[]}}"#;
    let manifest = format!(
        r#"{{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":{{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"sha256:{}","size":{}}},"layers":[]}}"#,
        sha256_hex(config.as_bytes()),
        config.len()
    );
    let lying = fake_registry(move |path| match path {
        "/v2/" => (200, String::new()),
        path if path.contains("/manifests/") => (200, manifest.clone()),
        _ => (200, config.replace("amd64", "arm64")),
    });
    lap.refused(
        ["pull", "-q", &format!("{lying}/a/b:1")],
        6,
        &["does not match its digest", "hint:"],
    );
    refused_build(&lap, &format!("FROM {lying}/a/b:1\n"), &[], 6, &["does not match its digest"]);
    assert_eq!(lap.ok(["images", "-q"]), "");
}

/// A registry that answers every GET and HEAD as it is told; its address. It ends with the test.
fn fake_registry(answer: impl Fn(&str) -> (u16, String) + Send + 'static) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("loopback can be listened on");
    let address = listener.local_addr().expect("it has an address").to_string();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { continue };
            let mut lines =
                BufReader::new(stream.try_clone().expect("a socket can be cloned")).lines();
            let Some(Ok(request)) = lines.next() else { continue };
            while lines.next().and_then(Result::ok).is_some_and(|line| !line.is_empty()) {}
            let (status, body) = answer(request.split(' ').nth(1).unwrap_or_default());
            let kind = if body.contains("schemaVersion") {
                "application/vnd.oci.image.manifest.v1+json"
            } else {
                "application/json"
            };
            let head = format!(
                "HTTP/1.1 {status} X\r\nContent-Type: {kind}\r\nContent-Length: \
                     {}\r\nConnection: close\r\n\r\n",
                body.len()
            );
            let body = if request.starts_with("HEAD") { "" } else { body.as_str() };
            drop(stream.write_all((head + body).as_bytes()));
        }
    });
    address
}

#[test]
fn a_step_fails() {
    if !require(&RUN) {
        return;
    }
    let lap = Lap::with_busybox("failing-step");
    let dockerfile = "FROM busybox\nRUN echo before\nRUN echo said; exit 3\n";
    let words = ["| said", "exit code: 3", "Dockerfile:3:1", "3 | RUN echo said; exit 3"];
    refused_build(&lap, dockerfile, &[], 1, &words);
    let words = ["secret `s` is required", "--secret id=s"];
    refused_build(
        &lap,
        "FROM busybox\nRUN --mount=type=secret,id=s,required true\n",
        &[],
        3,
        &words,
    );
}

#[test]
fn a_signal_stops_everything() {
    if !require(&RUN) {
        return;
    }
    let lap = Lap::with_busybox("signal");
    let context =
        lap.context("stop/context", "FROM busybox\nRUN echo started; sleep 4711 & sleep 4711\n");
    let output = format!("type=oci,dest={}", lap.work.join("stop/out.tar").display());
    let mut command = lap.command(["build", "-o", &output, &context]);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut stderr = BufReader::new(child.stderr.take().unwrap());
    let mut line = String::new();
    while !line.ends_with("| started\n") {
        line.clear();
        assert_ne!(stderr.read_line(&mut line).unwrap(), 0, "it ended before the step began");
    }
    let begun = Instant::now();
    let kill = std::process::Command::new("kill").args(["-INT", &child.id().to_string()]).status();
    assert!(kill.unwrap().success());
    let status = child.wait().unwrap();
    let mut rest = String::new();
    stderr.read_to_string(&mut rest).unwrap();
    assert!(begun.elapsed() < Duration::from_secs(5), "it took {:?}", begun.elapsed());
    assert_eq!(status.code(), Some(130), "{rest}");
    assert!(rest.contains("error: stopped by a signal"), "{rest}");
    assert!(holds_only(&lap.work.join("stop"), &["context"]));
    let running = fs::read_dir("/proc").unwrap().filter_map(Result::ok).filter(|process| {
        let cmdline = fs::read(process.path().join("cmdline")).unwrap_or_default();
        cmdline.windows(4).any(|word| word == b"4711")
    });
    assert_eq!(running.count(), 0, "a process of the step is left");
    lap.is_whole();
}
