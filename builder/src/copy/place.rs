//! Where selected files go: the destination rules of COPY and ADD.

use super::select::{Item, Selected};
use super::staging::{Staging, join};
use crate::chmod::Mode;
use crate::error::BuildError;
use crate::tree::{Node, Resolved, Tree, clean_onto, resolve};
use lapstrake_layerstore::path::LayerPath;
use lapstrake_layerstore::toc::Kind;

/// Mode of directories that the build makes.
pub const DIRECTORY_MODE: u32 = 0o755;

/// How the files of one COPY or ADD are put into the image.
#[derive(Debug, Clone)]
pub struct Placement {
    /// Destination from the root, after expansion and WORKDIR; a trailing `/` or `/.` means a directory.
    pub dest: Vec<u8>,
    /// `--chown`, resolved.
    pub owner: Option<(u32, u32)>,
    /// `--chmod`.
    pub mode: Option<Mode>,
    /// Modification time of directories that the build makes.
    pub now: i64,
}

impl Placement {
    /// Whether the destination is written as a directory.
    fn names_directory(&self) -> bool {
        self.dest.is_empty()
            || self.dest.ends_with(b"/")
            || self.dest.ends_with(b"/.")
            || self.dest == b"."
    }

    /// A directory that has to be there and is not.
    fn implied_directory(&self) -> Node {
        // mkdir takes the permission bits alone.
        let mode = self.mode.as_ref().and_then(Mode::octal).unwrap_or(DIRECTORY_MODE) & 0o777;
        let (uid, gid) = self.owner.unwrap_or((0, 0));
        Node::directory(mode, uid, gid, self.now)
    }

    /// What a copied file becomes.
    fn dressed(&self, node: &Node) -> Node {
        let mut node = node.clone();
        if let Some((uid, gid)) = self.owner {
            (node.uid, node.gid) = (uid, gid);
        }
        if let Some(mode) = &self.mode
            && node.kind != Kind::Symlink
        {
            node.mode = mode.apply(node.mode, node.is_dir());
        }
        node
    }
}

/// Put one selected source into `staging`.
pub fn place(
    staging: &mut Staging<'_>,
    selected: &Selected,
    how: &Placement,
) -> Result<(), BuildError> {
    let dest = prepare(staging, how)?;
    if selected.node.is_dir() {
        return place_directory(staging, selected, &dest, how);
    }
    let target = match staging.get(&dest)? {
        Some(node) if node.is_dir() => join(&dest, &selected.name)?,
        _ => dest,
    };
    make_directories(staging, target.parent(), how)?;
    put_file(staging, target, &selected.node, how)
}

/// Make what must be there before anything is copied, and follow the destination's own links.
pub fn prepare(staging: &mut Staging<'_>, how: &Placement) -> Result<LayerPath, BuildError> {
    let wanted = if how.names_directory() {
        how.dest.as_slice()
    } else {
        let end = how.dest.iter().rposition(|&b| b == b'/').unwrap_or(0);
        &how.dest[..end]
    };
    ensure_directory(staging, wanted, how)?;
    follow(staging, &how.dest)
}

/// The path that `dest` leads to, links followed.
fn follow(staging: &Staging<'_>, dest: &[u8]) -> Result<LayerPath, BuildError> {
    match resolve(staging, dest, true)? {
        Resolved::Found(path) | Resolved::Missing(path) => Ok(path),
        Resolved::NotADirectory(path) => Err(not_a_directory(&path)),
    }
}

/// Make `path` a directory, links on the way followed.
pub fn ensure_directory(
    staging: &mut Staging<'_>,
    path: &[u8],
    how: &Placement,
) -> Result<LayerPath, BuildError> {
    let at = follow(staging, path)?;
    make_directories(staging, Some(at.clone()), how)?;
    Ok(at)
}

