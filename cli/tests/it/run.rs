//! `lap run`, and builds that run programs.

use std::fs;
use std::io::Write;
use std::os::unix::net::UnixListener;
use std::process::{Command, Stdio};

use lapstrake_fixtures::{Need, require};

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

/// Builds a Dockerfile with one step, and says whether that was found in the cache and what the image has
/// in `/out`.
fn built(lap: &Lap, dockerfile: &str, flags: &[&str]) -> (bool, String) {
    let context = lap.context("context", dockerfile);
    let run = lap.run(["build", "-t", "built"].iter().chain(flags).chain([&&*context]));
    assert_eq!(run.code, Some(0), "{}", run.stderr);
    let cached = run.stderr.trim_end().ends_with("1 of 1 step cached");
    assert!(cached || run.stderr.trim_end().ends_with("0 of 1 step cached"), "{}", run.stderr);
    (cached, lap.ok(["run", "built", "cat", "/out"]))
}

/// S-63: the host name; the build argument for it is part of the key, an empty one is none.
#[test]
fn s63_host_names() {
    if !require(&RUN) {
        return;
    }
    let lap = Lap::with_busybox("steps-host");
    let text =
        "FROM busybox\nRUN (hostname; head -1 /etc/hosts; echo $BUILDKIT_SANDBOX_HOSTNAME) >/out\n";
    let plain = "buildkitsandbox\n127.0.0.1\tlocalhost buildkitsandbox\n\n".to_owned();
    let named = "zed\n127.0.0.1\tlocalhost zed\n\n".to_owned();
    let given = ["--build-arg", "BUILDKIT_SANDBOX_HOSTNAME=zed"];
    let empty = ["--build-arg", "BUILDKIT_SANDBOX_HOSTNAME="];
    assert_eq!(built(&lap, text, &[]), (false, plain.clone()));
    assert_eq!(built(&lap, text, &given), (false, named.clone()));
    assert_eq!(built(&lap, text, &given), (true, named));
    assert_eq!(built(&lap, text, &empty), (true, plain));
}

/// S-66: a cache is known by its id, by default the target, within a namespace.
#[test]
fn s66_names_of_caches() {
    if !require(&RUN) {
        return;
    }
    let lap = Lap::with_busybox("steps-caches");
    let lines = |mount: &str, dir: &str, flags: &[&str]| {
        let text = format!(
            "FROM busybox\nRUN --mount=type=cache,{mount} echo x >>{dir}/f && wc -l <{dir}/f >/out\n"
        );
        let flags: Vec<&str> = ["--no-cache"].iter().chain(flags).copied().collect();
        built(&lap, &text, &flags).1.trim().to_owned()
    };
    let mine = ["--build-arg", "BUILDKIT_CACHE_MOUNT_NS=mine"];
    let none = ["--build-arg", "BUILDKIT_CACHE_MOUNT_NS="];
    assert_eq!(lines("target=/c", "/c", &[]), "1");
    assert_eq!(lines("target=/c/", "/c", &[]), "2");
    assert_eq!(lines("target=/d,id=/c", "/d", &[]), "3");
    assert_eq!(lines("target=/d", "/d", &[]), "1");
    assert_eq!(lines("target=/c", "/c", &mine), "1");
    assert_eq!(lines("target=/c", "/c", &mine), "2");
    assert_eq!(lines("target=/c", "/c", &none), "4");
    assert_eq!(lines("target=/c,sharing=locked", "/c", &[]), "5");
    lap.is_whole();
}

/// S-74: what of the flags of a build and of a RUN makes the step another.
#[test]
fn s74_what_makes_a_step_another() {
    if !require(&RUN) {
        return;
    }
    let lap = Lap::with_busybox("steps-keys");
    lap.work.write("secret", "one");
    lap.work.write("other", "two");
    let text = "FROM busybox\nARG V=1\nRUN --mount=type=secret,id=s --mount=type=cache,id=a,target=/c \
                date >/out\n";
    let hits = |text: &str, flags: &[&str]| built(&lap, text, flags).0;
    assert!(!hits(text, &["--secret", "id=s,src=secret", "--add-host", "h:1.2.3.4"]));
    for flags in [
        ["--secret", "id=s,src=other", "--add-host", "h:5.6.7.8"],
        ["--build-arg", "http_proxy=http://p", "--add-host", "h:1.2.3.4"],
        ["--build-arg", "UNKNOWN=1", "--add-host", "h:1.2.3.4"],
        ["--build-arg", "BUILDKIT_CACHE_MOUNT_NS=n", "--add-host", "h:1.2.3.4"],
    ] {
        assert!(hits(text, &flags), "{flags:?}");
    }
    for (from, to) in [("id=a", "id=b"), ("target=/c", "target=/c,sharing=private")] {
        assert!(hits(&text.replace(from, to), &["--add-host", "h:1.2.3.4"]), "{to}");
    }
    for flags in [
        ["--build-arg", "V=2", "--add-host", "h:1.2.3.4"],
        ["--ulimit", "nofile=99:99", "--add-host", "h:1.2.3.4"],
        ["--network", "none", "--add-host", "h:1.2.3.4"],
        ["--add-host", "i:1.2.3.4", "--add-host", "h:1.2.3.4"],
    ] {
        assert!(!hits(text, &flags), "{flags:?}");
    }
    for (from, to) in
        [("/c ", "/d "), ("RUN", "ENV A=1\nRUN"), ("RUN", "RUN --mount=type=tmpfs,target=/t")]
    {
        assert!(!hits(&text.replace(from, to), &["--add-host", "h:1.2.3.4"]), "{to}");
    }
}

