//! diffIDs and compressed forms that are made before their layer exists, while its files are being read.
//!
//! sha256 takes as long as everything else of a layer together, compressing twice as long, and both want
//! the tar in its order. Whoever knows what will be in a layer, all but the contents, makes them of the
//! contents as they come.
//!
//! *Invariant:* what was made is only taken for that of a layer whose table of contents is, contents
//! included, the one that was hashed; so what was foreseen wrongly costs time and nothing else.

use std::{fmt::Debug, io::BufRead};

use super::{
    Layer, Layers,
    create::normal,
    pass::{Form, hash_pass},
};
use crate::{
    ContentHash, DiffId, StoreError,
    archive::{Epoch, TarWriter},
    compress::Compression,
    pipe::ChunkWriter,
    toc::{Entry, Kind, Toc},
};

/// A file's bytes, as they come.
#[derive(Debug)]
pub enum Content<'c> {
    /// All at once, and their hash.
    Whole(ContentHash, Vec<u8>),
    /// In pieces.
    Pieces(Box<dyn Pieces + 'c>),
}

/// A file's bytes in pieces.
pub trait Pieces: BufRead + Debug {
    /// The hash of all of them, if they came to their end.
    fn hash(&mut self) -> Option<ContentHash>;
}

/// What was made of a layer that is not there yet.
#[derive(Debug)]
pub struct Ahead {
    toc: Toc,
    diff_id: DiffId,
    epoch: Option<Epoch>,
    form: Option<Form>,
}

/// What is asked for the content of a file.
pub type TakeContent<'t> = dyn FnMut(&Entry) -> Option<Content<'t>> + 't;

/// What a layer's times become, and how it is to be compressed, if at all.
type How<'h> = (Option<Epoch>, Option<&'h Compression>);

impl Layers {
    /// Hashes the tar of a layer with these entries, whose contents are not known, and compresses it on
    /// the way if asked to.
    ///
    /// `content` is asked for each file that is not empty, in the tar's order. If it has none, nothing
    /// comes of it.
    pub fn foresee(
        &self,
        entries: Vec<Entry>,
        (epoch, compression): How<'_>,
        content: &mut TakeContent<'_>,
    ) -> Result<Option<Ahead>, StoreError> {
        let toc = Toc::from_entries(normal(entries))?;
        let bytes = toc.stats().bytes;
        let (mut entries, mut is_whole) = (toc.into_entries(), false);
        let tar = Box::new(|out: &mut ChunkWriter| {
            is_whole = write_tar(&mut entries, epoch, content, out)?;
            Ok(())
        });
        let (diff_id, form) = match compression {
            None => (hash_pass(tar)?, None),
            Some(how) => self.pass(how, bytes, tar).map(|(diff_id, form)| (diff_id, Some(form)))?,
        };
        if !is_whole {
            return Ok(None);
        }
        Ok(Some(Ahead { toc: Toc::from_entries(entries)?, diff_id, epoch, form }))
    }

    /// Records what was made ahead, if it is of this layer; says whether it is.
    pub fn adopt_ahead(&self, layer: &Layer, ahead: Ahead) -> Result<bool, StoreError> {
        if *layer.toc()? != ahead.toc {
            return Ok(false);
        }
        if layer.recorded_diff_id(ahead.epoch).is_none() {
            self.record_diff_id(layer, ahead.epoch, &ahead.diff_id)?;
        }
        if let Some(form) = ahead.form {
            self.adopt_form(layer, ahead.epoch, form)?;
        }
        Ok(true)
    }
}

