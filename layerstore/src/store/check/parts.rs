//! The bottom of the store: blobs and packs, hashed in parallel.

use std::{
    collections::HashSet,
    io::{self, Read},
    path::Path,
};

use rayon::prelude::*;

use super::{Check, Fix, Object, Problem, in_words};
use crate::{
    ContentHash, Digest, StoreError, atomic::open_file, contents::PackId, digest::HashingReader,
    store::gc,
};

/// Bytes hashed at once.
const READ_BYTES: usize = 1 << 18;

impl Check<'_> {
    pub(super) fn blobs(&mut self) -> Result<(), StoreError> {
        let blobs = self.store.blobs().list()?;
        let check = |(digest, size): &(Digest, u64)| {
            let path = self.store.blobs().path(digest);
            let wrong = match hash_file(&path) {
                Ok((actual, _)) if actual == *digest => None,
                Ok((actual, _)) => Some(format!("its sha256 is {}", actual.hex())),
                Err(error) if error.kind() == io::ErrorKind::NotFound => return None,
                Err(error) => Some(format!("it cannot be read: {error}")),
            };
            Some((*digest, *size, wrong))
        };
        let checked: Vec<_> = blobs.par_iter().filter_map(check).collect();
        self.report.blobs = checked.len();
        for (digest, size, wrong) in checked {
            match wrong {
                None => drop(self.sound.blobs.insert(digest, size)),
                Some(what) => {
                    self.sound.bad_blobs.insert(digest);
                    let fix = Fix::Remove(self.store.blobs().path(&digest));
                    self.found(Problem::damage(Object::Blob(digest), what, fix));
                }
            }
        }
        self.strays("blobs/sha256", |name| format!("sha256:{name}").parse::<Digest>().is_ok())
    }

    pub(super) fn packs(&mut self) -> Result<(), StoreError> {
        let packs = self.store.contents().list_packs()?;
        self.report.packs = packs.len();
        let contents = self.store.contents();
        let check = |(id, _): &(PackId, _)| {
            let records = contents.pack_records(*id)?;
            Ok((records, contents.verify_pack(*id)?))
        };
        let checked: Vec<Result<_, StoreError>> = packs.par_iter().map(check).collect();
        for ((id, path), result) in packs.into_iter().zip(checked) {
            let (records, damaged) = match result {
                Ok(checked) => checked,
                Err(_) if !path.exists() => continue,
                Err(error) => {
                    // What this process knew of the pack's contents must not be believed.
                    contents.forget();
                    let what = in_words(&error);
                    self.found(Problem::damage(Object::Pack(id), what, Fix::Remove(path)));
                    continue;
                }
            };
            self.report.contents += records.len();
            let damaged: HashSet<_> = damaged.into_iter().collect();
            for record in records.iter().filter(|record| !damaged.contains(&record.hash)) {
                self.sound.contents.insert(record.hash, record.length);
            }
            self.sound.bad_contents.extend(&damaged);
            if !damaged.is_empty() {
                let what =
                    format!("{} of its {} contents are damaged", damaged.len(), records.len());
                let fix = Fix::Rewrite(id, damaged);
                self.found(Problem::damage(Object::Pack(id), what, fix));
            }
        }
        let is_pack = |name: &str| name.strip_suffix(".pack").is_some_and(|hex| hex.len() == 16);
        self.strays("packs", is_pack)
    }

    /// Whether the blob is here and what its name says. One that came since blobs were looked at is
    /// looked at now.
    pub(super) fn blob_is_sound(&self, digest: &Digest, size: u64) -> bool {
        if let Some(known) = self.sound.blobs.get(digest) {
            return *known == size;
        }
        if self.sound.bad_blobs.contains(digest) {
            return false;
        }
        hash_file(&self.store.blobs().path(digest)).is_ok_and(|found| found == (*digest, size))
    }

    /// As [`blob_is_sound`](Self::blob_is_sound), of a content.
    pub(super) fn content_is_sound(&self, content: &ContentHash, length: u64) -> bool {
        if let Some(known) = self.sound.contents.get(content) {
            return *known == length;
        }
        if self.sound.bad_contents.contains(content) {
            return false;
        }
        let Ok(Some(reader)) = self.store.contents().open(content) else { return false };
        let mut hasher = blake3::Hasher::new();
        let hashed = hasher.update_reader(reader).is_ok_and(|hasher| hasher.count() == length);
        hashed && hasher.finalize().as_bytes() == content.as_bytes()
    }

    /// Whatever has a name that nothing of ours has.
    pub(super) fn strays(
        &mut self,
        part: &str,
        is_ours: impl Fn(&str) -> bool,
    ) -> Result<(), StoreError> {
        for path in gc::list(&self.store.root().join(part))? {
            let name = path.file_name().and_then(|name| name.to_str());
            if !name.is_some_and(&is_ours) {
                let what = format!("it does not belong into {part}/");
                self.found(Problem::leftover(Object::Stray(path.clone()), what, path));
            }
        }
        Ok(())
    }
}

fn hash_file(path: &Path) -> io::Result<(Digest, u64)> {
    let mut reader = HashingReader::new(open_file(path)?);
    let mut buffer = vec![0; READ_BYTES];
    while reader.read(&mut buffer)? > 0 {}
    Ok(reader.finish())
}
