//! Heredoc words: `<<EOF`, `<<-EOF`, `<<"EOF"`, `3<<EOF`.
//!
//! The line is cut into shell words first, quotes kept; a word counts if it is nothing but digits,
//! `<<`, perhaps `-`, and a name. The escape character is always `\` here, whatever the directive
//! says, since the lines are meant for a shell.

use crate::expand::{ExpandError, Lexer, NoScope};
use crate::text::Text;

/// What a heredoc's opening word says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeredocWord {
    /// The word that ends the body, unquoted.
    pub name: Text,
    /// Whether variables in the body are expanded: no part of the word is quoted.
    pub expand: bool,
    /// `<<-`: leading tabs go.
    pub strip_tabs: bool,
    /// The number before `<<`, 0 if none.
    pub fd: u64,
}

/// Reads one word as a heredoc's opening; `None` if it is none, or cannot be read as one.
#[must_use]
pub fn heredoc_word(word: &str) -> Option<HeredocWord> {
    read(word).ok().flatten()
}

/// All heredocs that a line opens, in order. A line whose quotes do not match opens none: then the
/// reference finds no words in it at all.
pub(super) fn heredoc_words(line: &str) -> Result<Vec<HeredocWord>, ExpandError> {
    let lexer = Lexer::new('\\').raw_quotes().raw_escapes().keep_unset();
    if lexer.is_plain(line) {
        let words = line.split(char::is_whitespace);
        return words.filter_map(|word| read(word).transpose()).collect();
    }
    let Ok(words) = lexer.split(line, &NoScope) else { return Ok(Vec::new()) };
    words.iter().filter_map(|word| read(word).transpose()).collect()
}

fn read(word: &str) -> Result<Option<HeredocWord>, ExpandError> {
    // Most words are found out at once.
    if !word.as_bytes().first().is_some_and(|byte| matches!(byte, b'0'..=b'9' | b'<')) {
        return Ok(None);
    }
    let digits = word.len() - word.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let Some(rest) = word[digits..].strip_prefix("<<") else { return Ok(None) };
    let (strip_tabs, rest) = match rest.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, rest),
    };
    if rest.is_empty() || rest.contains('<') {
        return Ok(None);
    }
    let fd = word[..digits].parse().unwrap_or(0);
    if Lexer::new('\\').is_plain(rest) && !rest.contains(char::is_whitespace) {
        return Ok(Some(HeredocWord { name: Text::from(rest), expand: true, strip_tabs, fd }));
    }
    let plain = Lexer::new('\\').keep_unset().words(rest, &NoScope)?;
    let [name] = plain.as_slice() else { return Ok(None) };
    let raw = Lexer::new('\\').raw_quotes().keep_unset().words(rest, &NoScope)?;
    let [quoted] = raw.as_slice() else { return Ok(None) };
    Ok(Some(HeredocWord {
        // Quotes that went away were quotes; an escaped one is part of the name and stays.
        expand: count_quotes(name) == count_quotes(quoted),
        name: Text::from(name),
        strip_tabs,
        fd,
    }))
}

fn count_quotes(word: &str) -> usize {
    word.chars().filter(|c| matches!(c, '\'' | '"')).count()
}
