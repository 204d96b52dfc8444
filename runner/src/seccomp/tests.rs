//! The filter, run by a small interpreter of the instructions it uses.

use super::*;

/// What the filter answers to a call on a machine.
fn answer(arch: u32, number: i64, arguments: [u32; 2]) -> u32 {
    let program = program();
    let (mut at, mut accumulator) = (0_usize, 0_u32);
    loop {
        let instruction = program[at];
        let k = instruction.k;
        at += 1;
        let holds = match instruction.code {
            RETURN => return k,
            JUMP => {
                at += k as usize;
                continue;
            }
            LOAD => {
                accumulator = match k {
                    NUMBER => low(number),
                    ARCH => arch,
                    16 => arguments[0],
                    24 => arguments[1],
                    other => panic!("load of {other}"),
                };
                continue;
            }
            IF_EQUAL => accumulator == k,
            IF_ANY_BIT => accumulator & k != 0,
            IF_NOT_LESS => accumulator >= k,
            other => panic!("instruction {other}"),
        };
        at += usize::from(if holds { instruction.jt } else { instruction.jf });
    }
}

fn native(number: i64, arguments: [u32; 2]) -> u32 {
    answer(NATIVE_ARCH, number, arguments)
}

#[test]
fn ordinary_calls_pass() {
    for number in [libc::SYS_read, libc::SYS_openat, libc::SYS_ptrace, libc::SYS_chroot] {
        assert_eq!(native(number, [0, 0]), ALLOW);
    }
}

#[test]
fn every_listed_call_is_refused() {
    for number in NATIVE.refused {
        assert_eq!(native(*number, [0, 0]), EPERM);
    }
    assert_eq!(native(libc::SYS_clone3, [0, 0]), ENOSYS);
}

#[test]
fn nothing_else_is_refused() {
    for number in 0..1000 {
        let expected = if NATIVE.refused.contains(&number) {
            EPERM
        } else if NATIVE.missing.contains(&number) {
            ENOSYS
        } else {
            ALLOW
        };
        assert_eq!(native(number, [0, 0]), expected, "{number}");
    }
}

#[test]
fn threads_pass_and_namespaces_do_not() {
    let thread = (libc::CLONE_VM | libc::CLONE_THREAD | libc::CLONE_SIGHAND) as u32;
    assert_eq!(native(libc::SYS_clone, [thread, 0]), ALLOW);
    assert_eq!(native(libc::SYS_clone, [libc::CLONE_NEWUSER as u32, 0]), EPERM);
    assert_eq!(native(libc::SYS_clone, [thread | libc::CLONE_NEWNS as u32, 0]), EPERM);
}

#[test]
fn arguments_of_ioctl_and_socket() {
    assert_eq!(native(libc::SYS_ioctl, [0, libc::TIOCGWINSZ as u32]), ALLOW);
    assert_eq!(native(libc::SYS_ioctl, [0, libc::TIOCSTI as u32]), EPERM);
    assert_eq!(native(libc::SYS_socket, [libc::AF_INET6 as u32, 0]), ALLOW);
    assert_eq!(native(libc::SYS_socket, [libc::AF_ALG as u32, 0]), EPERM);
}

#[test]
fn unknown_machines_get_nothing() {
    assert_eq!(answer(0x1234, libc::SYS_read, [0, 0]), ENOSYS);
}

#[cfg(target_arch = "x86_64")]
#[test]
fn the_other_interfaces_of_the_machine() {
    const I386: u32 = 0x4000_0003;
    assert_eq!(answer(I386, 4, [0, 0]), ALLOW); // write
    assert_eq!(answer(I386, 21, [0, 0]), EPERM); // mount
    assert_eq!(answer(I386, 120, [libc::CLONE_NEWUSER as u32, 0]), EPERM); // clone
    assert_eq!(native(0x4000_0000 | libc::SYS_mount, [0, 0]), ENOSYS); // x32
}
