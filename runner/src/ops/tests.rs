//! Plans for specifications.

use std::path::PathBuf;

use super::*;
use crate::spec::Scratch;

const ROOT_HOST: Facts = Facts {
    user_namespace: false,
    device_nodes: true,
    overlay_append: true,
    terminal_group: true,
    sets_groups: true,
    unified_cgroup: true,
    own_pid_limit: true,
};

const USER_HOST: Facts = Facts {
    user_namespace: true,
    device_nodes: false,
    overlay_append: true,
    terminal_group: false,
    sets_groups: true,
    unified_cgroup: true,
    own_pid_limit: true,
};

fn spec(lowers: &[&str]) -> Spec {
    let lowers = lowers.iter().map(PathBuf::from).collect();
    let root = Root::Overlay { lowers, upper: "/u".into(), work: "/w".into() };
    Spec::new(root, vec!["true".into()])
}

/// The operations in a short form: name and path.
fn short(ops: &[SetupOp]) -> Vec<String> {
    let text = |bytes: &Bytes| bytes.as_path().display().to_string();
    let word = |op: &SetupOp| match op {
        SetupOp::PrivateMounts => "private".to_owned(),
        SetupOp::Hostname(name) => format!("hostname {}", text(name)),
        SetupOp::Loopback => "loopback".to_owned(),
        SetupOp::OpenRoot { tree, .. } => format!("root {}", tree_word(tree)),
        SetupOp::OpenSource(tree) => format!("source {}", tree_word(tree)),
        SetupOp::Stage { over } => format!("stage {}", text(over)),
        SetupOp::Attach { target, read_only, .. } => {
            format!("attach {} {}", text(target), if *read_only { "ro" } else { "rw" })
        }
        SetupOp::File(file) => format!("file {}", text(&file.target)),
        SetupOp::Filesystem(fs) => format!("{} {}", text(&fs.kind), text(&fs.target)),
        SetupOp::DeviceNode { name, .. } => format!("node {}", text(name)),
        SetupOp::DeviceBind { name, .. } => format!("device {}", text(name)),
        SetupOp::DeviceLink { name, .. } => format!("link {}", text(name)),
        SetupOp::DeviceDirectory { name } => format!("directory {}", text(name)),
        SetupOp::ProcessLimit(most) => format!("processes {most}"),
        SetupOp::Mask(path) => format!("mask {}", text(path)),
        SetupOp::ReadOnly(path) => format!("readonly {}", text(path)),
        SetupOp::WorkingDirectory { path, .. } => format!("cwd {}", text(path)),
        SetupOp::ReadOnlyRoot => "readonly root".to_owned(),
        SetupOp::ChangeRoot => "change root".to_owned(),
    };
    ops.iter().map(word).collect()
}

fn tree_word(tree: &Tree) -> String {
    match tree {
        Tree::Bind(source) => format!("bind {}", source.as_path().display()),
        Tree::Overlay(overlay) => format!(
            "overlay {}{}{}",
            overlay.lowers.len(),
            if overlay.writes.is_some() { " writes" } else { "" },
            if overlay.user_xattrs { " user" } else { "" },
        ),
        Tree::Empty => "empty".to_owned(),
    }
}

#[test]
fn a_plain_step_as_root() {
    let words = short(&plan(&spec(&["/a", "/b"]), ROOT_HOST));
    let expected = "private|hostname buildkitsandbox|root overlay 2 writes|stage /u|proc /proc|processes 16384|\
        tmpfs /dev|node null|node zero|node full|node random|node urandom|node tty|link fd|\
        link stdin|link stdout|link stderr|link core|link ptmx|directory pts|directory shm|\
        directory mqueue|devpts /dev/pts|tmpfs /dev/shm|mqueue /dev/mqueue|sysfs /sys|\
        cgroup2 /sys/fs/cgroup|mask /proc/acpi|mask /proc/asound|mask /proc/kcore|mask /proc/keys|\
        mask /proc/latency_stats|mask /proc/timer_list|mask /proc/timer_stats|\
        mask /proc/sched_debug|mask /proc/scsi|mask /sys/firmware|\
        mask /sys/devices/virtual/powercap|readonly /proc/bus|readonly /proc/fs|\
        readonly /proc/irq|readonly /proc/sys|readonly /proc/sysrq-trigger|cwd /|change root";
    assert_eq!(words.join("|"), expected);
}

