//! Small files with a checksum in their first line: `<header><BLAKE3 of the rest>\n` and the rest.

const CHECKSUM_CHARS: usize = 64;

/// The bytes of the file.
pub(super) fn wrap(header: &str, bytes: &[u8]) -> Vec<u8> {
    let mut file = Vec::with_capacity(bytes.len() + header.len() + CHECKSUM_CHARS + 1);
    file.extend_from_slice(header.as_bytes());
    file.extend_from_slice(blake3::hash(bytes).to_hex().as_bytes());
    file.push(b'\n');
    file.extend_from_slice(bytes);
    file
}

/// What is in the file; none if it is cut short, changed, or of another kind or version.
pub(super) fn unwrap(header: &str, mut file: Vec<u8>) -> Option<Vec<u8>> {
    let rest = file.strip_prefix(header.as_bytes())?;
    let (checksum, rest) = rest.split_at_checked(CHECKSUM_CHARS)?;
    let body = rest.strip_prefix(b"\n")?;
    if blake3::hash(body).to_hex().as_bytes() != checksum {
        return None;
    }
    let start = file.len() - body.len();
    file.drain(..start);
    Some(file)
}
