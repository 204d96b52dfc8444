//! Archives of our own writing and of others', good and hostile.

use std::{io::Read, process::Command};

use proptest::prelude::*;

use super::*;
use crate::{
    LayerPath,
    toc::{Entry, Kind, Toc},
};

fn path(text: &str) -> LayerPath {
    LayerPath::parse(text).unwrap()
}

/// Members of an archive with their data.
fn members(bytes: &[u8]) -> Result<Vec<(Member, Vec<u8>)>, ArchiveError> {
    let mut tar = TarReader::new(bytes, ReadLimits { members: 100, bytes: 1 << 20 });
    let mut all = Vec::new();
    while let Some(member) = tar.next_member()? {
        let mut data = Vec::new();
        let mut buffer = [0; 777];
        loop {
            match tar.read_data(&mut buffer)? {
                0 => break,
                count => data.extend_from_slice(&buffer[..count]),
            }
        }
        assert_eq!(data.len() as u64, member.size);
        all.push((member, data));
    }
    Ok(all)
}

fn write(entries: &[(Entry, Vec<u8>)]) -> Vec<u8> {
    let mut tar = TarWriter::new(Vec::new(), None);
    for (entry, data) in entries {
        tar.append_bytes(entry, data).unwrap();
    }
    tar.finish().unwrap()
}

fn file(at: &str, data: &[u8]) -> (Entry, Vec<u8>) {
    let entry = Entry { mode: 0o644, size: data.len() as u64, ..Entry::new(path(at), Kind::File) };
    (entry, data.to_vec())
}

/// A raw member for archives that nobody honest writes.
fn raw(name: &[u8], kind: u8, link: &[u8], data: &[u8]) -> Vec<u8> {
    let mut header = tar::Header::new_ustar();
    header.as_mut_bytes()[..name.len()].copy_from_slice(name);
    header.as_mut_bytes()[157..157 + link.len()].copy_from_slice(link);
    header.set_entry_type(tar::EntryType::new(kind));
    header.set_size(data.len() as u64);
    header.set_mode(0o644);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_cksum();
    let mut bytes = header.as_bytes().to_vec();
    bytes.extend_from_slice(data);
    bytes.resize(bytes.len().next_multiple_of(512), 0);
    bytes
}

fn assemble(archive: &[u8]) -> Result<Toc, ArchiveError> {
    let mut assembler = Assembler::default();
    for (member, _) in members(archive)? {
        assembler.add(member.entry()?)?;
    }
    Ok(Toc::from_entries(assembler.finish()).unwrap())
}

fn listing(toc: &Toc) -> String {
    let entry = |entry: &Entry| match entry.kind {
        Kind::Dir => format!("{}/", entry.path),
        Kind::File => entry.path.to_string(),
        Kind::Whiteout => format!("-{}", entry.path),
        Kind::Opaque => format!("!{}", entry.path),
        _ => format!("{}>{}", entry.path, String::from_utf8_lossy(&entry.link)),
    };
    toc.iter().map(entry).collect::<Vec<_>>().join(" ")
}

type Piece<'a> = (&'a str, u8, &'a str);

fn archive(pieces: &[Piece<'_>]) -> Vec<u8> {
    let piece = |(name, kind, link): &Piece<'_>| {
        let data: &[u8] = if *kind == b'0' { b"data" } else { b"" };
        raw(name.as_bytes(), *kind, link.as_bytes(), data)
    };
    pieces.iter().flat_map(piece).collect()
}

#[test]
fn hostile_names_are_refused() {
    for pieces in [
        &[("../x", b'0', "")][..],
        &[("a/../../x", b'0', "")],
        &[("/../x", b'0', "")],
        &[("a", b'1', "../x")],
        &[("a", b'1', "/../x")],
        &[("a/.wh.", b'0', "")],
        &[("a/.wh...", b'0', "")],
        &[(".wh..", b'0', "")],
        &[("x", b'0', ""), ("x/y", b'0', "")],
        &[("l", b'2', "l"), ("l/x", b'0', "")],
        &[("d", b'5', ""), ("h", b'1', "d")],
        &[("x", b'Z', "")],
        &[("x", b'2', "")],
        &[(".", b'2', "x")],
    ] {
        let result = assemble(&archive(pieces));
        assert!(result.is_err(), "{pieces:?}: {}", listing(&result.unwrap()));
    }
}

