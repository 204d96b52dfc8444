//! What the store has, as a registry tells it: manifests, blobs, tags, repositories.
//!
//! Everything here blocks, and writes nothing but what was asked for for the first time: a layer
//! built here is compressed when its manifest is first wanted.

use std::collections::BTreeSet;

use hyper::StatusCode;
use hyper::header::{ACCEPT_RANGES, CONTENT_RANGE, HeaderName, LINK};
use lapstrake_layerstore::StoreError;
use lapstrake_layerstore::digest::Digest;
use lapstrake_layerstore::oci::media_type;
use lapstrake_layerstore::store::ManifestOptions;
use serde::Deserialize;
use serde_json::json;

use super::State;
use super::handle::Context;
use super::names;
use super::reply::Reply;
use super::route::{self, Target};
use crate::limits;
use crate::url::encode;

/// The header that names the content.
pub(super) const CONTENT_DIGEST: HeaderName = HeaderName::from_static("docker-content-digest");

/// `GET /v2/`: yes, this is a registry.
pub(super) fn base() -> Reply {
    Reply::json(&json!({}))
}

/// A manifest, by tag or digest.
pub(super) fn manifest(
    state: &State,
    context: &Context,
    name: &str,
    target: &Target,
) -> Result<Reply, StoreError> {
    match target {
        Target::Digest(digest) => manifest_by_digest(state, digest),
        Target::Tag(tag) => manifest_by_tag(state, context, name, tag),
    }
}

fn manifest_by_tag(
    state: &State,
    context: &Context,
    name: &str,
    tag: &str,
) -> Result<Reply, StoreError> {
    for reference in names::candidates(context.host.as_deref(), name, tag) {
        let Some(image) = state.store.tagged(&reference)? else { continue };
        // Its bytes are a blob from now on, so that the client may ask for it by its digest.
        let options = ManifestOptions::new(state.compression);
        let published = state.store.publish(&image, &options)?;
        let top = published.descriptor;
        return Ok(of_manifest(top.digest, &top.media_type, published.bytes));
    }
    Ok(unknown_manifest())
}

fn manifest_by_digest(state: &State, digest: &Digest) -> Result<Reply, StoreError> {
    let bytes = match state.store.blobs().get(digest, limits::MANIFEST_BYTES) {
        Ok(bytes) => bytes,
        Err(StoreError::BlobMissing { .. }) => return Ok(unknown_manifest()),
        Err(error) => return Err(error),
    };
    // A layer or a config is no manifest, although it is a blob of this digest, too.
    match media_type_of(&bytes) {
        Some(kind) => Ok(of_manifest(*digest, &kind, bytes)),
        None => Ok(unknown_manifest()),
    }
}

fn of_manifest(digest: Digest, media_type: &str, bytes: Vec<u8>) -> Reply {
    Reply::bytes(media_type, bytes).header(CONTENT_DIGEST, digest.to_string())
}

fn unknown_manifest() -> Reply {
    Reply::error(StatusCode::NOT_FOUND, "MANIFEST_UNKNOWN", "no such manifest here")
}

/// The media type of a manifest or index, stated or evident; `None` for anything else.
pub(super) fn media_type_of(bytes: &[u8]) -> Option<String> {
    #[derive(Deserialize)]
    struct Shape {
        #[serde(rename = "mediaType", default)]
        media_type: String,
        #[serde(rename = "schemaVersion")]
        schema_version: u32,
        manifests: Option<serde::de::IgnoredAny>,
        config: Option<serde::de::IgnoredAny>,
    }
    let shape: Shape = serde_json::from_slice(bytes).ok()?;
    if shape.schema_version != 2 {
        return None;
    }
    match (shape.manifests.is_some(), shape.config.is_some()) {
        (true, false) if shape.media_type.is_empty() => Some(media_type::OCI_INDEX.to_owned()),
        (false, true) if shape.media_type.is_empty() => Some(media_type::OCI_MANIFEST.to_owned()),
        (true, false) => Some(shape.media_type).filter(|kind| media_type::is_index(kind)),
        (false, true) => Some(shape.media_type).filter(|kind| media_type::is_manifest(kind)),
        _ => None,
    }
}

/// A blob, or a part of it.
pub(super) fn blob(state: &State, context: &Context, digest: &Digest) -> Result<Reply, StoreError> {
    let blobs = state.store.blobs();
    let Some(size) = blobs.size(digest) else {
        return Ok(Reply::error(StatusCode::NOT_FOUND, "BLOB_UNKNOWN", "no such blob here"));
    };
    let range = context.range.as_deref().and_then(|text| Range::parse(text, size));
    let reply = match range {
        Some(Range::Unsatisfiable) => {
            let reply = Reply::error(
                StatusCode::RANGE_NOT_SATISFIABLE,
                "RANGE_INVALID",
                "the blob has no such bytes",
            );
            return Ok(reply.header(CONTENT_RANGE, format!("bytes */{size}")));
        }
        Some(Range::Part { start, last }) => {
            let file = blobs.open_blob(digest)?;
            let length = last - start + 1;
            Reply::file(StatusCode::PARTIAL_CONTENT, file, start, length)
                .header(CONTENT_RANGE, format!("bytes {start}-{last}/{size}"))
        }
        None => Reply::file(StatusCode::OK, blobs.open_blob(digest)?, 0, size),
    };
    Ok(reply.header(CONTENT_DIGEST, digest.to_string()).header(ACCEPT_RANGES, "bytes"))
}

/// A single byte range of RFC 9110; several at once are not answered as such, which is allowed.
#[derive(Debug, PartialEq, Eq)]
enum Range {
    Part { start: u64, last: u64 },
    Unsatisfiable,
}

