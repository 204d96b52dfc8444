//! How programs end, and that nothing of them is left.

use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use lapstrake_runner::{Cancel, Exit, Output, RunError, Runner, Sandbox, Spec, Stream};

use crate::Case;
use crate::world::{World, bind, processes_with, run_in};

pub(crate) const CASES: &[Case] = &[
    ("exit_codes", exit_codes),
    ("signals", signals),
    ("output_of_both_streams", output_of_both_streams),
    ("much_output", much_output),
    ("missing_program", missing_program),
    ("program_that_cannot_be_executed", program_that_cannot_be_executed),
    ("background_process_ends_with_the_program", background_process_ends_with_the_program),
    ("cancel_ends_a_tree", cancel_ends_a_tree),
    ("cancelled_before", cancelled_before),
    ("panic_in_output_leaves_nothing", panic_in_output_leaves_nothing),
    ("killed_parent_takes_the_tree_along", killed_parent_takes_the_tree_along),
    ("several_at_once", several_at_once),
    ("missing_source_is_named", missing_source_is_named),
];

/// A number of seconds by which a case finds its own processes, also beside other test processes.
fn mark(case: u32) -> String {
    format!("86{case}{}", std::process::id())
}

fn exit_codes(world: &World) {
    for code in [0, 1, 42, 255] {
        let ran = world.run(&world.script(&format!("exit {code}")));
        assert_eq!(ran.exit, Exit::Code(code));
    }
}

fn signals(world: &World) {
    let ran = world.run(&world.script("kill -TERM $$"));
    assert_eq!(ran.exit, Exit::Signal { signal: 15, oom: false });
    let ran = world.run(&world.script("kill -KILL $$"));
    assert!(matches!(ran.exit, Exit::Signal { signal: 9, .. }));
    // SIGPIPE has its default effect, and no signal is blocked or ignored.
    let ran = world.program(&["/bin/grep", "-E", "Sig(Blk|Ign)", "/proc/self/status"]);
    let ran = world.out(&ran);
    assert_eq!(ran, "SigBlk:\t0000000000000000\nSigIgn:\t0000000000000000\n");
}

fn output_of_both_streams(world: &World) {
    let ran = world.run(&world.script("echo out; echo err >&2; cat; exit 3"));
    assert_eq!((ran.out.as_str(), ran.err.as_str()), ("out\n", "err\n"));
    assert_eq!(ran.exit, Exit::Code(3));
}

fn much_output(world: &World) {
    let ran = world.run(&world.script("dd if=/dev/zero bs=1000 count=5000 2>/dev/null"));
    assert_eq!(ran.out.len(), 5_000_000);
}

fn missing_program(world: &World) {
    let ran = world.run(&world.program(&["/no/such"]));
    assert_eq!(ran.exit, Exit::Code(127));
    assert_eq!(ran.err, "exec: \"/no/such\": stat /no/such: no such file or directory\n");
    let ran = world.run(&world.program(&["nosuch"]));
    assert_eq!(ran.err, "exec: \"nosuch\": executable file not found in $PATH\n");
    assert_eq!(world.out(&world.program(&["echo", "found"])), "found\n");
}

fn program_that_cannot_be_executed(world: &World) {
    let layer = world.layer("base", &[("plain", "text")]);
    let ran = world.run(&world.program(&["/plain"]));
    assert_eq!(ran.exit, Exit::Code(126));
    assert_eq!(ran.err, "exec: \"/plain\": permission denied\n");
    assert!(layer.join("plain").exists());
    let ran = world.run(&world.program(&["/etc"]));
    assert_eq!(ran.exit, Exit::Code(126));
}

fn background_process_ends_with_the_program(world: &World) {
    let begin = Instant::now();
    let mark = mark(1);
    let script = format!("setsid sh -c 'exec sleep {mark}' & sleep {mark} & echo started");
    assert_eq!(world.out(&world.script(&script)), "started\n");
    assert!(begin.elapsed() < Duration::from_secs(20));
    assert_eq!(processes_with(&mark), 0);
}

