//! Layers as lines of text, from their tables of contents and from what is on the disk.

use std::collections::BTreeMap;

use lapstrake_layerstore::{
    ContentHash, LayerPath,
    toc::{Entry, Kind, Toc},
    view::View,
};

/// One line for every entry.
pub(crate) fn listed(toc: &Toc) -> String {
    lines(toc.iter().map(line))
}

/// One line for everything that is visible, and the layer that it comes from.
pub(crate) fn shown(view: &View) -> String {
    let visible = view.flatten();
    lines(visible.iter().map(|(_, layer, entry)| format!("{layer}: {}", line(entry))))
}

fn lines(lines: impl Iterator<Item = String>) -> String {
    lines.flat_map(|line| [line, "\n".to_owned()]).collect()
}

fn line(entry: &Entry) -> String {
    let path = escaped(entry.path.as_bytes());
    let Entry { mode, uid, gid, mtime, size, .. } = entry;
    let meta = format!("{mode:o} {uid}:{gid} @{mtime}");
    let xattr = |(name, value): &(Vec<u8>, Vec<u8>)| {
        format!(" {}={}", escaped(name), escaped(&value[..value.len().min(20)]))
    };
    let xattrs: String = entry.xattrs.iter().map(xattr).collect();
    match entry.kind {
        Kind::Dir => format!("{path}/ {meta}{xattrs}"),
        Kind::File => {
            let content = entry.content.map_or("-".into(), |hash| hash.to_string()[..8].to_owned());
            format!("{path} {meta}{xattrs} = {size} bytes {content}")
        }
        Kind::Symlink => format!("{path} {meta}{xattrs} -> {}", escaped(&entry.link)),
        Kind::Hardlink => format!("{path} => {}", escaped(&entry.link)),
        Kind::CharDevice => format!("{path} {meta}{xattrs} char {:?}", entry.device),
        Kind::BlockDevice => format!("{path} {meta}{xattrs} block {:?}", entry.device),
        Kind::Fifo => format!("{path} {meta}{xattrs} fifo"),
        Kind::Whiteout => format!("{path} is removed"),
        Kind::Opaque => format!("{path}/ hides what is below"),
    }
}

fn escaped(bytes: &[u8]) -> String {
    bytes.escape_ascii().to_string()
}

/// What a path is, comparable between a table of contents and a disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Thing {
    pub(crate) kind: Kind,
    pub(crate) mode: u32,
    pub(crate) owner: (u32, u32),
    pub(crate) mtime: i64,
    pub(crate) size: u64,
    pub(crate) content: Option<ContentHash>,
    pub(crate) link: Vec<u8>,
    pub(crate) device: (u32, u32),
    /// What `security.capability` says.
    pub(crate) capability: Option<Vec<u8>>,
    /// The first of the names that are one file.
    pub(crate) same_as: Vec<u8>,
}

impl Thing {
    fn of(entry: &Entry, same_as: &[u8]) -> Thing {
        let capability = entry.xattrs.iter().find(|(name, _)| name == b"security.capability");
        Thing {
            kind: entry.kind,
            mode: if entry.kind == Kind::Symlink { 0o777 } else { entry.mode },
            owner: (entry.uid, entry.gid),
            mtime: storable(entry.mtime),
            size: entry.size,
            content: entry.content,
            link: entry.link.to_vec(),
            device: entry.device,
            capability: capability.map(|(_, value)| value.clone()),
            same_as: same_as.to_vec(),
        }
    }
}

/// The things of a table of contents; hard links as the files that they name.
pub(crate) fn things(toc: &Toc) -> BTreeMap<Vec<u8>, Thing> {
    let mut groups: BTreeMap<&[u8], &[u8]> = BTreeMap::new();
    for entry in toc.iter().filter(|entry| entry.kind == Kind::Hardlink) {
        let first = groups.entry(&entry.link).or_insert(&entry.link);
        *first = (*first).min(entry.path.as_bytes());
    }
    let thing = |entry: &Entry| {
        let path = entry.path.as_bytes();
        let target = match entry.kind {
            Kind::Hardlink => &LayerPath::parse(&entry.link).expect("a path"),
            _ => &entry.path,
        };
        let named = toc.lookup(target).expect("the file that the link names");
        Thing::of(named, groups.get(target.as_bytes()).copied().unwrap_or(path))
    };
    let entries = toc.iter().filter(|entry| entry.kind != Kind::Opaque);
    entries.map(|entry| (entry.path.as_bytes().to_vec(), thing(entry))).collect()
}

/// The things that are visible, but for the root.
pub(crate) fn seen(view: &View) -> BTreeMap<Vec<u8>, Thing> {
    let mut first_names = BTreeMap::new();
    let mut seen = BTreeMap::new();
    for found in view.iter().filter(|found| !found.entry.path.is_root()) {
        let path = found.entry.path.clone();
        let file = (found.layer, found.link_target.unwrap_or_else(|| path.clone()));
        let first = first_names.entry(file).or_insert_with(|| path.clone());
        let thing = Thing::of(&found.entry, first.as_bytes());
        seen.insert(path.as_bytes().to_vec(), thing);
    }
    seen
}

/// File systems stop the clock somewhere (ext4 in 2446 and 1901): the table of contents has the truth.
fn storable(mtime: i64) -> i64 {
    mtime.clamp(-(1 << 31), (1 << 33) + (1 << 32))
}

/// What is on the disk.
pub(crate) mod disk {
    use std::{
        collections::{BTreeMap, BTreeSet, HashMap},
        ffi::OsStr,
        fs,
        os::unix::{ffi::OsStrExt as _, fs::MetadataExt as _},
        path::Path,
    };

