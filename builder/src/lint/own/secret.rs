//! Tokens and keys that are written out in the file.

use crate::instruction::{Instruction, Located};
use crate::lint::Found;
use crate::source::decode;

/// The beginning of a token, how many letters and digits follow at least, and what it is.
const TOKENS: [(&str, usize, &str); 9] = [
    ("ghp_", 36, "a GitHub token"),
    ("gho_", 36, "a GitHub token"),
    ("ghs_", 36, "a GitHub token"),
    ("github_pat_", 60, "a GitHub token"),
    ("glpat-", 20, "a GitLab token"),
    ("npm_", 36, "an npm token"),
    ("AKIA", 16, "an AWS access key"),
    ("xoxb-", 40, "a Slack token"),
    ("AIza", 35, "a Google API key"),
];

pub(super) fn find(located: &Located) -> Option<Found<'_>> {
    let what = written_out(located)?;
    let message = format!("{what} is written out here; it stays in the image's history or layers");
    let (rule, span) = ("SecretInHistory", located.line_span);
    Some(Found::new(rule, span, message, &located.comments).with(|it| {
        it.with_help("withdraw it, and give the next one to the step: RUN --mount=type=secret")
    }))
}

/// What secret is written out in an instruction, if any.
fn written_out(located: &Located) -> Option<&'static str> {
    let mut text = located.text.to_string();
    match &located.instruction {
        Instruction::Run(run) => {
            run.heredocs.iter().for_each(|heredoc| text.push_str(&decode(&heredoc.body)));
        }
        Instruction::Copy(copy) | Instruction::Add(copy) => {
            copy.heredocs.iter().for_each(|source| text.push_str(&decode(&source.content)));
        }
        _ => {}
    }
    if ["-----BEGIN ", "PRIVATE KEY-----", "-----END "].iter().all(|part| text.contains(part)) {
        return Some("a private key");
    }
    TOKENS.iter().find(|(begin, length, _)| holds_token(&text, begin, *length)).map(|found| found.2)
}

fn holds_token(text: &str, begin: &str, length: usize) -> bool {
    let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_';
    text.match_indices(begin).any(|(at, _)| {
        let after = &text[at + begin.len()..];
        let token = &after[..after.find(|c| !is_part(c) && c != '-').unwrap_or(after.len())];
        let begins = !text[..at].ends_with(is_part);
        // Placeholders repeat themselves, or say what they are; tokens do neither.
        let mut letters: Vec<char> = token.chars().collect();
        letters.sort_unstable();
        letters.dedup();
        let real = letters.len() > 8 && !token.to_uppercase().contains("EXAMPLE");
        begins && token.len() >= length && real
    })
}