/// Make the directory `path` and those above it where they are missing.
fn make_directories(
    staging: &mut Staging<'_>,
    path: Option<LayerPath>,
    how: &Placement,
) -> Result<(), BuildError> {
    let mut missing = Vec::new();
    let mut at = path;
    while let Some(dir) = at {
        match staging.kind(&dir)? {
            Some(Kind::Dir) => break,
            Some(_) => return Err(not_a_directory(&dir)),
            None => missing.push(dir.clone()),
        }
        at = dir.parent();
    }
    for dir in missing.into_iter().rev() {
        staging.put(dir, how.implied_directory())?;
    }
    Ok(())
}

/// A directory's contents go into the destination, never the directory itself.
fn place_directory(
    staging: &mut Staging<'_>,
    selected: &Selected,
    dest: &LayerPath,
    how: &Placement,
) -> Result<(), BuildError> {
    if let Some(node) = staging.get(dest)?
        && !node.is_dir()
    {
        return Err(not_a_directory(dest));
    }
    make_directories(staging, Some(dest.clone()), how)?;
    let mut directories = Vec::new();
    for item in &selected.items {
        directories.extend(place_item(staging, item, dest, how)?);
    }
    // Times of directories last: what is put into one changes its time.
    for (directory, mtime) in directories.into_iter().rev() {
        staging.set_time(&directory, mtime)?;
    }
    staging.set_time(dest, selected.node.mtime)?;
    Ok(())
}

/// Puts one item; for a directory whose time the copy sets, its place and that time.
fn place_item(
    staging: &mut Staging<'_>,
    item: &Item,
    dest: &LayerPath,
    how: &Placement,
) -> Result<Option<(LayerPath, i64)>, BuildError> {
    let target = append(dest, &item.relative)?;
    if !item.node.is_dir() {
        put_file(staging, target, &item.node, how)?;
        return Ok(None);
    }
    match staging.get(&target)? {
        Some(old) if !old.is_dir() => Err(not_a_directory(&target)),
        // The reference gives one that is there the source's mode, and nothing else.
        Some(old) if item.only_above => {
            let node = Node { mode: item.node.mode, ..old };
            staging.put_over(Some(Kind::Dir), target, node)?;
            Ok(None)
        }
        old => {
            let old = old.map(|node| node.kind);
            staging.put_over(old, target.clone(), how.dressed(&item.node))?;
            Ok(Some((target, item.node.mtime)))
        }
    }
}

fn append(dest: &LayerPath, relative: &LayerPath) -> Result<LayerPath, BuildError> {
    dest.append(relative)
        .map_err(|source| BuildError::BadPath { path: format!("{dest}/{relative}"), source })
}

fn put_file(
    staging: &mut Staging<'_>,
    target: LayerPath,
    node: &Node,
    how: &Placement,
) -> Result<(), BuildError> {
    match staging.kind(&target)? {
        Some(Kind::Dir) => Err(BuildError::FileOverDirectory { path: format!("/{target}") }),
        old => staging.put_over(old, target, how.dressed(node)),
    }
}

fn not_a_directory(path: &LayerPath) -> BuildError {
    BuildError::NotADirectory { path: format!("/{path}") }
}

/// Join a destination as written to the working directory, keeping what says "directory" at its end.
pub fn destination(workdir: &str, dest: &str) -> Result<Vec<u8>, BuildError> {
    let is_dir = dest.is_empty() || dest == "." || dest.ends_with('/') || dest.ends_with("/.");
    let mut out = Vec::with_capacity(workdir.len() + dest.len() + "//".len());
    if !dest.starts_with('/') {
        clean_onto(&mut out, workdir.as_bytes());
    }
    clean_onto(&mut out, dest.as_bytes());
    LayerPath::check(&out)
        .map_err(|source| BuildError::BadPath { path: format!("{workdir}/{dest}"), source })?;
    if is_dir || out.is_empty() {
        out.push(b'/');
    }
    Ok(out)
}
