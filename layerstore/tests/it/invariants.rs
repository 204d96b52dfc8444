//! What must hold of archives, tables of contents and image documents whatever the bytes are.
//!
//! Each function takes any bytes and panics if something that is promised does not hold. The
//! property tests beside it and the fuzz targets in `layerstore/fuzz` call the same functions, so
//! what a fuzzer finds becomes a test by adding the bytes to a list.

use std::sync::Arc;

use lapstrake_layerstore::{
    ContentHash, LayerPath, Reference,
    archive::{ArchiveError, Assembler, ReadLimits, TarReader, TarWriter},
    oci::{ImageConfig, Index, Manifest, Platform},
    toc::{self, Entry, Kind, Toc},
    view::View,
};

/// Small enough for a fuzzer, large enough for every branch: a few bytes can say that a sparse file has
/// as many as the limit allows, and all of them are read, compared and written again.
const LIMITS: ReadLimits = ReadLimits { members: 500, bytes: 64 << 10 };

/// An archive: an error, or entries that make a sound layer, whatever the size of the reads.
pub(crate) fn tar(bytes: &[u8]) {
    archive(bytes);
    archive(&with_checksums(bytes));
}

/// Mutations rarely keep a checksum right; what lies behind it is of more interest.
fn with_checksums(bytes: &[u8]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    for block in bytes.chunks_exact_mut(512).filter(|block| &block[257..262] == b"ustar") {
        block[148..156].fill(b' ');
        let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
        block[148..155].copy_from_slice(format!("{sum:06o}\0").as_bytes());
    }
    bytes
}

fn archive(bytes: &[u8]) {
    let Ok(members) = members(bytes, 4096) else { return };
    assert_eq!(members, self::members(bytes, 61).expect("because it was read before"));
    let mut assembler = Assembler::default();
    for (entry, _) in &members {
        if assembler.add(entry.clone()).is_err() {
            return;
        }
    }
    let Ok(toc) = Toc::from_entries(assembler.finish()) else { return };
    sound(&toc);
    rewritten(&members);
}

type Members = Vec<(Entry, Vec<u8>)>;

fn members(bytes: &[u8], read_at_once: usize) -> Result<Members, ArchiveError> {
    let mut tar = TarReader::new(bytes, LIMITS);
    let mut members = Vec::new();
    let mut buffer = vec![0; read_at_once];
    while let Some(member) = tar.next_member()? {
        let mut data = Vec::new();
        loop {
            match tar.read_data(&mut buffer)? {
                0 => break,
                count => data.extend_from_slice(&buffer[..count]),
            }
        }
        assert_eq!(data.len() as u64, member.size);
        let inside = member.data_at.is_none_or(|at| at.get() <= bytes.len() as u64);
        assert!(inside, "the data of a member lies outside of the archive");
        members.push((member.entry()?, data));
    }
    Ok(members)
}

/// What every user of a table of contents relies on.
fn sound(toc: &Toc) {
    for entry in toc {
        let parent = entry.path.parent().unwrap_or_default();
        let parent = toc.lookup(&parent);
        assert!(
            parent.is_none_or(|parent| matches!(parent.kind, Kind::Dir | Kind::Opaque)),
            "{entry:?} lies below {parent:?}"
        );
        if entry.kind == Kind::Hardlink {
            let target = LayerPath::parse(&entry.link).expect("a clean path");
            assert_eq!(target.as_bytes(), &*entry.link, "a link's target is a clean path");
            let named = toc.lookup(&target);
            assert!(
                named.is_none_or(|named| !matches!(named.kind, Kind::Hardlink | Kind::Dir)),
                "{entry:?} names {named:?}"
            );
        }
    }
    assert_eq!(Toc::decode(&toc.encode()).as_ref(), Ok(toc));
    usable(toc);
}