#[test]
fn a_plain_step_as_an_ordinary_user() {
    let words = short(&plan(&spec(&["/a"]), USER_HOST));
    for expected in
        ["root overlay 1 writes user", "source bind /dev/null", "device tty", "attach /sys ro"]
    {
        assert!(words.iter().any(|word| word == expected), "{expected}: {words:?}");
    }
    assert!(!words.iter().any(|word| word.starts_with("node") || word.starts_with("cgroup2")));
}

#[test]
fn sources_are_opened_before_the_stage_hides_a_directory() {
    let mut spec = spec(&["/a"]);
    let kind = MountKind::Bind { source: "/u/inside".into() };
    spec.mounts.push(Mount { target: "/m".into(), read_only: false, kind });
    for facts in [ROOT_HOST, USER_HOST] {
        let words = short(&plan(&spec, facts));
        let stage = words.iter().position(|word| word.starts_with("stage")).unwrap();
        let last_source = words.iter().rposition(|word| word.starts_with("source")).unwrap();
        assert!(last_source < stage);
    }
}

#[test]
fn the_loopback_only_without_the_hosts_network() {
    let mut spec = spec(&["/a"]);
    assert!(!plan(&spec, ROOT_HOST).contains(&SetupOp::Loopback));
    spec.network = Network::None;
    assert!(plan(&spec, ROOT_HOST).contains(&SetupOp::Loopback));
    let words = short(&plan(&spec, USER_HOST));
    assert!(words.contains(&"sysfs /sys".to_owned()), "its own network's sysfs can be mounted");
}

#[test]
fn insecure_hides_nothing() {
    let mut spec = spec(&["/a"]);
    spec.security = Security::Insecure;
    let words = short(&plan(&spec, ROOT_HOST));
    assert!(!words.iter().any(|word| word.starts_with("mask") || word.starts_with("readonly")));
}

#[test]
fn views_of_layers_are_as_cheap_as_they_can_be() {
    let check = |lowers: &[&str], scratch: bool, expected: &str| {
        let scratch = scratch.then(|| Scratch { upper: "/su".into(), work: "/sw".into() });
        let lowers = lowers.iter().map(PathBuf::from).collect();
        let kind = MountKind::Layers { lowers, subpath: "/".into(), scratch };
        let mut spec = spec(&["/a"]);
        spec.mounts.push(Mount { target: "/m".into(), read_only: false, kind });
        let words = short(&plan(&spec, ROOT_HOST));
        let source = words.iter().find_map(|word| word.strip_prefix("source "));
        assert_eq!(source, Some(expected));
        let access =
            if expected.contains("writes") || expected == "bind /su" { "rw" } else { "ro" };
        assert!(words.contains(&format!("attach /m {access}")), "{words:?}");
    };
    check(&[], false, "empty");
    check(&["/x"], false, "bind /x");
    check(&["/x", "/y"], false, "overlay 2");
    check(&[], true, "bind /su");
    check(&["/x"], true, "overlay 1 writes");
}

#[test]
fn a_read_only_directory_is_closed_last() {
    let root = Root::Directory { path: "/r".into(), read_only: true };
    let words = short(&plan(&Spec::new(root, vec!["x".into()]), ROOT_HOST));
    assert_eq!(words[words.len() - 2..], ["readonly root", "change root"]);
    assert!(words.contains(&"stage /r".to_owned()));
}

#[test]
fn operations_survive_the_trip() {
    let ops = plan(&spec(&["/a", "/b\u{ff}"]), USER_HOST);
    let text = serde_json::to_string(&ops).unwrap();
    assert_eq!(serde_json::from_str::<Vec<SetupOp>>(&text).unwrap(), ops);
}

#[test]
fn device_nodes_work_only_where_nobody_can_make_them() {
    let mut spec = spec(&["/a"]);
    let kind = MountKind::Bind { source: "/cache".into() };
    spec.mounts.push(Mount { target: "/c".into(), read_only: false, kind });
    for facts in [ROOT_HOST, USER_HOST] {
        for op in plan(&spec, facts) {
            match op {
                SetupOp::OpenRoot { devices, .. } | SetupOp::Attach { devices, .. } => {
                    assert!(!devices);
                }
                SetupOp::Filesystem(fs) => {
                    assert_eq!(fs.devices, fs.kind == Bytes::from("devpts"), "{fs:?}");
                }
                _ => {}
            }
        }
    }
}
