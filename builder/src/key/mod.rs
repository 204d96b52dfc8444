//! Cache keys: what a step's result depends on, and nothing else.
//!
//! | input | in the key? | why |
//! |---|---|---|
//! | format version of keys | yes | an encoding change must not find old results |
//! | platform | yes | the same text makes other files elsewhere |
//! | parent chain | yes, but for `COPY --link` | a step sees what is below it; a linked layer does not |
//! | command, its heredocs | yes | it is the step |
//! | environment a RUN receives | yes, in order | it can see all of it |
//! | ARG and ENV for COPY, ADD, WORKDIR | only as expanded | they see nothing else |
//! | user, working directory, network, security, hosts' names, ulimits, shm size | yes | the step can see them |
//! | mounts: type, target, options | yes | the step can see them |
//! | files of COPY, ADD and bind mounts | kind, mode, owner, size, content, links, xattrs | mtimes are left out, as in the reference: a fresh clone must hit |
//! | a URL of ADD | digest of the content, file name | the time of its last change is left out, as for files |
//! | a repository of ADD | commit, directory, submodules, `.git` or not | the commit says which files |
//! | owner and mode flags | yes, as written | names are resolved in the parent chain, which is in the key |
//! | names of cache mounts, values of secrets, SSH sockets | no | they do not belong to the result |
//! | proxy arguments | no | they say how to reach the net, not what is there |
//! | IP addresses of `--add-host` | no | as in the reference |
//! | rung of isolation, jobs, progress, stage names, comments | no | presentation |
//! | SOURCE_DATE_EPOCH | no | it is applied when the tar is made |
//!
//! A key is the blake3 of tagged, length-prefixed fields. What went into it is kept beside the result in
//! readable form, so that a miss can be explained.

mod encode;
mod files;

pub use encode::{KeyEncoder, StepKey};
pub use files::{FilesDigest, digest_selected};

use lapstrake_layerstore::digest::{DiffId, LayerId};

/// Begins the name of the field that holds the digest of what a URL holds; the URL follows.
pub const REMOTE_CONTENT: &str = "content of ";

/// Begins the name of the field that holds the commit a repository was read at; its URL follows.
pub const REMOTE_COMMIT: &str = "commit of ";

/// Changes whenever the encoding or the meaning of a field changes.
pub const KEY_FORMAT: u32 = 1;

/// Identity of a stack of layers, as the steps on top of it see it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ChainId([u8; 32]);

impl ChainId {
    /// No layers at all.
    pub fn empty() -> Self {
        Self(*blake3::hash(b"lapstrake chain 1").as_bytes())
    }

    /// A base image, known by what its config says of its layers, so that a base that was built here and
    /// one that was pulled are the same.
    pub fn base(diff_ids: &[DiffId]) -> Self {
        let mut chain = Self::empty();
        for id in diff_ids {
            chain = chain.extended(b"diff", id.digest().as_bytes());
        }
        chain
    }

    /// With one more layer on top.
    #[must_use]
    pub fn with_layer(self, layer: &LayerId) -> Self {
        self.extended(b"layer", layer.as_bytes())
    }

    fn extended(self, tag: &[u8], id: &[u8; 32]) -> Self {
        let mut hasher = blake3::Hasher::new();
        hasher.update(&self.0).update(tag).update(id);
        Self(*hasher.finalize().as_bytes())
    }

    /// The bytes.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl std::fmt::Display for ChainId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.iter().try_for_each(|b| write!(f, "{b:02x}"))
    }
}