#[test]
fn what_archives_mean_is_settled_once() {
    for (pieces, expected) in [
        // Written through a symbolic link of their own, absolute ones from the root.
        (
            &[
                ("var/", b'5', ""),
                ("run/", b'5', ""),
                ("var/run", b'2', "/run"),
                ("var/run/x", b'0', ""),
            ][..],
            "run/ run/x var/ var/run>/run",
        ),
        (&[("a", b'2', "../../../b"), ("a/x", b'0', "")], "a>../../../b b/x"),
        // The later one counts.
        (&[("x", b'0', ""), ("x", b'2', "y")], "x>y"),
        (&[("d/", b'5', ""), ("d/x", b'0', ""), ("d", b'0', "")], "d"),
        (&[("d/", b'5', ""), ("d/x", b'0', ""), ("d/", b'5', "")], "d/ d/x"),
        (&[("x", b'0', ""), ("x/", b'5', ""), ("x/y", b'0', "")], "x/ x/y"),
        // Leading slashes and dots are nothing; the root is an entry.
        (&[("./", b'5', ""), ("./a", b'0', ""), ("/b", b'0', "")], "/ a b"),
        // Whiteouts anywhere speak of the layers below.
        (&[(".wh.x", b'0', "")], "-x"),
        (&[("x", b'0', ""), (".wh.x", b'0', "")], "x"),
        (&[(".wh.d", b'0', ""), ("d/", b'5', ""), ("d/x", b'0', "")], "d/ !d d/x"),
        (&[("d/x", b'0', ""), (".wh.d", b'0', "")], "!d d/x"),
        (&[("d/", b'5', ""), ("d/.wh..wh..opq", b'0', "")], "d/ !d"),
        (&[("d/.wh..wh..opq", b'0', ""), ("d/", b'5', "")], "d/ !d"),
        (&[(".wh..wh..opq", b'0', ""), ("d/", b'5', "")], "! d/"),
        // Hard links name the first name, and survive its replacement.
        (&[("a", b'0', ""), ("b", b'1', "a"), ("c", b'1', "b")], "a b>a c>a"),
        (&[("a", b'0', ""), ("b", b'1', "./a"), ("c", b'1', "a"), ("a", b'2', "x")], "a>x b c>b"),
        (&[("a", b'0', ""), ("a", b'1', "a")], "a"),
        (&[("f", b'0', ""), ("h", b'1', "f"), ("f", b'1', "h")], "f h>f"),
    ] {
        assert_eq!(listing(&assemble(&archive(pieces)).unwrap()), expected, "{pieces:?}");
    }
}

#[test]
fn ends_of_archives() {
    let whole = write(&[file("a", b"1"), file("b", &[2; 600])]);
    assert_eq!(members(&whole).unwrap().len(), 2);
    // Without end blocks, with one, with anything behind them.
    for end in [whole.len() - 1024, whole.len() - 512] {
        assert_eq!(members(&whole[..end]).unwrap().len(), 2);
    }
    assert_eq!(members(&[&whole[..], b"garbage"].concat()).unwrap().len(), 2);
    // Anywhere else it is cut, it is an error or has fewer members.
    for end in 0..whole.len() - 1024 {
        match members(&whole[..end]) {
            Ok(found) => assert!(end % 512 == 0 && found.len() < 2, "{end}"),
            Err(error) => assert!(matches!(error, ArchiveError::Truncated { .. }), "{error}"),
        }
    }
    let lone = [&whole[..1024], &[0; 512], &whole[1024..]].concat();
    assert!(members(&lone).is_err());
}

#[test]
fn bombs_end_at_their_limit() {
    let many: Vec<u8> = (0..101).flat_map(|_| raw(b"x", b'0', b"", b"")).collect();
    assert!(matches!(members(&many), Err(ArchiveError::Limit { .. })));
    let mut huge = raw(b"x", b'0', b"", b"");
    huge[124..136].copy_from_slice(b"77777777777\0");
    fix(&mut huge);
    assert!(matches!(members(&huge), Err(ArchiveError::Limit { .. })));
    let mut pax = raw(b"x", b'x', b"", b"");
    pax[124..136].copy_from_slice(b"00077777777\0");
    fix(&mut pax);
    assert!(matches!(members(&pax), Err(ArchiveError::Limit { .. })));
}

fn fix(header: &mut [u8]) {
    header[148..156].fill(b' ');
    let sum: u32 = header[..512].iter().map(|byte| u32::from(*byte)).sum();
    header[148..155].copy_from_slice(format!("{sum:06o}\0").as_bytes());
}

/// GNU tar's sparse files, old and new, are files with holes.
#[test]
fn sparse_files_of_gnu_tar() {
    let directory = tempfile::tempdir().unwrap();
    let file = std::fs::File::create(directory.path().join("sparse")).unwrap();
    let mut content = vec![0u8; 700_000];
    for at in [100_000usize, 300_000, 500_000, 620_000, 699_990] {
        std::os::unix::fs::FileExt::write_all_at(&file, b"island", at as u64).unwrap();
        content[at..at + 6].copy_from_slice(b"island");
    }
    file.set_len(700_000).unwrap();
    for options in [
        &["--format=gnu"][..],
        &["--format=pax", "--sparse-version=0.0"],
        &["--format=pax", "--sparse-version=0.1"],
        &["--format=pax", "--sparse-version=1.0"],
    ] {
        let output = Command::new("tar")
            .args(["--hole-detection=raw", "-S", "-c", "-C"])
            .arg(directory.path())
            .args(options)
            .arg("sparse")
            .output();
        let Ok(output) = output else {
            println!("skipped: tar is not installed");
            return;
        };
        assert!(output.status.success());
        assert!(output.stdout.len() < 200_000, "{options:?} is not sparse");
        let found = members(&output.stdout).unwrap();
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].0.name, b"sparse");
        assert!(found[0].1 == content, "{options:?}");
        for cut in (512..output.stdout.len() - 10_000).step_by(512) {
            members(&output.stdout[..cut]).unwrap_err();
        }
    }
}

