//! FIEMAP: where the blocks of a file lie.

use std::os::fd::{AsRawFd, BorrowedFd};

use rustix::io::Errno;
use rustix::ioctl::opcode;

/// Extents asked for at once: 3.5 kB on the stack, and most files have one.
pub(crate) const EXTENTS_AT_ONCE: usize = 64;
/// The kernel writes out first what has no place yet.
const SYNC: u32 = 1;

/// The kernel's `struct fiemap` with room for extents.
#[derive(Debug)]
#[repr(C)]
struct Request {
    start: u64,
    length: u64,
    flags: u32,
    mapped: u32,
    count: u32,
    reserved: u32,
    extents: [Extent; EXTENTS_AT_ONCE],
}

/// The kernel's `struct fiemap_extent`.
#[derive(Debug, Clone, Copy, Default)]
#[repr(C)]
pub(crate) struct Extent {
    /// Where in the file.
    pub(crate) logical: u64,
    /// Where on the device, or in what the file system takes for one.
    pub(crate) physical: u64,
    pub(crate) length: u64,
    reserved64: [u64; 2],
    pub(crate) flags: u32,
    reserved: [u32; 3],
}

/// The extents of a file from `start` on, as many as fit.
#[allow(clippy::cast_lossless, reason = "what a request's number is differs between C libraries")]
pub(crate) fn map(file: BorrowedFd<'_>, start: u64) -> Result<Vec<Extent>, Errno> {
    /// What the size in the request's number counts: the head alone.
    type Head = [u64; 4];
    let number = opcode::read_write::<Head>(b'f', 11);
    let mut request = Request {
        start,
        length: u64::MAX - start,
        flags: SYNC,
        mapped: 0,
        count: u32::try_from(EXTENTS_AT_ONCE).unwrap_or_default(),
        reserved: 0,
        extents: [Extent::default(); EXTENTS_AT_ONCE],
    };
    let pointer: *mut Request = &raw mut request;
    // SAFETY: the kernel reads the head of `request` and writes it and at most `count` extents, for which
    // there is room; any bits are a valid `Request`.
    super::result(unsafe { libc::ioctl(file.as_raw_fd(), number as _, pointer) }.into())?;
    let mapped = usize::try_from(request.mapped).unwrap_or_default().min(EXTENTS_AT_ONCE);
    Ok(request.extents[..mapped].to_vec())
}
