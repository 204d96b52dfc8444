//! Runs one program in namespaces of its own: the part of Lapstrake that talks to the kernel.
//!
//! It gets a [`Spec`] and returns an [`Exit`]; it knows nothing of Dockerfiles, images or stores.
//!
//! ```text
//! embedding program                     sandbox child, pid 1 of its namespaces
//!   plan(&Spec) -> ops                    = a fresh exec of the same program,
//!   clone + exec itself ────────────────▶   taken over by init() first thing in main
//!   ops through a memfd ────────────────▶ interprets them, changes root, forks ──▶ the program
//!   chunks ◀─────────── stdout, stderr ───────────────────────────────────────────┘
//!   result ◀─────────────────── report ── kills what is left, removes stubs, exits
//! ```
//!
//! Invariants: nothing is mounted outside of the child's mount namespace; when `run` returns, no
//! process of the run is left; if the embedding program dies, however it dies, the kernel kills the
//! whole tree. A program that embeds this crate calls [`init`] first in its `main`, and [`enter`]
//! right after it if it wants to run programs as an ordinary user.

mod bytes;
mod cancel;
mod caps;
mod child;
mod enter;
mod error;
mod extents;
mod foreign;
mod host;
mod idmap;
mod limits;
mod net;
mod ops;
mod parent;
mod protocol;
mod rlimit;
mod seccomp;
mod spec;
mod sys;

pub use cancel::Cancel;
pub use child::init;
pub use enter::{EnterOptions, Entered, NoRanges, Refusal, enter};
pub use error::{Action, EnterError, Note, RunError, SetupError};
pub use extents::shared_extents;
pub use foreign::{ForeignError, can_run};
pub use host::{Check, Facts, Host, Missing, Rung, probe};
pub use idmap::{IdMap, IdMaps, IdRange, SubRange};
pub use limits::SHM_SIZE_DEFAULT_BYTES;
pub use parent::Sandbox;
pub use spec::{
    Exit, Identity, Mount, MountKind, Network, Output, Process, Resource, Root, Scratch, Security,
    Spec, Stdin, Stream, Ulimit,
};

use std::path::Path;

/// Something that can run a program: the real [`Sandbox`], or a recording double in tests.
pub trait Runner: Sync {
    /// Runs the program to its end and hands its output on as it comes. Several runs may go on at
    /// once. A program that fails is an [`Exit`], not an error.
    fn run(
        &self,
        spec: &Spec,
        output: &mut dyn FnMut(Stream, &[u8]),
        cancel: &Cancel,
    ) -> Result<Exit, RunError>;

    /// Whether programs for a platform, in Go's words, can be run; `scratch` is a directory to try it in.
    fn can_run(&self, _os: &str, _architecture: &str, _scratch: &Path) -> Result<(), ForeignError> {
        Ok(())
    }
}