/// What we write, the `tar` crate reads as we meant it.
#[test]
fn the_tar_crate_agrees() {
    let long = format!("{}/{}", "p".repeat(150), "q".repeat(150));
    let mut strange = file(&long, b"12345");
    strange.0.xattrs = vec![(b"security.capability".to_vec(), vec![1, 0, 2, 255])].into();
    (strange.0.uid, strange.0.mtime) = (5_000_000, -7);
    let bytes = write(&[strange.clone()]);
    let mut archive = tar::Archive::new(bytes.as_slice());
    let mut entry = archive.entries().unwrap().next().unwrap().unwrap();
    assert_eq!(&*entry.path_bytes(), long.as_bytes());
    assert_eq!(entry.header().uid().unwrap(), 5_000_000);
    let pax: Vec<(Vec<u8>, Vec<u8>)> = entry
        .pax_extensions()
        .unwrap()
        .unwrap()
        .map(|record| record.unwrap())
        .map(|record| (record.key_bytes().to_vec(), record.value_bytes().to_vec()))
        .collect();
    assert!(pax.contains(&(b"mtime".to_vec(), b"-7".to_vec())));
    assert!(pax.contains(&(b"SCHILY.xattr.security.capability".to_vec(), vec![1, 0, 2, 255])));
    let mut data = String::new();
    entry.read_to_string(&mut data).unwrap();
    assert_eq!(data, "12345");
}

fn any_name() -> impl Strategy<Value = Vec<u8>> {
    let byte = any::<u8>().prop_filter("a name", |byte| !matches!(byte, 0 | b'/' | b'.'));
    proptest::collection::vec(byte, 1..120)
}

fn any_entry() -> impl Strategy<Value = (Entry, Vec<u8>)> {
    let kind = prop_oneof![
        Just(Kind::File),
        Just(Kind::Dir),
        Just(Kind::Symlink),
        Just(Kind::Hardlink),
        Just(Kind::CharDevice),
        Just(Kind::BlockDevice),
        Just(Kind::Fifo),
        Just(Kind::Whiteout)
    ];
    let names = proptest::collection::vec(any_name(), 1..5);
    let link = proptest::collection::vec(any_name(), 1..3);
    let data = proptest::collection::vec(any::<u8>(), 0..1500);
    let xattr = (any_name(), proptest::collection::vec(any::<u8>(), 0..50));
    let numbers = (0u32..0o10000, any::<u32>(), any::<u32>(), any::<i64>());
    (kind, names, link, data, proptest::collection::vec(xattr, 0..3), numbers).prop_map(
        |(kind, names, link, data, xattrs, (mode, uid, gid, mtime))| {
            let mut entry = Entry::new(LayerPath::parse(names.join(&b'/')).unwrap(), kind);
            (entry.mode, entry.uid, entry.gid, entry.mtime) = (mode, uid, gid, mtime / 2);
            entry.device = (uid % 4096, gid % (1 << 20));
            entry.size = data.len() as u64;
            entry.link = link.join(&b'/').into();
            let mut xattrs = xattrs;
            xattrs.retain(|(name, _)| !name.contains(&b'='));
            xattrs.sort();
            xattrs.dedup_by(|a, b| a.0 == b.0);
            entry.xattrs = xattrs.into();
            let toc = Toc::from_entries(vec![entry]).unwrap();
            (toc.entry(0).clone(), if kind == Kind::File { data } else { Vec::new() })
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn written_is_read_is_written(entries in proptest::collection::vec(any_entry(), 1..5)) {
        let bytes = write(&entries);
        let mut again = Vec::new();
        for (member, data) in members(&bytes).unwrap() {
            let mut entry = member.entry().unwrap();
            entry.tar_offset = None;
            again.push((entry, data));
        }
        prop_assert_eq!(&again, &entries);
        prop_assert_eq!(write(&again), bytes);
    }

    #[test]
    fn any_bytes_are_read_or_refused(
        entries in proptest::collection::vec(any_entry(), 1..3),
        changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..20),
    ) {
        let mut bytes = write(&entries);
        for (at, byte) in changes {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        if assemble(&bytes).is_err() {
            return Ok(());
        }
    }
}
