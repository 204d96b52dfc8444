//! Mounts of every kind, and many layers.

use std::fs;
use std::os::unix::fs::symlink;

use lapstrake_runner::{Facts, Mount, MountKind, Root, Sandbox, Scratch};

use crate::Case;
use crate::world::{World, bind, file, run_in, upper};

pub(crate) const CASES: &[Case] = &[
    ("bind_directory_and_file", bind_directory_and_file),
    ("layers_view_with_scratch", layers_view_with_scratch),
    ("layers_view_of_a_subpath", layers_view_of_a_subpath),
    ("no_layers_at_all", no_layers_at_all),
    ("tmpfs_with_size", tmpfs_with_size),
    ("small_files", small_files),
    ("later_mount_of_a_target_wins", later_mount_of_a_target_wins),
    ("nested_target_missing_in_read_only_mount", nested_target_missing_in_read_only_mount),
    ("target_links_stay_inside", target_links_stay_inside),
    ("five_hundred_layers", five_hundred_layers),
    ("layers_in_one_string", layers_in_one_string),
    ("changes_go_to_upper", changes_go_to_upper),
    ("names_that_need_escaping", names_that_need_escaping),
];

fn bind_directory_and_file(world: &World) {
    let source = world.layer("source", &[("a", "A"), ("b", "B")]);
    let mut spec = world.script("cat /d/a /f; (echo x > /d/new) 2>/dev/null || echo ro; ls /w");
    spec.mounts = vec![
        bind(&source, "/d", true),
        bind(source.join("b"), "/f", true),
        bind(&source, "/w", false),
    ];
    assert_eq!(world.out(&spec), "ABro\na\nb\n");
    world.renew(&mut spec);
    spec.process.argv[2] = "echo new > /w/new".into();
    world.out(&spec);
    assert_eq!(fs::read_to_string(source.join("new")).unwrap(), "new\n");
}

fn view(world: &World, subpath: &str, with_scratch: bool) -> Mount {
    let lowers = vec![world.path("top"), world.path("bottom")];
    let scratch = with_scratch.then(|| {
        let (upper, work) = world.scratch();
        Scratch { upper, work }
    });
    let kind = MountKind::Layers { lowers, subpath: subpath.into(), scratch };
    Mount { target: "/v".into(), read_only: !with_scratch, kind }
}

fn layers_view_with_scratch(world: &World) {
    world.layer("top", &[("a", "top"), ("t", "")]);
    let bottom = world.layer("bottom", &[("a", "bottom"), ("b", "")]);
    let mut spec = world.script("ls /v; cat /v/a; (echo n > /v/n) 2>/dev/null || echo ro");
    spec.mounts = vec![view(world, "/", false)];
    assert_eq!(world.out(&spec), "a\nb\nt\ntopro\n");
    world.renew(&mut spec);
    spec.mounts = vec![view(world, "", true)];
    spec.process.argv[2] = "echo n > /v/n; rm /v/b; ls /v".into();
    assert_eq!(world.out(&spec), "a\nn\nt\n");
    assert!(bottom.join("b").exists());
}

fn layers_view_of_a_subpath(world: &World) {
    world.layer("top", &[("d/one", "1")]);
    let bottom = world.layer("bottom", &[("d/two", "2"), ("e/three", "3")]);
    symlink("/d", bottom.join("link")).unwrap();
    symlink("../../../../e", bottom.join("up")).unwrap();
    let mut spec = world.script("ls -1 /v");
    for (subpath, expected) in
        [("/d", "one\ntwo\n"), ("link", "one\ntwo\n"), ("up", "three\n"), ("d/two", "/v\n")]
    {
        for with_scratch in [false, true] {
            world.renew(&mut spec);
            spec.mounts = vec![view(world, subpath, with_scratch)];
            assert_eq!(world.out(&spec), expected, "{subpath}");
        }
    }
    world.renew(&mut spec);
    spec.mounts = vec![view(world, "nothing", false)];
    let error = world.try_run(&spec).unwrap_err().to_string();
    assert_eq!(error, "cannot open mount source nothing: no such file or directory");
}

fn no_layers_at_all(world: &World) {
    let mut spec = world.script("ls -A /v; touch /v/x 2>/dev/null || echo ro");
    let kind = MountKind::Layers { lowers: vec![], subpath: "/".into(), scratch: None };
    spec.mounts = vec![Mount { target: "/v".into(), read_only: true, kind }];
    assert_eq!(world.out(&spec), "ro\n");
    // A root of an upper directory alone.
    let (upper, work) = world.scratch();
    fs::create_dir(upper.join("bin")).unwrap();
    fs::copy(world.path("base/bin/busybox"), upper.join("bin/busybox")).unwrap();
    let argv = ["/bin/busybox", "touch", "/made"].map(Into::into).to_vec();
    let mut spec = world.program(&["x"]);
    spec.root = Root::Overlay { lowers: vec![], upper: upper.clone(), work };
    spec.process.argv = argv;
    world.out(&spec);
    assert!(upper.join("made").exists() && !upper.join("proc").exists());
}

fn tmpfs_with_size(world: &World) {
    let mut spec = world.script(
        "stat -c %a /t; dd if=/dev/zero of=/t/f bs=64k count=64 2>/dev/null || stat -c %s /t/f",
    );
    let kind = MountKind::Tmpfs { size: Some(1 << 20), mode: 0o1777 };
    spec.mounts = vec![Mount { target: "/t".into(), read_only: false, kind }];
    assert_eq!(world.out(&spec), "1777\n1048576\n");
}

