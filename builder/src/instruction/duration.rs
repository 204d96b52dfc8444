//! Durations as Go writes and reads them: `1m30s`, `500ms`, `1.5h`.

use super::format::push_decimal;
use std::fmt;

const MICROSECOND: u64 = 1_000;
const MILLISECOND: u64 = 1_000 * MICROSECOND;
const SECOND: u64 = 1_000 * MILLISECOND;
const MINUTE: u64 = 60 * SECOND;
const HOUR: u64 = 60 * MINUTE;

/// A signed number of nanoseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct GoDuration(i64);

/// A text that is no duration.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DurationError {
    /// A number without a unit.
    #[error("missing unit in duration \"{text}\"")]
    MissingUnit {
        /// The text.
        text: String,
    },
    /// A unit that does not exist.
    #[error("unknown unit \"{unit}\" in duration \"{text}\"")]
    UnknownUnit {
        /// The unit.
        unit: String,
        /// The whole text.
        text: String,
    },
    /// Anything else.
    #[error("invalid duration \"{text}\"")]
    Invalid {
        /// The text.
        text: String,
    },
}

impl GoDuration {
    /// No time at all.
    pub const ZERO: Self = Self(0);
    /// The shortest interval of a health check.
    pub const MILLISECOND: Self = Self(MILLISECOND.cast_signed());

    /// The number of nanoseconds, as the image configuration holds it.
    #[must_use]
    pub fn nanoseconds(self) -> i64 {
        self.0
    }

    /// Reads a duration.
    pub fn parse(text: &str) -> Result<Self, DurationError> {
        let invalid = || DurationError::Invalid { text: text.to_owned() };
        let (negative, mut rest) = match text.as_bytes().first() {
            Some(b'-') => (true, &text[1..]),
            Some(b'+') => (false, &text[1..]),
            _ => (false, text),
        };
        if rest == "0" {
            return Ok(Self::ZERO);
        }
        if rest.is_empty() {
            return Err(invalid());
        }
        let mut total: u64 = 0;
        while !rest.is_empty() {
            let (amount, after) = component(rest, text)?;
            total =
                total.checked_add(amount).filter(|total| *total <= 1 << 63).ok_or_else(invalid)?;
            rest = after;
        }
        if negative {
            return Ok(Self(0_i64.wrapping_sub_unsigned(total)));
        }
        i64::try_from(total).map(Self).map_err(|_| invalid())
    }
}

/// One number with its unit, in nanoseconds, and what follows it.
fn component<'a>(rest: &'a str, text: &str) -> Result<(u64, &'a str), DurationError> {
    let invalid = || DurationError::Invalid { text: text.to_owned() };
    let (whole, after) = digits(rest);
    let (fraction, after) = match after.strip_prefix('.') {
        Some(after) => digits(after),
        None => ("", after),
    };
    if whole.is_empty() && fraction.is_empty() {
        return Err(invalid());
    }
    let unit_end = after.find(|c: char| c == '.' || c.is_ascii_digit()).unwrap_or(after.len());
    let (unit, after) = after.split_at(unit_end);
    let scale = match unit {
        "" => return Err(DurationError::MissingUnit { text: text.to_owned() }),
        "ns" => 1,
        "us" | "\u{b5}s" | "\u{3bc}s" => MICROSECOND,
        "ms" => MILLISECOND,
        "s" => SECOND,
        "m" => MINUTE,
        "h" => HOUR,
        unit => {
            return Err(DurationError::UnknownUnit {
                unit: unit.to_owned(),
                text: text.to_owned(),
            });
        }
    };
    let whole: u64 = if whole.is_empty() { 0 } else { whole.parse().map_err(|_| invalid())? };
    let amount = whole.checked_mul(scale).ok_or_else(invalid)?;
    // Digits past the nineteenth are below a nanosecond of an hour.
    let fraction = &fraction[..fraction.len().min(19)];
    let mut part: u128 = 0;
    for digit in fraction.bytes() {
        part = part * 10 + u128::from(digit - b'0');
    }
    let exponent = u32::try_from(fraction.len()).expect("because it was cut to 19 digits");
    let part = part * u128::from(scale) / 10_u128.pow(exponent);
    let part = u64::try_from(part).expect("because a fraction is below its unit");
    Ok((amount.checked_add(part).ok_or_else(invalid)?, after))
}

fn digits(text: &str) -> (&str, &str) {
    text.split_at(text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len()))
}

impl GoDuration {
    /// As it is written, onto the end of a text.
    pub(super) fn push_onto(self, text: &mut String) {
        let nanos = self.0.unsigned_abs();
        if self.0 < 0 {
            text.push('-');
        }
        let (scale, unit) = match nanos {
            0 => return text.push_str("0s"),
            1..MICROSECOND => (1, "ns"),
            MICROSECOND..MILLISECOND => (MICROSECOND, "\u{b5}s"),
            MILLISECOND..SECOND => (MILLISECOND, "ms"),
            _ => (SECOND, "s"),
        };
        if nanos >= HOUR {
            push_decimal(text, nanos / HOUR);
            text.push('h');
        }
        if nanos >= MINUTE {
            push_decimal(text, nanos / MINUTE % 60);
            text.push('m');
        }
        let below = nanos % MINUTE;
        push_decimal(text, below / scale);
        let part = below % scale;
        if part != 0 {
            let width = scale.ilog10() as usize;
            let digits = format!("{part:0width$}");
            text.push('.');
            text.push_str(digits.trim_end_matches('0'));
        }
        text.push_str(unit);
    }
}

impl fmt::Display for GoDuration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = String::new();
        self.push_onto(&mut text);
        f.write_str(&text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn read_and_written() {
        for (text, nanos, written) in [
            ("0", 0, "0s"),
            ("0s", 0, "0s"),
            ("-0", 0, "0s"),
            ("30s", 30_000_000_000, "30s"),
            ("1m30s", 90_000_000_000, "1m30s"),
            ("1h", 3_600_000_000_000, "1h0m0s"),
            ("500ms", 500_000_000, "500ms"),
            ("1.5s", 1_500_000_000, "1.5s"),
            (".5m", 30_000_000_000, "30s"),
            ("1us", 1_000, "1\u{b5}s"),
            ("1500ns", 1_500, "1.5\u{b5}s"),
            ("7ns", 7, "7ns"),
            ("-5s", -5_000_000_000, "-5s"),
            ("+2h3m4.05s", 7_384_050_000_000, "2h3m4.05s"),
            ("0.100000000000000000000h", 360_000_000_000, "6m0s"),
        ] {
            let duration = GoDuration::parse(text).expect(text);
            assert_eq!(duration.nanoseconds(), nanos, "{text}");
            assert_eq!(duration.to_string(), written, "{text}");
        }
    }

    #[test]
    fn refused() {
        for (text, message) in [
            ("30", "missing unit in duration \"30\""),
            ("", "invalid duration \"\""),
            ("-", "invalid duration \"-\""),
            ("s", "invalid duration \"s\""),
            (".s", "invalid duration \".s\""),
            ("5d", "unknown unit \"d\" in duration \"5d\""),
            ("1 s", "unknown unit \" s\" in duration \"1 s\""),
            ("99999999999999999999h", "invalid duration \"99999999999999999999h\""),
            ("9999999h", "invalid duration \"9999999h\""),
        ] {
            assert_eq!(GoDuration::parse(text).expect_err(text).to_string(), message);
        }
    }
}
