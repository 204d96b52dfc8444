//! The files that a step read, kept so that the next build can say which of them changed.
//!
//! ```text
//! magic "LAPFILES" │ version u8 │ digest len u16, digest │ entries u32 │ zstd( entry* )
//! entry: group u16 │ kind u8 │ mode u32 │ uid u32 │ gid u32 │ size u64 │ content 16 │ xattrs 8
//!        path len u32, path │ link len u32, link                                   little endian
//! ```
//! A list is kept under the name of its step, so there is one for each step of a Dockerfile, not one
//! for each build. The digest says which selection it lists. A damaged list is as good as none.

use crate::copy::Selected;
use crate::limits::{MAX_FILE_LIST_BYTES, MAX_SHOWN_FILES};
use crate::tree::{Node, lossy};
use lapstrake_layerstore::toc::Kind;
use serde::{Deserialize, Serialize};
use std::cmp::Ordering;

const MAGIC: &[u8; 8] = b"LAPFILES";
const VERSION: u8 = 1;
/// Speed counts here, and names compress well at any level.
const ZSTD_LEVEL: i32 = 1;
/// Characters of a content's hash that are shown.
const SHOWN_HASH_CHARS: usize = 12;

/// What is known of a file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileFacts {
    /// Size in bytes, for regular files.
    pub size: u64,
    /// Mode in octal digits, `0644`.
    pub mode: String,
    /// The first characters of the content's blake3, the target of a link, or the kind of file.
    pub content: String,
}

/// A file that is different.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileChange {
    /// Its path in the context, stage or image that the step reads.
    pub path: String,
    /// Before; none for a new file.
    pub old: Option<FileFacts>,
    /// Now; none for one that is gone.
    pub new: Option<FileFacts>,
    /// What is different: `content`, `mode`, `owner`, `xattrs`, `kind`.
    pub what: Vec<String>,
    /// The source of the instruction that names a new file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub named_by: Option<String>,
}

/// The files that are different.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct FileChanges {
    /// How many are new.
    pub added: usize,
    /// How many are gone.
    pub removed: usize,
    /// How many have other contents, modes or owners.
    pub changed: usize,
    /// The first of them, by path.
    pub files: Vec<FileChange>,
    /// The list of the earlier build's files is gone, so that it is unknown which they are.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub unknown: bool,
}

/// The files of one step, sorted by group and path.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct FileList {
    digest: String,
    entries: Vec<Entry>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Entry {
    /// Which of the step's mounts or sources it belongs to: their trees may hold equal paths.
    group: u16,
    path: Vec<u8>,
    kind: u8,
    mode: u32,
    owner: (u32, u32),
    size: u64,
    content: [u8; 16],
    link: Vec<u8>,
    xattrs: [u8; 8],
}

impl FileList {
    /// The files of selections, each from its own tree.
    pub(crate) fn of<'s>(digest: &str, groups: impl IntoIterator<Item = &'s [Selected]>) -> Self {
        let mut entries = Vec::new();
        for (group, selected) in groups.into_iter().enumerate() {
            let group = u16::try_from(group).unwrap_or(u16::MAX);
            for each in selected {
                if !each.node.is_dir() {
                    entries.push(Entry::new(group, each.source.as_bytes(), &each.node));
                }
                let below = each.items.iter();
                entries.extend(below.map(|i| Entry::new(group, i.source.as_bytes(), &i.node)));
            }
        }
        entries.sort_unstable_by(Entry::order);
        entries.dedup_by(|a, b| a.order(b).is_eq());
        Self { digest: digest.to_owned(), entries }
    }

    /// Whether it lists the selection of this digest.
    pub(crate) fn is_of(&self, digest: &str) -> bool {
        self.digest == digest
    }

    /// The bytes to store; none if they would be too many.
    pub(crate) fn encode(&self) -> Option<Vec<u8>> {
        let mut raw = Vec::new();
        for entry in &self.entries {
            entry.encode(&mut raw)?;
        }
        if raw.len() > MAX_FILE_LIST_BYTES {
            return None;
        }
        let mut out = Vec::from(MAGIC);
        out.push(VERSION);
        out.extend_from_slice(&u16::try_from(self.digest.len()).ok()?.to_le_bytes());
        out.extend_from_slice(self.digest.as_bytes());
        out.extend_from_slice(&u32::try_from(self.entries.len()).ok()?.to_le_bytes());
        out.extend_from_slice(&zstd::bulk::compress(&raw, ZSTD_LEVEL).ok()?);
        Some(out)
    }

    /// Reads what [`Self::encode`] wrote.
    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let mut at = Reader(bytes);
        if at.take(MAGIC.len())? != MAGIC || at.array::<1>()? != [VERSION] {
            return None;
        }
        let length = usize::from(u16::from_le_bytes(at.array()?));
        let digest = String::from_utf8(at.take(length)?.to_vec()).ok()?;
        let count = u32::from_le_bytes(at.array()?);
        let raw = zstd::bulk::decompress(at.0, MAX_FILE_LIST_BYTES).ok()?;
        let mut at = Reader(&raw);
        let mut entries = Vec::new();
        while !at.0.is_empty() {
            entries.push(Entry::decode(&mut at)?);
        }
        (u32::try_from(entries.len()) == Ok(count)).then_some(Self { digest, entries })
    }

    /// What is different from `old`. `named_by` finds the source that names a new file.
    pub(crate) fn changes(
        &self,
        old: &Self,
        named_by: &dyn Fn(&[u8]) -> Option<String>,
    ) -> FileChanges {
        let mut changes = FileChanges::default();
        let (mut before, mut now) = (old.entries.iter().peekable(), self.entries.iter().peekable());
        loop {
            let order = match (before.peek(), now.peek()) {
                (None, None) => return changes,
                (Some(_), None) => Ordering::Less,
                (None, Some(_)) => Ordering::Greater,
                (Some(a), Some(b)) => a.order(b),
            };
            let a = if order.is_le() { before.next() } else { None };
            let b = if order.is_ge() { now.next() } else { None };
            changes.note(a, b, named_by);
        }
    }
}

