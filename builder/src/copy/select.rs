//! Which files a COPY or ADD source names: literal paths, wildcards, `--parents`, `--exclude`.

use super::staging::join;
use crate::error::BuildError;
use crate::glob::Pattern;
use crate::ignore::{Matcher, ParentMatches};
use crate::tree::{Node, Resolved, Tree, clean_from_root, lossy, resolve};
use lapstrake_layerstore::path::LayerPath;
use lapstrake_layerstore::toc::Kind;
use rayon::prelude::*;

/// A directory with fewer directories in it than this is walked by the thread that found it: waking others
/// costs more than looking at a few.
const PARALLEL_DIRECTORIES_MIN: usize = 4;

/// One file below a selected directory.
#[derive(Debug, Clone)]
pub struct Item {
    /// Path relative to the selected directory.
    pub relative: LayerPath,
    /// Path in the source tree.
    pub source: LayerPath,
    /// What it is.
    pub node: Node,
    /// Whether it is a directory that is taken only because something below it is: one that the
    /// destination has already keeps its owner and time.
    pub only_above: bool,
}

/// One source after matching: a file, or a directory with what is below it.
#[derive(Debug, Clone)]
pub struct Selected {
    /// Last component of the path as written (after wildcards): the name it gets inside a directory.
    pub name: Vec<u8>,
    /// Where it is, links followed.
    pub source: LayerPath,
    /// What it is.
    pub node: Node,
    /// For a directory: what is below it, parents first, in lexical order.
    pub items: Vec<Item>,
    /// Whether only the parts below matter (`--parents`), not the directory itself.
    pub parents: bool,
}

/// The flags that change what is selected.
#[derive(Debug, Clone, Default)]
pub struct Selector {
    /// `--exclude` patterns.
    pub excludes: Option<Matcher>,
    /// `--parents`.
    pub parents: bool,
    /// Whether wildcards are ordinary characters, as in a mount's source.
    pub literal: bool,
}

/// Everything that `source`, as written after expansion, names in `tree`.
///
/// A wildcard that matches nothing selects nothing; a literal path that is not there is an error.
pub fn select(tree: &dyn Tree, source: &[u8], how: &Selector) -> Result<Vec<Selected>, BuildError> {
    if how.parents {
        return select_parents(tree, source, how);
    }
    let clean = clean_from_root(source)?;
    if how.literal || !clean.components().any(has_wildcard) {
        return Ok(vec![select_literal(tree, &clean, &clean, source, how)?]);
    }
    wildcard_matches(tree, &clean, source)?
        .iter()
        .map(|path| select_literal(tree, path, path, source, how))
        .collect()
}

/// A path without wildcards, its own link followed too.
fn select_literal(
    tree: &dyn Tree,
    path: &LayerPath,
    written: &LayerPath,
    source: &[u8],
    how: &Selector,
) -> Result<Selected, BuildError> {
    let not_found = || BuildError::SourceNotFound { path: shown(source) };
    let at = resolve(tree, path.as_bytes(), true)?.found().ok_or_else(not_found)?;
    let node = tree.get(&at)?.ok_or_else(not_found)?;
    let items = if node.is_dir() { walk(tree, &at, how.excludes.as_ref())? } else { Vec::new() };
    let name = written.file_name().unwrap_or_default().to_vec();
    Ok(Selected { name, source: at, node, items, parents: false })
}

/// How a source is shown in a message: from the root of its tree.
fn shown(source: &[u8]) -> String {
    match clean_from_root(source) {
        Ok(path) => format!("/{path}"),
        Err(_) => lossy(source),
    }
}

/// Whether a component is a pattern; a backslash protects the byte after it.
fn has_wildcard(name: &[u8]) -> bool {
    let mut bytes = name.iter();
    while let Some(b) = bytes.next() {
        match b {
            b'\\' => {
                bytes.next();
            }
            b'*' | b'?' | b'[' => return true,
            _ => {}
        }
    }
    false
}

