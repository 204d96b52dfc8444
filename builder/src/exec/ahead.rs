//! The diffID of a COPY that is certain to be a miss, and its compressed form where one is wanted, made
//! while its files are read.
//!
//! ```text
//! select ─┬▶ place (with numbers for contents) ─▶ tar ─┬▶ sha256 = diffID of what will be made
//!         │                                        ▲ feed └▶ encoders ─▶ file ─▶ sha256 = its blob
//!         └▶ read, hash, pack ─────────────────────┘
//!                   └▶ key ▶ miss ▶ contents for numbers ▶ layer: is it what was foreseen? then they are its own
//! ```
//! A key counts the contents, so that the layer is only known when everything was read, and sha256 takes
//! longer than that. Where something may be found in a cache nothing is foreseen: a hit would have paid
//! for nothing.

use super::stage::StepContext;
use super::trees::{EmptyTree, ViewTree};
use crate::context::feed::Feed;
use crate::context::hash::unhashed;
use crate::copy::staging::Placed;
use crate::copy::{Placement, Selected, Staging, place};
use crate::error::BuildError;
use crate::tree::{Node, Tree};
use lapstrake_layerstore::StoreError;
use lapstrake_layerstore::archive::Epoch;
use lapstrake_layerstore::compress::Compression;
use lapstrake_layerstore::digest::ContentHash;
use lapstrake_layerstore::layers::{Ahead, Content};
use lapstrake_layerstore::limits::OWN_PACK_BYTES;
use lapstrake_layerstore::store::Store;
use lapstrake_layerstore::toc::{Entry, Kind};
use lapstrake_layerstore::view::View;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
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
    placed: Receiver<Option<Vec<Entry>>>,
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
            node.content = Some(token(number));
        }
        let (feed, (to_maker, placed)) = (Arc::<Feed>::default(), sync_channel(1));
        let maker = Maker {
            store: Arc::clone(session.deps.store),
            base: (!link).then_some(below),
            how,
            compression: session.options.compression,
            epoch: session.options.epoch.map(Epoch::Set),
            feed: Arc::clone(&feed),
            placed: to_maker,
        };
        let thread = std::thread::spawn(move || maker.run(numbered));
        Some(Self { feed, begun: Instant::now(), thread: Some(thread), placed })
    }

    /// Who reads the files gives them here.
    pub(crate) fn feed(&self) -> &Feed {
        &self.feed
    }

    /// When it was begun.
    pub(crate) fn begun(&self) -> Instant {
        self.begun
    }

    /// The entries of the layer, now that all of these files have their contents; none if it has to be made
    /// of them anew.
    pub(crate) fn entries(&self, selected: &[Selected]) -> Option<Vec<Entry>> {
        let mut entries = self.placed.recv().ok()??;
        let contents: Vec<_> = files(selected).map(|node| node.content).collect();
        for entry in entries.iter_mut().filter(|entry| entry.kind == Kind::File) {
            entry.content = *contents.get(number_of(&entry.content?))?;
        }
        Some(entries)
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

/// What the thread works with.
struct Maker {
    store: Arc<Store>,
    /// What the files are put over, if anything.
    base: Option<View>,
    how: Placement,
    compression: Option<Compression>,
    epoch: Option<Epoch>,
    feed: Arc<Feed>,
    placed: SyncSender<Option<Vec<Entry>>>,
}

impl Maker {
    fn run(mut self, selected: Vec<Selected>) -> Option<Ahead> {
        let base = self.base.take().map(|base| ViewTree::new(base, self.store.layers()));
        let base = base.as_ref().map_or(&EmptyTree as &dyn Tree, |base| base);
        let placed = place_all(base, selected, &self.how);
        let ahead = placed.and_then(|placed| Ok(self.make(placed)?));
        self.feed.end();
        ahead.ok().flatten()
    }

    fn make(&self, placed: Placed) -> Result<Option<Ahead>, StoreError> {
        let known = (!placed.depends_on_contents).then(|| placed.entries.clone());
        // There is room for it; whoever would take it may be gone.
        self.placed.send(known).unwrap_or_default();
        let mut content = |entry: &Entry| {
            let number = number_of(&entry.content?);
            if entry.size > OWN_PACK_BYTES {
                return Some(Content::Pieces(Box::new(self.feed.pieces(number))));
            }
            self.feed.take(number).map(|(hash, bytes)| Content::Whole(hash, bytes))
        };
        let how = (self.epoch, self.compression.as_ref());
        self.store.layers().foresee(placed.entries, how, &mut content)
    }
}

fn place_all(
    base: &dyn Tree,
    selected: Vec<Selected>,
    how: &Placement,
) -> Result<Placed, BuildError> {
    let mut staging = Staging::over(base, how.now);
    for each in selected {
        place(&mut staging, &each, how)?;
    }
    staging.into_placed()
}

/// The regular files in the order of their numbers.
fn files(selected: &[Selected]) -> impl Iterator<Item = &Node> {
    nodes(selected).filter(|node| node.kind == Kind::File)
}

fn nodes(selected: &[Selected]) -> impl Iterator<Item = &Node> {
    selected.iter().flat_map(|each| {
        std::iter::once(&each.node).chain(each.items.iter().map(|item| &item.node))
    })
}

/// There is enough to hash. Names of one file are read several times and are in the tar once.
fn is_worth_it(selected: &[Selected]) -> bool {
    nodes(selected).map(|node| node.size).sum::<u64>() >= WORTH_BYTES
        && nodes(selected).all(|node| node.link_group.is_none())
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
