//! What the fuzzers keep: inputs that together reach all of the code that any input has reached. A text
//! file for each target, an input a line, with the escapes of a byte string.
//!
//! The tests run each through the promise of its target; `builder/fuzz/examples/corpus.rs` makes folders for
//! libFuzzer of them, and back.

/// The inputs of a file.
pub(crate) fn inputs(text: &str) -> Vec<Vec<u8>> {
    text.lines().map(unescaped).collect()
}

/// A line for an input.
pub(crate) fn line(input: &[u8]) -> String {
    format!("{}\n", input.escape_ascii())
}

fn unescaped(line: &str) -> Vec<u8> {
    let mut bytes = line.bytes();
    let mut input = Vec::with_capacity(line.len());
    while let Some(byte) = bytes.next() {
        input.push(if byte == b'\\' { escape(&mut bytes) } else { byte });
    }
    input
}

/// The byte that an escape means, after its backslash.
fn escape(bytes: &mut impl Iterator<Item = u8>) -> u8 {
    let mut next = || bytes.next().expect("an escape is whole");
    match next() {
        b'n' => b'\n',
        b'r' => b'\r',
        b't' => b'\t',
        b'x' => {
            let digits = [next(), next()];
            let digits = std::str::from_utf8(&digits).expect("digits are text");
            u8::from_str_radix(digits, 16).expect("two hexadecimal digits")
        }
        itself => itself,
    }
}
