//! Hash the context files that a step reads, in parallel, and keep their bytes while they are at hand.
//!
//! One read: a file whose hash is not remembered is read once, into the content store, which forgets the
//! bytes again when it has them already. A remembered file is not read at all.

use super::feed::Feed;
use super::memo::Memo;
use super::{ContextTree, stamp_of};
use crate::copy::Selected;
use crate::error::BuildError;
use crate::tree::Node;
use lapstrake_layerstore::contents::{ContentWriter, Contents, Piece};
use lapstrake_layerstore::digest::ContentHash;
use lapstrake_layerstore::path::LayerPath;
use lapstrake_layerstore::toc::Kind;
use std::fs::File;
use std::io::Read as _;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

/// Files per thread below which another thread costs more than it brings.
const FILES_PER_THREAD_MIN: usize = 16;

/// What hashing needs besides the files.
#[derive(Debug, Clone, Copy)]
pub struct Hasher<'a> {
    /// Where bytes go; nowhere when only hashes are wanted.
    pub contents: Option<&'a Arc<Contents>>,
    /// What is known already.
    pub memo: &'a Mutex<Memo>,
    /// When the build began, in nanoseconds since 1970.
    pub build_start_ns: i128,
    /// Who wants the bytes, too, of all files that are not empty.
    pub feed: Option<&'a Feed>,
}

/// One file to be read.
struct Job<'a> {
    path: LayerPath,
    node: &'a mut Node,
    /// Which of the selected files it is: for the feed.
    number: usize,
}

/// The regular files among `selected` that have no hash yet, in order.
pub(crate) fn unhashed(selected: &mut [Selected]) -> impl Iterator<Item = (&LayerPath, &mut Node)> {
    let all = selected.iter_mut().flat_map(|each| {
        let items = each.items.iter_mut().map(|item| (&item.source, &mut item.node));
        std::iter::once((&each.source, &mut each.node)).chain(items)
    });
    all.filter(|(_, node)| node.kind == Kind::File && node.content.is_none())
}

impl Hasher<'_> {
    /// Give every regular file in `selected` its content hash.
    pub fn fill(&self, tree: &ContextTree, selected: &mut [Selected]) -> Result<(), BuildError> {
        let files = unhashed(selected).enumerate();
        let mut jobs: Vec<Job<'_>> =
            files.map(|(number, (path, node))| Job { path: path.clone(), node, number }).collect();
        let count = jobs.len();
        self.recall(&mut jobs);
        // What is remembered is not read, so that nobody gets its bytes.
        if let Some(feed) = self.feed.filter(|_| jobs.len() < count) {
            feed.end();
        }
        self.read_all(tree, jobs, &|_, _| Ok(()))
    }

    /// Make sure that the bytes of every regular file in `selected` are in the content store: a file that
    /// was remembered has not been read in this build.
    pub fn ensure_stored(
        &self,
        tree: &ContextTree,
        selected: &mut [Selected],
    ) -> Result<(), BuildError> {
        let mut jobs = Vec::new();
        for each in selected {
            let items = each.items.iter_mut().map(|i| (&i.source, &mut i.node));
            for (path, node) in std::iter::once((&each.source, &mut each.node)).chain(items) {
                let stored = match node.content {
                    Some(hash) if node.size > 0 => self.contents.is_none_or(|all| all.has(&hash)),
                    _ => true,
                };
                if node.kind == Kind::File && !stored {
                    jobs.push(Job { path: path.clone(), node, number: 0 });
                }
            }
        }
        let changed = |path: &LayerPath, same: bool| {
            if same { Ok(()) } else { Err(BuildError::ContextChanged { path: format!("/{path}") }) }
        };
        self.read_all(tree, jobs, &changed)
    }

    /// Fill in what is remembered; what stays in `jobs` has to be read.
    fn recall(&self, jobs: &mut Vec<Job<'_>>) {
        let mut memo = lock(self.memo);
        jobs.retain_mut(|job| {
            job.node.content = job.node.stamp.and_then(|stamp| memo.get(&stamp));
            job.node.content.is_none()
        });
    }

    /// Read the files on as many threads as pay; `check` sees whether a hash known before was confirmed.
    fn read_all(
        &self,
        tree: &ContextTree,
        jobs: Vec<Job<'_>>,
        check: &(dyn Fn(&LayerPath, bool) -> Result<(), BuildError> + Sync),
    ) -> Result<(), BuildError> {
        if jobs.is_empty() {
            return Ok(());
        }
        let threads =
            rayon::current_num_threads().min(jobs.len().div_ceil(FILES_PER_THREAD_MIN)).max(1);
        let next = AtomicUsize::new(0);
        let jobs: Vec<Mutex<Job<'_>>> = jobs.into_iter().map(Mutex::new).collect();
        let read_some = || -> Result<(), BuildError> {
            let mut writer = self.contents.map(Contents::writer);
            while let Some(job) = jobs.get(next.fetch_add(1, Ordering::Relaxed)) {
                let job = &mut *lock(job);
                let before = job.node.content;
                let hash = self.read_one(tree, job, &mut writer)?;
                check(&job.path, before.is_none_or(|old| old == hash))?;
                job.node.content = Some(hash);
            }
            writer.map_or(Ok(()), ContentWriter::finish)?;
            Ok(())
        };
        let worker = || {
            let result = read_some();
            if result.is_err() {
                // Nobody has to wait for what follows a file that does not come.
                self.feed.into_iter().for_each(Feed::end);
            }
            result
        };
        std::thread::scope(|scope| {
            let others: Vec<_> = (1..threads).map(|_| scope.spawn(worker)).collect();
            let mut result = worker();
            for other in others {
                let ended = other.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
                result = result.and(ended);
            }
            result
        })
    }

    fn read_one(
        &self,
        tree: &ContextTree,
        job: &Job<'_>,
        writer: &mut Option<ContentWriter>,
    ) -> Result<ContentHash, BuildError> {
        let shown = || tree.path().join(job.path.as_path());
        let changed = || BuildError::ContextChanged { path: shown().display().to_string() };
        let Some(seen) = job.node.stamp else {
            return Ok(ContentHash::of(b""));
        };
        let mut file = tree.open_file(&job.path)?;
        let read = match writer {
            Some(writer) => {
                let feed = |piece: &Arc<Piece>| {
                    self.feed.into_iter().for_each(|feed| feed.give_piece(job.number, piece));
                };
                writer.put_file(&mut file, seen.size, &feed).map_err(BuildError::from)
            }
            None => hash_only(&mut file, seen.size, &shown()),
        };
        // What is after the reading as it was when it was selected did not change in between.
        if stamp_of(&file, &shown)? != seen {
            return Err(changed());
        }
        let (hash, size) = read?;
        if size != seen.size {
            return Err(changed());
        }
        lock(self.memo).put(seen, hash, self.build_start_ns);
        if let (Some(feed), Some(writer)) = (self.feed, writer) {
            match writer.last() {
                Some(bytes) if size > 0 => feed.give(job.number, hash, bytes),
                Some(_) => {}
                None => feed.give_end(job.number, hash),
            }
        }
        Ok(hash)
    }
}

