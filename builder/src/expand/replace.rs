//! `${name/pattern/replacement}` and `${name//pattern/replacement}`.
//!
//! The first match is the leftmost, and of those the longest. With `//` the replacement is a
//! template in which `$0` is the match and every other `$name` nothing, because the reference hands
//! it to Go's regular expressions; with one `/` it is plain text.

use super::pattern::{Pattern, States};
use super::{Budget, ExpandError};
use crate::limits::MAX_EXPANDED_BYTES;

/// Replaces the first match.
pub(super) fn first(
    pattern: &Pattern,
    value: &str,
    replacement: &str,
    budget: &Budget,
) -> Result<String, ExpandError> {
    budget.spend(value.len())?;
    let text: Vec<char> = value.chars().collect();
    let starts = pattern.match_starts(&text, budget)?;
    let Some(start) = starts.iter().position(|start| *start) else {
        return Ok(value.to_owned());
    };
    let rest = text[start..].iter().copied();
    let length = States::new(pattern).match_end(rest, true, budget)?.unwrap_or(0);
    let mut replaced: String = text[..start].iter().collect();
    replaced.push_str(replacement);
    replaced.extend(&text[start + length..]);
    Ok(replaced)
}

/// Replaces all matches; one that is empty and touches the match before it is passed over.
pub(super) fn all(
    pattern: &Pattern,
    value: &str,
    replacement: &str,
    budget: &Budget,
) -> Result<String, ExpandError> {
    budget.spend(value.len())?;
    let text: Vec<char> = value.chars().collect();
    let starts = pattern.match_starts(&text, budget)?;
    let mut states = States::new(pattern);
    let mut replaced = String::new();
    let (mut search, mut last_end) = (0, 0);
    while let Some(start) = (search..=text.len()).find(|at| starts[*at]) {
        let rest = text[start..].iter().copied();
        let end = start + states.match_end(rest, true, budget)?.unwrap_or(0);
        replaced.extend(&text[last_end..start]);
        if end > last_end || start == 0 {
            expand_template(replacement, &text[start..end], &mut replaced, budget)?;
        }
        if replaced.len() > MAX_EXPANDED_BYTES {
            return Err(ExpandError::TooLong { limit: MAX_EXPANDED_BYTES });
        }
        last_end = end;
        search = if end > search { end } else { search + 1 };
    }
    replaced.extend(&text[last_end.min(text.len())..]);
    Ok(replaced)
}

/// Writes a replacement: `$$` is `$`, `$0` and `${0}` are the match, other names are nothing, and a
/// `$` that begins no name is itself. It may name the match many times, so that each counts as work.
fn expand_template(
    template: &str,
    matched: &[char],
    out: &mut String,
    budget: &Budget,
) -> Result<(), ExpandError> {
    budget.spend(template.len())?;
    let mut rest = template;
    while let Some((before, after)) = rest.split_once('$') {
        out.push_str(before);
        rest = after;
        if let Some(after) = rest.strip_prefix('$') {
            out.push('$');
            rest = after;
            continue;
        }
        match template_name(rest) {
            Some((name, after)) => {
                if name == "0" {
                    budget.spend(matched.len())?;
                    out.extend(matched);
                }
                rest = after;
            }
            None => out.push('$'),
        }
    }
    out.push_str(rest);
    Ok(())
}

/// The name at the start of a text, in braces or not, and what follows it.
fn template_name(text: &str) -> Option<(&str, &str)> {
    let braced = text.strip_prefix('{');
    let inner = braced.unwrap_or(text);
    let end = inner.find(|c: char| c != '_' && !c.is_alphanumeric()).unwrap_or(inner.len());
    let (name, after) = inner.split_at(end);
    if name.is_empty() {
        return None;
    }
    if braced.is_some() { Some((name, after.strip_prefix('}')?)) } else { Some((name, after)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all_of(pattern: &str, value: &str, replacement: &str) -> String {
        let pattern = Pattern::parse(pattern).expect("a pattern of this test");
        all(&pattern, value, replacement, &Budget::of_word()).expect("short texts")
    }

    #[test]
    fn empty_matches_go_between_characters() {
        assert_eq!(all_of("", "abc", "x"), "xaxbxcx");
        assert_eq!(all_of("*", "abc", "x"), "x");
        assert_eq!(all_of("*", "", "x"), "x");
        assert_eq!(all_of("b*", "abc", "-"), "a-");
        assert_eq!(all_of("a", "aaa", ""), "");
    }

    #[test]
    fn replacement_is_a_template() {
        assert_eq!(all_of("b", "abc", "[$0]"), "a[b]c");
        assert_eq!(all_of("b", "abc", "${0}$$${1}$x."), "ab$.c");
        assert_eq!(all_of("b", "abc", "$-${"), "a$-${c");
    }
}
