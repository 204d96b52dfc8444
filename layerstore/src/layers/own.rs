//! Layers of ours that come from elsewhere: made by another lap, and named by their table of contents.

use std::{io::Read, sync::Arc};

use super::{Layer, Layers};
use crate::{
    Digest, LayerId, StoreError,
    archive::{Assembler, ReadLimits, TarReader},
    compress,
    digest::VerifyingReader,
    toc::{Kind, Toc},
};

impl Layers {
    /// Takes a layer that another lap made, from the canonical tar of it with its times as they are.
    ///
    /// `blob` is what its bytes must be, and `id` what they must come to: every name, attribute and
    /// content of the layer counts for its id, so nothing can be slipped in. If anything is wrong, the
    /// packs may have got contents that nothing names, which the next prune takes.
    pub fn import_own(
        &self,
        reader: &mut (dyn Read + Send),
        blob: (Digest, u64),
        id: &LayerId,
    ) -> Result<Arc<Layer>, StoreError> {
        let stream = |action| move |source| StoreError::Stream { action, source };
        let (digest, size) = blob;
        let mut verified = VerifyingReader::new(reader.take(size.saturating_add(1)), digest, size);
        let (_, plain) =
            compress::decoder(&mut verified).map_err(stream("decompress the layer"))?;
        let mut tar = TarReader::new(plain, ReadLimits::default());
        let mut entries = Assembler::default();
        let mut writer = self.contents.writer();
        while let Some(member) = tar.next_member()? {
            let mut entry = member.entry()?;
            entry.mtime_nanos = 0;
            if entry.kind == Kind::File && entry.size > 0 {
                let (content, _) = writer.put(&mut Data(&mut tar))?;
                entry.content = Some(content);
            }
            entries.add(entry)?;
        }
        drop(tar);
        verified.finish().map_err(stream("read the layer"))?;
        writer.finish()?;
        let mut entries = entries.finish();
        for entry in &mut entries {
            entry.tar_offset = None;
        }
        let actual = Toc::from_entries(entries.clone())?.layer_id();
        if actual != *id {
            return Err(StoreError::OtherLayer { expected: *id, actual });
        }
        self.create(entries)
    }
}

/// The data of the member that a reader is at.
struct Data<'a, R>(&'a mut TarReader<R>);

impl<R: Read> Read for Data<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        self.0.read_data(buffer).map_err(std::io::Error::other)
    }
}
