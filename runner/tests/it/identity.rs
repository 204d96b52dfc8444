//! Who the program is and what it inherits.

use std::os::unix::fs::MetadataExt;

use lapstrake_runner::{Exit, Identity, Resource, Security, Ulimit};

use crate::Case;
use crate::world::{World, upper};

pub(crate) const CASES: &[Case] = &[
    ("environment_is_what_was_given", environment_is_what_was_given),
    ("ids_and_groups", ids_and_groups),
    ("capabilities_of_root", capabilities_of_root),
    ("capabilities_of_a_user", capabilities_of_a_user),
    ("capabilities_without_confinement", capabilities_without_confinement),
    ("no_new_privs_is_off", no_new_privs_is_off),
    ("umask_and_descriptors", umask_and_descriptors),
    ("working_directory_is_made", working_directory_is_made),
    ("limits_are_set", limits_are_set),
    ("host_name", host_name),
];

fn environment_is_what_was_given(world: &World) {
    let mut spec = world.program(&["/bin/env"]);
    spec.process.env = vec![("A".into(), "1 2".into()), ("B".into(), "".into())];
    assert_eq!(world.out(&spec), "A=1 2\nB=\n");
}

fn ids_and_groups(world: &World) {
    let mut spec = world.script("id -u; id -g; id -G");
    assert_eq!(world.out(&spec), "0\n0\n0\n");
    world.renew(&mut spec);
    spec.identity = Identity { uid: 1000, gid: 33, groups: vec![33, 44, 55] };
    assert_eq!(world.out(&spec), "1000\n33\n33 44 55\n");
}

const CAPS: &str = "grep -E '^Cap' /proc/self/status";

fn capabilities_of_root(world: &World) {
    assert_eq!(
        world.out(&world.script(CAPS)),
        "CapInh:\t0000000000000000\nCapPrm:\t00000000a80425fb\nCapEff:\t00000000a80425fb\n\
         CapBnd:\t00000000a80425fb\nCapAmb:\t0000000000000000\n"
    );
}

fn capabilities_of_a_user(world: &World) {
    let mut spec = world.script(CAPS);
    spec.identity.uid = 1000;
    assert_eq!(
        world.out(&spec),
        "CapInh:\t0000000000000000\nCapPrm:\t0000000000000000\nCapEff:\t0000000000000000\n\
         CapBnd:\t00000000a80425fb\nCapAmb:\t0000000000000000\n"
    );
}

fn capabilities_without_confinement(world: &World) {
    let mut spec =
        world.script("grep -E '^CapEff' /proc/self/status; grep Seccomp: /proc/self/status");
    spec.security = Security::Insecure;
    for uid in [0, 1000] {
        spec.identity.uid = uid;
        world.renew(&mut spec);
        let out = world.out(&spec);
        let mask = out.lines().next().unwrap().trim_start_matches("CapEff:").trim();
        let mask = u64::from_str_radix(mask, 16).unwrap();
        assert_ne!(mask & (1 << 21), 0, "no CAP_SYS_ADMIN in {out}");
        assert!(out.ends_with("Seccomp:\t0\n"), "{out}");
    }
}

fn no_new_privs_is_off(world: &World) {
    let mut spec = world.script("grep -E '^(NoNewPrivs|Seccomp):' /proc/self/status");
    spec.identity.uid = 1000;
    assert_eq!(world.out(&spec), "NoNewPrivs:\t0\nSeccomp:\t2\n");
}

fn umask_and_descriptors(world: &World) {
    assert_eq!(world.out(&world.script("umask")), "0022\n");
    let out = world.out(&world.program(&["/bin/ls", "-1", "/proc/self/fd"]));
    // The fourth is the directory that ls reads.
    assert_eq!(out, "0\n1\n2\n3\n");
    assert_eq!(world.out(&world.program(&["/bin/readlink", "/proc/self/fd/0"])), "/dev/null\n");
}

fn working_directory_is_made(world: &World) {
    let mut spec = world.script("pwd; stat -c '%u:%g %a' /made /made/deep .");
    spec.process.cwd = "/made/deep".into();
    spec.identity = Identity { uid: 5, gid: 6, groups: vec![] };
    assert_eq!(world.out(&spec), "/made/deep\n5:6 755\n5:6 755\n5:6 755\n");
    assert!(upper(&spec).join("made/deep").metadata().unwrap().uid() != 0);
    let mut spec = world.script("pwd");
    spec.process.cwd = "/bin/busybox".into();
    let error = world.try_run(&spec).unwrap_err();
    assert_eq!(error.to_string(), "cannot enter working directory /bin/busybox: not a directory");
}

fn limits_are_set(world: &World) {
    let mut spec = world.script("ulimit -n; ulimit -Hn; ulimit -c");
    let limit = |resource, soft, hard| Ulimit { resource, soft: Some(soft), hard: Some(hard) };
    spec.ulimits = vec![limit(Resource::Nofile, 100, 200), limit(Resource::Core, 0, 0)];
    assert_eq!(world.out(&spec), "100\n200\n0\n");
    assert_eq!(Resource::from_name("nofile"), Some(Resource::Nofile));
    assert_eq!(Resource::from_name("nonsense"), None);
}

fn host_name(world: &World) {
    let mut spec = world.script("hostname; hostname other 2>/dev/null");
    spec.hostname = "here".into();
    let ran = world.run(&spec);
    assert_eq!((ran.out.as_str(), ran.exit), ("here\n", Exit::Code(1)));
}