/// Writes the tar of these entries, whose hashes come with their contents; false if one has none.
fn write_tar(
    entries: &mut [Entry],
    epoch: Option<Epoch>,
    content: &mut TakeContent<'_>,
    out: &mut ChunkWriter,
) -> Result<bool, StoreError> {
    let stream = |source| StoreError::Stream { action: "make the tar", source };
    let mut tar = TarWriter::new(out, epoch);
    for entry in entries {
        if entry.kind != Kind::File || entry.size == 0 {
            tar.append_bytes(entry, &[]).map_err(stream)?;
            continue;
        }
        match content(entry) {
            None => return Ok(false),
            Some(Content::Whole(hash, bytes)) => {
                tar.append_bytes(entry, &bytes).map_err(stream)?;
                entry.content = Some(hash);
            }
            Some(Content::Pieces(mut pieces)) => {
                // Whoever consumes the tar says why it took no more.
                let written = tar.append_pieces(entry, &mut pieces);
                let Some(hash) = written.ok().and_then(|()| pieces.hash()) else {
                    return Ok(false);
                };
                entry.content = Some(hash);
            }
        }
    }
    tar.finish().map_err(stream)?;
    Ok(true)
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use super::*;
    use crate::compress::Codec;
    use crate::layers::tests::{Fixture, dir, fixture, link, new_fixture};

    /// Not in the tar's order, with what a layer does not keep.
    fn entries(fixture: &Fixture) -> Vec<Entry> {
        let mut timed = fixture.file("d/z", b"last");
        (timed.mtime_nanos, timed.xattrs) = (5, vec![(b"user.x".to_vec(), b"y".to_vec())].into());
        let linked = link("d/y", Kind::Hardlink, "d/a");
        vec![timed, linked, fixture.file("d/a", &[7; 3000]), fixture.file("e", b""), dir("d")]
    }

    fn foreseen(fixture: &Fixture, entries: Vec<Entry>, how: How<'_>) -> Ahead {
        let mut asked = Vec::new();
        let mut content = |entry: &Entry| {
            asked.push(entry.path.to_string());
            let hash = entry.content?;
            let mut bytes = Vec::new();
            let mut reader = fixture.layers.contents().open(&hash).unwrap().unwrap();
            reader.read_to_end(&mut bytes).unwrap();
            Some(Content::Whole(hash, bytes))
        };
        let ahead = fixture.layers.foresee(entries, how, &mut content).unwrap().unwrap();
        assert_eq!(asked, ["d/a", "d/z"]);
        ahead
    }

    #[test]
    fn what_was_hashed_ahead_is_the_layer_s_diff_id() {
        for epoch in [None, Some(Epoch::Set(500))] {
            let fixture = fixture();
            let ahead = foreseen(&fixture, entries(&fixture), (epoch, None));
            let layer = fixture.layers.create(entries(&fixture)).unwrap();
            assert!(fixture.layers.adopt_ahead(&layer, ahead).unwrap());
            let other = new_fixture();
            let same = other.layers.create(entries(&other)).unwrap();
            let expected = other.layers.diff_id_at(&same, epoch).unwrap();
            assert_eq!(layer.recorded_diff_id(epoch), Some(expected));
        }
    }

    #[test]
    fn a_form_that_was_made_ahead_is_the_one_that_would_be_made() {
        for codec in [Codec::Gzip, Codec::Zstd, Codec::None] {
            let (fixture, other) = (fixture(), new_fixture());
            let how = Compression::new(codec);
            let ahead = foreseen(&fixture, entries(&fixture), (None, Some(&how)));
            let layer = fixture.layers.create(entries(&fixture)).unwrap();
            assert!(fixture.layers.adopt_ahead(&layer, ahead).unwrap());
            let same = other.layers.create(entries(&other)).unwrap();
            let expected = other.layers.compressed(&same, &how, None).unwrap();
            assert_eq!(fixture.layers.blobs().size(&expected.digest), Some(expected.size));
            assert_eq!(fixture.layers.compressed(&layer, &how, None).unwrap(), expected);
            let again = foreseen(&fixture, entries(&fixture), (None, Some(&how)));
            assert!(fixture.layers.adopt_ahead(&layer, again).unwrap(), "once more does no harm");
            assert_eq!(left_aside(&fixture), 0);
        }
    }

    fn left_aside(fixture: &Fixture) -> usize {
        std::fs::read_dir(fixture.layers.staging.path()).unwrap().count()
    }

    #[test]
    fn what_was_foreseen_wrongly_is_not_taken() {
        let fixture = fixture();
        let mut changed = entries(&fixture);
        changed[2] = fixture.file("d/a", &[8; 3000]);
        let mut moded = entries(&fixture);
        moded[4].mode = 0o700;
        let how = Compression::default();
        for others in [changed, moded] {
            let ahead = foreseen(&fixture, entries(&fixture), (None, Some(&how)));
            let layer = fixture.layers.create(others).unwrap();
            assert!(!fixture.layers.adopt_ahead(&layer, ahead).unwrap());
            assert_eq!((layer.diff_id(), left_aside(&fixture)), (None, 0));
            assert_eq!(fixture.layers.blobs().list().unwrap(), []);
        }
        assert!(
            fixture
                .layers
                .foresee(entries(&fixture), (None, None), &mut |_| None)
                .unwrap()
                .is_none()
        );
    }
}
