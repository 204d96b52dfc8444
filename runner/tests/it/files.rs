//! What a run leaves in the root: what the program did, and nothing else.

use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::Path;

use crate::Case;
use crate::world::{World, bind, file, upper};

pub(crate) const CASES: &[Case] = &[
    ("nothing_is_left_of_mounts", nothing_is_left_of_mounts),
    ("nothing_is_left_after_a_failure", nothing_is_left_after_a_failure),
    ("used_stub_parents_stay", used_stub_parents_stay),
    ("existing_targets_stay", existing_targets_stay),
    ("parent_times_are_those_of_stubs", parent_times_are_those_of_stubs),
    ("resolv_conf_as_dangling_link", resolv_conf_as_dangling_link),
    ("hosts_cannot_be_written", hosts_cannot_be_written),
];

/// Every path below a directory that is not a directory, and every empty directory.
fn leaves(directory: &Path) -> Vec<String> {
    fn walk(top: &Path, at: &Path, found: &mut Vec<String>) {
        let entries: Vec<_> =
            fs::read_dir(at).unwrap().map(|entry| entry.unwrap().path()).collect();
        for path in entries {
            let directory = path.symlink_metadata().unwrap().is_dir();
            if !directory || fs::read_dir(&path).unwrap().next().is_none() {
                found.push(path.strip_prefix(top).unwrap().to_str().unwrap().to_owned());
            }
            if directory {
                walk(top, &path, found);
            }
        }
    }
    let mut found = Vec::new();
    walk(directory, directory, &mut found);
    found.sort();
    found
}

fn nothing_is_left_of_mounts(world: &World) {
    let source = world.layer("source", &[("a", "A")]);
    let mut spec = world.script("cat /etc/hosts /etc/resolv.conf /x/y/z/a; ls /x");
    spec.mounts = vec![
        file("/etc/hosts", "hosts\n"),
        file("/etc/resolv.conf", "resolv\n"),
        bind(&source, "/x/y/z", true),
    ];
    assert_eq!(world.out(&spec), "hosts\nresolv\nAy\n");
    // The copied-up directory stays, with nothing in it and its old times.
    assert_eq!(leaves(upper(&spec)), ["etc"]);
}

fn nothing_is_left_after_a_failure(world: &World) {
    let mut spec = world.script("exit 9");
    spec.mounts = vec![file("/etc/hosts", ""), file("/a/b", "")];
    assert!(!world.run(&spec).exit.success());
    assert_eq!(leaves(upper(&spec)), ["etc"]);
    // The same if a later mount could not be made.
    world.renew(&mut spec);
    spec.mounts.push(bind(world.path("base"), "/a/b", true));
    assert!(world.try_run(&spec).is_err());
    assert_eq!(leaves(upper(&spec)), ["etc"]);
}

fn used_stub_parents_stay(world: &World) {
    let source = world.layer("source", &[("a", "A")]);
    let mut spec = world.script("echo n > /x/sibling; echo m > /x/y/other");
    spec.mounts = vec![bind(&source, "/x/y/z", true)];
    world.out(&spec);
    assert_eq!(leaves(upper(&spec)), ["x/sibling", "x/y/other"]);
}

fn existing_targets_stay(world: &World) {
    let base = world.layer("base", &[("havefile", "")]);
    fs::create_dir(base.join("have")).unwrap();
    let mut spec = world.script("cat /havefile; ls /have");
    spec.mounts = vec![file("/havefile", "mounted\n"), bind(&base, "/have", true)];
    assert!(world.out(&spec).starts_with("mounted\n"));
    assert_eq!(leaves(upper(&spec)), Vec::<String>::new());
}

/// S-69: a directory's time is that of the stubs made in it or of what the program did there later;
/// where no stub had to be made, and when stubs are taken away, it stays.
fn parent_times_are_those_of_stubs(world: &World) {
    let etc = world.path("base/etc");
    let set_old = |directory: &Path| {
        let old = std::time::SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(1_000_000);
        fs::File::open(directory).unwrap().set_modified(old).unwrap();
    };
    let time = |spec: &lapstrake_runner::Spec| upper(spec).join("etc").metadata().unwrap().mtime();
    set_old(&etc);
    let mut spec = world.script("stat -c %Y /etc; chmod 711 /etc");
    spec.mounts = vec![file("/etc/hosts", ""), file("/etc/resolv.conf", "")];
    let seen = world.out(&spec);
    assert_ne!(seen, "1000000\n");
    assert_eq!(seen.trim_end(), time(&spec).to_string());
    // What the program did itself counts, also if it sets an old time.
    world.renew(&mut spec);
    spec.process.argv[2] = "echo x > /etc/x; touch -d @2000000 /etc".into();
    world.out(&spec);
    assert_eq!(time(&spec), 2_000_000);
    // Nothing to make, nothing changed.
    for name in ["hosts", "resolv.conf"] {
        fs::write(etc.join(name), "").unwrap();
    }
    set_old(&etc);
    world.renew(&mut spec);
    spec.process.argv[2] = "stat -c %Y /etc; chmod 711 /etc".into();
    assert_eq!(world.out(&spec), "1000000\n");
    assert_eq!(time(&spec), 1_000_000);
}

fn resolv_conf_as_dangling_link(world: &World) {
    let base = world.layer("base", &[]);
    symlink("../run/resolvconf/resolv.conf", base.join("etc/resolv.conf")).unwrap();
    let mut spec = world.script("cat /etc/resolv.conf; ls /run/resolvconf");
    spec.mounts = vec![file("/etc/resolv.conf", "nameserver\n")];
    assert_eq!(world.out(&spec), "nameserver\nresolv.conf\n");
    assert_eq!(leaves(upper(&spec)), Vec::<String>::new());
}

fn hosts_cannot_be_written(world: &World) {
    let mut spec = world.script(
        "(echo x >> /etc/hosts) 2>/dev/null || echo ro; rm /etc/hosts 2>/dev/null || echo busy",
    );
    spec.mounts = vec![file("/etc/hosts", "")];
    assert_eq!(world.out(&spec), "ro\nbusy\n");
}
