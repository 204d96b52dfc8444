//! For programs that build images: the machine entered, a store opened, and what a build works with.
//!
//! No daemon is needed and none is started. The program that runs steps is a re-exec of the embedding one, which is
//! why `lapstrake_runner::init` has to come first in its `main`; an ordinary user's process enters a user namespace
//! when it opens the store, which the kernel allows only before there are threads.
//!
//! ```standalone_crate
//! use lapstrake_builder::{BuildOptions, embed::Local, options::ContextSource};
//! use lapstrake_layerstore::{oci::Platform, reference::Reference};
//! # fn now() -> i64 { 1_700_000_000 }
//!
//! fn main() -> Result<(), Box<dyn std::error::Error>> {
//!     lapstrake_runner::init();
//! #   let work = tempfile::tempdir()?;
//! #   std::fs::write(work.path().join("hello"), "hello\n")?;
//! #   std::env::set_current_dir(work.path())?;
//!     let local = Local::open("store")?;
//!     let (text, context) = ("FROM scratch\nCOPY hello /\n", ContextSource::Directory(".".into()));
//!     let options = BuildOptions::new(text, "Dockerfile", context, Platform::host());
//!     let built = local.build(&BuildOptions { now: now(), ..options })?;
//!     local.store().tag(&Reference::parse("hello:1")?, &built.image)?;
//!     println!("{} in {} step(s), {} cached", built.image.config, built.steps, built.cached);
//! #   assert_eq!((built.steps, built.image.layers.len()), (1, 1));
//!     Ok(())
//! }
//! ```
//! [`BuildDeps`] takes any source of images and files, runner and observer in place of these.

use crate::error::BuildError;
use crate::event::Silent;
use crate::exec::{BuildDeps, BuildOutcome};
use crate::options::BuildOptions;
use crate::remote::NoRemotes;
use lapstrake_layerstore::StoreError;
use lapstrake_layerstore::layers::OverlayXattr;
use lapstrake_layerstore::source::NoImages;
use lapstrake_layerstore::store::{IdRange, OpenOptions, OwnerMap, Store};
use lapstrake_runner::{Cancel, EnterError, EnterOptions, Entered, IdMap, IdMaps, Sandbox, enter};
use std::path::Path;
use std::sync::Arc;

/// Why a program cannot build here.
#[derive(Debug, thiserror::Error)]
pub enum EmbedError {
    /// The user namespace.
    #[error(transparent)]
    Enter(#[from] EnterError),
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Builds on this machine, from images that its store has.
#[derive(Debug)]
pub struct Local {
    store: Arc<Store>,
    cancel: Cancel,
}

impl Local {
    /// Enters the user namespace that an ordinary user needs, and opens the store in `root`, which is made if it
    /// is missing. Call it before there are threads.
    pub fn open(root: impl AsRef<Path>) -> Result<Self, EmbedError> {
        let entered = enter(&EnterOptions::default())?;
        let store = Arc::new(Store::open(root.as_ref(), &open_options(&entered))?);
        Ok(Self { store, cancel: Cancel::new() })
    }

    /// The store.
    pub fn store(&self) -> &Arc<Store> {
        &self.store
    }

    /// What stops a build from another thread.
    pub fn cancel(&self) -> &Cancel {
        &self.cancel
    }

    /// Builds the target of a Dockerfile into an image in the store, which has no name yet.
    pub fn build(&self, options: &BuildOptions) -> Result<BuildOutcome, BuildError> {
        let deps = BuildDeps {
            store: &self.store,
            runner: &Sandbox::new(),
            images: &NoImages,
            remotes: &NoRemotes,
            observer: &Silent,
            cancel: &self.cancel,
        };
        crate::build(options, &deps)
    }
}

/// How a process that entered so opens a store whose trees it will touch.
pub fn open_options(entered: &Entered) -> OpenOptions {
    let overlay_xattr = match entered {
        Entered::Root(_) => OverlayXattr::Trusted,
        _ => OverlayXattr::User,
    };
    OpenOptions { create: true, overlay_xattr, owner_map: Some(owner_map(&entered.maps())) }
}

/// The mapping in the store's words.
fn owner_map(maps: &IdMaps) -> OwnerMap {
    let ranges = |map: &IdMap| {
        let range = |range: &lapstrake_runner::IdRange| IdRange {
            inside: range.inside,
            outside: range.outside,
            length: range.count,
        };
        map.0.iter().map(range).collect()
    };
    OwnerMap { uids: ranges(&maps.users), gids: ranges(&maps.groups) }
}