    use lapstrake_layerstore::{
        ContentHash,
        toc::{Kind, Toc},
    };

    use super::{Thing, storable, things};

    /// The tree of a layer is its table of contents, and nothing else.
    pub(crate) fn check(tree: &Path, toc: &Toc) {
        let mut expected = things(toc);
        let is_implied = |path: &[u8]| !expected.contains_key(path);
        let found = read(tree);
        let implied: BTreeSet<Vec<u8>> =
            found.keys().filter(|path| is_implied(path)).cloned().collect();
        // The root's metadata is set on the tree's own directory.
        let root = expected.remove(&b""[..]);
        for (path, thing) in &found {
            let shown = path.escape_ascii();
            match expected.remove(path) {
                Some(wanted) if wanted.kind == Kind::Whiteout => {
                    assert_eq!((thing.kind, thing.device), (Kind::CharDevice, (0, 0)), "{shown}");
                }
                Some(wanted) => assert_eq!(*thing, wanted, "{shown}"),
                None => {
                    assert!(implied.contains(path));
                    assert_eq!((thing.kind, thing.mode), (Kind::Dir, 0o755), "{shown}");
                }
            }
        }
        assert!(expected.is_empty(), "missing in the tree: {expected:?}");
        if let Some(root) = root {
            let meta = fs::metadata(tree).expect("there");
            assert_eq!(meta.mode() & 0o7777, root.mode);
        }
        overlay_marks(tree, toc);
    }

    /// Everything below a directory.
    pub(crate) fn read(root: &Path) -> BTreeMap<Vec<u8>, Thing> {
        let mut found = BTreeMap::new();
        walk(root, b"", &mut found);
        let mut first_names = HashMap::new();
        for (path, thing) in &mut found {
            if thing.kind != Kind::Dir {
                let meta = fs::symlink_metadata(root.join(OsStr::from_bytes(path)));
                let meta = meta.expect("there a moment ago");
                let first = first_names.entry((meta.dev(), meta.ino()));
                thing.same_as.clone_from(first.or_insert_with(|| path.clone()));
            }
        }
        found
    }

    fn walk(root: &Path, below: &[u8], found: &mut BTreeMap<Vec<u8>, Thing>) {
        for entry in fs::read_dir(root.join(OsStr::from_bytes(below))).expect("readable") {
            let name = entry.expect("readable").file_name();
            let slash: &[u8] = if below.is_empty() { b"" } else { b"/" };
            let path = [below, slash, name.as_bytes()].concat();
            let thing = thing(root, &path);
            if thing.kind == Kind::Dir {
                walk(root, &path, found);
            }
            found.insert(path, thing);
        }
    }

    fn thing(root: &Path, path: &[u8]) -> Thing {
        let at = root.join(OsStr::from_bytes(path));
        let meta = fs::symlink_metadata(&at).expect("there");
        let kind = match meta.mode() & 0o170_000 {
            0o040_000 => Kind::Dir,
            0o100_000 => Kind::File,
            0o120_000 => Kind::Symlink,
            0o020_000 => Kind::CharDevice,
            0o060_000 => Kind::BlockDevice,
            0o010_000 => Kind::Fifo,
            other => panic!("{}: file type {other:o}", at.display()),
        };
        let is_device = matches!(kind, Kind::CharDevice | Kind::BlockDevice);
        let size = if kind == Kind::File { meta.len() } else { 0 };
        let content = (size > 0).then(|| ContentHash::of(&fs::read(&at).expect("readable")));
        let link = match kind {
            Kind::Symlink => fs::read_link(&at).expect("a link").as_os_str().as_bytes().to_vec(),
            _ => Vec::new(),
        };
        let device = (rustix::fs::major(meta.rdev()), rustix::fs::minor(meta.rdev()));
        Thing {
            kind,
            mode: meta.mode() & 0o7777,
            owner: (meta.uid(), meta.gid()),
            mtime: storable(meta.mtime()),
            size,
            content,
            link,
            device: if is_device { device } else { (0, 0) },
            capability: capability(&at),
            same_as: path.to_vec(),
        }
    }

    fn capability(at: &Path) -> Option<Vec<u8>> {
        let mut value = vec![0; 64];
        let length = rustix::fs::lgetxattr(at, "security.capability", &mut value).ok()?;
        value.truncate(length);
        Some(value)
    }

    /// Overlayfs's own attributes are ours alone: opaque directories, and no other.
    fn overlay_marks(tree: &Path, toc: &Toc) {
        let opaque: BTreeSet<&[u8]> = toc
            .iter()
            .filter(|entry| entry.kind == Kind::Opaque)
            .map(|entry| entry.path.as_bytes())
            .collect();
        let paths = read(tree).into_keys().chain([Vec::new()]);
        for path in paths {
            let at = tree.join(OsStr::from_bytes(&path));
            let mut names = vec![0; 4096];
            let length = rustix::fs::llistxattr(&at, &mut names).expect("a list");
            let marks: Vec<&[u8]> = names[..length]
                .split(|byte| *byte == 0)
                .filter(|name| {
                    name.starts_with(b"trusted.overlay") || name.starts_with(b"user.overlay")
                })
                .collect();
            let wanted: &[&[u8]] =
                if opaque.contains(path.as_slice()) { &[b"trusted.overlay.opaque"] } else { &[] };
            assert_eq!(marks, wanted, "{}", at.display());
        }
    }
}
