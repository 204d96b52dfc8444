//! Layers that a power cut may have hurt: made in an earlier boot and never brought to the disk.
//!
//! Trees are not synced file by file; one sync at the end of a build marks what is on the disk
//! (design, principle 6). What is not marked and was not made in this boot is read in full before it
//! is used, once: if it is what it says it is marked, else it is moved away and made again.

use std::{
    fs, io,
    io::Read,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::Arc,
};

use super::{Layer, Layers, Origin, boot_id};
use crate::{
    ContentHash, StoreError,
    digest::HashingReader,
    store::{exclusive_lock, tree_is},
    toc::Kind,
};

/// How the empty file that says in which boot a tree was derived begins.
const TREE_MARK: &str = "tree.";
/// Bytes hashed at once.
const READ_BYTES: usize = 1 << 18;

impl Layers {
    /// The layer, if it can be used; one that is damaged is moved away.
    pub fn ready(&self, found: Option<Arc<Layer>>) -> Result<Option<Arc<Layer>>, StoreError> {
        let Some(layer) = found else { return Ok(None) };
        if layer.is_durable() {
            return Ok(Some(layer));
        }
        let locked = layer.lock()?;
        // Another process may have been faster.
        let Some(layer) = self.by_id(layer.id())? else { return Ok(None) };
        if layer.is_durable() {
            return Ok(Some(layer));
        }
        if self.is_sound(&layer) {
            self.mark_durable(&layer)?;
            return self.get(layer.short());
        }
        let _lock = exclusive_lock(self.directory.parent().unwrap_or(&self.directory))?;
        let inode = |meta: io::Result<fs::Metadata>| meta.map(|meta| (meta.dev(), meta.ino())).ok();
        if inode(locked.metadata()) == inode(fs::metadata(&layer.directory)) {
            fs::rename(&layer.directory, self.staging.new_name())
                .map_err(StoreError::io("move aside", &layer.directory))?;
        }
        Ok(None)
    }

    /// Reads everything that the layer is made of.
    fn is_sound(&self, layer: &Arc<Layer>) -> bool {
        let Ok(toc) = layer.toc() else { return false };
        let is_own = layer.origin() == Origin::Blob || toc.layer_id() == *layer.id();
        let blob = layer.blob().is_none_or(|blob| {
            let file = self.blobs.open_blob(&blob.digest).ok();
            file.and_then(|file| drained(HashingReader::new(file)).ok())
                .is_some_and(|reader| reader.finish() == (blob.digest, blob.size))
        });
        let tree = layer.origin() != Origin::Tree || tree_is(&layer.tree_path(), toc);
        is_own && blob && tree && self.has_contents(layer)
    }

    /// Are the contents that the layer has in packs what they are called?
    fn has_contents(&self, layer: &Layer) -> bool {
        let Ok(toc) = layer.toc() else { return false };
        let files = toc.iter().filter(|entry| entry.kind == Kind::File && entry.size > 0);
        let packed = files.filter(|entry| match layer.origin() {
            Origin::Packs => true,
            Origin::Blob => entry.tar_offset.is_none(),
            Origin::Tree => false,
        });
        packed.into_iter().all(|entry| {
            let Some(content) = &entry.content else { return false };
            let Ok(Some(mut data)) = self.contents.open(content) else { return false };
            let mut hasher = blake3::Hasher::new();
            let copied = io::copy(&mut data, &mut hasher).ok();
            copied == Some(entry.size)
                && ContentHash::from_bytes(*hasher.finalize().as_bytes()) == *content
        })
    }

    /// Writes down in which boot the layer's tree is derived; before the tree appears.
    pub(super) fn mark_tree(&self, layer: &Layer) -> Result<(), StoreError> {
        forget_tree_marks(layer)?;
        self.staging.write(&tree_mark(layer), b"")
    }

    /// Is there a tree that can be used? Needs the layer's lock.
    pub(super) fn has_sound_tree(&self, layer: &Layer) -> Result<bool, StoreError> {
        if !layer.has_tree() {
            return Ok(false);
        }
        if layer.origin() == Origin::Tree || tree_marks(layer)?.is_empty() {
            return Ok(true);
        }
        if tree_mark(layer).exists() {
            return Ok(true);
        }
        if tree_is(&layer.tree_path(), layer.toc()?) {
            forget_tree_marks(layer)?;
            return Ok(true);
        }
        fs::rename(layer.tree_path(), self.staging.new_name())
            .map_err(StoreError::io("move aside", layer.tree_path()))?;
        Ok(false)
    }
}

/// Puts a tree that was derived just now into the directory of a layer that is not published yet.
pub(super) fn stage_tree(tree: &Path, staged: &Path) -> Result<(), StoreError> {
    let mark = staged.join(mark_name());
    fs::write(&mark, b"").map_err(StoreError::io("write", &mark))?;
    fs::rename(tree, staged.join("tree")).map_err(StoreError::io("take over", tree))
}

