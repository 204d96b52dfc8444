//! Names: tags, cache, index of diffIDs, leases, work areas.

use std::{io, os::fd::AsFd, path::Path};

use rustix::fs::{FlockOperation, flock};

use super::{Check, Fix, Object, Problem, in_words};
use crate::{
    DiffId, Reference, ShortId, StoreError,
    atomic::{LEFT_PREFIX, open_directory, read_hint},
    oci::Descriptor,
    store::{ImageRecord, cache, epoch_of, gc, lease, lock},
};

impl Check<'_> {
    pub(super) fn tags(&mut self) -> Result<(), StoreError> {
        for path in self.store.tag_paths()? {
            let problem = match self.store.tag_at(&path) {
                Ok(None) => continue,
                Ok(Some((reference, image))) => self.tag(&path, &reference, &image),
                Err(error @ StoreError::NewerRecord { .. }) => {
                    Some(Problem::unknown(Object::Tag(file_name(&path)), in_words(&error)))
                }
                Err(error) => {
                    let object = Object::Tag(file_name(&path));
                    Some(Problem::damage(object, in_words(&error), Fix::Remove(path)))
                }
            };
            self.report.tags += 1;
            self.report.problems.extend(problem);
        }
        Ok(())
    }

    fn tag(&self, path: &Path, reference: &Reference, image: &ImageRecord) -> Option<Problem> {
        let object = || Object::Tag(reference.familiar());
        if let Err(what) = image.every().iter().try_for_each(|image| self.image(image)) {
            return Some(Problem::damage(object(), what, Fix::Remove(path.to_owned())));
        }
        let is_there = |manifest: &&Descriptor| self.blob_is_sound(&manifest.digest, manifest.size);
        let manifest = image.manifests().find(|manifest| !is_there(manifest))?;
        let what = format!("its manifest {} is gone or damaged", manifest.digest);
        let mut without = ImageRecord { manifest: None, ..image.clone() };
        if let Some(index) = &mut without.index {
            index.manifest = None;
            index.images.iter_mut().for_each(|image| image.manifest = None);
        }
        let fix = Fix::Retag(Box::new(reference.clone()), Box::new(without));
        Some(Problem::damage(object(), what, fix))
    }

    fn image(&self, image: &ImageRecord) -> Result<(), String> {
        let size = self.store.blobs().size(&image.config);
        if !size.is_some_and(|size| self.blob_is_sound(&image.config, size)) {
            return Err(format!("its config {} is gone or damaged", image.config));
        }
        let config = self.store.image_config(image).map_err(|error| in_words(&error))?;
        let diff_ids = config.rootfs.diff_ids;
        if diff_ids.len() != image.layers.len() {
            let (named, has) = (diff_ids.len(), image.layers.len());
            return Err(format!("its config names {named} layers, and it has {has}"));
        }
        for (short, diff_id) in image.layers.iter().zip(&diff_ids) {
            if !self.layer_is_sound(short) {
                return Err(format!("its layer {short} is gone or damaged"));
            }
            self.layer_is(short, diff_id)?;
        }
        Ok(())
    }

    fn layer_is(&self, short: &ShortId, diff_id: &DiffId) -> Result<(), String> {
        let layer = self.store.layers().get(short).map_err(|error| in_words(&error))?;
        let layer = layer.ok_or_else(|| format!("its layer {short} is gone"))?;
        match epoch_of(&layer, diff_id).map_err(|error| in_words(&error))? {
            Some(_) => Ok(()),
            None => Err(format!("its layer {short} is not the one that its config names")),
        }
    }

    /// Damaged files of the cache count as absent, so they only take space.
    pub(super) fn cache(&mut self) -> Result<(), StoreError> {
        for file in cache::records(self.store)? {
            self.report.cache_records += 1;
            let what = match &file.record {
                None => "it is damaged",
                Some(record) => match &record.layer {
                    Some(layer) if !self.layer_is_sound(&layer.short()) => "its layer is gone",
                    _ => continue,
                },
            };
            let object = Object::Cache(file_name(&file.path));
            self.found(Problem::leftover(object, what, file.path));
        }
        for part in ["builds", "slots", "memos"] {
            for path in gc::list(&self.store.cache_dir(part))? {
                if path.exists() && !cache::is_whole(&path) {
                    let object = Object::Cache(file_name(&path));
                    self.found(Problem::leftover(object, "it is damaged", path));
                }
            }
        }
        Ok(())
    }

    /// An entry that leads nowhere is as if it were not there.
    pub(super) fn index(&mut self) -> Result<(), StoreError> {
        for path in gc::list(&self.store.root().join("index/diff"))? {
            let Some(bytes) = read_hint(&path)? else { continue };
            let short = String::from_utf8(bytes).ok();
            let short = short.and_then(|text| text.trim_end().parse::<ShortId>().ok());
            let diff_id = format!("sha256:{}", file_name(&path)).parse::<DiffId>().ok();
            let leads = match (&short, &diff_id) {
                (Some(short), Some(diff_id)) if self.layer_is_sound(short) => {
                    self.layer_is(short, diff_id)
                }
                (Some(_), Some(_)) => Err("its layer is gone or damaged".into()),
                _ => Err("it is damaged".into()),
            };
            if let Err(what) = leads {
                self.found(Problem::leftover(Object::Index(file_name(&path)), what, path));
            }
        }
        Ok(())
    }

    pub(super) fn leases(&mut self) -> Result<(), StoreError> {
        // A lease in the making has no first line yet; it is made under the shared lock.
        let _lock = lock::exclusive(self.store.root())?;
        for path in lease::lease_paths(self.store.root())? {
            let object = Object::Lease(file_name(&path));
            if lease::is_dead(&path)? {
                if path.exists() {
                    self.found(Problem::leftover(object, "its process is gone", path));
                }
            } else if let Err(error) = lease::read(&path) {
                self.found(Problem::damage(object, in_words(&error), Fix::Remove(path)));
            }
        }
        Ok(())
    }

    pub(super) fn work(&mut self) -> Result<(), StoreError> {
        for path in gc::list(&self.store.root().join("work"))? {
            // It was moved there to be deleted.
            if file_name(&path).starts_with(LEFT_PREFIX) {
                continue;
            }
            // A shared lock does not get into the way of another one that looks.
            let is_left = match open_directory(&path) {
                Ok(directory) => {
                    flock(directory.as_fd(), FlockOperation::NonBlockingLockShared).is_ok()
                }
                Err(error) => error.kind() == io::ErrorKind::NotADirectory,
            };
            if is_left {
                let object = Object::Work(file_name(&path));
                self.found(Problem::leftover(object, "its process is gone", path));
            }
        }
        Ok(())
    }
}

fn file_name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}
