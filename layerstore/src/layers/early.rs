//! A tree that is made while its layer arrives, before the table of contents is complete.
//!
//! ```text
//! tar ─▶ contents hashed ─┬─▶ table                       ─▶ digests agree? ─▶ links, devices, metadata
//!        (one thread)     └─▶ files, beneath a work area ───────────────────▶ of directories: the tree
//! ```
//! Until every digest was compared there are only directories and plain files, at the paths that the
//! archive gives, made beneath the tree's root without following links. If the table says anything
//! else in the end (an archive that names a path twice, or goes through links of its own) the tree is
//! given up; so it is where a file cannot be made. Then it is derived from the blob when somebody asks
//! for it, and who asks is told why it cannot be.

use std::{
    collections::HashMap,
    io::{self, BufRead},
    num::NonZeroU64,
    path::PathBuf,
};

use super::{
    Layers,
    import::{hash_data, read_entries},
    makers::{Makers, SMALL_BYTES, small_data, with_makers},
};
use crate::{
    ContentHash, LayerPath, StoreError,
    archive::TarReader,
    atomic::{Staging, remove_tree},
    toc::{Entry, Kind, Toc},
    tree::{ParentCache, TreeMaker},
};

/// Fewer files than this do not say whether a layer is a version of another one.
const SAMPLE_FILES_MIN: usize = 16;

/// The files that were made, by where they are in the tar; none when the tree was given up.
type Made = Option<HashMap<NonZeroU64, LayerPath>>;

/// A tree in the making; dropped before it is [finished](Self::finish), it leaves nothing.
#[derive(Debug)]
pub(super) struct EarlyTree<'a> {
    layers: &'a Layers,
    path: PathBuf,
    tree: TreeMaker,
    made: Made,
}

impl<'a> EarlyTree<'a> {
    pub(super) fn begin(layers: &'a Layers) -> Result<EarlyTree<'a>, StoreError> {
        let path = layers.staging.new_dir()?;
        let tree = TreeMaker::begin(&path, layers.overlay, layers.staging.early())?;
        Ok(EarlyTree { layers, path, tree, made: Some(HashMap::new()) })
    }

    /// The entries of a layer's tar, whose files are made on the way; reads to the very end.
    pub(super) fn read(&mut self, plain: impl BufRead) -> Result<Vec<Entry>, StoreError> {
        let mut entries = Ok(Vec::new());
        let made = with_makers(&self.tree, |makers| {
            let (layers, tree, made) = (self.layers, &self.tree, &mut self.made);
            let parent = ParentCache::default();
            let mut files = Files { layers, tree, made, makers, parent, is_first: true };
            entries = read_entries(plain, &mut |tar, entry| files.take(tar, entry));
            Ok(())
        });
        if made.is_err() {
            // It is a derived form: the layer is none the worse without it.
            self.made = None;
        }
        entries
    }

    /// The whole tree of the layer, if its files are those of the table.
    pub(super) fn finish(mut self, toc: &Toc) -> Option<PathBuf> {
        let whole = self.whole(toc);
        if whole.is_none() {
            self.set_aside();
        }
        whole
    }

    /// Nobody waits until what was given up is removed: a later command does it.
    fn set_aside(&mut self) {
        let work = self.layers.staging.path().parent();
        let Some(Ok(aside)) = work.map(Staging::create) else { return };
        if std::fs::rename(&self.path, aside.new_name()).is_ok() {
            aside.leave();
            self.path = PathBuf::new();
        }
    }

    fn whole(&mut self, toc: &Toc) -> Option<PathBuf> {
        let made = self.made.take()?;
        let files = toc.iter().filter(|entry| entry.kind == Kind::File);
        let (empty, full): (Vec<&Entry>, Vec<&Entry>) = files.partition(|entry| entry.size == 0);
        let is_made = |entry: &&Entry| {
            entry.tar_offset.and_then(|offset| made.get(&offset)) == Some(&entry.path)
        };
        if full.len() != made.len() || !full.iter().all(is_made) {
            return None;
        }
        // Who asks for the tree afterwards is told why it cannot be made.
        self.complete(toc, &empty).ok()?;
        Some(std::mem::take(&mut self.path))
    }

    fn complete(&self, toc: &Toc, empty: &[&Entry]) -> Result<(), StoreError> {
        self.tree.make_directories(toc)?;
        let mut parent = ParentCache::default();
        for entry in empty {
            self.tree.file(&mut parent, entry, &mut io::empty())?;
        }
        self.tree.finish(toc)
    }
}

impl Drop for EarlyTree<'_> {
    fn drop(&mut self) {
        if !self.path.as_os_str().is_empty() {
            // Nobody is told: the staging directory is swept as a whole.
            remove_tree(&self.path).unwrap_or_default();
        }
    }
}

