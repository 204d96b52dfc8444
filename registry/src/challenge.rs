//! `WWW-Authenticate`: what a registry wants to see before it answers.
//!
//! ```text
//! WWW-Authenticate: Bearer realm="https://auth.example/token",service="r",scope="repository:a:pull", Basic realm="x"
//!                   ^scheme ^parameter (token or quoted string)                                      ^next challenge
//! ```
//!
//! Parsing is total: whatever the bytes, the challenges that could be read so far are returned.

use crate::limits;

/// One challenge: a scheme and its parameters, names in lower case.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Challenge {
    /// The scheme in lower case: `basic`, `bearer`, …
    pub scheme: String,
    /// Parameters in the order given.
    pub parameters: Vec<(String, String)>,
}

impl Challenge {
    /// The first parameter of this name.
    pub fn parameter(&self, name: &str) -> Option<&str> {
        self.parameters.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }
}

/// Reads the challenges of one header value.
pub fn parse(value: &str) -> Vec<Challenge> {
    let mut challenges: Vec<Challenge> = Vec::new();
    let mut rest = if value.len() > limits::CHALLENGE_BYTES { "" } else { value };
    loop {
        rest = rest.trim_start_matches([' ', '\t', ',']);
        let (word, after) = token(rest);
        if word.is_empty() {
            return challenges;
        }
        let assigned = after.trim_start_matches([' ', '\t']).strip_prefix('=');
        match (assigned, challenges.last_mut()) {
            (Some(text), Some(challenge)) => {
                let Some((content, after)) = parameter_value(text.trim_start_matches([' ', '\t']))
                else {
                    return challenges;
                };
                if challenge.parameters.len() < limits::CHALLENGE_PARAMETERS {
                    challenge.parameters.push((word.to_ascii_lowercase(), content));
                }
                rest = after;
            }
            (Some(_), None) => return challenges,
            (None, _) => {
                challenges
                    .push(Challenge { scheme: word.to_ascii_lowercase(), parameters: Vec::new() });
                rest = after;
            }
        }
    }
}

/// Splits a leading token of RFC 9110 off.
fn token(text: &str) -> (&str, &str) {
    let end = text
        .find(|c: char| !(c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~/".contains(c)))
        .unwrap_or(text.len());
    text.split_at(end)
}

/// A token or a quoted string with backslash escapes; `None` if the quote never closes.
fn parameter_value(text: &str) -> Option<(String, &str)> {
    let Some(quoted) = text.strip_prefix('"') else {
        let (word, after) = token(text);
        return Some((word.to_owned(), after));
    };
    let mut content = String::new();
    let mut characters = quoted.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            '"' => return Some((content, &quoted[at + 1..])),
            '\\' => content.push(characters.next()?.1),
            other => content.push(other),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(value: &str, expected: &[(&str, &[(&str, &str)])]) {
        let read = parse(value);
        let shown: Vec<(&str, Vec<(&str, &str)>)> = read
            .iter()
            .map(|c| {
                let pairs = c.parameters.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
                (c.scheme.as_str(), pairs)
            })
            .collect();
        let expected: Vec<(&str, Vec<(&str, &str)>)> =
            expected.iter().map(|(scheme, pairs)| (*scheme, pairs.to_vec())).collect();
        assert_eq!(shown, expected, "{value:?}");
    }

    #[test]
    fn common_forms() {
        check("Basic realm=\"Registry Realm\"", &[("basic", &[("realm", "Registry Realm")])]);
        check(
            "Bearer realm=\"https://a/t\",service=\"s\",scope=\"repository:x/y:pull,push\"",
            &[(
                "bearer",
                &[
                    ("realm", "https://a/t"),
                    ("service", "s"),
                    ("scope", "repository:x/y:pull,push"),
                ],
            )],
        );
        check(
            "Bearer Realm = \"a\" , service=b, Basic realm=c",
            &[("bearer", &[("realm", "a"), ("service", "b")]), ("basic", &[("realm", "c")])],
        );
        check(
            "Negotiate, Basic realm=\"a\\\"b\"",
            &[("negotiate", &[]), ("basic", &[("realm", "a\"b")])],
        );
    }

    #[test]
    fn broken_forms_end_quietly() {
        check("", &[]);
        check(",,,", &[]);
        check("realm=\"x\"", &[]);
        check("Bearer realm=\"never closed", &[("bearer", &[])]);
        check("Bearer realm=\"ends in a backslash\\", &[("bearer", &[])]);
        check("Bearer \u{0}", &[("bearer", &[])]);
        check("Bearer é=\"x\"", &[("bearer", &[])]);
        assert!(parse(&"a".repeat(limits::CHALLENGE_BYTES + 1)).is_empty());
    }
}
