//! Layers: `meta.json`, table of contents, authoritative form, derived forms.

use std::{io::Write, path::PathBuf, sync::Arc};

use rayon::prelude::*;

use super::{Check, Fix, Object, Problem, in_words, tree};
use crate::{
    DiffId, LayerId, ShortId, StoreError,
    atomic::read_bounded,
    digest::Sha256,
    layers::{Layer, Origin, pieces},
    limits::PIECES_BYTES_MAX,
    store::gc,
    toc::{Entry, Kind, Toc},
};

/// What became of one layer.
struct Checked {
    short: ShortId,
    is_sound: bool,
    has_tree: bool,
    problems: Vec<Problem>,
}

impl Check<'_> {
    pub(super) fn layers(&mut self) -> Result<(), StoreError> {
        let layers = self.store.layers().list()?;
        self.report.layers = layers.len();
        let this = &*self;
        let checked: Vec<Checked> = layers.par_iter().map(|short| this.layer(short)).collect();
        for layer in checked {
            self.report.trees += usize::from(layer.has_tree);
            self.report.problems.extend(layer.problems);
            if layer.is_sound {
                self.sound.layers.insert(layer.short);
            } else {
                self.sound.bad_layers.insert(layer.short);
            }
        }
        self.strays("layers", |name| name.parse::<ShortId>().is_ok())
    }

    /// Whether the layer is here and sound. One that came since layers were looked at is looked at
    /// now.
    pub(super) fn layer_is_sound(&self, short: &ShortId) -> bool {
        self.sound.layers.contains(short)
            || (!self.sound.bad_layers.contains(short) && self.layer(short).is_sound)
    }

    fn layer(&self, short: &ShortId) -> Checked {
        let mut checked =
            Checked { short: short.clone(), is_sound: true, has_tree: false, problems: Vec::new() };
        if let Err(what) = self.authoritative(&mut checked) {
            let directory = self.store.root().join("layers").join(short.as_str());
            // One that is gone was taken by somebody else; nothing is wrong with that.
            if directory.exists() {
                let fix = Fix::Remove(directory);
                checked.problems = vec![Problem::damage(Object::Layer(short.clone()), what, fix)];
            }
            checked.is_sound = false;
        }
        checked
    }

    /// The form that everything else is made from; what is wrong with it, in words.
    fn authoritative(&self, checked: &mut Checked) -> Result<(), String> {
        let layer = self.store.layers().get(&checked.short).map_err(|error| in_words(&error))?;
        let layer = layer.ok_or("it has no meta.json")?;
        let toc = layer.toc().map_err(|error| in_words(&error))?;
        checked.has_tree = layer.has_tree();
        let tree = if checked.has_tree {
            tree::check(self.store, &layer, toc, self.options.deep)
        } else {
            Ok(())
        };
        match layer.origin() {
            Origin::Blob => {
                self.has_blob(&layer)?;
                self.has_contents(&layer)?;
            }
            Origin::Packs | Origin::Tree if toc.layer_id() != *layer.id() => {
                return Err(format!("its table of contents is that of layer {}", toc.layer_id()));
            }
            Origin::Packs => self.has_contents(&layer)?,
            Origin::Tree if !checked.has_tree => return Err("its tree is gone".into()),
            Origin::Tree => tree.clone()?,
        }
        if let (Err(what), true) = (tree, layer.origin() != Origin::Tree) {
            let object = Object::Tree(checked.short.clone());
            checked.problems.push(Problem::damage(object, what, Fix::Remove(layer.tree_path())));
        }
        self.compressed(&layer, checked)?;
        if self.options.deep {
            self.toc_is_of_blob(&layer, toc)?;
            self.diff_id(&layer)?;
        }
        Ok(())
    }

    fn has_blob(&self, layer: &Layer) -> Result<(), String> {
        let blob = layer.blob().ok_or("its meta.json names no blob")?;
        if !self.blob_is_sound(&blob.digest, blob.size) {
            return Err(format!("its blob {} is gone or damaged", blob.digest));
        }
        match layer.diff_id() {
            Some(diff_id) if LayerId::foreign(&diff_id) != *layer.id() => {
                Err(format!("its diffID {diff_id} is that of another layer"))
            }
            _ => Ok(()),
        }
    }

    fn has_contents(&self, layer: &Layer) -> Result<(), String> {
        let toc = layer.toc().map_err(|error| in_words(&error))?;
        let is_packed =
            |entry: &&Entry| layer.origin() == Origin::Packs || entry.tar_offset.is_none();
        let files = toc.iter().filter(|entry| entry.kind == Kind::File && entry.size > 0);
        for entry in files.filter(is_packed) {
            let sound = |content| self.content_is_sound(&content, entry.size);
            if !entry.content.is_some_and(sound) {
                return Err(format!("the content of `{}` is gone or damaged", entry.path));
            }
        }
        Ok(())
    }

    /// The id of a foreign layer says nothing of its table of contents: its tar is read again.
    fn toc_is_of_blob(&self, layer: &Layer, toc: &Toc) -> Result<(), String> {
        let is_foreign = layer.origin() == Origin::Blob
            && layer.diff_id().is_some_and(|diff_id| LayerId::foreign(&diff_id) == *layer.id());
        if !is_foreign {
            return Ok(());
        }
        let of_blob = self.store.layers().toc_of_blob(layer).map_err(|error| in_words(&error))?;
        if of_blob == *toc {
            return Ok(());
        }
        Err("its table of contents is not that of its blob".into())
    }

    /// Records of compressed forms whose blobs are gone or damaged.
    fn compressed(&self, layer: &Layer, checked: &mut Checked) -> Result<(), String> {
        for (path, form) in gc::compressed_forms(layer).map_err(|error| in_words(&error))? {
            let what = match &form {
                None => "it is not a descriptor".to_owned(),
                Some(form) if self.blob_is_sound(&form.digest, form.size) => continue,
                Some(form) => format!("its blob {} is gone or damaged", form.digest),
            };
            checked.problems.push(compressed_problem(layer, path, what));
        }
        damaged_pieces(layer, checked)
    }

    /// Makes the tar again.
    fn diff_id(&self, layer: &Arc<Layer>) -> Result<(), String> {
        let Some(recorded) = layer.diff_id() else { return Ok(()) };
        let mut hasher = Hashing(Sha256::new());
        self.store
            .layers()
            .write_tar(layer, &mut hasher, None)
            .map_err(|error| in_words(&error))?;
        let actual = DiffId::from_digest(hasher.0.finish());
        if actual == recorded {
            return Ok(());
        }
        Err(format!("its diffID is {actual}, and recorded is {recorded}"))
    }
}

/// Records of compressed pieces that are damaged: they are not believed, and only take space.
fn damaged_pieces(layer: &Layer, checked: &mut Checked) -> Result<(), String> {
    let files = gc::list(layer.directory()).map_err(|error| in_words(&error))?;
    for path in files.into_iter().filter(|path| pieces::is_record(path)) {
        let what = match read_bounded(&path, PIECES_BYTES_MAX) {
            Ok(record) if record.as_deref().is_none_or(pieces::is_sound) => continue,
            Ok(_) => "it does not fit its checksum".to_owned(),
            Err(error) => in_words(&error),
        };
        checked.problems.push(compressed_problem(layer, path, what));
    }
    Ok(())
}

fn compressed_problem(layer: &Layer, path: PathBuf, what: String) -> Problem {
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    Problem::damage(Object::Compressed(layer.short().clone(), name), what, Fix::Remove(path))
}

/// Only a digest of what is written.
struct Hashing(Sha256);

impl Write for Hashing {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}