/// The files of a tar on their way into a tree.
struct Files<'f, 'm> {
    layers: &'f Layers,
    tree: &'f TreeMaker,
    made: &'f mut Made,
    makers: &'f mut Makers<'m, Entry>,
    parent: ParentCache,
    /// No batch of small files was sent yet.
    is_first: bool,
}

impl Files<'_, '_> {
    /// Takes the data of a file: hashed in any case, and made unless the tree was given up. Files
    /// without any are made in the end.
    fn take<R: BufRead>(
        &mut self,
        tar: &mut TarReader<R>,
        entry: &mut Entry,
    ) -> Result<(), StoreError> {
        if self.makers.have_failed() {
            *self.made = None;
        }
        let (Some(made), Some(offset), 1..) = (self.made.as_mut(), entry.tar_offset, entry.size)
        else {
            return hash_data(tar, entry);
        };
        made.insert(offset, entry.path.clone());
        if entry.size > SMALL_BYTES {
            return self.take_large(tar, entry);
        }
        let content = small_data(tar, entry)?;
        entry.content = Some(ContentHash::of(&content));
        if self.makers.add(entry.clone(), content) {
            if std::mem::take(&mut self.is_first) {
                self.find_donor();
            }
            self.makers.send();
        }
        Ok(())
    }

    fn take_large<R: BufRead>(
        &mut self,
        tar: &mut TarReader<R>,
        entry: &mut Entry,
    ) -> Result<(), StoreError> {
        let mut file = self.tree.begin_file(&mut self.parent, entry);
        let mut hasher = blake3::Hasher::new();
        tar.each_piece(|piece| {
            // What cannot be written is hashed all the same.
            if let Ok(file) = &mut file {
                file.write(piece);
            }
            hasher.update(piece);
        })?;
        entry.content = Some(ContentHash::from_bytes(*hasher.finalize().as_bytes()));
        let made = file.and_then(|file| self.tree.finish_file(file, entry));
        if made.and_then(|()| self.tree.share_instead(&mut self.parent, entry)).is_err() {
            *self.made = None;
        }
        Ok(())
    }

