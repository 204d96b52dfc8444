//! What of all that could go a prune is about: docker's filters.
//!
//! ```text
//! CacheFilter   kind, id, description, shared, in use    records, cache mounts, reports and memos
//! ImageFilter   labels                                   images without a name, and nothing else
//! ```
//! A filter only narrows: what a tag, a lease or a mount in use needs stays in any case.

use std::collections::{BTreeMap, HashSet};
use std::path::PathBuf;

use super::{is_unused_since, mark, mark::Live};
use crate::{
    Digest, ShortId, StoreError,
    limits::{CONFIG_BYTES_MAX, MANIFEST_BYTES_MAX},
    oci::{ImageConfig, Manifest},
    store::{Store, cache::RecordFile},
};

/// What a part of the build cache is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CacheKind {
    /// The result of a step.
    Step,
    /// What was behind a URL.
    Http,
    /// A commit's files.
    Git,
    /// A cache mount.
    Mount,
    /// Reports of builds, and hashes and lists of files.
    Note,
}

/// What of the build cache goes. Each part that says something must agree, one of its values is enough.
#[derive(Debug, Clone, Default)]
pub struct CacheFilter {
    /// Of one of these kinds.
    pub kinds: Vec<CacheKind>,
    /// Beginnings of keys and of names of layers, and whole ids of cache mounts.
    pub ids: Vec<String>,
    /// Texts that the step has somewhere.
    pub descriptions: Vec<String>,
    /// Whether an image that has a name has the layer, too.
    pub shared: Option<bool>,
    /// Whether it is in use. What is does not go, so `true` selects nothing.
    pub in_use: Option<bool>,
}

impl CacheFilter {
    /// Whether it says nothing.
    pub fn is_empty(&self) -> bool {
        self.says_kinds_only() && self.kinds.is_empty()
    }

    fn says_kinds_only(&self) -> bool {
        let Self { ids, descriptions, shared, in_use, .. } = self;
        ids.is_empty() && descriptions.is_empty() && shared.is_none() && in_use.is_none()
    }

    fn has(&self, kind: CacheKind) -> bool {
        (self.kinds.is_empty() || self.kinds.contains(&kind)) && self.in_use != Some(true)
    }

    /// Whether a record goes.
    pub(super) fn record(&self, file: &RecordFile, live: &Live) -> bool {
        // What is damaged goes before anybody asks for filters.
        let Some(record) = &file.record else { return true };
        let layer = record.layer.map(|layer| layer.to_string());
        let key = file.path.file_name().map(|name| name.to_string_lossy().into_owned());
        let begins = |id: &String| {
            let is = |name: &Option<String>| name.as_ref().is_some_and(|name| name.starts_with(id));
            is(&layer) || is(&key)
        };
        let in_image = || mark::layer_of(file).is_some_and(|layer| live.is_pinned(&layer));
        self.has(kind_of(record.step.as_str(), &record.inputs))
            && (self.ids.is_empty() || self.ids.iter().any(begins))
            && (self.descriptions.is_empty()
                || self.descriptions.iter().any(|text| record.step.contains(text.as_str())))
            && self.shared.is_none_or(|shared| shared == in_image())
    }

    /// Whether a cache mount goes; it has no description and is in no image.
    pub(super) fn mount(&self, id: &str) -> bool {
        self.has(CacheKind::Mount)
            && (self.ids.is_empty() || self.ids.iter().any(|wanted| wanted == id))
            && self.descriptions.is_empty()
            && self.shared != Some(true)
    }

    /// Whether reports and memos go; they are known by their kind alone.
    pub(super) fn notes(&self) -> bool {
        self.says_kinds_only() && self.has(CacheKind::Note)
    }
}

/// What was fetched is noted with its URL where a step has the values that went into its key.
fn kind_of(step: &str, inputs: &serde_json::Value) -> CacheKind {
    match (step.starts_with("fetch ") && inputs.get("url").is_some(), inputs.get("commit")) {
        (false, _) => CacheKind::Step,
        (true, Some(_)) => CacheKind::Git,
        (true, None) => CacheKind::Http,
    }
}

/// A label that an image has, or has not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LabelFilter {
    /// Its name.
    pub name: String,
    /// Its value; none means any.
    pub value: Option<String>,
    /// Whether the image has it.
    pub wanted: bool,
}

/// Images without a name whose labels all of these agree with.
#[derive(Debug, Clone, Default)]
pub struct ImageFilter {
    /// What their labels must be.
    pub labels: Vec<LabelFilter>,
}

impl ImageFilter {
    fn agrees(&self, labels: &BTreeMap<String, String>) -> bool {
        self.labels.iter().all(|filter| {
            let found = labels.get(&filter.name);
            let has = found.is_some_and(|it| filter.value.as_ref().is_none_or(|value| it == value));
            has == filter.wanted
        })
    }
}