impl Range {
    fn parse(text: &str, size: u64) -> Option<Self> {
        let (start, last) = text.trim().strip_prefix("bytes=")?.split_once('-')?;
        let number = |text: &str| text.trim().parse::<u64>();
        if start.trim().is_empty() {
            let suffix = number(last).ok()?;
            if suffix == 0 || size == 0 {
                return Some(Self::Unsatisfiable);
            }
            return Some(Self::Part { start: size.saturating_sub(suffix), last: size - 1 });
        }
        let start = number(start).ok()?;
        let last = if last.trim().is_empty() { u64::MAX } else { number(last).ok()? };
        if last < start {
            return None;
        }
        if start >= size {
            return Some(Self::Unsatisfiable);
        }
        Some(Self::Part { start, last: last.min(size - 1) })
    }
}

/// The tags of a repository.
pub(super) fn tags(state: &State, context: &Context, name: &str) -> Result<Reply, StoreError> {
    let host = context.host.as_deref();
    let mut tags = BTreeSet::new();
    for (reference, _) in state.store.tags()? {
        let found =
            reference.tag().filter(|tag| names::candidates(host, name, tag).contains(&reference));
        tags.extend(found.map(str::to_owned));
    }
    if tags.is_empty() {
        let reply = Reply::error(StatusCode::NOT_FOUND, "NAME_UNKNOWN", "no such repository here");
        return Ok(reply);
    }
    let page = Page::of(context, tags);
    let link = page.link(&format!("/v2/{name}/tags/list"));
    Ok(with_link(Reply::json(&json!({ "name": name, "tags": page.names })), link))
}

/// The repositories.
pub(super) fn catalog(state: &State, context: &Context) -> Result<Reply, StoreError> {
    let host = context.host.as_deref();
    let tagged = state.store.tags()?;
    let names = tagged.iter().filter_map(|(reference, _)| names::offered(host, reference));
    let page = Page::of(context, names.collect());
    let link = page.link("/v2/_catalog");
    Ok(with_link(Reply::json(&json!({ "repositories": page.names })), link))
}

fn with_link(reply: Reply, link: Option<String>) -> Reply {
    match link {
        Some(link) => reply.header(LINK, link),
        None => reply,
    }
}

/// A part of a sorted list, as `n` and `last` ask for it.
struct Page {
    names: Vec<String>,
    size: usize,
    more: bool,
}

impl Page {
    fn of(context: &Context, names: BTreeSet<String>) -> Self {
        let query = |name| route::query(context.query.as_deref(), name);
        let asked = query("n").and_then(|text| text.parse::<usize>().ok());
        let size = asked.unwrap_or(limits::SERVER_PAGE).min(limits::SERVER_PAGE);
        let after = query("last").unwrap_or_default();
        let mut rest = names.into_iter().filter(|name| after.is_empty() || *name > after);
        let names: Vec<String> = rest.by_ref().take(size).collect();
        Self { names, size, more: rest.next().is_some() }
    }

    /// Where the next part is.
    fn link(&self, path: &str) -> Option<String> {
        let last = self.names.last().filter(|_| self.more)?;
        Some(format!("<{path}?n={}&last={}>; rel=\"next\"", self.size, encode(last)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges() {
        let part = |start, last| Some(Range::Part { start, last });
        assert_eq!(Range::parse("bytes=0-3", 10), part(0, 3));
        assert_eq!(Range::parse("bytes=4-", 10), part(4, 9));
        assert_eq!(Range::parse("bytes=4-400", 10), part(4, 9));
        assert_eq!(Range::parse("bytes=-3", 10), part(7, 9));
        assert_eq!(Range::parse("bytes=-30", 10), part(0, 9));
        assert_eq!(Range::parse("bytes=10-", 10), Some(Range::Unsatisfiable));
        assert_eq!(Range::parse("bytes=-0", 10), Some(Range::Unsatisfiable));
        for ignored in ["bytes=3-1", "bytes=a-b", "lines=1-2", "bytes=0-1,3-4", "bytes=-"] {
            assert_eq!(Range::parse(ignored, 10), None, "{ignored}");
        }
    }

    #[test]
    fn pages() {
        let names = || ["a", "b", "c"].map(str::to_owned).into_iter().collect();
        let page = |query: &str| {
            let context = Context { query: Some(query.to_owned()), ..Context::default() };
            let page = Page::of(&context, names());
            (page.names.join(","), page.link("/x"))
        };
        assert_eq!(page(""), ("a,b,c".into(), None));
        assert_eq!(page("n=2"), ("a,b".into(), Some("</x?n=2&last=b>; rel=\"next\"".into())));
        assert_eq!(page("n=2&last=b"), ("c".into(), None));
        assert_eq!(page("n=0"), (String::new(), None));
    }

    #[test]
    fn only_manifests_are_manifests() {
        let kind = |text: &str| media_type_of(text.as_bytes());
        assert_eq!(
            kind(r#"{"schemaVersion":2,"config":{}}"#).as_deref(),
            Some(media_type::OCI_MANIFEST)
        );
        assert_eq!(
            kind(r#"{"schemaVersion":2,"manifests":[]}"#).as_deref(),
            Some(media_type::OCI_INDEX)
        );
        for other in [
            "",
            "{}",
            r#"{"schemaVersion":2,"config":{},"manifests":[]}"#,
            r#"{"schemaVersion":2,"config":{},"mediaType":"text/html"}"#,
            r#"{"schemaVersion":1,"config":{}}"#,
        ] {
            assert_eq!(kind(other), None, "{other}");
        }
    }
}
