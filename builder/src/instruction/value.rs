//! Values within flags, read as the reference's libraries read them: numbers, truth, sizes, and
//! lines of comma-separated values.

use std::borrow::Cow;

/// An unsigned number without a sign, as Go's ParseUint reads it.
pub(super) fn number(value: &str, radix: u32) -> Option<u32> {
    if value.starts_with('+') { None } else { u32::from_str_radix(value, radix).ok() }
}

/// A truth value as Go's ParseBool reads it.
pub(super) fn parse_bool(value: &str) -> Option<bool> {
    match value {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}

/// A size such as `64m`, `1.5 GiB` or `100`, in bytes, with binary units.
pub(super) fn parse_size(value: &str) -> Option<u64> {
    let last_digit = value.rfind(|c: char| c.is_ascii_digit() || matches!(c, '.' | ' '))?;
    let (number, unit) = value.split_at(last_digit + 1);
    let number = number.strip_suffix(' ').unwrap_or(number);
    let size: f64 = number.parse().ok().filter(|_| !number.starts_with('+'))?;
    if !size.is_finite() || size < 0.0 {
        return None;
    }
    let unit = unit.to_ascii_lowercase();
    let shift = match unit.strip_suffix("ib").or(unit.strip_suffix('b')).unwrap_or(&unit) {
        "" if !unit.starts_with('i') => 0,
        "k" => 10,
        "m" => 20,
        "g" => 30,
        "t" => 40,
        "p" => 50,
        _ => return None,
    };
    #[expect(clippy::cast_sign_loss, reason = "negative sizes were refused above")]
    let bytes =
        (size * f64::from(1_u32 << (shift % 30)) * f64::from(1_u32 << (shift / 30 * 30))) as u64;
    Some(bytes)
}

/// In lower case; most are.
pub(super) fn lower(word: &str) -> Cow<'_, str> {
    let is_lower = word.bytes().all(|byte| byte.is_ascii() && !byte.is_ascii_uppercase());
    if is_lower { word.into() } else { word.to_lowercase().into() }
}

/// The fields of one line of comma-separated values with RFC 4180 quoting. Nothing follows an error.
pub(super) fn csv_fields(text: &str) -> CsvFields<'_> {
    CsvFields { rest: Some(text), is_empty: text.is_empty() }
}

/// See [`csv_fields`].
pub(super) struct CsvFields<'a> {
    /// What follows the fields so far, if another one does.
    rest: Option<&'a str>,
    /// Whether there is not even an empty field.
    is_empty: bool,
}

impl<'a> CsvFields<'a> {
    fn field(&mut self, text: &'a str) -> Result<Cow<'a, str>, &'static str> {
        if self.is_empty {
            return Err("EOF");
        }
        let (field, after) = if let Some(quoted) = text.strip_prefix('"') {
            let (field, after) = quoted_field(quoted)?;
            (Cow::Owned(field), after)
        } else {
            let is_end = |byte: &u8| matches!(byte, b',' | b'"');
            let end = text.as_bytes().iter().position(is_end).unwrap_or(text.len());
            (Cow::Borrowed(&text[..end]), &text[end..])
        };
        match after.as_bytes().first() {
            None => {}
            Some(b',') => self.rest = Some(&after[1..]),
            Some(_) if matches!(field, Cow::Borrowed(_)) => {
                return Err("bare \" in non-quoted-field");
            }
            Some(_) => return Err("extraneous or missing \" in quoted-field"),
        }
        Ok(field)
    }
}

impl<'a> Iterator for CsvFields<'a> {
    type Item = Result<Cow<'a, str>, &'static str>;

    fn next(&mut self) -> Option<Self::Item> {
        let text = self.rest.take()?;
        Some(self.field(text))
    }
}

/// A field after its opening quote, and what follows the closing one.
fn quoted_field(text: &str) -> Result<(String, &str), &'static str> {
    let mut field = String::new();
    let mut rest = text;
    loop {
        let Some((before, after)) = rest.split_once('"') else {
            return Err("extraneous or missing \" in quoted-field");
        };
        field.push_str(before);
        match after.strip_prefix('"') {
            Some(after) => {
                field.push('"');
                rest = after;
            }
            None => return Ok((field, after)),
        }
    }
}