impl FileChanges {
    fn note(
        &mut self,
        old: Option<&Entry>,
        new: Option<&Entry>,
        named_by: &dyn Fn(&[u8]) -> Option<String>,
    ) {
        match (old, new) {
            (Some(a), Some(b)) if a == b => return,
            (Some(_), Some(_)) => self.changed += 1,
            (Some(_), None) => self.removed += 1,
            (None, Some(_)) => self.added += 1,
            (None, None) => return,
        }
        if self.files.len() >= MAX_SHOWN_FILES {
            return;
        }
        let Some(either) = new.or(old) else { return };
        self.files.push(FileChange {
            path: lossy(&either.path),
            old: old.map(Entry::facts),
            new: new.map(Entry::facts),
            what: match (old, new) {
                (Some(a), Some(b)) => a.differences(b),
                _ => Vec::new(),
            },
            named_by: if old.is_none() { named_by(&either.path) } else { None },
        });
    }
}

impl Entry {
    fn new(group: u16, path: &[u8], node: &Node) -> Self {
        let mut content = [0; 16];
        if let Some(hash) = node.content.filter(|_| node.size > 0) {
            content.copy_from_slice(&hash.as_bytes()[..16]);
        }
        let mut xattrs = [0; 8];
        if !node.xattrs.is_empty() {
            let mut hasher = blake3::Hasher::new();
            for part in node.xattrs.iter().flat_map(|(name, value)| [name, value]) {
                hasher.update(&(part.len() as u64).to_le_bytes()).update(part);
            }
            xattrs.copy_from_slice(&hasher.finalize().as_bytes()[..8]);
        }
        Self {
            group,
            path: path.to_vec(),
            kind: kind_code(node.kind),
            mode: node.mode,
            owner: (node.uid, node.gid),
            size: node.size,
            content,
            link: node.link.to_vec(),
            xattrs,
        }
    }

    fn order(&self, other: &Self) -> Ordering {
        (self.group, &self.path).cmp(&(other.group, &other.path))
    }

    fn facts(&self) -> FileFacts {
        let content = match self.kind {
            b'f' if self.size == 0 => "empty".to_owned(),
            b'f' => {
                let mut whole = [0; 32];
                whole[..self.content.len()].copy_from_slice(&self.content);
                blake3::Hash::from_bytes(whole).to_hex()[..SHOWN_HASH_CHARS].to_owned()
            }
            b'l' => format!("-> {}", lossy(&self.link)),
            b'd' => "directory".to_owned(),
            b'p' => "fifo".to_owned(),
            _ => "device".to_owned(),
        };
        FileFacts { size: self.size, mode: format!("{:04o}", self.mode), content }
    }

    fn differences(&self, new: &Self) -> Vec<String> {
        let same_content = (self.size, self.content, &self.link);
        let all = [
            ("kind", self.kind != new.kind),
            ("content", same_content != (new.size, new.content, &new.link)),
            ("mode", self.mode != new.mode),
            ("owner", self.owner != new.owner),
            ("xattrs", self.xattrs != new.xattrs),
        ];
        all.iter().filter(|(_, differs)| *differs).map(|(what, _)| (*what).to_owned()).collect()
    }

    fn encode(&self, out: &mut Vec<u8>) -> Option<()> {
        out.extend_from_slice(&self.group.to_le_bytes());
        out.push(self.kind);
        for number in [self.mode, self.owner.0, self.owner.1] {
            out.extend_from_slice(&number.to_le_bytes());
        }
        out.extend_from_slice(&self.size.to_le_bytes());
        out.extend_from_slice(&self.content);
        out.extend_from_slice(&self.xattrs);
        for text in [&self.path, &self.link] {
            out.extend_from_slice(&u32::try_from(text.len()).ok()?.to_le_bytes());
            out.extend_from_slice(text);
        }
        Some(())
    }

    fn decode(at: &mut Reader<'_>) -> Option<Self> {
        let group = u16::from_le_bytes(at.array()?);
        let [kind] = at.array()?;
        let mode = u32::from_le_bytes(at.array()?);
        let owner = (u32::from_le_bytes(at.array()?), u32::from_le_bytes(at.array()?));
        let size = u64::from_le_bytes(at.array()?);
        let (content, xattrs) = (at.array()?, at.array()?);
        let path = at.text()?;
        let link = at.text()?;
        Some(Self { group, path, kind, mode, owner, size, content, link, xattrs })
    }
}

fn kind_code(kind: Kind) -> u8 {
    match kind {
        Kind::Dir => b'd',
        Kind::File | Kind::Hardlink => b'f',
        Kind::Symlink => b'l',
        Kind::Fifo => b'p',
        Kind::CharDevice | Kind::BlockDevice => b'c',
        Kind::Whiteout | Kind::Opaque => b'w',
    }
}

/// Takes pieces from the front; none once they run out.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (head, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(head)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.take(N)?.try_into().ok()
    }

    fn text(&mut self) -> Option<Vec<u8>> {
        let length = u32::from_le_bytes(self.array()?);
        Some(self.take(usize::try_from(length).ok()?)?.to_vec())
    }
}
