//! Deriving a layer's tree from its authoritative form, once.

use std::{cmp::Reverse, fs, path::PathBuf, sync::Arc};

use super::{
    Layer, Layers, Origin,
    sound::{has_fresh_tree, has_trusted_tree},
};
use crate::{
    StoreError,
    atomic::publish,
    toc::{Entry, Toc},
    tree::{
        TreeMaker,
        twin::{self, Donor},
    },
};

/// Fewer files than this are made faster than another tree is found for them.
const SHARED_FILES_MIN: usize = 64;
/// Layers whose tables are read to find a tree that has the same files: each costs some milliseconds.
const DONORS_TRIED: usize = 8;
/// Files in 256 in common from which on a tree is good enough to stop looking.
const COMMON_ENOUGH: usize = 224;
/// Tables of versions of one layer differ in size by less than this.
const TOC_SIZE_RATIO: u64 = 4;

impl Layers {
    /// The layer's tree in overlayfs's own form, made if it is not there.
    ///
    /// Others who ask meanwhile, in this process or another, wait and get the same.
    pub fn tree(&self, layer: &Arc<Layer>) -> Result<PathBuf, StoreError> {
        let path = layer.tree_path();
        if has_fresh_tree(layer) {
            return Ok(path);
        }
        let _lock = layer.lock()?;
        if self.has_sound_tree(layer)? {
            return Ok(path);
        }
        let toc = layer.toc()?;
        let staged = self.staging.new_dir()?;
        let tree = TreeMaker::begin(&staged, self.overlay, self.staging.early())?;
        if let Some(donor) = self.donor(layer, toc) {
            tree.share_with(donor);
        }
        tree.make_directories(toc)?;
        match layer.origin() {
            Origin::Packs => tree.files_from(toc, &self.contents)?,
            Origin::Blob => self.unpack(layer, toc, &tree)?,
            Origin::Tree => {
                return Err(StoreError::LayerMissing { layer: layer.short().clone() });
            }
        }
        tree.finish(toc)?;
        self.mark_tree(layer)?;
        publish(&staged, &path)?;
        Ok(path)
    }

    /// The tree that has most of these files, among the newest that were derived.
    ///
    /// Nothing here is an error: without one, every file is made.
    fn donor(&self, layer: &Layer, toc: &Toc) -> Option<Donor> {
        if toc.iter().filter(|entry| twin::is_shareable(entry)).count() < SHARED_FILES_MIN {
            return None;
        }
        let size = fs::metadata(layer.directory().join("toc")).ok()?.len();
        let is_like = |other: &Layer| {
            fs::metadata(other.directory().join("toc")).is_ok_and(|toc| {
                toc.len() <= size * TOC_SIZE_RATIO && size <= toc.len() * TOC_SIZE_RATIO
            })
        };
        let others = self.donors(&|other| other.short() != layer.short() && is_like(other))?;
        best_donor(others, &|table| twin::common_files(toc, table))
    }

    /// As [`donor`](Self::donor), for a layer of which no more is known than these files.
    pub(super) fn early_donor(&self, files: &[&Entry]) -> Option<Donor> {
        best_donor(self.donors(&|_| true)?, &|table| twin::common_of(files, table))
    }

    /// Layers whose derived trees can be trusted, newest first.
    fn donors(&self, is_like: &dyn Fn(&Layer) -> bool) -> Option<Vec<Arc<Layer>>> {
        let others = self.list().ok()?.into_iter();
        let mut others: Vec<Arc<Layer>> = others
            .filter(|short| self.directory.join(short.as_str()).join("tree").is_dir())
            .filter_map(|short| self.get(&short).ok()?)
            .filter(|other| other.origin() != Origin::Tree && is_like(other))
            .filter(|other| has_trusted_tree(other))
            .collect();
        others.sort_by_key(|other| Reverse(other.created()));
        Some(others)
    }
}