fn small_files(world: &World) {
    let mut spec =
        world.script("cat /run/secrets/s; stat -c '%a %u:%g' /run/secrets/s /x; /x; cat /empty");
    let kind = |content: &[u8], mode, uid, gid| MountKind::File {
        content: content.to_vec(),
        mode,
        uid,
        gid,
    };
    let mount = |target: &str, kind| Mount { target: target.into(), read_only: true, kind };
    spec.mounts = vec![
        mount("/run/secrets/s", kind(b"\xff\x00secret\n", 0o400, 7, 8)),
        mount("/x", kind(b"#!/bin/sh\necho ran\n", 0o555, 0, 0)),
        mount("/empty", kind(b"", 0o444, 0, 0)),
    ];
    let mut out = Vec::new();
    let mut output = |_stream: lapstrake_runner::Stream, bytes: &[u8]| out.extend_from_slice(bytes);
    let cancel = lapstrake_runner::Cancel::new();
    let exit = lapstrake_runner::Runner::run(world.sandbox(), &spec, &mut output, &cancel);
    assert!(exit.unwrap().success());
    assert_eq!(out, b"\xff\x00secret\n400 7:8\n555 0:0\nran\n");
    assert!(!upper(&spec).join("run").exists(), "stubs are left");
    // Without an x bit the mount itself forbids execution.
    let mut spec = world.script("grep -E ' /s ' /proc/self/mountinfo");
    spec.mounts = vec![file("/s", "x")];
    assert!(world.out(&spec).contains("ro,nosuid,nodev,noexec"));
}

fn later_mount_of_a_target_wins(world: &World) {
    let mut spec = world.script("cat /f");
    spec.mounts = vec![file("/f", "first"), file("/f", "second")];
    assert_eq!(world.out(&spec), "second");
    assert!(!upper(&spec).join("f").exists());
}

fn nested_target_missing_in_read_only_mount(world: &World) {
    let source = world.layer("source", &[("a", "A")]);
    let mut spec = world.script("ls /m /m/new; touch /m/new/x");
    let tmpfs = || MountKind::Tmpfs { size: None, mode: 0o755 };
    let nested = Mount { target: "/m/new".into(), read_only: false, kind: tmpfs() };
    spec.mounts = vec![bind(&source, "/m", true), nested];
    let error = world.try_run(&spec).unwrap_err().to_string();
    assert_eq!(error, "cannot make mount target /m/new: read-only file system");
    world.renew(&mut spec);
    spec.mounts[0].read_only = false;
    assert_eq!(world.out(&spec), "/m:\na\nnew\n\n/m/new:\n");
    assert!(!source.join("new").exists(), "a stub is left in the source");
}

fn target_links_stay_inside(world: &World) {
    let base = world.layer("base", &[]);
    symlink("/../../../../escape/deep/file", base.join("out")).unwrap();
    symlink("loop", base.join("loop")).unwrap();
    let mut spec = world.script("cat /escape/deep/file; ls /");
    spec.mounts = vec![file("/out", "inside\n")];
    assert!(world.out(&spec).starts_with("inside\n"));
    assert!(!upper(&spec).join("escape").exists());
    world.renew(&mut spec);
    spec.mounts = vec![file("/loop", "")];
    assert!(world.try_run(&spec).is_err());
}

fn many_layers(world: &World, count: usize) -> Root {
    let mut lowers: Vec<_> = (0..count - 1)
        .map(|n| {
            let name = format!("layers/a-name-long-enough-to-fill-a-page-of-options-soon-{n}");
            world.layer(&name, &[(&format!("many/{n}"), "")])
        })
        .collect();
    lowers.push(world.path("base"));
    let (upper, work) = world.scratch();
    Root::Overlay { lowers, upper, work }
}

fn five_hundred_layers(world: &World) {
    let mut spec = world.script("ls /many | wc -l");
    spec.root = many_layers(world, 500);
    assert_eq!(world.out(&spec), "499\n");
}

fn layers_in_one_string(world: &World) {
    let sandbox = Sandbox::with_facts(Facts { overlay_append: false, ..Facts::current() });
    let mut spec = world.script("ls /many | wc -l; echo x > /x");
    spec.root = many_layers(world, 400);
    let ran = run_in(&sandbox, &spec).unwrap();
    assert_eq!(ran.out, "399\n", "{ran:?}");
    assert!(upper(&spec).join("x").exists());
}

fn changes_go_to_upper(world: &World) {
    let base = world.layer("base", &[("keep", "k"), ("gone", "g"), ("d/in", "")]);
    let spec = world.script("echo new > /new; echo more >> /keep; rm /gone; rm -r /d");
    world.out(&spec);
    assert_eq!(fs::read_to_string(upper(&spec).join("keep")).unwrap(), "kmore\n");
    let mut names: Vec<_> =
        fs::read_dir(upper(&spec)).unwrap().map(|e| e.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, ["d", "gone", "keep", "new"]);
    assert!(base.join("gone").exists());
}

fn names_that_need_escaping(world: &World) {
    let odd = world.layer("a:b,c\\d e", &[("found", "yes\n")]);
    let (upper, work) = (world.path("up:p,er\\"), world.path("wo:rk,"));
    fs::create_dir(&upper).unwrap();
    fs::create_dir(&work).unwrap();
    let mut spec = world.script("cat /found; echo w > /written");
    spec.root = Root::Overlay { lowers: vec![odd, world.path("base")], upper: upper.clone(), work };
    assert_eq!(world.out(&spec), "yes\n");
    assert!(upper.join("written").exists());
}
