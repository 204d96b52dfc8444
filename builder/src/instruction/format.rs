//! Texts as Go formats them; the image's history is made of these.

use std::fmt::Write as _;

/// Go's `%v` of a list: `[a b]`.
#[must_use]
pub fn go_list<S: AsRef<str>>(words: &[S]) -> String {
    let mut text = String::new();
    push_go_list(&mut text, words);
    text
}

/// [`go_list`] onto the end of a text.
pub(crate) fn push_go_list<S: AsRef<str>>(text: &mut String, words: &[S]) {
    push_bracketed(text, words, String::push_str);
}

fn push_bracketed<S: AsRef<str>>(text: &mut String, words: &[S], push: fn(&mut String, &str)) {
    let length = words.iter().map(|word| word.as_ref().len() + "\"\" ".len()).sum::<usize>();
    text.reserve(length + "[]".len());
    text.push('[');
    for (index, word) in words.iter().enumerate() {
        if index > 0 {
            text.push(' ');
        }
        push(text, word.as_ref());
    }
    text.push(']');
}

/// Go's `%q` of a list: `["a" "b"]`.
#[must_use]
pub fn go_quote_list<S: AsRef<str>>(words: &[S]) -> String {
    let mut text = String::new();
    push_go_quote_list(&mut text, words);
    text
}

/// [`go_quote_list`] onto the end of a text.
pub(crate) fn push_go_quote_list<S: AsRef<str>>(text: &mut String, words: &[S]) {
    push_bracketed(text, words, push_quoted);
}

/// A number in decimal onto the end of a text: what `write!` does, without its detours.
pub(crate) fn push_decimal(text: &mut String, number: u64) {
    if number >= 10 {
        push_decimal(text, number / 10);
    }
    let digit = u8::try_from(number % 10).expect("because a remainder of ten is below ten");
    text.push(char::from(b'0' + digit));
}

/// Go's `%q` of a text.
#[must_use]
pub fn go_quote(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len() + 2);
    push_quoted(&mut quoted, text);
    quoted
}

fn push_quoted(quoted: &mut String, text: &str) {
    quoted.push('"');
    let is_plain = |byte: &u8| matches!(byte, b' '..=b'~') && !matches!(byte, b'"' | b'\\');
    let plain = text.as_bytes().iter().position(|byte| !is_plain(byte)).unwrap_or(text.len());
    quoted.push_str(&text[..plain]);
    for c in text[plain..].chars() {
        match c {
            '"' => quoted.push_str("\\\""),
            '\\' => quoted.push_str("\\\\"),
            '\x07' => quoted.push_str("\\a"),
            '\x08' => quoted.push_str("\\b"),
            '\x0c' => quoted.push_str("\\f"),
            '\n' => quoted.push_str("\\n"),
            '\r' => quoted.push_str("\\r"),
            '\t' => quoted.push_str("\\t"),
            '\x0b' => quoted.push_str("\\v"),
            ' '..='~' => quoted.push(c),
            c if is_printable(c) => quoted.push(c),
            c => push_escape(quoted, c as u32),
        }
    }
    quoted.push('"');
}

fn push_escape(quoted: &mut String, code: u32) {
    let written = match code {
        0..0x80 => write!(quoted, "\\x{code:02x}"),
        0x80..0x10000 => write!(quoted, "\\u{code:04x}"),
        _ => write!(quoted, "\\U{code:08x}"),
    };
    written.expect("because writing to a String cannot fail");
}

/// Whether Go prints a character as it is: letters, marks, numbers, punctuation, symbols.
fn is_printable(c: char) -> bool {
    if c.is_whitespace() || c.is_control() {
        return false;
    }
    // The standard library's debug text escapes what cannot be printed; a letter goes before it,
    // since a combining mark alone is escaped, too.
    !['a', c].iter().collect::<String>().escape_debug().any(|c| c == '\\')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quoted_as_in_go() {
        for (text, quoted) in [
            ("a b", r#""a b""#),
            ("say \"hi\" \\", r#""say \"hi\" \\""#),
            ("\t\n\r\x07\x08\x0b\x0c", r#""\t\n\r\a\b\v\f""#),
            ("\0\x1b\x7f", r#""\x00\x1b\x7f""#),
            ("é日😀\u{301}", "\"é日😀\u{301}\""),
            ("\u{a0}\u{200b}\u{feff}", r#""\u00a0\u200b\ufeff""#),
            ("\u{e0001}", r#""\U000e0001""#),
            ("\u{fffd}", "\"\u{fffd}\""),
        ] {
            assert_eq!(go_quote(text), quoted);
        }
        assert_eq!(go_quote_list(&["a", "b c"]), r#"["a" "b c"]"#);
        assert_eq!(go_quote_list::<&str>(&[]), "[]");
        assert_eq!(go_list(&["80/tcp", "90/udp"]), "[80/tcp 90/udp]");
    }
}
