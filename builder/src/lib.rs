//! From a Dockerfile to an image: parse, plan, cache, execute.
//!
//! ```text
//! bytes ▶ syntax ▶ Ast ▶ instruction ▶ Dockerfile ▶ graph          pure; no IO
//! graph ▶ base ▶ plan ▶ steps ▶ context ▶ inputs ▶ key ▶ exec ▶ layers ▶ image
//! ```
//!
//! The pure half (`source` … `glob`) is total on any bytes and does no IO. The other half reads the build context and
//! the layer store, runs steps through [`lapstrake_runner::Runner`] and reaches the network only through
//! [`lapstrake_layerstore::source::ImageSource`] and [`remote::RemoteSource`]. Nothing here prints, reads
//! the environment, or takes the clock: the caller hands those in as [`BuildOptions`] and receives
//! [`event::Event`]s. [`embed`] has a whole build in ten lines.
#![forbid(unsafe_code)]

mod pieces;
pub mod share;
pub mod text;
pub mod source;
pub mod diagnostic;
pub mod limits;
pub mod suggest;
pub mod syntax;
pub mod instruction;
pub mod expand;
pub mod glob;
pub mod ignore;
pub mod chmod;
pub mod lint;
pub mod format;

pub mod options;
pub mod event;
pub mod error;
pub mod tree;
pub mod remote;
pub mod scope;
pub mod graph;
pub mod plan;
pub mod identity;
pub mod context;
pub mod copy;
pub mod key;
pub mod explain;
pub mod exec;
pub mod check;
pub mod image;
pub mod verify;
pub mod embed;

pub use error::BuildError;
pub use exec::{build, build_together};
pub use options::BuildOptions;
