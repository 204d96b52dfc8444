//! diffIDs that are worked out before their layer exists, while its files are still being read.
//!
//! sha256 takes as long as everything else of a layer together, and wants the tar in its order. Whoever
//! knows what will be in a layer, all but the contents, hashes the tar as they come.
//!
//! *Invariant:* a diffID is only taken for that of a layer whose table of contents is, contents
//! included, the one that was hashed; so what was foreseen wrongly costs time and nothing else.

use super::{Layer, Layers, compressed::hash_chunks, create::normal};
use crate::{
    ContentHash, DiffId, StoreError,
    archive::{Epoch, TarWriter},
    compress::CHUNK_BYTES,
    pipe::{ChunkWriter, channel, join},
    toc::{Entry, Kind, Toc},
};

/// A file's bytes, and their hash.
pub type Content = (ContentHash, Vec<u8>);

/// A layer that is not there yet, and the diffID of its tar.
#[derive(Debug)]
pub struct Ahead {
    toc: Toc,
    diff_id: DiffId,
    epoch: Option<Epoch>,
}

impl Ahead {
    /// Hashes the tar of a layer with these entries, whose contents are not known.
    ///
    /// `content` is asked for each file that is not empty, in the tar's order. If it has none, nothing
    /// comes of it.
    pub fn hash(
        entries: Vec<Entry>,
        epoch: Option<Epoch>,
        content: &mut dyn FnMut(&Entry) -> Option<Content>,
    ) -> Result<Option<Ahead>, StoreError> {
        let mut entries = Toc::from_entries(normal(entries))?.into_entries();
        let stream = |source| StoreError::Stream { action: "make the tar", source };
        std::thread::scope(|scope| {
            let (to_hash, chunks) = channel();
            let hashed = scope.spawn(move || hash_chunks(chunks));
            let mut tar = TarWriter::new(ChunkWriter::new(CHUNK_BYTES, vec![to_hash]), epoch);
            for entry in &mut entries {
                let mut bytes = Vec::new();
                if entry.kind == Kind::File && entry.size > 0 {
                    let Some((hash, content)) = content(entry) else { return Ok(None) };
                    (entry.content, bytes) = (Some(hash), content);
                }
                tar.append_bytes(entry, &bytes).map_err(stream)?;
            }
            tar.finish().and_then(ChunkWriter::finish).map_err(stream)?;
            let diff_id = DiffId::from_digest(join(hashed));
            Ok(Some(Ahead { toc: Toc::from_entries(entries)?, diff_id, epoch }))
        })
    }
}

impl Layers {
    /// Records a diffID that was worked out ahead, if it is the one of this layer; says whether it is.
    pub fn adopt_diff_id(&self, layer: &Layer, ahead: &Ahead) -> Result<bool, StoreError> {
        if *layer.toc()? != ahead.toc {
            return Ok(false);
        }
        if layer.recorded_diff_id(ahead.epoch).is_none() {
            self.record_diff_id(layer, ahead.epoch, &ahead.diff_id)?;
        }
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layers::tests::{Fixture, dir, fixture, link, new_fixture};

    /// Not in the tar's order, with what a layer does not keep.
    fn entries(fixture: &Fixture) -> Vec<Entry> {
        let mut timed = fixture.file("d/z", b"last");
        (timed.mtime_nanos, timed.xattrs) = (5, vec![(b"user.x".to_vec(), b"y".to_vec())].into());
        let linked = link("d/y", Kind::Hardlink, "d/a");
        vec![timed, linked, fixture.file("d/a", &[7; 3000]), fixture.file("e", b""), dir("d")]
    }

    fn hashed(fixture: &Fixture, entries: Vec<Entry>, epoch: Option<Epoch>) -> Ahead {
        let mut asked = Vec::new();
        let mut content = |entry: &Entry| {
            asked.push(entry.path.to_string());
            let hash = entry.content?;
            let mut bytes = Vec::new();
            let mut reader = fixture.layers.contents().open(&hash).unwrap().unwrap();
            std::io::Read::read_to_end(&mut reader, &mut bytes).unwrap();
            Some((hash, bytes))
        };
        let ahead = Ahead::hash(entries, epoch, &mut content).unwrap().unwrap();
        assert_eq!(asked, ["d/a", "d/z"]);
        ahead
    }

    #[test]
    fn what_was_hashed_ahead_is_the_layer_s_diff_id() {
        for epoch in [None, Some(Epoch::Set(500))] {
            let fixture = fixture();
            let ahead = hashed(&fixture, entries(&fixture), epoch);
            let layer = fixture.layers.create(entries(&fixture)).unwrap();
            assert!(fixture.layers.adopt_diff_id(&layer, &ahead).unwrap());
            let other = new_fixture();
            let same = other.layers.create(entries(&other)).unwrap();
            let expected = other.layers.diff_id_at(&same, epoch).unwrap();
            assert_eq!(layer.recorded_diff_id(epoch), Some(expected));
        }
    }

    #[test]
    fn what_was_foreseen_wrongly_is_not_taken() {
        let fixture = fixture();
        let ahead = hashed(&fixture, entries(&fixture), None);
        let mut changed = entries(&fixture);
        changed[2] = fixture.file("d/a", &[8; 3000]);
        let mut moded = entries(&fixture);
        moded[4].mode = 0o700;
        for others in [changed, moded] {
            let layer = fixture.layers.create(others).unwrap();
            assert!(!fixture.layers.adopt_diff_id(&layer, &ahead).unwrap());
            assert_eq!(layer.diff_id(), None);
        }
        assert!(Ahead::hash(entries(&fixture), None, &mut |_| None).unwrap().is_none());
    }
}
