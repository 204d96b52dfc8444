//! Registries: pulling and pushing images over HTTP, and offering the store as a registry.
//!
//! ```text
//! Client ── session (scheme, repository, scopes) ── request ── http
//!   │           └ token ◀── challenge, credential      └ retry
//!   ├ pull:  manifest ▶ config ▶ layers not known by diffID ──▶ Layers::import_tar (verified)
//!   └ push:  layers (exists? mount? upload) ▶ config ▶ manifest
//! serve: hyper ── route ── blobs, uploads, manifests, tags of one Store
//! ```
//!
//! The public face is blocking. The library reads no environment, prints nothing, and holds no
//! secret longer than it needs it; what it says about a failure is data ([`RegistryError`]).
#![forbid(unsafe_code)]

pub mod challenge;
mod client;
mod credential;
mod download;
mod error;
mod fetch;
mod http;
pub mod limits;
mod manifest;
mod parallel;
mod progress;
mod proxy;
mod pull;
mod push;
mod retry;
mod secret;
pub mod serve;
mod source;
mod tls;
mod token;
mod url;

pub use client::{Client, Options};
pub use credential::{
    Anonymous, Credential, CredentialError, CredentialFiles, CredentialSource, FixedCredential,
};
pub use error::{Codes, ErrorCode, Fault, Kind, Operation, RegistryError};
pub use fetch::{FetchRequest, Fetched, Fetcher};
pub use progress::{Event, Outcome, Part, Progress, Silent};
pub use retry::RetryPolicy;
pub use secret::Secret;
pub use source::ObservedClient;
