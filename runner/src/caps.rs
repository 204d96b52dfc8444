//! Capabilities of a program.

use rustix::io::Errno;
use rustix::thread::{
    CapabilitySet, CapabilitySets, capabilities, clear_ambient_capability_set,
    configure_capability_in_ambient_set, remove_capability_from_bounding_set, set_capabilities,
    set_keep_capabilities,
};

/// What root in a step can do: the 14 capabilities that the reference builder gives.
pub(crate) const STEP: CapabilitySet = CapabilitySet::CHOWN
    .union(CapabilitySet::DAC_OVERRIDE)
    .union(CapabilitySet::FSETID)
    .union(CapabilitySet::FOWNER)
    .union(CapabilitySet::MKNOD)
    .union(CapabilitySet::NET_RAW)
    .union(CapabilitySet::SETGID)
    .union(CapabilitySet::SETUID)
    .union(CapabilitySet::SETFCAP)
    .union(CapabilitySet::SETPCAP)
    .union(CapabilitySet::NET_BIND_SERVICE)
    .union(CapabilitySet::SYS_CHROOT)
    .union(CapabilitySet::KILL)
    .union(CapabilitySet::AUDIT_WRITE);

/// Leaves the process with the step's capabilities as the most that it and its descendants can ever
/// have. Ids can still be changed afterwards; the kernel takes the rest away from other users then.
pub(crate) fn confine() -> Result<(), Errno> {
    for number in 0..u64::BITS {
        let capability = CapabilitySet::from_bits_retain(1 << number);
        if STEP.contains(capability) {
            continue;
        }
        match remove_capability_from_bounding_set(capability) {
            Ok(()) => {}
            // The first number that the kernel does not know ends the list.
            Err(Errno::INVAL) => break,
            Err(errno) => return Err(errno),
        }
    }
    clear_ambient_capability_set()?;
    let kept = capabilities(None)?.permitted.intersection(STEP);
    set_capabilities(
        None,
        CapabilitySets { effective: kept, permitted: kept, inheritable: CapabilitySet::empty() },
    )
}

/// Lets a program without confinement keep its capabilities when it becomes another user.
pub(crate) fn keep_over_identity_change() -> Result<(), Errno> {
    set_keep_capabilities(true)
}

/// Makes every capability that is held effective, and inherited by whatever is executed.
pub(crate) fn raise_all() -> Result<(), Errno> {
    let held = capabilities(None)?.permitted;
    set_capabilities(None, CapabilitySets { effective: held, permitted: held, inheritable: held })?;
    for capability in held.iter() {
        configure_capability_in_ambient_set(capability, true)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fourteen() {
        assert_eq!(STEP.bits().count_ones(), 14);
        assert_eq!(STEP.bits(), 0xa804_25fb);
    }
}
