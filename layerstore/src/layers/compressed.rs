//! The tar of a layer, its diffID, and its compressed forms: one pass for all of them.
//!
//! ```text
//! tar producer ──▶ chunks ──┬──▶ sha256                                      = diffID
//!  (this thread)            └──▶ encoder's workers ──▶ file + sha256 in order = blob
//! ```

use std::{
    io::{self, Write},
    path::{Path, PathBuf},
    sync::Arc,
};

use super::{
    Layer, Layers, Origin,
    pass::{Form, hash_pass},
};
use crate::{
    DiffId, StoreError,
    archive::{Epoch, TarWriter},
    atomic::read_hint,
    compress::{CHUNK_BYTES, Codec, Compression},
    oci::Descriptor,
    pipe::ChunkWriter,
    toc::Kind,
};

impl Layers {
    /// The layer's diffID, computed from its tar and recorded if it was not known.
    pub fn diff_id(&self, layer: &Arc<Layer>) -> Result<DiffId, StoreError> {
        self.diff_id_at(layer, None)
    }

    /// The diffID of the layer with its times changed as `epoch` says.
    ///
    /// Layers that came as blobs are never changed.
    pub fn diff_id_at(
        &self,
        layer: &Arc<Layer>,
        epoch: Option<Epoch>,
    ) -> Result<DiffId, StoreError> {
        let epoch = own_epoch(layer, epoch);
        if let Some(known) = layer.recorded_diff_id(epoch) {
            return Ok(known);
        }
        let tar = |out: &mut ChunkWriter| self.write_tar(layer, out, epoch);
        let diff_id = hash_pass(Box::new(tar))?;
        self.record_diff_id(layer, epoch, &diff_id)?;
        Ok(diff_id)
    }

    /// Whether [`diff_id_at`](Self::diff_id_at) has nothing to compute.
    pub fn knows_diff_id(&self, layer: &Layer, epoch: Option<Epoch>) -> bool {
        layer.recorded_diff_id(own_epoch(layer, epoch)).is_some()
    }

    /// Writes the layer's uncompressed tar: the canonical one, or the one that it came as.
    pub fn write_tar(
        &self,
        layer: &Arc<Layer>,
        out: &mut dyn Write,
        epoch: Option<Epoch>,
    ) -> Result<(), StoreError> {
        let stream = |source| StoreError::Stream { action: "write the layer's tar", source };
        if layer.origin() == Origin::Blob {
            let mut tar = self.open_tar(layer)?;
            return io::copy(&mut tar, out).map(drop).map_err(stream);
        }
        let mut tar = TarWriter::new(out, epoch);
        let mut content = Vec::new();
        for entry in layer.toc()? {
            if entry.kind != Kind::File || entry.size == 0 {
                tar.append_bytes(entry, &[]).map_err(stream)?;
            } else if entry.size <= CHUNK_BYTES as u64 {
                self.read_small(layer, entry, &mut content)?;
                tar.append_bytes(entry, &content).map_err(stream)?;
            } else {
                let mut data = self.open_content(layer, entry)?;
                tar.append(entry, &mut data).map_err(stream)?;
            }
        }
        tar.finish().map(drop).map_err(stream)
    }

    /// The descriptor of the layer's compressed form, which is in the blobs afterwards.
    ///
    /// Done once for each compression; the diffID is recorded on the way. A layer that came
    /// compressed keeps that form unless `compression.force` is set and its codec is another one.
    pub fn compressed(
        &self,
        layer: &Arc<Layer>,
        compression: &Compression,
        epoch: Option<Epoch>,
    ) -> Result<Descriptor, StoreError> {
        let epoch = own_epoch(layer, epoch);
        if let Some(blob) = layer.blob()
            && (blob.codec == compression.codec
                || (blob.codec != Codec::None && !compression.force))
        {
            return Ok(Descriptor::new(blob.codec.media_type(), blob.digest, blob.size));
        }
        let record = record_path(layer, compression, epoch);
        if let Some(known) = self.recorded(&record)? {
            return Ok(known);
        }
        let _lock = layer.lock()?;
        if let Some(known) = self.recorded(&record)? {
            return Ok(known);
        }
        let bytes = layer.toc()?.stats().bytes;
        let tar = |out: &mut ChunkWriter| self.write_tar(layer, out, epoch);
        let (diff_id, form) = self.pass(compression, bytes, Box::new(tar))?;
        let known = layer.recorded_diff_id(epoch);
        if let Some(expected) = known.filter(|known| *known != diff_id) {
            return Err(StoreError::DiffIdMismatch { expected, actual: diff_id });
        }
        if known.is_none() {
            self.record_diff_id(layer, epoch, &diff_id)?;
        }
        self.keep_form(&record, form)
    }

    /// Takes a compressed form that was made ahead of its layer, unless there is one.
    pub(super) fn adopt_form(
        &self,
        layer: &Layer,
        epoch: Option<Epoch>,
        form: Form,
    ) -> Result<(), StoreError> {
        let record = record_path(layer, &form.compression, own_epoch(layer, epoch));
        let _lock = layer.lock()?;
        match self.recorded(&record)? {
            Some(_) => Ok(()),
            None => self.keep_form(&record, form).map(drop),
        }
    }

    /// Makes the form a blob, and records it.
    fn keep_form(&self, record: &Path, form: Form) -> Result<Descriptor, StoreError> {
        self.blobs.adopt(form.path(), &form.digest)?;
        let media_type = form.compression.codec.media_type();
        let descriptor = Descriptor::new(media_type, form.digest, form.size);
        if let Some(pieces) = form.pieces {
            self.keep_pieces(record, pieces, &form.digest)?;
        }
        let json = serde_json::to_vec(&descriptor).expect("because a descriptor has string keys");
        self.staging.write(record, &json)?;
        Ok(descriptor)
    }

    /// The compressed form, if it was made before and its blob is still here.
    fn recorded(&self, record: &Path) -> Result<Option<Descriptor>, StoreError> {
        let Some(bytes) = read_hint(record)? else { return Ok(None) };
        // A damaged record is no record: the form is made again.
        let descriptor: Option<Descriptor> = serde_json::from_slice(&bytes).ok();
        let here = |known: &Descriptor| self.blobs.size(&known.digest) == Some(known.size);
        Ok(descriptor.filter(here))
    }
}

/// What came as a blob is never changed, so it has no epoch.
fn own_epoch(layer: &Layer, epoch: Option<Epoch>) -> Option<Epoch> {
    epoch.filter(|_| layer.origin() != Origin::Blob)
}

fn record_path(layer: &Layer, compression: &Compression, epoch: Option<Epoch>) -> PathBuf {
    let epoch = epoch.map_or_else(String::new, |epoch| format!(".{}", epoch.label()));
    layer.directory().join(format!("{}{epoch}.json", compression.format_name()))
}
