//! Manifests and indexes: fetched whole, bounded, verified, and told apart.

use lapstrake_layerstore::digest::Digest;
use lapstrake_layerstore::oci::{Descriptor, Index, Manifest, Platform, media_type};
use lapstrake_layerstore::reference::Reference;
use serde::Deserialize;
use ureq::http::Method;

use crate::client::Session;
use crate::error::{Fault, RegistryError, clean};
use crate::http::{Request, Response};
use crate::limits;
use crate::progress::Event;

/// What we can read, the specification's own types first.
const ACCEPT: [&str; 4] = [
    media_type::OCI_MANIFEST,
    media_type::OCI_INDEX,
    media_type::DOCKER_MANIFEST,
    media_type::DOCKER_MANIFEST_LIST,
];

/// A manifest of one image, as it came.
#[derive(Debug)]
pub(crate) struct Fetched {
    /// Its name, type and size.
    pub(crate) descriptor: Descriptor,
    /// The exact bytes.
    pub(crate) bytes: Vec<u8>,
    /// What they say.
    pub(crate) manifest: Manifest,
}

/// An index, as it came.
#[derive(Debug)]
pub(crate) struct WholeIndex {
    /// Its name, type and size.
    pub(crate) descriptor: Descriptor,
    /// The exact bytes.
    pub(crate) bytes: Vec<u8>,
    /// What they say.
    index: Index,
}

/// Everything that a reference means.
#[derive(Debug)]
pub(crate) enum Every {
    /// An image that stands in no index.
    One(Box<Fetched>),
    /// An index and all images in it.
    Index(Box<WholeIndex>, Vec<Fetched>),
}

/// What a document turned out to be.
enum Document {
    Index(Box<WholeIndex>),
    Manifest(Box<Fetched>),
}

/// Fetches the manifest that a reference means for a platform, through any indexes before it.
pub(crate) fn fetch(
    session: &Session<'_>,
    reference: &Reference,
    platform: &Platform,
) -> Result<Fetched, RegistryError> {
    let mut target = Target::of(reference);
    for depth in 0..=limits::INDEX_DEPTH {
        let object = target.describe();
        let (digest, document) = fetch_one(session, &target)
            .map_err(|error| if depth == 0 { error } else { error.of_a_part() })?;
        if depth == 0 {
            session.tell(Event::Resolved { digest });
        }
        match document {
            Document::Manifest(found) => return Ok(*found),
            Document::Index(whole) => {
                let chosen = choose(&whole.index, platform);
                let chosen = chosen.map_err(|fault| session.error(Some(&object), fault))?;
                target = Target::Digest(chosen.digest, Some(chosen.size));
            }
        }
    }
    let fault = Fault::Malformed("indexes are nested too deeply".to_owned());
    Err(session.error(Some(&target.describe()), fault))
}

/// Fetches every image that a reference means: the manifests of an index, and of those within it.
pub(crate) fn fetch_all(
    session: &Session<'_>,
    reference: &Reference,
) -> Result<Every, RegistryError> {
    let (digest, document) = fetch_one(session, &Target::of(reference))?;
    session.tell(Event::Resolved { digest });
    let whole = match document {
        Document::Manifest(found) => return Ok(Every::One(found)),
        Document::Index(whole) => whole,
    };
    let mut every = Vec::new();
    collect(session, &whole.index, 1, &mut every)?;
    if every.is_empty() {
        let fault = Fault::Malformed("the index names no image".to_owned());
        return Err(session.error(Some(&format!("manifest {digest}")), fault));
    }
    Ok(Every::Index(whole, every))
}

