//! Every bound on what a registry, a proxy, or a client of our server may make us do.
//!
//! Over a limit is an error that names the limit, never a silent cut.

use std::time::Duration;

/// Largest manifest or index read or accepted: the specification asks registries to take at
/// least 4 MiB, and twice that leaves room for indexes with many attestations.
pub const MANIFEST_BYTES: u64 = 8 << 20;

/// Largest image config read: history and labels of real images stay below 1 MiB.
pub const CONFIG_BYTES: u64 = 8 << 20;

/// Most of an error answer that is read; the specification's error documents are far smaller.
pub const ERROR_BYTES: u64 = 64 << 10;

/// Largest answer of a token endpoint: tokens with many scopes reach some tens of KiB.
pub const TOKEN_BYTES: u64 = 1 << 20;

/// Largest credential file that is read.
pub const CREDENTIAL_FILE_BYTES: u64 = 4 << 20;

/// Longest `WWW-Authenticate` value that is parsed.
pub const CHALLENGE_BYTES: usize = 16 << 10;

/// Most parameters kept of one authentication challenge.
pub const CHALLENGE_PARAMETERS: usize = 32;

/// Largest response header block; presigned redirect addresses take a few KiB.
pub const RESPONSE_HEADER_BYTES: usize = 64 << 10;

/// Most redirects followed for one request: a registry sends one, to its blob storage.
pub const REDIRECTS: usize = 5;

/// Longest entity tag that is kept and sent back; real ones have a few dozen bytes.
pub const ETAG_BYTES: usize = 1 << 10;

/// Deepest nesting of indexes followed on the way to a platform's manifest.
pub const INDEX_DEPTH: usize = 4;
/// Images in one index, of all platforms together; official ones have about ten.
pub const PLATFORMS: usize = 100;

/// Most layers of one image: overlayfs itself takes 500 lower directories.
pub const LAYERS: usize = 500;

/// Largest layer or other blob that is accepted from a registry (1 TiB): a bound against
/// descriptors that lie, not a judgement on images.
pub const BLOB_BYTES: u64 = 1 << 40;

/// Most error entries kept of one registry answer.
pub const ERROR_CODES: usize = 8;

/// Longest code or message kept of a registry's error answer.
pub const ERROR_TEXT_CHARS: usize = 300;

/// Requests in flight to one registry unless the caller says otherwise: more gains little on
/// real links, and registries start to limit the rate.
pub const DEFAULT_JOBS: usize = 6;

/// Most requests in flight whatever the caller says.
pub const MAX_JOBS: usize = 64;

/// Longest wait for a connection, including TLS.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(30);

/// Longest wait for the head of an answer: registries hash a whole upload before they answer.
pub const RESPONSE_TIMEOUT: Duration = Duration::from_secs(300);

/// Longest silence inside a body, in either direction; a slow transfer is fine, a dead one not.
pub const IDLE_TIMEOUT: Duration = Duration::from_secs(60);

/// Longest wait for an answer of the token endpoint.
pub const TOKEN_TIMEOUT: Duration = Duration::from_secs(60);

/// Longest `Retry-After` that is waited out; a longer one is reported instead.
pub const RETRY_AFTER: Duration = Duration::from_secs(120);

/// A token without `expires_in` lives this long, says the token specification.
pub const TOKEN_LIFETIME: Duration = Duration::from_secs(60);

/// Longest token lifetime believed.
pub const MAX_TOKEN_LIFETIME: Duration = Duration::from_secs(24 * 3600);

/// Repositories tried as the source of a cross-repository mount before uploading.
pub const MOUNT_CANDIDATES: usize = 2;

/// Uploads open at once on our server; further ones are refused until some end.
pub const SERVER_UPLOADS: usize = 256;

/// Connections served at once by our server; further ones wait.
pub const SERVER_CONNECTIONS: usize = 512;

/// Most names in one page of a tag list or catalog.
pub const SERVER_PAGE: usize = 1000;

/// Longest wait for a request's head on a connection of our server.
pub const SERVER_HEAD_TIMEOUT: Duration = Duration::from_secs(60);

/// Longest silence inside an upload's body on our server, before the upload is given up.
pub const SERVER_BODY_TIMEOUT: Duration = Duration::from_secs(120);

/// Most of a manifest that is too large anyway that our server reads on before it hangs up.
pub const SERVER_DRAIN_BYTES: u64 = 64 << 20;

/// Longest wait for work on the store that is under way when our server is stopped.
pub const SERVER_STOP_TIMEOUT: Duration = Duration::from_secs(1);

/// Buffer of one connection in each direction: one layer's stream then takes a system call per
/// 128 KiB instead of ureq's default.
pub const CONNECTION_BUFFER_BYTES: usize = 128 << 10;

/// What was pushed to our server and not tagged is kept this long after the last write.
pub const SERVER_LEASE_IDLE: Duration = Duration::from_secs(20 * 60);
