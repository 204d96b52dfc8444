//! Which blocks of a file other files have, too, on file systems that share them (reflinks).

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::fd::AsFd;

use crate::sys::extents::map;

/// The file has no extent after this one.
const LAST: u32 = 0x1;
/// Where the extent lies is not known, or means nothing.
const NO_PLACE: u32 = 0x2 | 0x4 | 0x200;
/// Other files have it, too.
const SHARED: u32 = 0x2000;

/// Where the blocks lie that this file shares with others, in bytes of the device, in the order of the
/// file. An error where the file system cannot say, and then for all of its files.
pub fn shared_extents(file: &File) -> io::Result<Vec<Range<u64>>> {
    let mut shared = Vec::new();
    let mut start = 0;
    loop {
        let extents = map(file.as_fd(), start)?;
        for extent in &extents {
            if extent.flags & SHARED != 0 && extent.flags & NO_PLACE == 0 {
                shared.push(extent.physical..extent.physical.saturating_add(extent.length));
            }
        }
        let Some(last) = extents.last() else { return Ok(shared) };
        let next = last.logical.saturating_add(last.length);
        // A file system that does not come on is not asked for ever.
        if last.flags & LAST != 0 || next <= start {
            return Ok(shared);
        }
        start = next;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_of_its_own_shares_nothing() {
        let file = tempfile::tempfile().unwrap();
        file.set_len(1 << 20).unwrap();
        std::os::unix::fs::FileExt::write_all_at(&file, b"x", 1 << 19).unwrap();
        match shared_extents(&file) {
            Ok(shared) => assert_eq!(shared, []),
            Err(error) => println!("skipped: this file system cannot say: {error}"),
        }
        let pipe = File::open("/proc/self/status").unwrap();
        assert!(shared_extents(&pipe).is_err());
    }
}