/// Is there a tree that was derived in this boot?
pub(super) fn has_fresh_tree(layer: &Layer) -> bool {
    layer.has_tree() && (layer.origin() == Origin::Tree || tree_mark(layer).exists())
}

/// Is there a derived tree that needs no look before it is used?
pub(super) fn has_trusted_tree(layer: &Layer) -> bool {
    let no_marks = || tree_marks(layer).is_ok_and(|marks| marks.is_empty());
    layer.has_tree() && (tree_mark(layer).exists() || no_marks())
}

/// What was derived is on the disk, or not there any more.
pub(super) fn forget_tree_marks(layer: &Layer) -> Result<(), StoreError> {
    for mark in tree_marks(layer)? {
        match fs::remove_file(&mark) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(StoreError::io("remove", mark)(error));
            }
            _ => {}
        }
    }
    Ok(())
}

fn tree_mark(layer: &Layer) -> PathBuf {
    layer.directory().join(mark_name())
}

fn mark_name() -> String {
    format!("{TREE_MARK}{}", boot_id())
}

fn tree_marks(layer: &Layer) -> Result<Vec<PathBuf>, StoreError> {
    let failed = |error: io::Error| StoreError::io("read", layer.directory())(error);
    let mut marks = Vec::new();
    for entry in fs::read_dir(layer.directory()).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        if entry.file_name().to_string_lossy().starts_with(TREE_MARK) {
            marks.push(entry.path());
        }
    }
    Ok(marks)
}

/// Reads to the end.
fn drained<R: Read>(mut reader: R) -> io::Result<R> {
    let mut buffer = vec![0; READ_BYTES];
    while reader.read(&mut buffer)? > 0 {}
    Ok(reader)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        layers::{
            encode_meta,
            meta::Meta,
            tests::{Fixture, dir, fixture, is_root},
        },
        store::exclusive_lock,
    };

    /// The layer as an earlier boot left it, not synced.
    fn of_another_boot(fixture: &Fixture, layer: &Layer) -> Arc<Layer> {
        let meta = Meta { boot_id: "another".into(), durable: false, ..layer.meta.clone() };
        fs::write(layer.directory().join("meta.json"), encode_meta(&meta)).unwrap();
        let layer = fixture.layers.get(layer.short()).unwrap().unwrap();
        assert!(!layer.is_durable());
        layer
    }

    #[test]
    fn what_a_power_cut_left_is_read_before_it_is_used() {
        let fixture = fixture();
        let entries = || vec![dir("d"), fixture.file("d/f", b"precious")];
        let layer = fixture.layers.create(entries()).unwrap();
        let old = of_another_boot(&fixture, &layer);
        let ready = fixture.layers.ready(Some(old)).unwrap().unwrap();
        assert!(ready.is_marked_durable(), "it was sound, and is read only once");
        // The pack lost its data, as files do that were never written back.
        of_another_boot(&fixture, &layer);
        let (id, path) = fixture.layers.contents().list_packs().unwrap().remove(0);
        let pack = fs::OpenOptions::new().write(true).open(&path).unwrap();
        std::os::unix::fs::FileExt::write_all_at(&pack, &[0; 8], 0).unwrap();
        let old = fixture.layers.get(layer.short()).unwrap();
        assert!(fixture.layers.ready(old).unwrap().is_none());
        assert!(!fixture.layers.contains(layer.short()), "so that it can be made again");
        fixture.layers.contents().remove_pack(id).unwrap();
        let again = fixture.layers.create(entries()).unwrap();
        assert_eq!(again.id(), layer.id());
        drop(exclusive_lock(fixture.root.path()).unwrap());
    }

    #[test]
    fn a_tree_of_an_earlier_boot_is_read_or_made_again() {
        if !is_root() {
            println!("skipped: owners need root");
            return;
        }
        let fixture = fixture();
        let layer = fixture.layers.create(vec![fixture.file("f", b"precious")]).unwrap();
        let tree = fixture.layers.tree(&layer).unwrap();
        let of_earlier = || {
            forget_tree_marks(&layer).unwrap();
            fs::write(layer.directory().join("tree.another"), b"").unwrap();
        };
        of_earlier();
        fixture.layers.tree(&layer).unwrap();
        assert!(tree_marks(&layer).unwrap().is_empty(), "it was sound, and is read only once");
        of_earlier();
        fs::write(tree.join("f"), b"\0\0\0\0\0\0\0\0").unwrap();
        fixture.layers.tree(&layer).unwrap();
        assert_eq!(fs::read(tree.join("f")).unwrap(), b"precious");
        assert_eq!(tree_marks(&layer).unwrap(), [tree_mark(&layer)]);
        fixture.layers.mark_durable(&layer).unwrap();
        assert!(tree_marks(&layer).unwrap().is_empty());
    }
}