/// S-68: where an agent is, and whose its socket is.
#[test]
fn s68_agents() {
    if !require(&RUN) {
        return;
    }
    let lap = Lap::with_busybox("steps-agents");
    let _agent = UnixListener::bind(lap.work.join("agent")).unwrap();
    let out = |mounts: &str| {
        let text = format!(
            "FROM busybox\nRUN {mounts} echo $SSH_AUTH_SOCK >/out; for s in $SSH_AUTH_SOCK /run/b; do \
             test ! -S $s || stat -c '%n %a %u:%g' $s >>/out; done\nRUN ls -A /run >>/out || true\n"
        );
        let context = lap.context("context", &text);
        let flags = ["--ssh", "default=agent", "--ssh", "b=agent"];
        lap.ok(["build", "--no-cache", "-q", "-t", "built"]
            .iter()
            .chain(&flags)
            .chain([&&*context]));
        lap.ok(["run", "built", "cat", "/out"])
    };
    assert!(
        out("--mount=type=ssh")
            .starts_with("/run/buildkit/ssh_agent.0\n/run/buildkit/ssh_agent.0 ")
    );
    assert_eq!(
        out("--mount=type=ssh,uid=1000,mode=0640"),
        "/run/buildkit/ssh_agent.0\n/run/buildkit/ssh_agent.0 640 1000:0\n"
    );
    assert_eq!(
        out("--mount=type=ssh,id=none --mount=type=ssh,id=b,target=/run/b,gid=1000"),
        "/run/b\n/run/b 600 0:1000\n/run/b 600 0:1000\n"
    );
    lap.is_whole();
}

#[test]
fn a_user_with_one_id_runs_the_steps_of_a_root_in_several_groups() {
    if !require(&RUN) || !require(&[Need::Tool("unshare"), Need::OrdinaryUser]) {
        return;
    }
    let lap = Lap::with_busybox("steps-one-id");
    // As in images of Alpine.
    lap.work.write("busybox/etc/group", "root:x:0:root\nbin:x:1:root,bin\nwheel:x:10:root\n");
    let run = "RUN id -u >/out && id -g >>/out && touch /made && chown 0:0 /made\n";
    lap.work.write("busybox/one", format!("FROM scratch\nCOPY bin /bin\nCOPY etc /etc\n{run}"));
    // The store that is there belongs to a user with more ids.
    let (store, archive) = (lap.work.join("one-id"), lap.work.join("one-id.tar"));
    let mut alone = Command::new("unshare");
    alone.args(["--user", "--map-root-user"]).arg(lap.command([""; 0]).get_program());
    alone.arg("--root").arg(store).args(["build", "-f", "busybox/one", "-o"]);
    alone.arg(format!("type=tar,dest={}", archive.display())).arg("busybox");
    let output = alone.env("HOME", lap.work.path()).current_dir(lap.work.path()).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let out = Command::new("tar").arg("-xOf").arg(archive).arg("out").output().unwrap();
    assert_eq!(out.stdout, b"0\n0\n");
}

/// S-95: `/etc/hosts`, to the byte.
#[test]
fn s95_hosts() {
    if !require(&RUN) {
        return;
    }
    let lap = Lap::with_busybox("steps-hosts");
    let flags = ["--add-host", "Db:10.0.0.1", "--add-host", "six=0::1", "--add-host", "a:[::2]"];
    let (_, hosts) = built(&lap, "FROM busybox\nRUN cat /etc/hosts >/out\n", &flags);
    assert_eq!(
        hosts,
        "127.0.0.1\tlocalhost buildkitsandbox\n::1\tlocalhost ip6-localhost ip6-loopback\n\
         10.0.0.1\tdb\n::1\tsix\n::2\ta\n"
    );
}
