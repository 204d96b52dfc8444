//! A blob as a stream that survives broken connections.
//!
//! [`BlobReader`] gives exactly the bytes that the registry sends, from the first to the last that
//! the descriptor promises; when a connection breaks it goes on where it stopped (`Range`), and a
//! registry that cannot do that is read again from the start with the known part skipped. Whether
//! the bytes are the right ones is for the consumer to verify: they may come from two servers.

use std::io::{self, Read};
use std::time::Duration;

use lapstrake_layerstore::digest::Digest;
use ureq::http::Method;

use crate::client::Session;
use crate::error::{Fault, RegistryError};
use crate::http::{Request, Response, body_fault};
use crate::parallel::Stop;
use crate::progress::{Event, Part};
use crate::retry;

/// A connection that gave at least this much before it broke was of use: the count of failures
/// starts again. Less would let a server keep us busy for ever, a few bytes at a time.
const USEFUL_BYTES: u64 = 1 << 20;

/// A blob being downloaded.
pub(crate) struct BlobReader<'a> {
    session: &'a Session<'a>,
    stop: &'a Stop,
    object: String,
    digest: Digest,
    size: u64,
    done: u64,
    body: Option<Box<dyn Read + Send + Sync>>,
    failures: u32,
    useful_from: u64,
    failure: Option<RegistryError>,
}

impl<'a> BlobReader<'a> {
    /// A blob to be read from its beginning; nothing is asked before the first read.
    pub(crate) fn new(
        session: &'a Session<'a>,
        stop: &'a Stop,
        part: Part,
        digest: Digest,
        size: u64,
    ) -> Self {
        let object = format!("{part} {digest}");
        let (body, failure) = (None, None);
        let (done, failures, useful_from) = (0, 0, 0);
        Self { session, stop, object, digest, size, done, body, failures, useful_from, failure }
    }

    /// The failure that ended the stream, if one did: the consumer only saw an io error.
    pub(crate) fn take_failure(&mut self) -> Option<RegistryError> {
        self.failure.take()
    }

    /// One read on the connection, or what went wrong with it.
    fn try_read(&mut self, buffer: &mut [u8]) -> Result<usize, RegistryError> {
        if self.body.is_none() {
            self.body = Some(self.open()?);
        }
        let body = self.body.as_mut().expect("because it has just been opened");
        let wrong = |fault| self.session.error(Some(&self.object), fault);
        let count = match body.read(buffer) {
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => 0,
            Err(error) => return Err(wrong(body_fault(error))),
        };
        let done = self.done + count as u64;
        if done > self.size {
            return Err(wrong(Fault::Size { expected: self.size, actual: done }));
        }
        if count == 0 && done < self.size {
            return Err(wrong(Fault::Truncated { expected: self.size, received: done }));
        }
        self.done = done;
        Ok(count)
    }

    /// Asks for the bytes from `done` on.
    fn open(&self) -> Result<Box<dyn Read + Send + Sync>, RegistryError> {
        let url = self.session.url(&format!("blobs/{}", self.digest))?;
        let mut request = Request::new(Method::GET, url);
        if self.done > 0 {
            request = request.header("range", format!("bytes={}-", self.done));
        }
        let response = self.session.once(&self.object, &mut request, &[]);
        let response = response.map_err(RegistryError::of_a_part)?;
        self.check_length(&response)
            .map_err(|fault| self.session.error(Some(&self.object), fault))?;
        let resumed = response.status == 206;
        let mut body = response.into_reader();
        if !resumed && self.done > 0 {
            let skipped = io::copy(&mut body.by_ref().take(self.done), &mut io::sink());
            let wrong = |fault| self.session.error(Some(&self.object), fault);
            let skipped = skipped.map_err(|error| wrong(body_fault(error)))?;
            if skipped < self.done {
                return Err(wrong(Fault::Truncated { expected: self.size, received: skipped }));
            }
        }
        Ok(body)
    }

    /// Refuses an answer that is not the promised length before any of it is read.
    fn check_length(&self, response: &Response) -> Result<(), Fault> {
        let begin = if response.status == 206 { self.done } else { 0 };
        if response.status == 206 {
            let range = response.header("content-range").unwrap_or_default();
            if !range.trim_start().starts_with(&format!("bytes {begin}-")) {
                return Err(Fault::Malformed("the answer is another range than asked for".into()));
            }
        }
        match response.content_length() {
            Some(length) if begin + length != self.size => {
                Err(Fault::Size { expected: self.size, actual: begin + length })
            }
            _ => Ok(()),
        }
    }

    /// How long to wait before the next connection, or the end.
    fn after(&mut self, error: RegistryError) -> Result<Duration, RegistryError> {
        self.body = None;
        if self.done >= self.useful_from + USEFUL_BYTES {
            self.failures = 0;
        }
        self.useful_from = self.done;
        self.failures += 1;
        let policy = self.session.client().retry_policy();
        let Some(wait) = retry::wait_before(policy, self.failures, &error.fault) else {
            return Err(error);
        };
        self.session.tell(Event::Waiting { reason: error.to_string(), wait });
        Ok(wait)
    }
}

impl Read for BlobReader<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        loop {
            if self.stop.is_set() {
                self.failure = Some(self.session.error(Some(&self.object), Fault::Stopped));
                return Err(io::Error::other("another part of the image failed"));
            }
            let error = match self.try_read(buffer) {
                Ok(count) => {
                    if count > 0 {
                        self.session.tell(Event::Bytes { digest: self.digest, done: self.done });
                    }
                    return Ok(count);
                }
                Err(error) => error,
            };
            match self.after(error) {
                Ok(wait) => std::thread::sleep(wait),
                Err(error) => {
                    let told = io::Error::other(error.to_string());
                    self.failure = Some(error);
                    return Err(told);
                }
            }
        }
    }
}
