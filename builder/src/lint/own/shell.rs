//! Just enough of a shell's grammar to see which commands a RUN calls.
//!
//! Quotes and escapes are honoured so far that a command named within a string is not taken for a
//! call. What this cannot read (a heredoc, a substitution) yields words that match no rule.

/// The words of each simple command of a shell text, in order; assignments before it are left out.
pub(super) fn commands(text: &str) -> Vec<Vec<String>> {
    let mut split = Split::default();
    let mut quote = None;
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match (quote, c) {
            (Some(open), _) if c == open => quote = None,
            (None, '\'' | '"') => {
                quote = Some(c);
                split.quoted = true;
            }
            (None | Some('"'), '\\') => split.word.extend(chars.next().filter(|c| *c != '\n')),
            (None, '#') if split.word.is_empty() && !split.quoted => {
                while chars.next_if(|c| *c != '\n').is_some() {}
            }
            (None, ';' | '|' | '\n' | '(' | ')' | '`') => split.end_command(),
            // `2>&1` and `&>` redirect, any other `&` ends a command.
            (None, '&') if !split.word.ends_with('>') && chars.peek() != Some(&'>') => {
                split.end_command();
            }
            (None, _) if c.is_whitespace() => split.end_word(),
            _ => split.word.push(c),
        }
    }
    split.end_command();
    split.commands
}

#[derive(Default)]
struct Split {
    commands: Vec<Vec<String>>,
    command: Vec<String>,
    word: String,
    quoted: bool,
}

/// Words that stand before a command without changing what it is.
const PREFIXES: [&str; 11] =
    ["if", "then", "else", "elif", "do", "while", "!", "{", "sudo", "exec", "time"];

impl Split {
    fn end_word(&mut self) {
        let word = std::mem::take(&mut self.word);
        let quoted = std::mem::take(&mut self.quoted);
        if word.is_empty() && !quoted {
            return;
        }
        let is_before =
            self.command.is_empty() && (PREFIXES.contains(&word.as_str()) || is_assignment(&word));
        if !is_before {
            self.command.push(word);
        }
    }

    fn end_command(&mut self) {
        self.end_word();
        if !self.command.is_empty() {
            self.commands.push(std::mem::take(&mut self.command));
        }
    }
}

fn is_assignment(word: &str) -> bool {
    word.split_once('=').is_some_and(|(name, _)| {
        !name.is_empty() && name.chars().all(|c| c == '_' || c.is_ascii_alphanumeric())
    })
}

/// Whether a command is `program … verb`, options allowed between.
pub(super) fn calls(command: &[String], programs: &[&str], verb: &str) -> bool {
    let Some((program, rest)) = command.split_first() else { return false };
    programs.contains(&program.as_str())
        && rest.iter().find(|word| !word.starts_with('-')).is_some_and(|word| word == verb)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str) -> String {
        let all: Vec<String> = commands(text).iter().map(|words| words.join(" ")).collect();
        all.join(" / ")
    }

    #[test]
    fn commands_are_found() {
        for (text, expected) in [
            ("a b && c || d; e | f", "a b / c / d / e / f"),
            ("A=1 B=2 sudo a 'b; c' \"d && e\"", "a b; c d && e"),
            ("a 2>&1 && (b)", "a 2>&1 / b"),
            ("if a; then b; fi # c && d\ne", "a / b / fi / e"),
            ("echo 'apt-get update'", "echo apt-get update"),
            ("a \\; b 'open", "a ; b open"),
            ("", ""),
        ] {
            assert_eq!(shown(text), expected, "{text}");
        }
        assert!(calls(&commands("apt-get -qq update")[0], &["apt-get"], "update"));
        assert!(!calls(&commands("echo apt-get update")[0], &["apt-get"], "update"));
    }
}