/// The paths that match a pattern, in lexical order. Links are followed in the part before the first
/// wildcard and nowhere after it.
fn wildcard_matches(
    tree: &dyn Tree,
    pattern: &LayerPath,
    source: &[u8],
) -> Result<Vec<LayerPath>, BuildError> {
    let parts: Vec<&[u8]> = pattern.components().collect();
    let first = parts.iter().position(|p| has_wildcard(p)).unwrap_or(parts.len());
    let patterns = parts[first..]
        .iter()
        .map(|part| {
            Pattern::parse(part).map_err(|_| BuildError::BadPattern { pattern: lossy(source) })
        })
        .collect::<Result<Vec<_>, _>>()?;
    let Some(start) = resolve(tree, &parts[..first].join(&b'/'), true)?.found() else {
        return Ok(Vec::new());
    };
    let mut found = Vec::new();
    match_below(tree, &start, &patterns, &mut found)?;
    Ok(found)
}

fn match_below(
    tree: &dyn Tree,
    dir: &LayerPath,
    patterns: &[Pattern],
    found: &mut Vec<LayerPath>,
) -> Result<(), BuildError> {
    let [pattern, rest @ ..] = patterns else { return Ok(()) };
    for (name, node) in tree.children(dir)? {
        if !pattern.matches(&name) {
            continue;
        }
        let path = join(dir, &name)?;
        if rest.is_empty() {
            found.push(path);
        } else if node.is_dir() {
            match_below(tree, &path, rest, found)?;
        }
    }
    Ok(())
}

/// Everything below `dir` that no exclusion removes, parents first. Directories are read in parallel.
pub fn walk(
    tree: &dyn Tree,
    dir: &LayerPath,
    excludes: Option<&Matcher>,
) -> Result<Vec<Item>, BuildError> {
    walk_below(tree, dir, &LayerPath::root(), (excludes, &ParentMatches::default()))
}

fn walk_below(
    tree: &dyn Tree,
    dir: &LayerPath,
    relative: &LayerPath,
    excludes: (Option<&Matcher>, &ParentMatches),
) -> Result<Vec<Item>, BuildError> {
    let children = tree.children(dir)?;
    let directories = children.iter().filter(|(_, node)| node.is_dir()).count();
    let mut items = Vec::with_capacity(children.len());
    if directories < PARALLEL_DIRECTORIES_MIN {
        for child in children {
            walk_child(tree, (dir, relative), child, excludes, &mut items)?;
        }
        return Ok(items);
    }
    // Folded, so that there is a vector for each share of the work and not for each file.
    let share = |items: Result<Vec<Item>, BuildError>, child| {
        let mut items = items?;
        walk_child(tree, (dir, relative), child, excludes, &mut items).map(|()| items)
    };
    let parts = children.into_par_iter().fold(|| Ok(Vec::new()), share);
    let parts = parts.collect::<Result<Vec<_>, BuildError>>()?;
    items.reserve(parts.iter().map(Vec::len).sum());
    for mut part in parts {
        items.append(&mut part);
    }
    Ok(items)
}

/// Appends a child of the directory `dir`, which is `relative` in the selection, and what is below it.
fn walk_child(
    tree: &dyn Tree,
    (dir, relative): (&LayerPath, &LayerPath),
    (name, node): (Vec<u8>, Node),
    (excludes, above): (Option<&Matcher>, &ParentMatches),
    items: &mut Vec<Item>,
) -> Result<(), BuildError> {
    let source = join(dir, &name)?;
    let relative = join(relative, &name)?;
    let is_dir = node.is_dir();
    let (excluded, matches) =
        excludes.map_or_else(Default::default, |e| e.decide(relative.as_bytes(), above));
    if excluded && (!is_dir || excludes.is_some_and(|e| e.can_prune(relative.as_bytes(), &matches)))
    {
        return Ok(());
    }
    let below = if is_dir {
        walk_below(tree, &source, &relative, (excludes, &matches))?
    } else {
        Vec::new()
    };
    if excluded && below.is_empty() {
        return Ok(());
    }
    items.push(Item { relative, source, node, only_above: excluded });
    items.extend(below);
    Ok(())
}

/// `--parents`: `base/./pattern`, or the pattern from the root.
fn select_parents(
    tree: &dyn Tree,
    source: &[u8],
    how: &Selector,
) -> Result<Vec<Selected>, BuildError> {
    let (base, pattern) = split_pivot(source);
    let pattern = clean_from_root(pattern)?;
    let base_path = clean_from_root(base)?;
    let literal = !base_path.components().chain(pattern.components()).any(has_wildcard);
    let bases = if base_path.components().any(has_wildcard) {
        wildcard_matches(tree, &base_path, source)?
    } else {
        vec![base_path]
    };
    let mut all = Vec::new();
    for base in bases {
        let Resolved::Found(at) = resolve(tree, base.as_bytes(), true)? else {
            return Err(BuildError::SourceNotFound { path: shown(source) });
        };
        let Some(node) = tree.get(&at)? else { continue };
        if literal && !stands_below(tree, &at, &pattern)? {
            return Err(BuildError::SourceNotFound { path: shown(source) });
        }
        let items = if pattern.is_root() {
            walk(tree, &at, how.excludes.as_ref())?
        } else {
            matching_with_parents(tree, &at, &pattern, how, source)?
        };
        // A file that the base's wildcard matches is copied under its name.
        let name = base.file_name().unwrap_or_default().to_vec();
        all.push(Selected { name, source: at, node, items, parents: true });
    }
    Ok(all)
}

