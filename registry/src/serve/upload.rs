//! Blobs coming in: uploads in progress, each a blob writer of the store.
//!
//! ```text
//! POST uploads/            ▶ 202 Location: uploads/<id>         (?digest: all of it at once)
//! PATCH uploads/<id>       ▶ 202 Range: 0-<last>                pieces in order, else 416
//! GET uploads/<id>         ▶ 204 Range: 0-<last>                where to go on after a break
//! PUT uploads/<id>?digest  ▶ 201                                the last piece; verified
//! DELETE uploads/<id>      ▶ 204
//! ```
//!
//! Invariants: an upload is in the hands of one request at a time; what a broken request brought
//! stays, so that the client can go on; nothing is a blob before its digest was verified.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read as _};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use hyper::StatusCode;
use hyper::header::{HeaderName, LOCATION, RANGE};
use lapstrake_layerstore::StoreError;
use lapstrake_layerstore::blobs::BlobWriter;
use lapstrake_layerstore::digest::Digest;

use super::State;
use super::read::CONTENT_DIGEST;
use super::reply::Reply;
use crate::limits;

/// The header that names an upload for clients of old.
const UPLOAD_ID: HeaderName = HeaderName::from_static("docker-upload-uuid");
/// An upload that nobody touched for this long makes room when room is needed.
const ABANDONED: Duration = Duration::from_secs(15 * 60);

/// One upload.
#[derive(Debug)]
pub(super) struct Upload {
    /// The repository it is for.
    name: String,
    id: String,
    writer: BlobWriter,
}

/// An upload's place in the table.
#[derive(Debug)]
enum Place {
    /// In the hands of a request.
    Busy,
    /// Waiting for the next piece since then.
    Idle(Box<Upload>, Instant),
}

/// All uploads in progress.
#[derive(Debug, Default)]
pub(super) struct Uploads(Mutex<HashMap<String, Place>>);

/// Why an upload cannot be had.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unavailable {
    /// There is none of this name.
    Unknown,
    /// Another request is at it.
    Busy,
}

impl Unavailable {
    /// How the client hears of it.
    pub(super) fn reply(self) -> Reply {
        match self {
            Self::Unknown => {
                let message = "no such upload; begin again";
                Reply::error(StatusCode::NOT_FOUND, "BLOB_UPLOAD_UNKNOWN", message)
            }
            Self::Busy => {
                let message = "another request is writing to this upload";
                Reply::error(StatusCode::CONFLICT, "BLOB_UPLOAD_INVALID", message)
            }
        }
    }
}

impl Uploads {
    fn table(&self) -> std::sync::MutexGuard<'_, HashMap<String, Place>> {
        self.0.lock().expect("because nothing panics while holding it")
    }

    /// Takes an upload out of the table, for one request.
    pub(super) fn take(&self, name: &str, id: &str) -> Result<Upload, Unavailable> {
        let mut table = self.table();
        let place = table.get_mut(id).ok_or(Unavailable::Unknown)?;
        match std::mem::replace(place, Place::Busy) {
            Place::Busy => Err(Unavailable::Busy),
            Place::Idle(upload, _) if upload.name == name => Ok(*upload),
            other @ Place::Idle(..) => {
                *place = other;
                Err(Unavailable::Unknown)
            }
        }
    }

    /// Puts an upload back, for the next request.
    pub(super) fn put_back(&self, upload: Upload) {
        let id = upload.id.clone();
        self.table().insert(id, Place::Idle(Box::new(upload), Instant::now()));
    }

    /// Forgets an upload that was taken.
    pub(super) fn forget(&self, id: &str) {
        self.table().remove(id);
    }

    /// Makes room for one more; false if there is none.
    fn make_room(&self) -> bool {
        let mut table = self.table();
        if table.len() >= limits::SERVER_UPLOADS {
            let keeps =
                |place: &Place| !matches!(place, Place::Idle(_, at) if at.elapsed() > ABANDONED);
            table.retain(|_, place| keeps(place));
        }
        table.len() < limits::SERVER_UPLOADS
    }
}

/// Begins an upload and leaves it in the hands of the caller; `None` when there are too many.
pub(super) fn begin(state: &State, name: &str) -> Result<Option<Upload>, StoreError> {
    if !state.uploads.make_room() {
        return Ok(None);
    }
    state.keeper.begin()?;
    let id = new_id().map_err(StoreError::io("read", "/dev/urandom"))?;
    let upload = Upload { name: name.to_owned(), id, writer: state.store.blobs().writer()? };
    state.uploads.table().insert(upload.id.clone(), Place::Busy);
    Ok(Some(upload))
}

/// An unguessable name: whoever knows it may write to the upload.
fn new_id() -> io::Result<String> {
    let mut bytes = [0; 16];
    File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(format!("{:032x}", u128::from_be_bytes(bytes)))
}

impl Upload {
    /// Its name in the table.
    pub(super) fn id(&self) -> &str {
        &self.id
    }

    /// Bytes so far.
    pub(super) fn size(&self) -> u64 {
        self.writer.size()
    }

    /// Adds bytes.
    pub(super) fn append(&mut self, bytes: &[u8]) -> Result<(), StoreError> {
        self.writer.append(bytes)
    }

    /// Whether a piece that begins there is the next one; no statement is agreement.
    pub(super) fn accepts(&self, content_range: Option<&str>) -> bool {
        let Some(range) = content_range else { return true };
        let range = range.trim().strip_prefix("bytes ").unwrap_or(range.trim());
        let start = range.split_once('-').and_then(|(start, _)| start.trim().parse().ok());
        start == Some(self.size())
    }

    /// The answer that says how far it is.
    pub(super) fn status(&self, status: StatusCode) -> Reply {
        let reply = if status == StatusCode::RANGE_NOT_SATISFIABLE {
            Reply::error(status, "BLOB_UPLOAD_INVALID", "pieces must come in order")
        } else {
            Reply::empty(status)
        };
        reply
            .header(LOCATION, format!("/v2/{}/blobs/uploads/{}", self.name, self.id))
            .header(RANGE, format!("0-{}", self.size().saturating_sub(1)))
            .header(UPLOAD_ID, self.id.clone())
    }

    /// Ends it: verified, it is a blob; else it is gone.
    pub(super) fn finish(self, state: &State, digest: Digest) -> Result<Reply, StoreError> {
        let size = self.size();
        state.uploads.forget(&self.id);
        match self.writer.finish(Some((digest, size))) {
            Ok(_) => {
                state.keeper.hold_blob(&digest)?;
                Ok(created(&self.name, digest))
            }
            Err(StoreError::Mismatch { actual, .. }) => {
                let message = format!("the content has the digest {actual}");
                Ok(Reply::error(StatusCode::BAD_REQUEST, "DIGEST_INVALID", &message))
            }
            Err(error) => Err(error),
        }
    }
}

/// The answer to whoever asks for another repository's blob in this one: the store has one set of
/// blobs, so if it is here it is everywhere.
pub(super) fn mount(
    state: &State,
    name: &str,
    digest: Digest,
) -> Result<Option<Reply>, StoreError> {
    if !state.store.blobs().has(&digest) {
        return Ok(None);
    }
    state.keeper.hold_blob(&digest)?;
    Ok(Some(created(name, digest)))
}

/// The answer for a blob that is there now.
fn created(name: &str, digest: Digest) -> Reply {
    Reply::empty(StatusCode::CREATED)
        .header(LOCATION, format!("/v2/{name}/blobs/{digest}"))
        .header(CONTENT_DIGEST, digest.to_string())
}