/// The manifests of an index, in its order.
fn collect(
    session: &Session<'_>,
    index: &Index,
    depth: usize,
    every: &mut Vec<Fetched>,
) -> Result<(), RegistryError> {
    for entry in index.manifests.iter().filter(|entry| !entry.is_attestation()) {
        let target = Target::Digest(entry.digest, Some(entry.size));
        let wrong = |text: String| session.error(Some(&target.describe()), Fault::Malformed(text));
        let (_, document) = fetch_one(session, &target).map_err(RegistryError::of_a_part)?;
        match document {
            _ if every.len() >= limits::PLATFORMS => {
                return Err(wrong(format!("it names more than {} images", limits::PLATFORMS)));
            }
            Document::Manifest(found) => every.push(*found),
            Document::Index(_) if depth >= limits::INDEX_DEPTH => {
                return Err(wrong("indexes are nested too deeply".to_owned()));
            }
            Document::Index(inner) => collect(session, &inner.index, depth + 1, every)?,
        }
    }
    Ok(())
}

/// What to ask for.
enum Target {
    Tag(String),
    Digest(Digest, Option<u64>),
}

impl Target {
    fn of(reference: &Reference) -> Self {
        match (reference.digest(), reference.tag()) {
            (Some(digest), _) => Self::Digest(*digest, None),
            (None, tag) => Self::Tag(tag.unwrap_or("latest").to_owned()),
        }
    }

    fn describe(&self) -> String {
        match self {
            Self::Tag(tag) => format!("manifest {tag}"),
            Self::Digest(digest, _) => format!("manifest {digest}"),
        }
    }
}

/// One manifest or index.
fn fetch_one(session: &Session<'_>, target: &Target) -> Result<(Digest, Document), RegistryError> {
    let object = target.describe();
    let wrong = |fault| session.error(Some(&object), fault);
    let url = match target {
        Target::Tag(tag) => session.url(&format!("manifests/{tag}"))?,
        Target::Digest(digest, _) => session.url(&format!("manifests/{digest}"))?,
    };
    let (head, bytes) = session.retrying(|| {
        let mut request =
            Request::new(Method::GET, url.clone()).header("accept", ACCEPT.join(", "));
        let response = session.once(&object, &mut request, &[])?;
        let head = Head::of(&response);
        Ok((head, response.into_bytes(limits::MANIFEST_BYTES).map_err(wrong)?))
    })?;
    let digest = Digest::of(&bytes);
    verify(target, &head, digest, bytes.len() as u64).map_err(wrong)?;
    let document = classify(&head, digest, bytes).map_err(wrong)?;
    Ok((digest, document))
}

/// The headers of a manifest's answer that matter.
struct Head {
    content_type: String,
    digest: Option<Digest>,
}

impl Head {
    fn of(response: &Response) -> Self {
        let content_type = response.header("content-type").unwrap_or_default();
        let content_type = content_type.split(';').next().unwrap_or_default().trim().to_owned();
        // Digests of other algorithms cannot be compared; the content is then trusted as far as
        // the connection is, as with any tag.
        let digest = response.header("docker-content-digest").and_then(|text| text.parse().ok());
        Self { content_type, digest }
    }
}

/// Compares what came with what was asked for and with what the registry claims.
fn verify(target: &Target, head: &Head, actual: Digest, size: u64) -> Result<(), Fault> {
    let (asked, expected_size) = match target {
        Target::Digest(digest, size) => (Some(*digest), *size),
        Target::Tag(_) => (None, None),
    };
    if let Some(expected) = [asked, head.digest].into_iter().flatten().find(|d| *d != actual) {
        let (expected, actual) = (expected.to_string(), actual.to_string());
        return Err(Fault::Digest { expected, actual });
    }
    match expected_size {
        Some(expected) if expected != size => Err(Fault::Size { expected, actual: size }),
        _ => Ok(()),
    }
}

