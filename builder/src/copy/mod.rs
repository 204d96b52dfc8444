//! COPY and ADD: which files are taken, and where they go.
//!
//! ```text
//! Tree (context, stage, image) ▶ select ▶ Vec<Selected> ▶ [hash] ▶ place ▶ Staging ▶ entries of a new layer
//! ```
//!
//! Everything works on descriptions of files ([`crate::tree::Node`]); no file of an image is created on
//! disk for it, so these steps need no privilege at all. The rules are those of `docs/compatibility.md`.

mod additions;
pub mod place;
pub mod select;
pub mod staging;
#[cfg(test)]
mod tests;

pub use place::{Placement, place};
pub use select::{Selected, Selector};
pub use staging::Staging;