/// The one that has most files in 256 in common, as `common` counts them.
fn best_donor(others: Vec<Arc<Layer>>, common: &dyn Fn(&Toc) -> usize) -> Option<Donor> {
    let mut best: Option<(usize, Arc<Layer>)> = None;
    for other in others.into_iter().take(DONORS_TRIED) {
        let Ok(table) = other.toc() else { continue };
        let common = common(table);
        if common > best.as_ref().map_or(0, |(most, _)| *most) {
            best = Some((common, other));
        }
        if common >= COMMON_ENOUGH {
            break;
        }
    }
    let (_, other) = best?;
    Donor::open(&other.tree_path(), other.toc_arc().ok()?).ok()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use super::*;
    use crate::{
        layers::tests::{Fixture, dir, fixture, is_root, link, path},
        toc::Kind,
    };

    /// Enough files to be shared, one of them with this content.
    fn version(fixture: &Fixture, content: &[u8]) -> Vec<Entry> {
        let many = (0..SHARED_FILES_MIN).map(|n| fixture.file(&format!("d/{n}"), b"the same"));
        let own = [dir("d"), fixture.file("d/changed", content)];
        own.into_iter().chain(many).collect()
    }

    fn tree(fixture: &Fixture, entries: Vec<Entry>) -> (Arc<Layer>, PathBuf) {
        let layer = fixture.layers.create(entries).unwrap();
        let tree = fixture.layers.tree(&layer).unwrap();
        assert!(crate::store::tree_is(&tree, layer.toc().unwrap()));
        (layer, tree)
    }

    fn inode(tree: &std::path::Path, name: &str) -> u64 {
        tree.join(name).symlink_metadata().unwrap().ino()
    }

    #[test]
    fn versions_of_a_layer_share_their_files() {
        if !is_root() {
            println!("skipped: owners need root");
            return;
        }
        let fixture = fixture();
        let (_, first) = tree(&fixture, version(&fixture, b"1"));
        let mut entries = version(&fixture, b"2");
        let at =
            |entries: &[Entry], name| entries.iter().position(|e| e.path == path(name)).unwrap();
        let (moded, timed) = (at(&entries, "d/3"), at(&entries, "d/4"));
        entries[moded].mode = 0o755;
        entries[timed].mtime += 1;
        let (_, second) = tree(&fixture, entries);
        let shared = |name| inode(&first, name) == inode(&second, name);
        // A file system with reflinks has other inodes.
        if !shared("d/0") {
            println!("skipped: this file system has reflinks");
            return;
        }
        assert!(shared("d/63") && !shared("d/3") && !shared("d/4") && !shared("d/changed"));
        assert_eq!(fs::read(second.join("d/changed")).unwrap(), b"2");
        assert_ne!(inode(&second, "d/0"), inode(&second, "d/1"), "equal files, but two");
        fs::remove_dir_all(&first).unwrap();
        assert_eq!(fs::read(second.join("d/0")).unwrap(), b"the same");
    }

    #[test]
    fn a_second_name_is_not_shared_as_a_file() {
        if !is_root() {
            println!("skipped: owners need root");
            return;
        }
        let fixture = fixture();
        let with = |more: Entry| version(&fixture, b"1").into_iter().chain([more]).collect();
        let (_, linked) = tree(&fixture, with(link("d/z", Kind::Hardlink, "d/0")));
        assert_eq!(inode(&linked, "d/z"), inode(&linked, "d/0"));
        let (_, apart) = tree(&fixture, with(fixture.file("d/z", b"the same")));
        assert_ne!(inode(&apart, "d/z"), inode(&apart, "d/0"), "two files where the table has two");
        let (_, again) = tree(&fixture, with(link("d/z", Kind::Hardlink, "d/1")));
        assert_eq!(inode(&again, "d/z"), inode(&again, "d/1"));
    }

    #[test]
    fn what_a_step_wrote_into_gives_nothing_away() {
        if !is_root() {
            println!("skipped: owners need root");
            return;
        }
        let fixture = fixture();
        let (layer, first) = tree(&fixture, version(&fixture, b"1"));
        let meta = super::super::Meta { origin: Origin::Tree, ..layer.meta.clone() };
        let encoded = super::super::encode_meta(&meta);
        fs::write(layer.directory().join("meta.json"), encoded).unwrap();
        let (_, second) = tree(&fixture, version(&fixture, b"2"));
        assert_ne!(inode(&first, "d/0"), inode(&second, "d/0"));
    }
}
