//! The bytes of requests: into an upload, or into memory when they are few.

use std::sync::Arc;

use http_body_util::BodyExt as _;
use hyper::StatusCode;
use hyper::body::Incoming;

use super::reply::Reply;
use super::upload::Upload;
use super::{State, handle};
use crate::limits;

/// Bytes of an upload gathered before they are hashed and written.
const GATHER_BYTES: usize = 512 << 10;

/// Writes a body to an upload. What came before a break stays, and the client may go on.
pub(super) async fn receive(
    state: &Arc<State>,
    upload: Upload,
    mut body: Incoming,
) -> Result<Upload, Reply> {
    // Whatever happens to this request, also that it is dropped with its connection, the upload
    // goes back to the table.
    let mut taken = Taken { state: Arc::clone(state), upload: Some(upload) };
    loop {
        let (gathered, after) = next_piece(&mut body).await;
        let written = tokio::task::spawn_blocking(move || {
            let outcome = taken.upload().append(&gathered);
            (taken, outcome)
        });
        let outcome;
        (taken, outcome) = written.await.map_err(|_| handle::internal())?;
        if let Err(error) = outcome {
            taken.forget();
            return Err(handle::store_failure(&error));
        }
        match after {
            After::More => {}
            After::End => return Ok(taken.into_upload()),
            After::Break => {
                let message = "the body ended early";
                return Err(Reply::error(StatusCode::BAD_REQUEST, "BLOB_UPLOAD_INVALID", message));
            }
        }
    }
}

/// What comes after a piece of a body.
enum After {
    More,
    End,
    Break,
}

/// Gathers frames until there is enough to be worth a write.
async fn next_piece(body: &mut Incoming) -> (Vec<u8>, After) {
    let mut gathered = Vec::new();
    loop {
        match tokio::time::timeout(limits::SERVER_BODY_TIMEOUT, body.frame()).await {
            Ok(Some(Ok(frame))) => {
                gathered.extend_from_slice(frame.data_ref().map_or(&[][..], |data| data));
                if gathered.len() >= GATHER_BYTES {
                    return (gathered, After::More);
                }
            }
            Ok(None) => return (gathered, After::End),
            Ok(Some(Err(_))) | Err(_) => return (gathered, After::Break),
        }
    }
}

/// An upload in the hands of a request; dropped, it goes back to the table.
#[derive(Debug)]
struct Taken {
    state: Arc<State>,
    upload: Option<Upload>,
}

impl Taken {
    fn upload(&mut self) -> &mut Upload {
        self.upload.as_mut().expect("because it is only given away with self")
    }

    fn into_upload(mut self) -> Upload {
        self.upload.take().expect("because it is only given away with self")
    }

    /// Drops the upload for good: a write that failed leaves it in no known state.
    fn forget(mut self) {
        if let Some(upload) = self.upload.take() {
            self.state.uploads.forget(upload.id());
        }
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        if let Some(upload) = self.upload.take() {
            self.state.uploads.put_back(upload);
        }
    }
}

/// All of a manifest. One that is too large is read on for a while without being kept: a client
/// that is still sending would not see an answer.
pub(super) async fn gather(mut body: Incoming) -> Result<Vec<u8>, Reply> {
    let (mut bytes, mut size) = (Vec::new(), 0);
    while size <= limits::SERVER_DRAIN_BYTES {
        match tokio::time::timeout(limits::SERVER_BODY_TIMEOUT, body.frame()).await {
            Ok(None) if size <= limits::MANIFEST_BYTES => return Ok(bytes),
            Ok(None) => break,
            Ok(Some(Ok(frame))) => {
                let data = frame.data_ref().map_or(&[][..], |data| data);
                size += data.len() as u64;
                if size <= limits::MANIFEST_BYTES {
                    bytes.extend_from_slice(data);
                }
            }
            Ok(Some(Err(_))) | Err(_) => {
                let message = "the body ended early";
                return Err(Reply::error(StatusCode::BAD_REQUEST, "MANIFEST_INVALID", message));
            }
        }
    }
    let message = format!("a manifest has at most {} bytes", limits::MANIFEST_BYTES);
    Err(Reply::error(StatusCode::PAYLOAD_TOO_LARGE, "SIZE_INVALID", &message))
}
