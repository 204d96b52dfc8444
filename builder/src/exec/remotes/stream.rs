//! Streams from outside, which end.

use super::super::unpack;
use crate::error::BuildError;
use crate::limits::{ARCHIVE_PROBE_BYTES, MAX_REMOTE_BYTES, MAX_REMOTE_TIME};
use crate::remote::RemoteError;
use lapstrake_runner::Cancel;
use std::io::{self, Cursor, Read};
use std::time::Instant;

/// Whether the stream is an archive, and the stream from its beginning.
pub(super) fn probe<R: Read>(mut reader: R) -> io::Result<(bool, impl Read + use<R>)> {
    let mut head = Vec::new();
    reader.by_ref().take(ARCHIVE_PROBE_BYTES).read_to_end(&mut head)?;
    let is_archive = unpack::is_archive(&head);
    Ok((is_archive, Cursor::new(head).chain(reader)))
}

/// A body that ends: it is counted, timed, and stops when the build does. The reader's own error is kept,
/// since it passes through code that knows only io errors.
pub(super) struct Bounded<'a> {
    body: Box<dyn Read + Send>,
    url: String,
    cancel: &'a Cancel,
    received: u64,
    since: Instant,
    failure: Option<RemoteError>,
}

impl<'a> Bounded<'a> {
    /// The time begins now.
    pub(super) fn new(body: Box<dyn Read + Send>, url: String, cancel: &'a Cancel) -> Self {
        Self { body, url, cancel, received: 0, since: Instant::now(), failure: None }
    }

    /// The result of reading, or why it could not be read.
    pub(super) fn or_failure<T, E: Into<BuildError>>(
        &mut self,
        result: Result<T, E>,
    ) -> Result<T, BuildError> {
        match self.failure.take() {
            Some(failure) => Err(failure.into()),
            None => result.map_err(Into::into),
        }
    }

    fn check(&self, count: io::Result<usize>) -> Result<usize, RemoteError> {
        let url = || self.url.clone();
        if self.cancel.is_cancelled() {
            return Err(RemoteError::Cancelled);
        }
        let count = count.map_err(|source| RemoteError::Broken {
            url: url(),
            received: self.received,
            source,
        })?;
        if self.received + count as u64 > MAX_REMOTE_BYTES {
            return Err(RemoteError::TooLarge { url: url(), limit: MAX_REMOTE_BYTES });
        }
        if self.since.elapsed() > MAX_REMOTE_TIME {
            return Err(RemoteError::TooSlow { url: url(), seconds: MAX_REMOTE_TIME.as_secs() });
        }
        Ok(count)
    }
}

impl Read for Bounded<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.body.read(buffer);
        if count.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::Interrupted) {
            return count;
        }
        match self.check(count) {
            Ok(count) => {
                self.received += count as u64;
                Ok(count)
            }
            Err(failure) => {
                let shown = failure.to_string();
                self.failure.get_or_insert(failure);
                Err(io::Error::other(shown))
            }
        }
    }
}
