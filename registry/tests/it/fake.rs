//! A registry in memory, so small that its rightness can be seen: what tests put faults around.

use std::collections::BTreeMap;
use std::sync::Mutex;

use lapstrake_fixtures::sha256_hex;
use lapstrake_layerstore::oci::media_type;

use crate::http_server::{Answer, Request};
use crate::support::TestImage;

/// Blobs by digest, manifests by tag and digest.
#[derive(Debug, Default)]
pub(crate) struct Fake {
    pub(crate) blobs: Mutex<BTreeMap<String, Vec<u8>>>,
    pub(crate) manifests: Mutex<BTreeMap<String, (String, Vec<u8>)>>,
}

impl Fake {
    /// A registry with an image under the tag `1`.
    pub(crate) fn with(image: &TestImage) -> Self {
        let fake = Self::default();
        for blob in image.layers.iter().chain([&image.config]) {
            fake.put_blob(blob);
        }
        fake.put_manifest("1", media_type::OCI_MANIFEST, &image.manifest);
        fake
    }

    pub(crate) fn put_blob(&self, bytes: &[u8]) {
        self.blobs.lock().unwrap().insert(name(bytes), bytes.to_vec());
    }

    pub(crate) fn put_manifest(&self, tag: &str, kind: &str, bytes: &[u8]) {
        let mut manifests = self.manifests.lock().unwrap();
        for key in [tag.to_owned(), name(bytes)] {
            manifests.insert(key, (kind.to_owned(), bytes.to_vec()));
        }
    }

    /// Answers as a registry does.
    pub(crate) fn answer(&self, request: &Request) -> Answer {
        let (path, query) = request.target.split_once('?').unwrap_or((&request.target, ""));
        if path == "/v2/" {
            return Answer::status(200);
        }
        let last = path.rsplit('/').next().unwrap_or_default();
        match request.method.as_str() {
            "GET" | "HEAD" if path.contains("/manifests/") => self.manifest(last),
            "GET" | "HEAD" if path.contains("/blobs/") => self.blob(last, request),
            "POST" => Answer::status(202).header("location", "/v2/up/blobs/uploads/7?state=a%2Fb"),
            "PUT" if path.contains("/manifests/") => {
                let kind = request.header("content-type").unwrap_or_default();
                self.put_manifest(last, kind, &request.body);
                Answer::status(201).header("docker-content-digest", name(&request.body))
            }
            "PUT" => self.finish(query, request),
            _ => Answer::status(405),
        }
    }

    fn manifest(&self, target: &str) -> Answer {
        match self.manifests.lock().unwrap().get(target) {
            Some((kind, bytes)) => Answer::status(200)
                .header("content-type", kind)
                .header("docker-content-digest", name(bytes))
                .body(bytes.clone()),
            None => Answer::status(404)
                .body(r#"{"errors":[{"code":"MANIFEST_UNKNOWN","message":"manifest unknown"}]}"#),
        }
    }

    fn blob(&self, digest: &str, request: &Request) -> Answer {
        let blobs = self.blobs.lock().unwrap();
        let Some(bytes) = blobs.get(digest) else { return Answer::status(404) };
        let range = request.header("range").and_then(|text| text.strip_prefix("bytes="));
        let Some(start) = range.and_then(|text| text.trim_end_matches('-').parse::<usize>().ok())
        else {
            return Answer::status(200).body(bytes.clone());
        };
        let (last, size) = (bytes.len() - 1, bytes.len());
        Answer::status(206)
            .header("content-range", format!("bytes {start}-{last}/{size}"))
            .body(&bytes[start..])
    }

    fn finish(&self, query: &str, request: &Request) -> Answer {
        let wanted = format!("state=a%2Fb&digest={}", name(&request.body).replace(':', "%3A"));
        if query != wanted {
            return Answer::status(400).body(r#"{"errors":[{"code":"DIGEST_INVALID"}]}"#);
        }
        self.put_blob(&request.body);
        Answer::status(201)
    }
}

/// `sha256:…`
pub(crate) fn name(bytes: &[u8]) -> String {
    format!("sha256:{}", sha256_hex(bytes))
}
