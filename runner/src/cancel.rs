//! A switch that ends runs from another thread.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::event::{EventfdFlags, eventfd};

/// Ends every run that was given a clone of it, now or later. Cloning is cheap; once cancelled it
/// stays cancelled.
///
/// An eventfd wakes the runs. It is written once and never read, so that it wakes any number of
/// them. If the machine had no descriptor for it, runs look at the flag from time to time instead.
#[derive(Debug, Clone)]
pub struct Cancel {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    cancelled: AtomicBool,
    event: Option<OwnedFd>,
}

impl Cancel {
    /// A switch that is off.
    pub fn new() -> Self {
        let event = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).ok();
        Self { inner: Arc::new(Inner { cancelled: AtomicBool::new(false), event }) }
    }

    /// Kills every running tree that has this switch. Safe to call often and from any thread.
    pub fn cancel(&self) {
        self.inner.cancelled.store(true, Ordering::SeqCst);
        if let Some(event) = &self.inner.event {
            // The counter cannot overflow: it takes 2^64 - 2 calls. Nothing else can fail here.
            let _woken = rustix::io::write(event, &1_u64.to_ne_bytes());
        }
    }

    /// Whether [`Cancel::cancel`] was called.
    pub fn is_cancelled(&self) -> bool {
        self.inner.cancelled.load(Ordering::SeqCst)
    }

    /// The descriptor that becomes readable when the switch is thrown.
    pub(crate) fn event(&self) -> Option<BorrowedFd<'_>> {
        self.inner.event.as_ref().map(AsFd::as_fd)
    }
}

impl Default for Cancel {
    fn default() -> Self {
        Self::new()
    }
}