/// Nothing that looks at the table panics, and what it says fits together.
fn usable(toc: &Toc) {
    assert_eq!(toc::compare(toc, toc), []);
    let stats = toc.stats();
    let counted = stats.files + stats.dirs + stats.others + stats.whiteouts;
    assert_eq!(counted, toc.len() as u64);
    for entry in toc {
        assert_eq!(toc.lookup(&entry.path).map(|found| &found.path), Some(&entry.path));
        for below in &toc.entries()[toc.below(&entry.path)] {
            assert!(below.path != entry.path && below.path.starts_with(&entry.path));
        }
    }
    let toc = Arc::new(toc.clone());
    let view = View::of_tocs(vec![Arc::clone(&toc), toc]);
    let shown: Vec<LayerPath> = view.iter().map(|found| found.entry.path).collect();
    assert!(shown.is_sorted_by(|a, b| a < b), "a path is shown twice");
    for path in &shown {
        assert!(view.get(path).is_some());
        view.resolve_path(path.as_bytes(), true).map(drop).unwrap_or_default();
    }
}

/// What our writer makes of the members, our reader reads as the same members.
fn rewritten(members: &Members) {
    let canonical = |entry: &Entry| {
        // The writer has no place for these, or writes them only where they say something.
        let entry = Entry { mtime_nanos: 0, tar_offset: None, ..entry.clone() };
        let toc = Toc::from_entries(vec![entry]).ok()?;
        // An attribute's name with an equals sign cannot be told from its value.
        let entry = toc.iter().next()?.clone();
        entry.xattrs.iter().all(|(name, _)| !name.contains(&b'=')).then_some(entry)
    };
    let written: Option<Members> = members
        .iter()
        .map(|(entry, data)| {
            let entry = canonical(entry)?;
            let data = if entry.kind == Kind::File { data.clone() } else { Vec::new() };
            Some((entry, data))
        })
        .collect();
    let Some(mut written) = written else { return };
    for (entry, data) in &mut written {
        entry.content = None;
        entry.size = data.len() as u64;
    }
    let mut tar = TarWriter::new(Vec::new(), None);
    for (entry, data) in &written {
        tar.append_bytes(entry, data).expect("because a vector takes all");
    }
    let bytes = tar.finish().expect("because a vector takes all");
    let again = self::members(&bytes, 4096).expect("because we wrote it");
    let again: Members = again
        .into_iter()
        .map(|(entry, data)| (Entry { tar_offset: None, ..entry }, data))
        .collect();
    assert_eq!(again, written);
}

/// The body of a table of contents, behind the right head and before the right checksum.
pub(crate) fn toc(bytes: &[u8]) {
    assert!(Toc::decode(bytes).is_err() || bytes.starts_with(b"LAPTOC"));
    let mut file = b"LAPTOC\x01\n".to_vec();
    file.extend_from_slice(bytes);
    let checksum = ContentHash::of(&file);
    file.extend_from_slice(checksum.as_bytes());
    let Ok(toc) = Toc::decode(&file) else { return };
    assert_eq!(Toc::decode(&toc.encode()).as_ref(), Ok(&toc));
    usable(&toc);
}

/// The documents of an image, and the names in them.
pub(crate) fn oci(bytes: &[u8]) {
    if let Ok(manifest) = Manifest::parse(bytes) {
        let written = manifest.to_json();
        assert_eq!(Manifest::parse(&written).expect("because we wrote it"), manifest);
        manifest.is_image();
    }
    if let Ok(index) = Index::parse(bytes) {
        let written = index.to_json();
        assert_eq!(Index::parse(&written).expect("because we wrote it"), index);
        index.choose(&Platform::new("linux", "amd64", ""));
    }
    if let Ok(config) = ImageConfig::parse(bytes) {
        let written = config.to_json();
        let again = ImageConfig::parse(&written).expect("because we wrote it");
        assert_eq!(again.to_json(), written);
        assert_eq!(again, config);
    }
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Ok(reference) = Reference::parse(text) {
        assert_eq!(Reference::parse(&reference.to_string()).as_ref(), Ok(&reference));
    }
    if let Ok(platform) = text.parse::<Platform>() {
        assert_eq!(platform.to_string().parse::<Platform>().as_ref(), Ok(&platform));
    }
}
