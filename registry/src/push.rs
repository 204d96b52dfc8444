//! Pushing: the registry gets what it lacks and nothing else (S-96).
//!
//! ```text
//! per layer: HEAD ── there ─────────────────────────────▶ done
//!              └ POST ?mount&from ── 201 ───────────────▶ done (taken from another repository)
//!                  └ 202: Location ── PUT ?digest, stream ▶ done
//! then the config the same way, then the manifest by tag; of several platforms first each manifest by
//! its digest, then the index by tag
//! ```
//!
//! Layers are compressed once ever, before the first is sent. An upload that breaks is begun again
//! from its HEAD: the registry may have got all of it.

use std::collections::BTreeMap;
use std::io::{self, Read};

use lapstrake_layerstore::digest::{Digest, ShortId};
use lapstrake_layerstore::oci::{Descriptor, media_type};
use lapstrake_layerstore::reference::Reference;
use lapstrake_layerstore::store::{ImageRecord, ManifestOptions, Store};
use ureq::http::Method;

use crate::client::{Client, Session};
use crate::error::{Fault, Operation, RegistryError};
use crate::http::{Payload, Request, Response, SourceFailure};
use crate::limits;
use crate::parallel::{self, Stop};
use crate::progress::{Event, Outcome, Part, Progress};
use crate::token::Scopes;
use crate::url::Url;

impl Client {
    /// Sends an image under a reference's tag (or digest); returns its manifest's digest.
    pub fn push(
        &self,
        store: &Store,
        image: &ImageRecord,
        reference: &Reference,
        options: impl Into<ManifestOptions>,
        progress: &dyn Progress,
    ) -> Result<Digest, RegistryError> {
        let scopes = Scopes::push(reference.repository());
        let session = self.session(reference, Operation::Push, scopes, progress)?;
        let push = Push { session: &session, store };
        let whole = |error| session.error(None, Fault::Store(Box::new(error)));
        let options = &options.into();
        let mut layers: BTreeMap<Digest, (&ShortId, Descriptor)> = BTreeMap::new();
        for image in image.every() {
            let named = store.layer_descriptors(image, &options.compression).map_err(whole)?;
            let named = image.layers.iter().zip(named);
            layers.extend(named.map(|(short, layer)| (layer.digest, (short, layer))));
        }
        let layers: Vec<_> = layers.into_values().collect();
        let neighbours = Neighbours::new(store, reference).map_err(whole)?;
        parallel::map(self.jobs(), &layers, |(short, descriptor), stop| {
            push.layer(descriptor, &neighbours.with_layer(short), stop)
        })?;
        for image in image.every() {
            let config = store.config_bytes(image).map_err(whole)?;
            let blob = Blob::in_memory(Part::Config, image.config, &config);
            push.blob(&blob, &[], &Stop::default())?;
        }
        let published = store.publish(image, options).map_err(whole)?;
        if published.is_index() {
            for (image, bytes) in &published.images {
                let kind = image.manifest.as_ref().map(|own| own.media_type.as_str());
                push.manifest(None, bytes, kind.unwrap_or(media_type::OCI_MANIFEST))?;
            }
        }
        push.manifest(Some(reference), &published.bytes, &published.descriptor.media_type)
    }
}

/// Other repositories of the same registry that have some of the image's layers, as far as the
/// tags of the store tell: an image that is tagged there was pulled from there or pushed there.
struct Neighbours {
    known: Vec<(String, ImageRecord)>,
}

impl Neighbours {
    fn new(store: &Store, reference: &Reference) -> Result<Self, lapstrake_layerstore::StoreError> {
        let elsewhere = |other: &Reference| {
            other.registry() == reference.registry() && other.repository() != reference.repository()
        };
        let known = store.tags()?.into_iter().filter(|(other, _)| elsewhere(other));
        Ok(Self { known: known.map(|(other, image)| (other.repository().into(), image)).collect() })
    }

