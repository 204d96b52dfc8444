//! What the program cannot see or change.

use lapstrake_runner::{Check, Exit, Facts, Mount, MountKind, Network, Root, Rung, probe};

use crate::Case;
use crate::world::{World, bind};

pub(crate) const CASES: &[Case] = &[
    ("processes_of_the_host_are_invisible", processes_of_the_host_are_invisible),
    ("processes_are_counted_by_themselves", processes_are_counted_by_themselves),
    ("network_none_has_loopback_only", network_none_has_loopback_only),
    ("network_host_is_the_hosts", network_host_is_the_hosts),
    ("masked_and_read_only_paths", masked_and_read_only_paths),
    ("devices", devices),
    ("refused_calls", refused_calls),
    ("made_device_nodes_cannot_be_opened", made_device_nodes_cannot_be_opened),
    ("pid_1_cannot_be_looked_into", pid_1_cannot_be_looked_into),
    ("own_program_file_cannot_be_written", own_program_file_cannot_be_written),
    ("mounts_of_the_host_are_gone", mounts_of_the_host_are_gone),
    ("read_only_root", read_only_root),
    ("probe_finds_this_rung", probe_finds_this_rung),
];

fn processes_of_the_host_are_invisible(world: &World) {
    let out =
        world.out(&world.script("ls /proc | grep -E '^[0-9]+$' | sort -n | head -2; ps | wc -l"));
    assert!(out.starts_with("1\n2\n"), "{out}");
}

/// On kernels that can: a step has fewer processes than the machine, whose own limit stays.
fn processes_are_counted_by_themselves(world: &World) {
    let read = || std::fs::read_to_string("/proc/sys/kernel/pid_max").unwrap();
    let before = read();
    let inside = world.out(&world.script("cat /proc/sys/kernel/pid_max"));
    assert_eq!(read(), before);
    let expected = if Facts::current().own_pid_limit { "16384\n" } else { &before };
    assert_eq!(inside, expected);
}

fn network_none_has_loopback_only(world: &World) {
    let mut spec = world.script("ls /sys/class/net; cat /sys/class/net/lo/flags; ip addr show lo");
    spec.network = Network::None;
    let out = world.out(&spec);
    let mut lines = out.lines();
    assert_eq!(lines.next(), Some("lo"));
    // IFF_UP and IFF_LOOPBACK.
    assert_eq!(lines.next(), Some("0x9"));
    assert!(out.contains("127.0.0.1/8"), "{out}");
}

fn network_host_is_the_hosts(world: &World) {
    let out = world.out(&world.script("readlink /proc/self/ns/net"));
    let own = std::fs::read_link("/proc/self/ns/net").unwrap();
    assert_eq!(out.trim_end(), own.to_str().unwrap());
}

fn masked_and_read_only_paths(world: &World) {
    let script = "cat /proc/kcore 2>/dev/null | wc -c; cat /proc/keys 2>/dev/null | wc -c; ls /sys/firmware | wc -l
        (echo 1 > /proc/sys/kernel/hostname) 2>/dev/null || echo sys
        (echo h > /proc/sysrq-trigger) 2>/dev/null || echo sysrq
        (mkdir /sys/x) 2>/dev/null || echo ro";
    assert_eq!(world.out(&world.script(script)), "0\n0\n0\nsys\nsysrq\nro\n");
}

fn devices(world: &World) {
    let script = "ls /dev; readlink /dev/fd; dd if=/dev/urandom bs=8 count=1 2>/dev/null | wc -c
        echo x > /dev/null; stat -c %a /dev/shm; touch /dev/shm/x; echo y > /dev/stdout";
    assert_eq!(
        world.out(&world.script(script)),
        "core\nfd\nfull\nmqueue\nnull\nptmx\npts\nrandom\nshm\nstderr\nstdin\nstdout\ntty\n\
         urandom\nzero\n/proc/self/fd\n8\n1777\ny\n"
    );
}

fn refused_calls(world: &World) {
    let ran = world.run(&world.script("mount -t tmpfs none /tmp"));
    assert_eq!(ran.exit, Exit::Code(1), "{ran:?}");
    let ran = world.run(&world.program(&["/bin/busybox", "unshare", "-U", "/bin/true"]));
    assert_eq!(ran.exit, Exit::Code(1), "{ran:?}");
    assert!(ran.err.contains("Operation not permitted"), "{ran:?}");
}

fn made_device_nodes_cannot_be_opened(world: &World) {
    // As an ordinary user mknod is refused already; as root the node is there and does not open.
    let script = "for d in / /dev /dev/shm /t /w; do
            /bin/busybox mknod $d/node c 1 5 2>/dev/null
            dd if=$d/node of=/dev/null bs=1 count=1 2>/dev/null && echo opened $d
        done; dd if=/dev/zero bs=1 count=1 2>/dev/null | wc -c";
    let mut spec = world.script(script);
    let kind = MountKind::Tmpfs { size: None, mode: 0o755 };
    let tmpfs = Mount { target: "/t".into(), read_only: false, kind };
    spec.mounts = vec![tmpfs, bind(world.layer("cache", &[]), "/w", false)];
    assert_eq!(world.out(&spec), "1\n");
}

fn pid_1_cannot_be_looked_into(world: &World) {
    let script = "cat /proc/1/environ 2>&1 | grep -c denied; readlink /proc/1/exe || echo 1";
    assert_eq!(world.run(&world.script(script)).out, "1\n1\n");
}

fn own_program_file_cannot_be_written(world: &World) {
    let before = std::fs::metadata("/proc/self/exe").unwrap().modified().unwrap();
    // A script whose interpreter is the file of the process that executes it: ours.
    let layer = world.layer("base", &[("trap", "#!/proc/self/exe\n")]);
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(layer.join("trap"), mode).unwrap();
    let _whatever = world.run(&world.script("/trap; (echo x > /proc/1/exe) 2>/dev/null; true"));
    let after = std::fs::metadata("/proc/self/exe").unwrap().modified().unwrap();
    assert_eq!(before, after);
}

fn mounts_of_the_host_are_gone(world: &World) {
    let out = world.out(&world.script("cat /proc/self/mountinfo"));
    let points: Vec<&str> = out.lines().filter_map(|line| line.split(' ').nth(4)).collect();
    assert_eq!(points[0], "/");
    assert!(
        points.iter().all(|point| *point == "/"
            || point.starts_with("/dev")
            || point.starts_with("/proc")
            || point.starts_with("/sys")),
        "{points:?}"
    );
}

fn read_only_root(world: &World) {
    let mut spec = world.script("touch /x 2>/dev/null || echo refused; touch /dev/shm/x");
    spec.root = Root::Directory { path: world.path("base"), read_only: true };
    assert_eq!(world.out(&spec), "refused\n");
    assert!(!world.path("base/proc").exists(), "a stub is left");
    spec.root = Root::Directory { path: world.path("base"), read_only: false };
    assert_eq!(world.out(&spec), "");
    assert!(world.path("base/x").exists());
}

fn probe_finds_this_rung(_world: &World) {
    let host = probe();
    let expected = if host.facts.user_namespace { Rung::Rootless } else { Rung::Root };
    assert_eq!((host.namespaces, host.overlay), (Check::Works, Check::Works), "{host:?}");
    assert_eq!(host.rung, expected, "{host:?}");
    assert!(host.missing.iter().all(|missing| missing.rung > host.rung), "{host:?}");
}
