//! The system call filter of a step: a list of what is refused.
//!
//! Capabilities already refuse most of it to a step; the filter also keeps away parts of the kernel
//! that need no capability and have been the way out of containers before (user namespaces, key
//! rings, `io_uring`, `userfaultfd`, `bpf`). It is a list of refusals, not of permissions, so a new
//! system call is allowed until it is put here; see docs/SECURITY.md.
//!
//! ```text
//! load arch ── native ──▶ load number ── listed ──▶ EPERM or ENOSYS
//!     │                        ├─ clone, socket, ioctl: arguments are looked at
//!     │                        └─ allow
//!     ├──── i386 (on x86-64) ─▶ the same with that table's numbers
//!     └──── anything else ────▶ ENOSYS
//! ```
//!
//! EPERM is what programs expect of a refusal; ENOSYS makes C libraries fall back to an older call
//! whose arguments a filter can see (`clone3`) or to doing without (`io_uring`).

use libc::sock_filter;
use rustix::io::Errno;

use crate::sys;

/// Installs the filter.
pub(crate) fn install() -> Result<(), Errno> {
    sys::seccomp::install(&program())
}

const LOAD: u16 = (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16;
const IF_EQUAL: u16 = (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16;
const IF_ANY_BIT: u16 = (libc::BPF_JMP | libc::BPF_JSET | libc::BPF_K) as u16;
const IF_NOT_LESS: u16 = (libc::BPF_JMP | libc::BPF_JGE | libc::BPF_K) as u16;
const JUMP: u16 = (libc::BPF_JMP | libc::BPF_JA) as u16;
const RETURN: u16 = (libc::BPF_RET | libc::BPF_K) as u16;

/// Offsets in `struct seccomp_data`.
const NUMBER: u32 = 0;
const ARCH: u32 = 4;

/// The low half of an argument (both supported machines are little endian).
const fn argument(index: u32) -> u32 {
    16 + 8 * index
}

const ALLOW: u32 = libc::SECCOMP_RET_ALLOW;
const EPERM: u32 = libc::SECCOMP_RET_ERRNO | libc::EPERM as u32;
const ENOSYS: u32 = libc::SECCOMP_RET_ERRNO | libc::ENOSYS as u32;

/// Every flag of clone(2) that makes a namespace.
const CLONE_NAMESPACES: u32 = (libc::CLONE_NEWNS
    | libc::CLONE_NEWCGROUP
    | libc::CLONE_NEWUTS
    | libc::CLONE_NEWIPC
    | libc::CLONE_NEWUSER
    | libc::CLONE_NEWPID
    | libc::CLONE_NEWNET) as u32;

/// Terminal requests that put words into a terminal's input as if somebody had typed them.
const TERMINAL_INJECTION: [u32; 2] = [libc::TIOCSTI as u32, libc::TIOCLINUX as u32];

/// Socket families with a history (kernel crypto, virtual machine sockets).
const SOCKET_FAMILIES: [u32; 2] = [libc::AF_ALG as u32, libc::AF_VSOCK as u32];

/// The numbers of one machine's system calls.
struct Table {
    arch: u32,
    refused: &'static [i64],
    missing: &'static [i64],
    clone: i64,
    ioctl: i64,
    /// `socket`, where it is a call of its own and not one of many behind `socketcall`.
    socket: i64,
}

#[cfg(target_arch = "x86_64")]
const NATIVE_ARCH: u32 = 0xC000_003E;
#[cfg(target_arch = "aarch64")]
const NATIVE_ARCH: u32 = 0xC000_00B7;

const NATIVE: Table = Table {
    arch: NATIVE_ARCH,
    refused: &[
        libc::SYS_acct,
        libc::SYS_add_key,
        libc::SYS_bpf,
        libc::SYS_clock_adjtime,
        libc::SYS_clock_settime,
        libc::SYS_delete_module,
        libc::SYS_fanotify_init,
        libc::SYS_finit_module,
        libc::SYS_fsconfig,
        libc::SYS_fsmount,
        libc::SYS_fsopen,
        libc::SYS_fspick,
        libc::SYS_init_module,
        #[cfg(target_arch = "x86_64")]
        libc::SYS_ioperm,
        #[cfg(target_arch = "x86_64")]
        libc::SYS_iopl,
        libc::SYS_kexec_file_load,
        libc::SYS_kexec_load,
        libc::SYS_keyctl,
        libc::SYS_lookup_dcookie,
        libc::SYS_mount,
        libc::SYS_mount_setattr,
        libc::SYS_move_mount,
        libc::SYS_nfsservctl,
        libc::SYS_open_by_handle_at,
        libc::SYS_open_tree,
        libc::SYS_perf_event_open,
        libc::SYS_pivot_root,
        libc::SYS_quotactl,
        libc::SYS_quotactl_fd,
        libc::SYS_reboot,
        libc::SYS_request_key,
        libc::SYS_setns,
        libc::SYS_settimeofday,
        libc::SYS_swapoff,
        libc::SYS_swapon,
        libc::SYS_syslog,
        libc::SYS_umount2,
        libc::SYS_unshare,
        #[cfg(target_arch = "x86_64")]
        libc::SYS_uselib,
        libc::SYS_userfaultfd,
        libc::SYS_vhangup,
    ],
    missing: &[
        libc::SYS_clone3,
        libc::SYS_io_uring_enter,
        libc::SYS_io_uring_register,
        libc::SYS_io_uring_setup,
    ],
    clone: libc::SYS_clone,
    ioctl: libc::SYS_ioctl,
    socket: libc::SYS_socket,
};

/// 32-bit programs on x86-64: numbers of `asm/unistd_32.h`, in the order of [`NATIVE`]'s list, with
/// the calls that only they have (`stime`, `umount`, `vm86`, the 64-bit clocks) at the end.
#[cfg(target_arch = "x86_64")]
const COMPAT: Option<Table> = Some(Table {
    arch: 0x4000_0003,
    refused: &[
        51, 286, 357, 343, 264, 129, 338, 350, 431, 432, 430, 433, 128, 101, 110, 283, 288, 253,
        21, 442, 429, 169, 342, 428, 336, 217, 131, 443, 88, 287, 346, 79, 115, 87, 103, 52, 310,
        86, 374, 111, 25, 22, 113, 166, 404, 405,
    ],
    missing: &[435, 426, 427, 425],
    clone: 120,
    ioctl: 54,
    socket: 359,
});
#[cfg(not(target_arch = "x86_64"))]
const COMPAT: Option<Table> = None;

/// Numbers from here on belong to the x32 interface, whose calls would slip past the table.
#[cfg(target_arch = "x86_64")]
const NUMBERS_END: Option<u32> = Some(0x4000_0000);
#[cfg(not(target_arch = "x86_64"))]
const NUMBERS_END: Option<u32> = None;

fn program() -> Vec<sock_filter> {
    let mut program = vec![statement(LOAD, ARCH)];
    append_table(&mut program, &NATIVE, NUMBERS_END);
    if let Some(compat) = &COMPAT {
        append_table(&mut program, compat, None);
    }
    program.push(statement(RETURN, ENOSYS));
    program
}

/// The part for one machine. It is entered with the machine in the accumulator, and left through
/// its end, unchanged, if the machine is another one.
fn append_table(program: &mut Vec<sock_filter>, table: &Table, end: Option<u32>) {
    let mut part = vec![statement(LOAD, NUMBER)];
    if let Some(end) = end {
        part.extend(answer_if(IF_NOT_LESS, end, ENOSYS));
    }
    let mut rules = rules(table);
    rules.sort_by_key(|rule| rule.number);
    append_search(&mut part, &rules);
    program.push(sock_filter { code: IF_EQUAL, jt: 1, jf: 0, k: table.arch });
    program.push(statement(JUMP, part.len() as u32));
    program.extend(part);
}

/// What happens to one call: instructions that end with an answer.
struct Rule {
    number: u32,
    body: Vec<sock_filter>,
}

fn rules(table: &Table) -> Vec<Rule> {
    let plain = |numbers: &'static [i64], answer| {
        numbers
            .iter()
            .map(move |number| Rule { number: low(*number), body: vec![statement(RETURN, answer)] })
    };
    let looked_at = |number: i64, load: u32, test: u16, values: &[u32]| {
        let mut body = vec![statement(LOAD, load)];
        body.extend(values.iter().flat_map(|value| answer_if(test, *value, EPERM)));
        body.push(statement(RETURN, ALLOW));
        Rule { number: low(number), body }
    };
    plain(table.refused, EPERM)
        .chain(plain(table.missing, ENOSYS))
        .chain([
            looked_at(table.clone, argument(0), IF_ANY_BIT, &[CLONE_NAMESPACES]),
            looked_at(table.ioctl, argument(1), IF_EQUAL, &TERMINAL_INJECTION),
            looked_at(table.socket, argument(0), IF_EQUAL, &SOCKET_FAMILIES),
        ])
        .collect()
}

/// Finds the number by halving. The kernel walks the filter once for every system call there is
/// when it is installed, so a straight list of tests costs a step half a millisecond.
fn append_search(part: &mut Vec<sock_filter>, rules: &[Rule]) {
    /// Rules that are tested one after the other.
    const FEW: usize = 3;
    if rules.len() > FEW {
        let (below, rest) = rules.split_at(rules.len() / 2);
        let mut lower = Vec::new();
        append_search(&mut lower, below);
        part.push(sock_filter { code: IF_NOT_LESS, jt: 0, jf: 1, k: rest[0].number });
        part.push(statement(JUMP, lower.len() as u32));
        part.extend(lower);
        append_search(part, rest);
        return;
    }
    for rule in rules {
        let skip = u8::try_from(rule.body.len()).expect("because a rule has a handful of tests");
        part.push(sock_filter { code: IF_EQUAL, jt: 0, jf: skip, k: rule.number });
        part.extend_from_slice(&rule.body);
    }
    part.push(statement(RETURN, ALLOW));
}

/// Answers at once if the test holds, else goes on.
fn answer_if(test: u16, value: u32, answer: u32) -> [sock_filter; 2] {
    [sock_filter { code: test, jt: 0, jf: 1, k: value }, statement(RETURN, answer)]
}

fn statement(code: u16, k: u32) -> sock_filter {
    sock_filter { code, jt: 0, jf: 0, k }
}

fn low(number: i64) -> u32 {
    u32::try_from(number).expect("because system call numbers are small")
}

#[cfg(test)]
mod tests;