    /// Versions of one layer begin with the same files.
    fn find_donor(&self) {
        let files: Vec<&Entry> = self.makers.waiting().collect();
        if files.len() >= SAMPLE_FILES_MIN
            && let Some(donor) = self.layers.early_donor(&files)
        {
            self.tree.share_with(donor);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::MetadataExt, path::Path, sync::Arc};

    use super::*;
    use crate::{
        DiffId, Digest,
        layers::{
            Expected, Layer, Purpose,
            tests::{Fixture, dir, fixture, is_root, link},
        },
        store::tree_is,
    };

    /// Small files in several batches, a large one, one with a hole, a link to each, an empty one.
    fn entries(fixture: &Fixture, changed: &[u8]) -> Vec<Entry> {
        let large: Vec<u8> = (0..SMALL_BYTES as usize * 3).map(|at| (at / 7 % 251) as u8).collect();
        let hole = vec![0; SMALL_BYTES as usize * 2];
        let mut secret = fixture.file("d/secret", b"s3cret");
        (secret.mode, secret.uid, secret.gid) = (0o4600, 7, 8);
        let many = (0..200).map(|n| fixture.file(&format!("d/e{}/{n}", n / 50), b"the same"));
        let more = [
            dir("d"),
            fixture.file("d/empty", b""),
            fixture.file("d/large", &large),
            fixture.file("d/hole", &hole),
            link("d/linked", Kind::Hardlink, "d/large"),
            link("d/soft", Kind::Symlink, "/d"),
            fixture.file("d/z/changed", changed),
            secret,
        ];
        more.into_iter().chain(many).collect()
    }

    fn tar(fixture: &Fixture, entries: Vec<Entry>) -> Vec<u8> {
        fixture.tar(&fixture.layers.create(entries).unwrap())
    }

    fn import(fixture: &Fixture, tar: &[u8], purpose: Purpose) -> Result<Arc<Layer>, StoreError> {
        let diff_id = Some(DiffId::from_digest(Digest::of(tar)));
        let expected = Expected { diff_id, ..Expected::default() };
        fixture.layers.import_tar_for(&mut &*tar, expected, purpose)
    }

    fn inode(layer: &Layer, name: &str) -> u64 {
        layer.tree_path().join(name).symlink_metadata().unwrap().ino()
    }

    fn names_below(directory: &Path) -> usize {
        fs::read_dir(directory).unwrap().count()
    }

    #[test]
    fn a_layer_that_comes_to_be_run_over_has_its_tree() {
        if !is_root() {
            println!("skipped: owners need root");
            return;
        }
        let fixture = fixture();
        let tar = tar(&fixture, entries(&fixture, b"1"));
        let kept = import(&fixture, &tar, Purpose::Keep).unwrap();
        assert!(!kept.has_tree(), "nobody needs it");
        let other = self::fixture();
        let run = import(&other, &tar, Purpose::Run).unwrap();
        assert!(run.has_tree());
        assert_eq!(run.id(), kept.id());
        let toc = run.toc().unwrap();
        assert!(tree_is(&run.tree_path(), toc));
        assert_eq!(crate::toc::compare(toc, kept.toc().unwrap()), []);
        let before = inode(&run, "d/large");
        other.layers.tree(&run).unwrap();
        assert_eq!(inode(&run, "d/large"), before, "it is not made again");
        let hole = run.tree_path().join("d/hole").metadata().unwrap();
        assert_eq!((hole.len(), hole.blocks()), (SMALL_BYTES * 2, 0));
    }

    #[test]
    fn makers_do_not_stand_in_each_other_s_way() {
        if !is_root() {
            println!("skipped: owners need root");
            return;
        }
        // A batch ends within a directory: two makers begin the next one.
        let source = fixture();
        let one = source.file("one", b"1");
        let name = |n: usize| crate::layers::tests::path(&format!("a/{}/lib/{n:04}", n / 100));
        let files = (0..3000).map(|n| Entry { path: name(n), ..one.clone() });
        let tar = tar(&source, files.collect());
        for round in 0..5 {
            let fixture = fixture();
            let layer = import(&fixture, &tar, Purpose::Run).unwrap();
            assert!(layer.has_tree(), "round {round}");
        }
    }

    #[test]
    fn versions_share_what_they_have_in_common() {
        if !is_root() {
            println!("skipped: owners need root");
            return;
        }
        let (source, fixture) = (fixture(), fixture());
        let version = |changed: &[u8]| {
            let tar = tar(&source, entries(&source, changed));
            import(&fixture, &tar, Purpose::Run).unwrap()
        };
        let (first, second) = (version(b"1"), version(b"2"));
        assert!(tree_is(&second.tree_path(), second.toc().unwrap()));
        if inode(&first, "d/e0/1") != inode(&second, "d/e0/1") {
            println!("skipped: this file system has reflinks");
            return;
        }
        assert_eq!(inode(&first, "d/large"), inode(&second, "d/large"));
        assert_ne!(inode(&first, "d/z/changed"), inode(&second, "d/z/changed"));
    }

    #[test]
    fn what_is_not_as_promised_leaves_nothing() {
        let fixture = fixture();
        let tar = tar(&fixture, entries(&fixture, b"1"));
        let work = fixture.layers.staging.path().to_owned();
        let before = (names_below(&work), fixture.layers.list().unwrap());
        for wrong in [&tar[..tar.len() - 2048], &tar[..SMALL_BYTES as usize], b"no tar at all"] {
            let diff_id = Some(DiffId::from_digest(Digest::of(&tar)));
            let expected = Expected { diff_id, ..Expected::default() };
            let mut wrong = wrong;
            fixture.layers.import_tar_for(&mut wrong, expected, Purpose::Run).unwrap_err();
            assert_eq!((names_below(&work), fixture.layers.list().unwrap()), before);
        }
    }

    #[test]
    fn an_archive_that_changes_its_mind_gets_its_tree_from_the_table() {
        if !is_root() {
            println!("skipped: owners need root");
            return;
        }
        let fixture = fixture();
        let twice = |first: &str, second: &str| {
            let mut tar = crate::archive::TarWriter::new(Vec::new(), None);
            for (name, content) in [(first, b"first".as_slice()), (second, b"and last")] {
                let entry = Entry { size: content.len() as u64, ..fixture.file(name, content) };
                tar.append_bytes(&entry, content).unwrap();
            }
            tar.finish().unwrap()
        };
        for (first, second) in [("f", "f"), ("f", "f/g"), ("f/g", "f")] {
            let tar = twice(first, second);
            let Ok(layer) = import(&fixture, &tar, Purpose::Run) else { continue };
            assert!(!layer.has_tree(), "{first} {second}");
            assert_eq!(names_below(fixture.layers.staging.path()), 0, "set aside");
            let tree = fixture.layers.tree(&layer).unwrap();
            assert_eq!(fs::read(tree.join(second)).unwrap(), b"and last");
            assert!(tree_is(&tree, layer.toc().unwrap()));
        }
    }
}