fn cancel_ends_a_tree(world: &World) {
    let cancel = Cancel::new();
    let mark = mark(2);
    let sleep = format!("sleep {mark} &");
    let spec = world.script(&format!("sh -c '{sleep} {sleep} {sleep} echo up; wait'"));
    let mut cancelled_at = None;
    let mut output = |_stream: Stream, _bytes: &[u8]| {
        cancelled_at = Some(Instant::now());
        cancel.cancel();
    };
    let result = world.sandbox().run(&spec, &mut output, &cancel);
    let took = cancelled_at.expect("because the script says something").elapsed();
    assert!(matches!(result, Err(RunError::Cancelled)), "{result:?}");
    assert_eq!(processes_with(&mark), 0);
    assert!(took < Duration::from_millis(100), "{took:?}");
}

fn cancelled_before(world: &World) {
    let cancel = Cancel::new();
    cancel.cancel();
    let result = world.sandbox().run(&world.script("echo never"), &mut |_, _| {}, &cancel);
    assert!(matches!(result, Err(RunError::Cancelled)));
}

fn panic_in_output_leaves_nothing(world: &World) {
    let mark = mark(3);
    let spec = world.script(&format!("echo up; sleep {mark}"));
    let run = std::panic::AssertUnwindSafe(|| {
        let mut output = |_stream: Stream, _bytes: &[u8]| panic!("the caller's own fault");
        world.sandbox().run(&spec, &mut output, &Cancel::new())
    });
    assert!(std::panic::catch_unwind(run).is_err());
    assert_eq!(processes_with(&mark), 0);
}

/// A program that embeds the runner: runs a script in a root and tells when it has started.
pub(crate) fn helper(arguments: &[String]) {
    let [root, script] = arguments else { panic!("helper needs a root and a script") };
    let root = lapstrake_runner::Root::Directory { path: root.into(), read_only: false };
    let argv = ["/bin/sh", "-c", script].map(Into::into).to_vec();
    let mut output = |_stream: Stream, bytes: &[u8]| {
        let mut stdout = std::io::stdout();
        stdout.write_all(bytes).and_then(|()| stdout.flush()).expect("because the case reads it");
    };
    let _killed = Sandbox::new().run(&Spec::new(root, argv), &mut output, &Cancel::new());
}

fn killed_parent_takes_the_tree_along(world: &World) {
    let own = std::env::current_exe().unwrap();
    let mark = mark(4);
    let sleep = format!("/bin/sleep {mark}");
    let script = format!("{sleep} & /bin/setsid {sleep} & echo up; {sleep}");
    let mut command = Command::new(own);
    command.arg("--helper").arg(world.path("base")).arg(script).stdout(Stdio::piped());
    let mut helper = command.spawn().unwrap();
    let mut line = String::new();
    BufReader::new(helper.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
    assert_eq!(line, "up\n");
    helper.kill().unwrap();
    helper.wait().unwrap();
    let begin = Instant::now();
    while processes_with(&mark) > 0 {
        assert!(begin.elapsed() < Duration::from_secs(5), "the tree outlives its parent");
        std::thread::yield_now();
    }
}

fn several_at_once(world: &World) {
    let specs: Vec<Spec> =
        (0..8).map(|n| world.script(&format!("echo {n}; sleep 0.1; exit {n}"))).collect();
    let sandbox = world.sandbox();
    std::thread::scope(|scope| {
        let runs: Vec<_> =
            specs.iter().map(|spec| scope.spawn(move || run_in(sandbox, spec))).collect();
        for (n, run) in runs.into_iter().enumerate() {
            let ran = run.join().unwrap().unwrap();
            assert_eq!(ran.out, format!("{n}\n"));
            assert_eq!(ran.exit, Exit::Code(i32::try_from(n).unwrap()));
        }
    });
}

fn missing_source_is_named(world: &World) {
    let mut spec = world.script("true");
    spec.mounts.push(bind("/no/such/source", "/x", true));
    let error = world.try_run(&spec).unwrap_err();
    assert_eq!(
        error.to_string(),
        "cannot open mount source /no/such/source: no such file or directory"
    );
    let mut spec = world.script("true");
    spec.output = Output::Inherit;
    assert!(world.sandbox().run(&spec, &mut |_, _| {}, &Cancel::new()).unwrap().success());
}