/// What images without a name are made of.
#[derive(Debug, Default)]
pub(super) struct Nameless {
    pub layers: HashSet<ShortId>,
    pub blobs: HashSet<Digest>,
}

impl Nameless {
    /// The images that the filter agrees with, of those that nothing reaches, last touched before `until`.
    pub(super) fn find(
        store: &Store,
        live: &Live,
        filter: &ImageFilter,
        until: Option<i64>,
    ) -> Result<Nameless, StoreError> {
        let mut found = Nameless::default();
        let reached = live.blobs(store, &live.layers())?;
        let loose = || live.old_blobs.iter().filter(|digest| !reached.contains(*digest));
        for digest in loose() {
            let Some(bytes) = small(store, digest, CONFIG_BYTES_MAX) else { continue };
            let Ok(config) = ImageConfig::parse(&bytes) else { continue };
            let is_old = is_unused_since(&store.blobs().path(digest), until);
            if !is_old || !filter.agrees(&config.config.labels) {
                continue;
            }
            found.blobs.insert(*digest);
            for diff_id in &config.rootfs.diff_ids {
                let Some(layer) = store.layers().by_diff_id(diff_id)? else { continue };
                found.blobs.extend(mark::blobs_of(&layer)?);
                found.layers.insert(layer.short().clone());
            }
        }
        for digest in loose() {
            let Some(bytes) = small(store, digest, MANIFEST_BYTES_MAX) else { continue };
            let manifest = Manifest::parse(&bytes);
            if manifest.is_ok_and(|manifest| found.blobs.contains(&manifest.config.digest)) {
                found.blobs.insert(*digest);
            }
        }
        Ok(found)
    }

    /// The records that keep their layers, unless something else does.
    pub(super) fn records(&self, live: &Live) -> Vec<PathBuf> {
        let of_these = |file: &&RecordFile| {
            mark::layer_of(file)
                .is_some_and(|layer| self.layers.contains(&layer) && !live.is_pinned(&layer))
        };
        live.records.iter().filter(of_these).map(|file| file.path.clone()).collect()
    }
}

/// A blob that may be a document; one that cannot be read is none.
fn small(store: &Store, digest: &Digest, limit: u64) -> Option<Vec<u8>> {
    let size = store.blobs().size(digest)?;
    (size <= limit).then(|| store.blobs().get(digest, limit).ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn labels_agree() {
        let labels: BTreeMap<String, String> =
            [("stage", "ci"), ("empty", "")].map(|(k, v)| (k.to_owned(), v.to_owned())).into();
        let agrees = |name: &str, value: Option<&str>, wanted| {
            let filter = LabelFilter { name: name.into(), value: value.map(str::to_owned), wanted };
            ImageFilter { labels: vec![filter] }.agrees(&labels)
        };
        assert!(agrees("stage", None, true) && agrees("stage", Some("ci"), true));
        assert!(!agrees("stage", Some("x"), true) && !agrees("none", None, true));
        assert!(!agrees("stage", None, false) && agrees("stage", Some("x"), false));
        assert!(agrees("empty", Some(""), true) && agrees("none", None, false));
        assert!(ImageFilter::default().agrees(&labels));
    }

    #[test]
    fn mounts_and_notes_are_known_by_what_they_have() {
        let kinds = |kinds: &[CacheKind]| CacheFilter { kinds: kinds.into(), ..Default::default() };
        let all = CacheFilter::default();
        assert!(all.is_empty() && all.mount("m") && all.notes());
        let mounts = kinds(&[CacheKind::Mount]);
        assert!(!mounts.is_empty() && mounts.mount("m") && !mounts.notes());
        assert!(!kinds(&[CacheKind::Step]).mount("m") && kinds(&[CacheKind::Note]).notes());
        let one = CacheFilter { ids: vec!["m".into()], ..Default::default() };
        assert!(one.mount("m") && !one.mount("mm") && !one.notes());
        let used = CacheFilter { in_use: Some(true), ..Default::default() };
        assert!(!used.mount("m") && !used.notes());
    }

    #[test]
    fn kinds_are_told_by_what_was_noted() {
        let url = json!({"url": "https://x/y", "digest": "z"});
        let git = json!({"url": "https://x/y.git", "commit": "1", "time": 1});
        assert_eq!(kind_of("fetch https://x/y", &url), CacheKind::Http);
        assert_eq!(kind_of("fetch https://x/y.git", &git), CacheKind::Git);
        assert_eq!(kind_of("RUN make", &url), CacheKind::Step);
        assert_eq!(kind_of("fetch x", &json!([])), CacheKind::Step);
    }
}
