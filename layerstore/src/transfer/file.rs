//! The members of an archive that is a plain file: looked up where they lie.
//!
//! Only headers are read at first. What nobody asks for (layers that the store has, images of other
//! platforms) is never read, and several layers are read at once.

use std::{
    fs::File,
    io::{self, BufReader, Read, Seek},
    os::unix::fs::FileExt as _,
};

use super::{
    TransferError,
    members::{Members, Names, Opened},
    unreadable,
};
use crate::{
    StoreError,
    archive::{MemberKind, ReadLimits, TarReader},
    compress::Codec,
    limits::{ARCHIVE_MEMBERS_MAX, LAYER_BYTES_MAX},
};

/// Headers are read with this much around them: what lies between two of them is mostly a layer.
const HEADER_BYTES: usize = 4096;

/// An archive whose members were looked up.
#[derive(Debug)]
pub(super) struct ArchiveFile<'a> {
    file: &'a File,
    names: Names<Extent>,
}

/// Where a member's data lies.
#[derive(Debug, Clone, Copy)]
struct Extent {
    at: u64,
    size: u64,
}

impl<'a> ArchiveFile<'a> {
    /// Looks the members up; none if the archive has to be read as a stream: it is compressed, a pipe,
    /// or has sparse members. The file stands at its beginning then.
    pub(super) fn open(mut file: &'a File) -> Result<Option<ArchiveFile<'a>>, TransferError> {
        let metadata = file.metadata().map_err(unreadable)?;
        if !metadata.is_file() {
            return Ok(None);
        }
        file.rewind().map_err(unreadable)?;
        let names = names(file, metadata.len())?;
        file.rewind().map_err(unreadable)?;
        Ok(names.map(|names| ArchiveFile { file, names }))
    }
}

fn names(file: &File, length: u64) -> Result<Option<Names<Extent>>, TransferError> {
    let mut start = [0; 4];
    let read = file.read_at(&mut start, 0).map_err(unreadable)?;
    if Codec::detect(&start[..read]) != Codec::None {
        return Ok(None);
    }
    let limits = ReadLimits { members: ARCHIVE_MEMBERS_MAX, bytes: LAYER_BYTES_MAX };
    let mut tar = TarReader::new(BufReader::with_capacity(HEADER_BYTES, file), limits);
    let mut names = Names::default();
    while let Some(member) = tar.next_member().map_err(StoreError::from)? {
        let extent = tar.extent();
        if member.kind == MemberKind::File && extent.is_none() {
            return Ok(None);
        }
        let (at, size) = extent.unwrap_or_default();
        names.add(&member, |_| Ok(Extent { at, size }))?;
        tar.pass_data(length).map_err(StoreError::from)?;
    }
    if names.is_empty() {
        return Err(TransferError::NotAnImage);
    }
    Ok(Some(names))
}

impl Members for ArchiveFile<'_> {
    fn open(&self, name: &str) -> Result<Option<Opened<'_>>, TransferError> {
        let opened = |&Extent { at, size }: &Extent| {
            let reader = Box::new(Section { file: self.file, at, end: at + size });
            Opened { reader, size, path: None }
        };
        Ok(self.names.find(name).map(opened))
    }
}

/// A part of a file; several may be read at once.
struct Section<'a> {
    file: &'a File,
    at: u64,
    end: u64,
}

impl Read for Section<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let want = buffer.len().min(usize::try_from(self.end - self.at).unwrap_or(usize::MAX));
        let count = self.file.read_at(&mut buffer[..want], self.at)?;
        self.at += count as u64;
        Ok(count)
    }
}