/// Whether a path is there, excluded or not, with no link on the way.
fn stands_below(tree: &dyn Tree, base: &LayerPath, path: &LayerPath) -> Result<bool, BuildError> {
    let mut at = base.clone();
    for name in path.components() {
        let Some(Kind::Dir) = tree.get(&at)?.map(|node| node.kind) else { return Ok(false) };
        at = join(&at, name)?;
    }
    Ok(tree.get(&at)?.is_some())
}

/// Split at the first `/./`, which marks where the kept part of the path begins.
fn split_pivot(source: &[u8]) -> (&[u8], &[u8]) {
    match source.windows(3).position(|w| w == b"/./") {
        Some(at) => (&source[..at], &source[at + 3..]),
        None if source.starts_with(b"./") => (b"", &source[2..]),
        None => (b"", source),
    }
}

/// The files below `base` that match `pattern` or lie in a directory that does, with the directories
/// above them.
fn matching_with_parents(
    tree: &dyn Tree,
    base: &LayerPath,
    pattern: &LayerPath,
    how: &Selector,
    source: &[u8],
) -> Result<Vec<Item>, BuildError> {
    let include = Matcher::new(&[lossy(pattern.as_bytes())])
        .map_err(|_| BuildError::BadPattern { pattern: lossy(source) })?;
    let depth = pattern.components().count();
    let deep = pattern.components().any(|c| c.windows(2).any(|w| w == b"**"));
    let everything = walk_to_pattern(tree, base, pattern, if deep { usize::MAX } else { depth })?;
    let mut kept: Vec<Item> = Vec::new();
    let mut waiting: Vec<Item> = Vec::new();
    for item in everything {
        waiting.retain(|dir| item.relative.starts_with(&dir.relative));
        let excluded =
            how.excludes.as_ref().is_some_and(|e| e.is_excluded(item.relative.as_bytes()));
        if !excluded && include.is_excluded(item.relative.as_bytes()) {
            kept.extend(waiting.drain(..).map(|dir| Item { only_above: true, ..dir }));
            kept.push(item);
        } else if item.node.is_dir() {
            waiting.push(item);
        }
    }
    Ok(kept)
}

/// Everything below `base` that can matter for `pattern`: subtrees whose leading components do not match
/// are not entered. `depth` is how many components the pattern has, or no limit.
fn walk_to_pattern(
    tree: &dyn Tree,
    base: &LayerPath,
    pattern: &LayerPath,
    depth: usize,
) -> Result<Vec<Item>, BuildError> {
    let parts: Vec<&[u8]> = pattern.components().collect();
    let mut all = Vec::new();
    descend(tree, base, &LayerPath::root(), (&parts, depth), &mut all)?;
    Ok(all)
}

fn descend(
    tree: &dyn Tree,
    dir: &LayerPath,
    relative: &LayerPath,
    (parts, depth): (&[&[u8]], usize),
    all: &mut Vec<Item>,
) -> Result<(), BuildError> {
    let level = relative.components().count();
    for (name, node) in tree.children(dir)? {
        if depth != usize::MAX && level < parts.len() {
            let part = parts[level];
            let fits = if has_wildcard(part) || part.contains(&b'\\') {
                Pattern::parse(part).is_ok_and(|p| p.matches(&name))
            } else {
                part == name.as_slice()
            };
            if !fits {
                continue;
            }
        }
        let source = join(dir, &name)?;
        let here = join(relative, &name)?;
        let is_dir = node.is_dir();
        let (relative, place) = (here.clone(), source.clone());
        all.push(Item { relative, source: place, node, only_above: false });
        if is_dir {
            descend(tree, &source, &here, (parts, depth), all)?;
        }
    }
    Ok(())
}
