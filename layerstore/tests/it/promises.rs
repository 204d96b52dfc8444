//! The invariants, called with random bytes, with what fuzzers found, and with hostile archives.

use lapstrake_fixtures::{case::cases, raw_tar};
use proptest::prelude::*;

use crate::invariants;

/// Bytes that once broke a promise, and the target that found them.
const FOUND: [(Target, &[u8]); 3] = [
    // A hard link of the root to a NUL byte.
    (invariants::toc, b"\x01\0\0\x03\xf2\x88\x01\0\0\x10\0\x06\x01\0\x08"),
    // Numbers beyond 64 bits in fields that nobody knows: written and read again, another number.
    (invariants::oci, br#"{"":[1222222222222222222222222222222222222222222222]}"#),
    (invariants::oci, br#"{"[*":722222222222222222222222222222222222222622222222122}"#),
];

type Target = fn(&[u8]);

#[test]
fn what_was_found_stays_found() {
    for (check, bytes) in FOUND {
        check(bytes);
    }
}

#[test]
fn hostile_archives_keep_the_promises() {
    for case in cases("layer/hostile") {
        for archive in raw_tar::parse(&case.text("archive.txt")) {
            invariants::tar(&archive);
            for cut in (0..archive.len()).step_by(128) {
                invariants::tar(&archive[..cut]);
            }
        }
    }
}

/// A text in the form of [`raw_tar`], of few names so that they meet.
pub(crate) fn any_archive() -> impl Strategy<Value = Vec<u8>> {
    let name = prop_oneof![
        4 => "[ab](/[ab]){0,2}",
        1 => "[ab](/[ab]){0,2}/",
        1 => "([ab]/)?\\.wh\\.[ab]",
        1 => "([ab]/)?\\.wh\\.\\.wh\\.(opq|plnk)",
        1 => "\\.wh\\.\\.wh\\.plnk/[ab]",
    ];
    let link = "/?((\\.\\./)?[ab]/?){1,3}";
    let kind = proptest::sample::select(vec!["file", "dir", "sym", "hard", "fifo"]);
    let line = (kind, name, link).prop_map(|(kind, name, link)| match kind {
        "file" => format!("file {name} = {link}\n"),
        "sym" | "hard" => format!("{kind} {name} -> {link}\n"),
        _ => format!("{kind} {name}\n"),
    });
    proptest::collection::vec(line, 1..12)
        .prop_map(|lines| raw_tar::parse(&lines.concat()).remove(0))
}

const JSON: [&str; 3] = [
    r#"{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":
    {"mediaType":"application/vnd.oci.image.config.v1+json","digest":"sha256:
    e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855","size":2},"layers":null}"#,
    r#"{"schemaVersion":2,"manifests":[{"digest":
    "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855","size":0,
    "platform":{"os":"linux","architecture":"amd64"}}],"annotations":{"a":"<&>"}}"#,
    r#"{"architecture":"amd64","os":"linux","rootfs":{"type":"layers","diff_ids":[]},"config":
    {"Env":["A=\u2028"],"ExposedPorts":{"80/tcp":{}}},"history":[{"created":null}],"y":[]}"#,
];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn archives_of_few_names(archive in any_archive()) {
        invariants::tar(&archive);
    }

    #[test]
    fn any_body_of_a_table(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        invariants::toc(&bytes);
    }

    #[test]
    fn documents_with_something_changed(
        which in 0..3usize,
        changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
    ) {
        let mut bytes = JSON[which].replace('\n', "").into_bytes();
        for (at, byte) in changes {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        invariants::oci(&bytes);
    }
}
