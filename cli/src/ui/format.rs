//! Sizes, times and durations as people read them.

use lapstrake_layerstore::oci::time;
use std::time::Duration;

/// Decimal units, as docker and every disk maker count.
const UNITS: [&str; 6] = ["B", "kB", "MB", "GB", "TB", "PB"];

/// A number of bytes with three significant digits: `0 B`, `999 B`, `1.23 kB`, `45.6 MB`.
pub(crate) fn bytes(count: u64) -> String {
    if count < 1000 {
        return format!("{count} B");
    }
    #[expect(clippy::cast_precision_loss, reason = "three digits are shown of it")]
    let mut value = count as f64;
    let mut unit = 0;
    // 999.5 and more would be shown as 1000.
    while value >= 999.5 && unit + 1 < UNITS.len() {
        value /= 1000.0;
        unit += 1;
    }
    let digits = match value {
        value if value < 9.995 => 2,
        value if value < 99.95 => 1,
        _ => 0,
    };
    format!("{value:.digits$} {}", UNITS[unit])
}

/// How long ago a moment was: `5 seconds ago`, `3 weeks ago`.
pub(crate) fn ago(then: i64, now: i64) -> String {
    const MINUTE: i64 = 60;
    const HOUR: i64 = 60 * MINUTE;
    const DAY: i64 = 24 * HOUR;
    let age = now.saturating_sub(then);
    let (count, unit) = match age {
        i64::MIN..0 => return "in the future".into(),
        0..MINUTE => (age, "second"),
        MINUTE..HOUR => (age / MINUTE, "minute"),
        HOUR..DAY => (age / HOUR, "hour"),
        _ if age < 14 * DAY => (age / DAY, "day"),
        _ if age < 60 * DAY => (age / (7 * DAY), "week"),
        _ if age < 730 * DAY => (age / (30 * DAY), "month"),
        _ => (age / (365 * DAY), "year"),
    };
    format!("{count} {unit}{} ago", plural(count))
}

/// How long ago an RFC 3339 time was; `N/A` when there is none.
pub(crate) fn ago_of(created: Option<&str>, now: i64) -> String {
    created.and_then(time::parse).map_or_else(|| "N/A".into(), |(seconds, _)| ago(seconds, now))
}

/// A duration: `3 ms`, `1.42 s`, `2 min 05 s`.
pub(crate) fn duration(elapsed: Duration) -> String {
    let seconds = elapsed.as_secs();
    if seconds >= 60 {
        return format!("{} min {:02} s", seconds / 60, seconds % 60);
    }
    if elapsed.as_millis() < 100 {
        return format!("{} ms", elapsed.as_millis());
    }
    format!("{:.2} s", elapsed.as_secs_f64())
}

/// `1 layer`, `2 layers`.
pub(crate) fn count(number: usize, noun: &str) -> String {
    format!("{number} {noun}{}", if number == 1 { "" } else { "s" })
}

fn plural(count: i64) -> &'static str {
    if count == 1 { "" } else { "s" }
}

/// The first twelve digits of a digest or of another hexadecimal id, as docker shows ids.
pub(crate) fn short_id(id: &str) -> &str {
    let hex = id.rsplit(':').next().unwrap_or(id);
    hex.get(..12).unwrap_or(hex)
}

/// At most `width` characters of a text, with an ellipsis in place of the rest.
pub(crate) fn truncated(text: &str, width: usize) -> String {
    if text.chars().count() <= width {
        return text.to_owned();
    }
    let kept: String = text.chars().take(width.saturating_sub(1)).collect();
    format!("{}…", kept.trim_end())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_three_digits() {
        let cases = [
            (0, "0 B"),
            (999, "999 B"),
            (1000, "1.00 kB"),
            (9_994, "9.99 kB"),
            (9_996, "10.0 kB"),
            (45_678_901, "45.7 MB"),
            (999_600, "1.00 MB"),
            (u64::MAX, "18447 PB"),
        ];
        for (count, text) in cases {
            assert_eq!(bytes(count), text);
        }
    }

    #[test]
    fn ages_and_durations() {
        assert_eq!(ago(0, 1), "1 second ago");
        assert_eq!(ago(0, 7200), "2 hours ago");
        assert_eq!(ago(0, 86_400 * 20), "2 weeks ago");
        assert_eq!(ago(10, 0), "in the future");
        assert_eq!(duration(Duration::from_millis(3)), "3 ms");
        assert_eq!(duration(Duration::from_millis(1420)), "1.42 s");
        assert_eq!(duration(Duration::from_secs(125)), "2 min 05 s");
    }

    #[test]
    fn texts_are_cut() {
        assert_eq!(short_id("sha256:0123456789abcdef"), "0123456789ab");
        assert_eq!(truncated("abcdef", 6), "abcdef");
        assert_eq!(truncated("abcdefg", 6), "abcde…");
    }
}
