//! JSON written byte for byte as Go's `encoding/json` writes it: `<`, `>`, `&`, U+2028 and U+2029
//! are escaped, and the indented form has two spaces. Configs are written compact, manifests and
//! indexes indented (S-91 of the semantics): both are part of the digest.

use std::io::{self, Write};

use serde::Serialize;
use serde_json::ser::{CharEscape, CompactFormatter, Formatter, PrettyFormatter, Serializer};

/// The compact form.
pub fn compact<T: Serialize + ?Sized>(value: &T) -> Vec<u8> {
    write(value, GoEscapes(CompactFormatter))
}

/// The form indented by two spaces.
pub fn indented<T: Serialize + ?Sized>(value: &T) -> Vec<u8> {
    write(value, GoEscapes(PrettyFormatter::with_indent(b"  ")))
}

fn write<T: Serialize + ?Sized, F: Formatter>(value: &T, formatter: F) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(1024);
    value
        .serialize(&mut Serializer::with_formatter(&mut bytes, formatter))
        .expect("because our own types have string keys and a Vec takes every write");
    bytes
}

/// Any formatter, with Go's additional escapes in strings.
struct GoEscapes<F>(F);

/// Passes calls on to the inner formatter.
macro_rules! forward {
    ($($name:ident($($argument:ident: $kind:ty),*)),* $(,)?) => {
        $(fn $name<W: ?Sized + Write>(&mut self, writer: &mut W $(, $argument: $kind)*) -> io::Result<()> {
            self.0.$name(writer $(, $argument)*)
        })*
    };
}

impl<F: Formatter> Formatter for GoEscapes<F> {
    forward!(
        begin_array(),
        end_array(),
        begin_array_value(first: bool),
        end_array_value(),
        begin_object(),
        end_object(),
        begin_object_key(first: bool),
        end_object_key(),
        begin_object_value(),
        end_object_value(),
        write_char_escape(escape: CharEscape),
    );

    fn write_string_fragment<W: ?Sized + Write>(
        &mut self,
        writer: &mut W,
        fragment: &str,
    ) -> io::Result<()> {
        let mut from = 0;
        for (at, character) in fragment.char_indices() {
            let escape: &[u8] = match character {
                '<' => b"\\u003c",
                '>' => b"\\u003e",
                '&' => b"\\u0026",
                '\u{2028}' => b"\\u2028",
                '\u{2029}' => b"\\u2029",
                _ => continue,
            };
            writer.write_all(&fragment.as_bytes()[from..at])?;
            writer.write_all(escape)?;
            from = at + character.len_utf8();
        }
        writer.write_all(&fragment.as_bytes()[from..])
    }
}