/// Tells an index from a manifest. A document that could be read as either is refused: two
/// readers must never see two images under one digest.
fn classify(head: &Head, digest: Digest, bytes: Vec<u8>) -> Result<Document, Fault> {
    #[derive(Deserialize)]
    struct Shape {
        #[serde(rename = "mediaType", default)]
        media_type: String,
        #[serde(default)]
        manifests: Option<serde::de::IgnoredAny>,
        #[serde(default)]
        layers: Option<serde::de::IgnoredAny>,
        #[serde(default)]
        config: Option<serde::de::IgnoredAny>,
    }
    let malformed = |error: &dyn std::error::Error| {
        Fault::Malformed(format!("the manifest cannot be read: {}", chain(error)))
    };
    let shape: Shape = serde_json::from_slice(&bytes).map_err(|error| malformed(&error))?;
    let of_image = shape.layers.is_some() || shape.config.is_some();
    if shape.manifests.is_some() && of_image {
        return Err(Fault::Malformed("the manifest is an index and an image at once".into()));
    }
    let kind = match shape.media_type.as_str() {
        "" => head.content_type.as_str(),
        stated => stated,
    };
    if matches!(kind, media_type::DOCKER_SCHEMA1 | media_type::DOCKER_SCHEMA1_SIGNED) {
        return Err(Fault::Malformed(
            "the manifest is of docker's schema 1, which went out of use in 2017".into(),
        ));
    }
    if shape.manifests.is_some() {
        let index = Index::parse(&bytes).map_err(|error| malformed(&error))?;
        let kind = if media_type::is_index(kind) { kind } else { media_type::OCI_INDEX };
        let descriptor = Descriptor::new(kind, digest, bytes.len() as u64);
        return Ok(Document::Index(Box::new(WholeIndex { descriptor, bytes, index })));
    }
    let manifest = Manifest::parse(&bytes).map_err(|error| malformed(&error))?;
    let kind = if media_type::is_manifest(kind) { kind } else { media_type::OCI_MANIFEST };
    let descriptor = Descriptor::new(kind, digest, bytes.len() as u64);
    Ok(Document::Manifest(Box::new(Fetched { descriptor, bytes, manifest })))
}

/// An error and what lies behind it, in one line fit for a terminal.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(inner) = source {
        text = format!("{text}: {inner}");
        source = inner.source();
    }
    clean(&text)
}

/// The entry of an index that suits the platform.
fn choose<'a>(index: &'a Index, platform: &Platform) -> Result<&'a Descriptor, Fault> {
    index.choose(platform).ok_or_else(|| Fault::Platform {
        wanted: platform.to_string(),
        available: index
            .manifests
            .iter()
            .filter(|entry| !entry.is_attestation())
            .filter_map(|entry| entry.platform.as_ref().map(|p| clean(&p.to_string())))
            .collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(content_type: &str, body: &str) -> Result<&'static str, String> {
        let head = Head { content_type: content_type.to_owned(), digest: None };
        let bytes = body.as_bytes().to_vec();
        match classify(&head, Digest::of(&bytes), bytes) {
            Ok(Document::Index(_)) => Ok("index"),
            Ok(Document::Manifest(_)) => Ok("manifest"),
            Err(fault) => Err(fault.to_string()),
        }
    }

    #[test]
    fn documents_are_told_apart_by_what_they_are() {
        let config = format!(
            r#"{{"mediaType":"{}","digest":"sha256:{}","size":2}}"#,
            media_type::OCI_CONFIG,
            "0".repeat(64)
        );
        let image = format!(r#"{{"schemaVersion":2,"config":{config},"layers":[]}}"#);
        assert_eq!(check(media_type::OCI_MANIFEST, &image), Ok("manifest"));
        assert_eq!(check("application/json", &image), Ok("manifest"));
        let index = r#"{"schemaVersion":2,"manifests":[]}"#;
        assert_eq!(check(media_type::OCI_INDEX, index), Ok("index"));
        let both = format!(r#"{{"schemaVersion":2,"config":{config},"layers":[],"manifests":[]}}"#);
        assert!(check(media_type::OCI_INDEX, &both).unwrap_err().contains("at once"));
        let old = check(media_type::DOCKER_SCHEMA1_SIGNED, r#"{"schemaVersion":1}"#);
        assert!(old.unwrap_err().contains("schema 1"));
        assert!(check("text/html", "<html>").unwrap_err().contains("cannot be read"));
    }
}