    /// Where a layer may be found.
    fn with_layer(&self, layer: &ShortId) -> Vec<&str> {
        let mut names: Vec<&str> = self
            .known
            .iter()
            .filter(|(_, image)| image.every().iter().any(|one| one.layers.contains(layer)))
            .map(|(name, _)| name.as_str())
            .collect();
        names.dedup();
        names.truncate(limits::MOUNT_CANDIDATES);
        names
    }
}

/// Opens a blob's bytes at their beginning.
type Opener<'a> = Box<dyn Fn() -> io::Result<Box<dyn Read + 'a>> + Sync + 'a>;

/// Something to send.
struct Blob<'a> {
    part: Part,
    digest: Digest,
    size: u64,
    open: Opener<'a>,
}

impl<'a> Blob<'a> {
    fn in_memory(part: Part, digest: Digest, bytes: &'a [u8]) -> Self {
        let open: Opener<'a> = Box::new(move || Ok(Box::new(bytes)));
        Self { part, digest, size: bytes.len() as u64, open }
    }
}

/// One push under way.
struct Push<'a> {
    session: &'a Session<'a>,
    store: &'a Store,
}

impl Push<'_> {
    /// One layer's blob, unless it is there.
    fn layer(
        &self,
        descriptor: &Descriptor,
        sources: &[&str],
        stop: &Stop,
    ) -> Result<(), RegistryError> {
        let (part, digest, size) = (Part::Layer, descriptor.digest, descriptor.size);
        let open: Opener<'_> = Box::new(|| {
            let file = self.store.blobs().open_blob(&descriptor.digest);
            Ok(Box::new(file.map_err(io::Error::other)?))
        });
        self.blob(&Blob { part, digest, size, open }, sources, stop)
    }

    /// One blob, unless it is there.
    fn blob(&self, blob: &Blob<'_>, sources: &[&str], stop: &Stop) -> Result<(), RegistryError> {
        let (digest, part, size) = (blob.digest, blob.part, blob.size);
        let object = format!("{part} {digest}");
        self.session.tell(Event::Started { digest, part, size });
        let outcome = self.session.retrying(|| {
            let attempt = self.attempt(&object, blob, sources, stop);
            let stopped = |_| self.session.error(Some(&object), Fault::Stopped);
            if stop.is_set() { attempt.map_err(stopped) } else { attempt }
        })?;
        self.session.tell(Event::Done { digest, outcome });
        Ok(())
    }

    /// One attempt to bring a blob there.
    fn attempt(
        &self,
        object: &str,
        blob: &Blob<'_>,
        sources: &[&str],
        stop: &Stop,
    ) -> Result<Outcome, RegistryError> {
        if self.exists(object, blob.digest)? {
            return Ok(Outcome::Present);
        }
        let location = match self.mount(object, blob.digest, sources)? {
            Mount::Done(from) => return Ok(Outcome::Mounted { from }),
            Mount::UploadTo(location) => location,
            Mount::Not => self.begin(object)?,
        };
        self.upload(object, blob, &location, stop)?;
        Ok(Outcome::Uploaded)
    }

    fn exists(&self, object: &str, digest: Digest) -> Result<bool, RegistryError> {
        let url = self.session.url(&format!("blobs/{digest}"))?;
        let response = self.session.once(object, &mut Request::new(Method::HEAD, url), &[404])?;
        Ok(response.status == 200)
    }

    /// Asks the registry to take the blob from one of its other repositories.
    fn mount(
        &self,
        object: &str,
        digest: Digest,
        sources: &[&str],
    ) -> Result<Mount, RegistryError> {
        for source in sources {
            let url = self.session.url("blobs/uploads/")?;
            let url = url.with_query("mount", &digest.to_string()).with_query("from", source);
            let session = self
                .session
                .with_scopes(Scopes::push(self.session.repository()).with(source, &["pull"]));
            // That we may not read the other repository, or that it is gone, is no failure.
            let answer = session.once(object, &mut Request::new(Method::POST, url), &[]);
            match answer {
                Ok(response) if response.status == 201 => {
                    return Ok(Mount::Done((*source).to_owned()));
                }
                Ok(response) => return self.location(object, &response).map(Mount::UploadTo),
                Err(error) if matches!(error.status(), Some(400..=405)) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(Mount::Not)
    }

    /// Begins an upload.
    fn begin(&self, object: &str) -> Result<Url, RegistryError> {
        let url = self.session.url("blobs/uploads/")?;
        let response = self.session.once(object, &mut Request::new(Method::POST, url), &[])?;
        self.location(object, &response)
    }

    /// Where an answer says to go on; query and all.
    fn location(&self, object: &str, response: &Response) -> Result<Url, RegistryError> {
        let wrong = |fault| self.session.error(Some(object), fault);
        let missing = || Fault::Malformed("the registry does not say where to upload to".into());
        let location = response.header("location").ok_or_else(|| wrong(missing()))?;
        response.url.join(location).map_err(|bad| wrong(bad.into()))
    }

    /// Sends all of a blob in one request.
    fn upload(
        &self,
        object: &str,
        blob: &Blob<'_>,
        location: &Url,
        stop: &Stop,
    ) -> Result<(), RegistryError> {
        let open = || -> io::Result<Box<dyn Read + '_>> {
            let inner = (blob.open)()?;
            let (session, digest) = (self.session, blob.digest);
            Ok(Box::new(Counted { inner, session, digest, done: 0, stop }))
        };
        let url = location.with_query("digest", &blob.digest.to_string());
        let mut request = Request::new(Method::PUT, url)
            .header("content-type", "application/octet-stream")
            .payload(Payload::Stream { open: &open, size: blob.size });
        self.session.once(object, &mut request, &[])?;
        Ok(())
    }

    /// The manifest, under the tag if there is one, or by its digest.
    fn manifest(
        &self,
        reference: Option<&Reference>,
        bytes: &[u8],
        media_type: &str,
    ) -> Result<Digest, RegistryError> {
        let (digest, size) = (Digest::of(bytes), bytes.len() as u64);
        let tag = reference.and_then(Reference::tag);
        let target = tag.map_or_else(|| digest.to_string(), str::to_owned);
        let object = format!("manifest {target}");
        let lie = |expected: Digest| {
            let (expected, actual) = (expected.to_string(), digest.to_string());
            self.session.error(Some(&object), Fault::Digest { expected, actual })
        };
        if let Some(pinned) =
            reference.and_then(Reference::digest).filter(|pinned| **pinned != digest)
        {
            return Err(lie(*pinned));
        }
        self.session.tell(Event::Started { digest, part: Part::Manifest, size });
        let request = Request::new(Method::PUT, self.session.url(&format!("manifests/{target}"))?)
            .header("content-type", media_type)
            .payload(Payload::Bytes(bytes));
        let response = self.session.request(&object, request, &[])?;
        let stored = response.header("docker-content-digest").and_then(|text| text.parse().ok());
        if let Some(other) = stored.filter(|stored| *stored != digest) {
            return Err(lie(other));
        }
        self.session.tell(Event::Done { digest, outcome: Outcome::Uploaded });
        Ok(digest)
    }
}

/// How the attempt to mount a blob ended.
enum Mount {
    Done(String),
    UploadTo(Url),
    Not,
}

/// Tells the observer how far an upload is, and ends it when its outcome no longer matters.
struct Counted<'a> {
    inner: Box<dyn Read + 'a>,
    session: &'a Session<'a>,
    digest: Digest,
    done: u64,
    stop: &'a Stop,
}

impl Read for Counted<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.stop.is_set() {
            return Err(io::Error::other(SourceFailure(io::ErrorKind::Interrupted.into())));
        }
        let read = self.inner.read(buffer);
        let count = read.map_err(|error| io::Error::other(SourceFailure(error)))?;
        self.done += count as u64;
        self.session.tell(Event::Bytes { digest: self.digest, done: self.done });
        Ok(count)
    }
}
