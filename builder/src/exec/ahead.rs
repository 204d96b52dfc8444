//! The diffID of a COPY that is certain to be a miss, and its compressed form where one is wanted, made
//! while its files are read.
//!
//! ```text
//! select ─┬▶ place (with numbers for contents) ─▶ tar ─┬▶ sha256 = diffID of what will be made
//!         │                                        ▲ feed └▶ encoders ─▶ file ─▶ sha256 = its blob
//!         └▶ read, hash, pack ─────────────────────┘
//!                   └▶ key ▶ miss ▶ place ▶ layer: is it what was foreseen? then they are its own
//! ```
//! A key counts the contents, so that the layer is only known when everything was read, and sha256 takes
//! longer than that. Where something may be found in a cache nothing is foreseen: a hit would have paid
//! for nothing.

use super::stage::StepContext;
use super::trees::{EmptyTree, ViewTree};
use crate::context::feed::Feed;
use crate::context::hash::unhashed;
use crate::copy::{Placement, Selected, Staging, place};
use crate::error::BuildError;
use crate::tree::Tree;
use lapstrake_layerstore::archive::Epoch;
use lapstrake_layerstore::digest::ContentHash;
use lapstrake_layerstore::layers::{Ahead, Content};
use lapstrake_layerstore::limits::OWN_PACK_BYTES;
use lapstrake_layerstore::toc::Entry;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Instant;

/// With fewer bytes it is over before it has begun.
const WORTH_BYTES: u64 = 8 << 20;

/// What is foreseen of a layer, in the making; dropped, it is given up.
#[derive(Debug)]
pub(crate) struct Foreseen {
    feed: Arc<Feed>,
    begun: Instant,
    thread: Option<JoinHandle<Option<Ahead>>>,
}

impl Foreseen {
    /// Begin with the tar of a COPY of these files, none of which was read. None if it does not pay.
    pub(crate) fn begin(
        at: &StepContext<'_>,
        link: bool,
        selected: &[Selected],
        how: impl FnOnce() -> Result<Placement, BuildError>,
    ) -> Option<Self> {
        let session = at.session;
        let pays = session.wants_digests(at.id.stage)
            && session.is_certain_to_miss(at.id.stage)
            && std::thread::available_parallelism().is_ok_and(|cores| cores.get() > 1)
            && is_worth_it(selected);
        if !pays {
            return None;
        }
        // What is wrong is found again, and told, when the layer is made.
        let (how, below) = (how().ok()?, at.below.view().ok()?);
        let mut numbered = selected.to_vec();
        for (number, (_, node)) in unhashed(&mut numbered).enumerate() {
            if node.size > 0 {
                node.content = Some(token(number));
            }
        }
        let now = session.now();
        let (store, feed) = (Arc::clone(session.deps.store), Arc::<Feed>::default());
        let compression = session.options.compression;
        let (fed, epoch) = (Arc::clone(&feed), session.options.epoch.map(Epoch::Set));
        let thread = std::thread::spawn(move || {
            let below = ViewTree::new(below, store.layers());
            let base: &dyn Tree = if link { &EmptyTree } else { &below };
            let ahead = placed(base, now, numbered, &how).and_then(|entries| {
                let mut content = |entry: &Entry| {
                    let number = number_of(&entry.content?);
                    if entry.size > OWN_PACK_BYTES {
                        return Some(Content::Pieces(Box::new(fed.pieces(number))));
                    }
                    fed.take(number).map(|(hash, bytes)| Content::Whole(hash, bytes))
                };
                Ok(store.layers().foresee(entries, (epoch, compression.as_ref()), &mut content)?)
            });
            fed.end();
            ahead.ok().flatten()
        });
        Some(Self { feed, begun: Instant::now(), thread: Some(thread) })
    }

    /// Who reads the files gives them here.
    pub(crate) fn feed(&self) -> &Feed {
        &self.feed
    }

    /// When it was begun.
    pub(crate) fn begun(&self) -> Instant {
        self.begun
    }

    /// What came of it.
    pub(crate) fn join(mut self) -> Option<Ahead> {
        let thread = self.thread.take()?;
        thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }
}

impl Drop for Foreseen {
    fn drop(&mut self) {
        if let Some(thread) = self.thread.take() {
            self.feed.end();
            // It has a file aside, which it removes when it ends; what else it says is of no use.
            thread.join().map(drop).unwrap_or_default();
        }
    }
}

fn placed(
    base: &dyn Tree,
    now: i64,
    selected: Vec<Selected>,
    how: &Placement,
) -> Result<Vec<Entry>, BuildError> {
    let mut staging = Staging::over(base, now);
    for each in selected {
        place(&mut staging, &each, how)?;
    }
    staging.into_entries()
}

/// There is enough to hash. Names of one file are read several times and are in the tar once.
fn is_worth_it(selected: &[Selected]) -> bool {
    let items = selected.iter().flat_map(|each| each.items.iter().map(|item| &item.node));
    let nodes = || selected.iter().map(|each| &each.node).chain(items.clone());
    nodes().map(|node| node.size).sum::<u64>() >= WORTH_BYTES
        && nodes().all(|node| node.link_group.is_none())
}

/// What stands for the content of a file that was not read yet.
fn token(number: usize) -> ContentHash {
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&(number as u64).to_le_bytes());
    ContentHash::from_bytes(bytes)
}

fn number_of(token: &ContentHash) -> usize {
    let mut bytes = [0; 8];
    bytes.copy_from_slice(&token.as_bytes()[..8]);
    u64::from_le_bytes(bytes) as usize
}
