//! Answers: built by blocking code as plain values, turned into HTTP at one place.

use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::pin::Pin;
use std::task::{Context, Poll};

use hyper::body::{Body, Bytes, Frame, SizeHint};
use hyper::header::{CONTENT_LENGTH, CONTENT_TYPE, HeaderName, HeaderValue};
use hyper::{Response, StatusCode};
use serde_json::json;
use tokio::sync::mpsc;

/// Bytes read from a file at once.
const PIECE_BYTES: usize = 256 << 10;
/// Pieces on their way from the disk to the network.
const PIECES_AHEAD: usize = 2;

/// An answer before it is sent.
#[derive(Debug)]
pub(super) struct Reply {
    status: StatusCode,
    headers: Vec<(HeaderName, String)>,
    body: Content,
}

/// The body of an answer.
#[derive(Debug)]
enum Content {
    Bytes(Vec<u8>),
    File { file: File, start: u64, length: u64 },
}

impl Reply {
    /// An answer without a body.
    pub(super) fn empty(status: StatusCode) -> Self {
        Self { status, headers: Vec::new(), body: Content::Bytes(Vec::new()) }
    }

    /// An answer of bytes.
    pub(super) fn bytes(content_type: &str, bytes: Vec<u8>) -> Self {
        let reply = Self { body: Content::Bytes(bytes), ..Self::empty(StatusCode::OK) };
        reply.header(CONTENT_TYPE, content_type)
    }

    /// An answer of JSON.
    pub(super) fn json(value: &serde_json::Value) -> Self {
        Self::bytes("application/json", value.to_string().into_bytes())
    }

    /// A part of a file, or all of it.
    pub(super) fn file(status: StatusCode, file: File, start: u64, length: u64) -> Self {
        let reply = Self { body: Content::File { file, start, length }, ..Self::empty(status) };
        reply.header(CONTENT_TYPE, "application/octet-stream")
    }

    /// The specification's error document.
    pub(super) fn error(status: StatusCode, code: &str, message: &str) -> Self {
        let entry = json!({ "code": code, "message": message });
        Self { status, ..Self::json(&json!({ "errors": [entry] })) }
    }

    /// The same with one more header; a value that cannot be one is left out.
    pub(super) fn header(mut self, name: HeaderName, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    /// The answer on the wire; a HEAD gets the head that a GET would.
    pub(super) fn into_response(self, with_body: bool) -> Response<ReplyBody> {
        let (length, body) = match self.body {
            Content::Bytes(bytes) => (bytes.len() as u64, ReplyBody::whole(bytes)),
            Content::File { file, start, length } if with_body => {
                (length, ReplyBody::of_file(file, start, length))
            }
            Content::File { length, .. } => (length, ReplyBody::whole(Vec::new())),
        };
        let body = if with_body { body } else { ReplyBody::whole(Vec::new()) };
        let mut response = Response::new(body);
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        for (name, value) in self.headers {
            if let Ok(value) = HeaderValue::from_str(&value) {
                headers.insert(name, value);
            }
        }
        if self.status != StatusCode::NO_CONTENT {
            headers.insert(CONTENT_LENGTH, length.into());
        }
        let version = HeaderName::from_static("docker-distribution-api-version");
        headers.insert(version, HeaderValue::from_static("registry/2.0"));
        response
    }
}

/// A body: one piece, or pieces read from a file on a thread of their own.
#[derive(Debug)]
pub(super) struct ReplyBody {
    first: Option<Bytes>,
    pieces: Option<mpsc::Receiver<std::io::Result<Bytes>>>,
    left: u64,
}

impl ReplyBody {
    fn whole(bytes: Vec<u8>) -> Self {
        let left = bytes.len() as u64;
        let first = (!bytes.is_empty()).then(|| Bytes::from(bytes));
        Self { first, pieces: None, left }
    }

    fn of_file(file: File, start: u64, length: u64) -> Self {
        let (sender, receiver) = mpsc::channel(PIECES_AHEAD);
        tokio::task::spawn_blocking(move || send_pieces(file, start, length, &sender));
        Self { first: None, pieces: Some(receiver), left: length }
    }
}

/// Reads a part of a file piece by piece until it is through or nobody wants it any more.
fn send_pieces(
    mut file: File,
    start: u64,
    length: u64,
    sender: &mpsc::Sender<std::io::Result<Bytes>>,
) {
    let mut left = length;
    let mut seek = file.seek(SeekFrom::Start(start)).map(|_| ());
    while left > 0 {
        let wanted = usize::try_from(left).unwrap_or(PIECE_BYTES).min(PIECE_BYTES);
        let mut piece = vec![0; wanted];
        let read = std::mem::replace(&mut seek, Ok(())).and_then(|()| file.read_exact(&mut piece));
        let failed = read.is_err();
        let sent = sender.blocking_send(read.map(|()| Bytes::from(piece)));
        if failed || sent.is_err() {
            return;
        }
        left -= wanted as u64;
    }
}

impl Body for ReplyBody {
    type Data = Bytes;
    type Error = std::io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, std::io::Error>>> {
        if let Some(bytes) = self.first.take() {
            self.left = 0;
            return Poll::Ready(Some(Ok(Frame::data(bytes))));
        }
        let Some(pieces) = &mut self.pieces else { return Poll::Ready(None) };
        pieces.poll_recv(context).map(|piece| match piece? {
            Ok(bytes) => {
                self.left -= bytes.len() as u64;
                Some(Ok(Frame::data(bytes)))
            }
            Err(error) => Some(Err(error)),
        })
    }

    fn is_end_stream(&self) -> bool {
        self.left == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}