/// Hash of a file whose bytes are not kept.
fn hash_only(file: &mut File, size: u64, shown: &Path) -> Result<(ContentHash, u64), BuildError> {
    let mut hasher = blake3::Hasher::new();
    let size =
        std::io::copy(&mut file.take(size), &mut hasher).map_err(|source| BuildError::Context {
            verb: "read",
            path: shown.to_owned(),
            errno: source.raw_os_error().unwrap_or(0),
            source,
        })?;
    Ok((ContentHash::from_bytes(*hasher.finalize().as_bytes()), size))
}

/// A lock whose holder panicked still guards data that is only ever replaced whole.
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::copy::{Selector, select::select};
    use lapstrake_layerstore::layers::OverlayXattr;
    use lapstrake_layerstore::store::{OpenOptions, OwnerMap, Store};
    use std::fs;

    /// What hashing says of `file` that was three bytes when it was selected and changed since.
    fn after(change: impl Fn(&Path)) -> Result<Option<ContentHash>, BuildError> {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file");
        fs::write(&file, "abc").unwrap();
        let tree = ContextTree::open(dir.path(), None).unwrap();
        let mut selected = select(&tree, b"file", &Selector::default()).unwrap();
        change(&file);
        let memo = Mutex::default();
        let hasher = Hasher { contents: None, memo: &memo, build_start_ns: 0, feed: None };
        hasher.fill(&tree, &mut selected)?;
        Ok(selected[0].node.content)
    }

    #[test]
    fn nobody_waits_for_a_file_that_does_not_come() {
        let dir = tempfile::tempdir().unwrap();
        // More behind it than a feed holds.
        let bytes = vec![7; 99_999];
        for name in 100..200 {
            fs::write(dir.path().join(name.to_string()), &bytes).unwrap();
        }
        let tree = ContextTree::open(dir.path(), None).unwrap();
        let mut selected = select(&tree, b".", &Selector::default()).unwrap();
        fs::remove_file(dir.path().join("105")).unwrap();
        let (memo, feed) = (Mutex::default(), Feed::default());
        let store = tempfile::tempdir().unwrap();
        let (owner_map, overlay_xattr) = (Some(OwnerMap::root()), OverlayXattr::Trusted);
        let options = OpenOptions { create: true, owner_map, overlay_xattr };
        let store = Store::open(store.path(), &options).unwrap();
        let hasher = Hasher {
            contents: Some(store.layers().contents()),
            memo: &memo,
            build_start_ns: 0,
            feed: Some(&feed),
        };
        std::thread::scope(|scope| {
            let taken = scope.spawn(|| (0..100).take_while(|at| feed.take(*at).is_some()).count());
            assert!(hasher.fill(&tree, &mut selected).is_err());
            assert!(taken.join().unwrap() <= 5);
        });
    }

    #[test]
    fn a_file_that_changed_since_it_was_selected_is_refused() {
        assert_eq!(after(|_| ()).unwrap(), Some(ContentHash::of(b"abc")));
        let is_refused = |change: &dyn Fn(&Path)| match after(change) {
            Err(BuildError::ContextChanged { path }) => path.ends_with("/file"),
            _ => false,
        };
        assert!(is_refused(&|file| fs::write(file, "abcdef").unwrap()), "grown");
        assert!(is_refused(&|file| fs::write(file, "a").unwrap()), "shrunk");
        let rewrite = |file: &Path| {
            fs::write(file, "xyz").unwrap();
            // Clocks of file systems may be too coarse to see it.
            let file = File::options().write(true).open(file).unwrap();
            file.set_modified(std::time::UNIX_EPOCH).unwrap();
        };
        assert!(is_refused(&rewrite), "rewritten");
        let replace = |file: &Path| {
            fs::write(file.with_extension("new"), "abc").unwrap();
            fs::rename(file.with_extension("new"), file).unwrap();
        };
        assert!(is_refused(&replace), "another file with the same bytes");
        assert!(
            is_refused(&|file| {
                fs::remove_file(file).unwrap();
                fs::create_dir(file).unwrap();
            }),
            "a directory"
        );
        assert!(after(|file| fs::remove_file(file).unwrap()).is_err(), "gone");
    }
}
