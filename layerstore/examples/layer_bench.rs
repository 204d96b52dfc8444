//! Times what a directory goes through on its way to a layer and back.
//!
//! `layer_bench DIRECTORY SCRATCH`: takes the directory in as COPY would (contents to packs, TOC),
//! then makes the diffID, the compressed forms, a tree, and imports the compressed form into a
//! second store. Compare with `tar cf - DIRECTORY | openssl dgst -sha256` in the same sitting.

use std::{
    fs::{self, File},
    io::{self, Write},
    os::unix::{ffi::OsStrExt, fs::MetadataExt},
    path::Path,
    sync::Arc,
    time::Instant,
};

use lapstrake_layerstore::{
    LayerPath, StoreError,
    atomic::Staging,
    blobs::Blobs,
    compress::{Codec, Compression},
    contents::Contents,
    layers::{Expected, Layer, Layers, OverlayXattr},
    toc::{Entry, Kind, Toc},
    view::View,
};
use rayon::prelude::*;

type Failure = Box<dyn std::error::Error>;

fn main() -> Result<(), Failure> {
    let mut arguments = std::env::args_os().skip(1);
    let (Some(source), Some(scratch)) = (arguments.next(), arguments.next()) else {
        return Err("usage: layer_bench DIRECTORY SCRATCH".into());
    };
    let scratch = tempfile::tempdir_in(scratch)?;
    let layers = open(&scratch.path().join("one"))?;
    let layer = take_in(Path::new(&source), &layers)?;
    timed("diffID", || layers.diff_id(&layer))?;
    let toc = layer.toc()?.encode();
    let toc = timed("TOC decode, 20 times", || {
        (1..20).try_for_each(|_| Toc::decode(&toc).map(drop))?;
        Toc::decode(&toc)
    })?;
    let view = View::of_tocs(vec![Arc::new(toc)]);
    let shown = timed("view of it, walked", || Ok::<_, Failure>(view.iter().count()))?;
    report(&format!("{shown} entries"))?;
    let mut gzip = None;
    for (codec, level) in [(Codec::Gzip, 1), (Codec::Gzip, 6), (Codec::Zstd, 3)] {
        let compression = Compression { level: Some(level), ..Compression::new(codec) };
        let name = compression.format_name();
        let made = timed(&name, || layers.compressed(&layer, &compression, None))?;
        report(&format!("  {} bytes", made.size))?;
        gzip = gzip.or(Some(made).filter(|_| level == 6));
    }
    timed("tree from packs", || layers.tree(&layer))?;
    if let Some(gzip) = gzip {
        let other = open(&scratch.path().join("two"))?;
        let mut blob = layers.blobs().open_blob(&gzip.digest)?;
        let expected = Expected { blob: Some((gzip.digest, gzip.size)), diff_id: layer.diff_id() };
        let pulled = timed("import of the gzip blob", || other.import_tar(&mut blob, expected))?;
        timed("tree from the blob", || other.tree(&pulled))?;
    }
    Ok(())
}

fn open(root: &Path) -> Result<Layers, StoreError> {
    let staging = Arc::new(Staging::create(&root.join("work"))?);
    let contents = Arc::new(Contents::open_store(root, Arc::clone(&staging))?);
    let blobs = Blobs::open(root, Arc::clone(&staging))?;
    Layers::open(root, OverlayXattr::Trusted, staging, contents, blobs)
}

fn take_in(source: &Path, layers: &Layers) -> Result<Arc<Layer>, Failure> {
    let mut entries = Vec::new();
    timed("list", || list(source, &LayerPath::root(), &mut entries))?;
    let contents = layers.contents();
    timed("contents to packs", || {
        let share = entries.len().div_ceil(rayon::current_num_threads()).max(1);
        entries.par_chunks_mut(share).try_for_each(|entries| {
            let mut writer = contents.writer();
            for entry in entries.iter_mut().filter(|entry| entry.kind == Kind::File) {
                let at = source.join(entry.path.as_path());
                let mut file = File::open(&at).map_err(StoreError::io("open", &at))?;
                let (hash, size) = writer.put_file(&mut file, entry.size, &|_| ())?;
                (entry.content, entry.size) = (Some(hash), size);
            }
            writer.finish()
        })
    })?;
    timed("create", || layers.create(entries))
}

fn list(source: &Path, at: &LayerPath, entries: &mut Vec<Entry>) -> Result<(), Failure> {
    for child in fs::read_dir(source.join(at.as_path()))? {
        let child = child?;
        let meta = child.metadata()?;
        let path = at.join(child.file_name().as_bytes())?;
        let kind = match meta.file_type() {
            kind if kind.is_dir() => Kind::Dir,
            kind if kind.is_file() => Kind::File,
            kind if kind.is_symlink() => Kind::Symlink,
            _ => continue,
        };
        let mut entry = Entry { mode: meta.mode() & 0o7777, ..Entry::new(path.clone(), kind) };
        (entry.mtime, entry.size) = (meta.mtime(), meta.size());
        if kind == Kind::Symlink {
            entry.link = fs::read_link(child.path())?.as_os_str().as_bytes().into();
        }
        entries.push(entry);
        if kind == Kind::Dir {
            list(source, &path, entries)?;
        }
    }
    Ok(())
}

fn timed<T, E>(what: &str, work: impl FnOnce() -> Result<T, E>) -> Result<T, Failure>
where
    Failure: From<E>,
{
    let (start, cpu_start) = (Instant::now(), cpu_ms());
    let result = work()?;
    let (wall, cpu) = (start.elapsed().as_secs_f64() * 1000.0, cpu_ms() - cpu_start);
    report(&format!("{wall:8.1} ms wall {cpu:8} ms cpu  {what}"))?;
    Ok(result)
}

/// Processor time of this process so far, in steps of 10 ms: what counts on a busy machine.
fn cpu_ms() -> u64 {
    let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace();
    fields.skip(11).take(2).filter_map(|ticks| ticks.parse::<u64>().ok()).sum::<u64>() * 10
}

fn report(line: &str) -> io::Result<()> {
    writeln!(io::stdout().lock(), "{line}")
}
