//! Root file systems in and out: a tar becomes an image of one layer, a view becomes a tar.

use std::io::{BufReader, Cursor, Read, Write};

use super::{TransferError, unreadable, unwritable};
use crate::{
    StoreError,
    archive::{Epoch, TarWriter},
    layers::Expected,
    oci::{ContainerConfig, History, ImageConfig, Platform},
    store::{ImageRecord, Lease, Store},
    toc::{Entry, Kind},
    view::{Names, View},
};

/// Enough to tell any compression.
const HEAD_BYTES: u64 = 6;

/// What the image of an imported root file system says.
#[derive(Debug, Clone)]
pub struct ImportOptions {
    /// How to run it.
    pub config: ContainerConfig,
    /// What it runs on.
    pub platform: Platform,
    /// When it was made, RFC 3339.
    pub created: Option<String>,
    /// A remark for its history.
    pub comment: String,
}

impl Default for ImportOptions {
    /// An image for this machine that says nothing else.
    fn default() -> Self {
        let (config, platform) = (ContainerConfig::default(), Platform::host());
        Self { config, platform, created: None, comment: String::new() }
    }
}

/// Makes an image of a root file system: a tar, plain or compressed with gzip, zstd, bzip2 or xz.
/// Nothing is tagged.
pub fn import_rootfs(
    store: &Store,
    lease: &Lease,
    reader: &mut (dyn Read + Send),
    options: &ImportOptions,
) -> Result<ImageRecord, TransferError> {
    let layer = store.layers().import_tar(&mut *plain_or_known(reader)?, Expected::default())?;
    lease.hold(layer.short())?;
    let diff_id = store.layers().diff_id(&layer)?;
    let mut config = ImageConfig {
        config: options.config.clone(),
        created: options.created.clone(),
        ..ImageConfig::default()
    };
    config.set_platform(&options.platform);
    config.rootfs.diff_ids.push(diff_id);
    config.history.push(History {
        created: options.created.clone(),
        comment: options.comment.clone(),
        ..History::default()
    });
    let image = store.put_image(&config.to_json(), &[layer])?;
    lease.hold_blob(&image.config)?;
    Ok(image)
}

/// Root file systems come compressed in ways that layers do not: those are taken off first, so that
/// what is stored is a layer that others can read.
fn plain_or_known<'a>(
    mut reader: &'a mut (dyn Read + Send),
) -> Result<Box<dyn Read + Send + 'a>, TransferError> {
    let mut head = Vec::new();
    (&mut reader).take(HEAD_BYTES).read_to_end(&mut head).map_err(unreadable)?;
    let is = |magic: &[u8]| head.starts_with(magic);
    let (is_bzip2, is_xz) = (is(b"BZh"), is(b"\xfd7zXZ\0"));
    let whole = BufReader::with_capacity(1 << 17, Cursor::new(head).chain(reader));
    Ok(if is_bzip2 {
        Box::new(bzip2::bufread::MultiBzDecoder::new(whole))
    } else if is_xz {
        Box::new(lzma_rust2::XzReader::new(whole, true))
    } else {
        Box::new(whole)
    })
}

/// Writes what the layers show together as one tar, sorted by path, without whiteouts.
///
/// Directories that no layer lists are not in it. A file with several names is there once, under the
/// first of them; the others are hard links to that.
pub fn export_rootfs(store: &Store, view: &View, out: &mut dyn Write) -> Result<(), TransferError> {
    export_rootfs_at(store, view, out, None)
}

/// As [`export_rootfs`], with all times changed as `epoch` says.
pub fn export_rootfs_at(
    store: &Store,
    view: &View,
    out: &mut dyn Write,
    epoch: Option<Epoch>,
) -> Result<(), TransferError> {
    let found: Vec<_> = view.iter().filter(|found| found.layer.is_some()).collect();
    for (index, layer) in view.layers().iter().enumerate() {
        let wanted = |entry: &Entry| entry.kind == Kind::File && entry.size > 0;
        let entries: Vec<Entry> = found
            .iter()
            .filter(|found| found.layer == Some(index) && wanted(&found.entry))
            .map(|found| found.clone().into_stored())
            .collect();
        // One pass over a blob, instead of one for each file.
        store.layers().ensure_contents(layer, &entries)?;
    }
    let mut names = Names::of(view);
    let mut tar = TarWriter::new(out, epoch);
    for found in found {
        let entry = &found.entry;
        if let Some(first) = names.earlier(&found) {
            let link = first.as_bytes().into();
            let name =
                Entry { kind: Kind::Hardlink, size: 0, content: None, link, ..entry.clone() };
            tar.append_bytes(&name, &[]).map_err(unwritable)?;
            continue;
        }
        let Some(layer) = found.layer.and_then(|index| view.layers().get(index)) else { continue };
        if entry.kind != Kind::File || entry.size == 0 {
            tar.append_bytes(entry, &[]).map_err(unwritable)?;
            continue;
        }
        let mut data = store.layers().open_content(layer, &found.clone().into_stored())?;
        tar.append(entry, &mut data).map_err(unwritable)?;
    }
    tar.finish().map(drop).map_err(unwritable)
}

impl From<crate::archive::ArchiveError> for TransferError {
    fn from(error: crate::archive::ArchiveError) -> Self {
        TransferError::Store(StoreError::Archive(error))
    }
}
