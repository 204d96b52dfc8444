//! The loopback interface: all the network there is with `Network::None`.

use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};
use std::os::fd::AsFd;

use crate::sys;

/// Brings the loopback interface of this network namespace up; the kernel then gives it its
/// addresses.
pub(crate) fn loopback_up() -> Result<(), Errno> {
    let socket = socket_with(AddressFamily::INET, SocketType::DGRAM, SocketFlags::CLOEXEC, None)?;
    sys::interface_up(socket.as_fd(), c"lo")
}
