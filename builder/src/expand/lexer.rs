//! The walk over one word.

use std::borrow::Cow;
use std::collections::HashSet;

use smallvec::SmallVec;

use super::pattern::Pattern;
use super::words::Words;
use super::{Budget, ExpandError, Scope, replace};
use crate::limits::{MAX_EXPANDED_BYTES, MAX_EXPANSION_DEPTH};

/// So many names are searched one by one; for more, a table is kept.
const FEW_NAMES: usize = 16;

/// In a word of so many bytes, looking up each byte is faster than comparing many at once.
const SHORT_WORD: usize = 32;

/// How to read words: the escape character, what is left alone, and what it may cost.
#[derive(Clone, Copy, Debug)]
pub struct Lexer<'b> {
    escape: char,
    options: Options,
    budget: Option<&'b Budget>,
}

/// What a [`Lexer`] leaves alone.
#[derive(Clone, Copy, Debug, Default)]
#[expect(clippy::struct_excessive_bools, reason = "four independent switches of the reference")]
struct Options {
    raw_quotes: bool,
    raw_escapes: bool,
    skip_quotes: bool,
    keep_unset: bool,
}

/// An expanded word.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Expanded {
    /// The text.
    pub text: String,
    /// Every variable that was looked up, set or not, once each, in order of the first look.
    pub reads: Vec<String>,
    /// Those of [`Self::reads`] that are not set.
    pub unset: Vec<String>,
}

impl<'b> Lexer<'b> {
    /// A lexer that expands, and takes quotes and escapes off.
    #[must_use]
    pub fn new(escape: char) -> Self {
        Self { escape, options: Options::default(), budget: None }
    }

    /// A lexer of heredoc bodies: quotes are text, and the escape character is always `\`.
    #[must_use]
    pub fn of_bodies() -> Self {
        Self::new('\\').skip_quotes()
    }

    /// Takes what each word costs off a budget that others share.
    #[must_use]
    pub fn within(mut self, budget: &'b Budget) -> Self {
        self.budget = Some(budget);
        self
    }

    /// Keeps quotes in the result.
    #[must_use]
    pub fn raw_quotes(mut self) -> Self {
        self.options.raw_quotes = true;
        self
    }

    /// Keeps escape characters in the result.
    #[must_use]
    pub fn raw_escapes(mut self) -> Self {
        self.options.raw_escapes = true;
        self
    }

    /// Takes quotes for plain text.
    #[must_use]
    pub fn skip_quotes(mut self) -> Self {
        self.options.skip_quotes = true;
        self
    }

    /// Leaves uses of unset variables as they stand.
    #[must_use]
    pub fn keep_unset(mut self) -> Self {
        self.options.keep_unset = true;
        self
    }

    /// Expands one word.
    pub fn expand(&self, word: &str, scope: &dyn Scope) -> Result<Expanded, ExpandError> {
        if self.is_plain(word) {
            return Ok(Expanded { text: word.to_owned(), ..Expanded::default() });
        }
        // Most words that are to be expanded become about as long as they are.
        let mut text = String::with_capacity(word.len());
        let mut walk = Walk::new(*self, word, scope);
        walk.whole(&mut text, None)?;
        Ok(walk.finish(text))
    }

    /// Expands one word onto the end of a text, and names each variable that was looked up, once, and
    /// whether it is set. A word that cannot be expanded names none.
    pub(crate) fn expand_onto<'w>(
        &self,
        text: &mut String,
        word: &'w str,
        scope: &'w dyn Scope,
        note: &mut dyn FnMut(&'w str, bool),
    ) -> Result<(), ExpandError>
    where
        'b: 'w,
    {
        if self.is_plain(word) {
            text.push_str(word);
            return Ok(());
        }
        let mut walk = Walk::new(*self, word, scope);
        walk.whole(text, None)?;
        walk.reads.iter().for_each(|(name, is_set)| note(name, *is_set));
        Ok(())
    }

    /// Whether a word stands for itself: nothing in it is special, and it is within the limit.
    pub(crate) fn is_plain(self, word: &str) -> bool {
        let escape = self.escape as u8;
        if !self.escape.is_ascii() {
            return false;
        }
        if word.len() <= SHORT_WORD {
            return !word.bytes().any(|byte| IS_SPECIAL[usize::from(byte)] || byte == escape);
        }
        let special = |byte: u8| is_special(byte) || byte == escape;
        // Without a branch for each byte, many are looked at at once.
        word.len() <= MAX_EXPANDED_BYTES
            && !word.bytes().fold(false, |found, byte| found | special(byte))
    }

    /// Expands, then cuts at blanks that are neither quoted nor escaped.
    pub fn words(&self, word: &str, scope: &dyn Scope) -> Result<Vec<String>, ExpandError> {
        Ok(self.split(word, scope)?.iter().map(str::to_owned).collect())
    }

    /// The same, the words in one piece.
    pub(crate) fn split(&self, word: &str, scope: &dyn Scope) -> Result<Words, ExpandError> {
        let mut words = Words::default();
        let mut text = String::with_capacity(word.len());
        Walk::new(*self, word, scope).whole(&mut text, Some(&mut words))?;
        words.end_word();
        Ok(words)
    }
}

/// Whether a byte means something in words, besides the escape character: quotes, variables, and what
/// a byte order mark begins with.
const fn is_special(byte: u8) -> bool {
    matches!(byte, b'$' | b'\'' | b'"' | 0xef)
}

/// [`is_special`], for each byte.
static IS_SPECIAL: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = 0;
    while byte < table.len() {
        table[byte] = is_special(byte as u8);
        byte += 1;
    }
    table
};

/// [`is_special`], what ends the words of a modifier, and what begins a character beyond ASCII.
static MAY_BE_SPECIAL: [bool; 256] = {
    let mut table = IS_SPECIAL;
    let mut byte = 0;
    while byte < table.len() {
        table[byte] |= matches!(byte as u8, b'}' | b'/' | 0x80..);
        byte += 1;
    }
    table
};

struct Walk<'a> {
    lexer: Lexer<'a>,
    word: &'a str,
    /// Where in the word.
    at: usize,
    scope: &'a dyn Scope,
    raw_escapes: bool,
    depth: usize,
    /// Names in order of the first look, and whether they are set.
    reads: SmallVec<[(&'a str, bool); 8]>,
    /// The same names, once there are many.
    known: Option<HashSet<&'a str>>,
    budget: Budget,
}

impl<'a> Walk<'a> {
    fn new(lexer: Lexer<'a>, word: &'a str, scope: &'a dyn Scope) -> Self {
        // The reference's scanner drops a byte order mark at the start of what it scans.
        let word = word.strip_prefix('\u{feff}').unwrap_or(word);
        Self {
            lexer,
            word,
            at: 0,
            scope,
            raw_escapes: lexer.options.raw_escapes,
            depth: 0,
            reads: SmallVec::new(),
            known: None,
            budget: lexer.budget.map_or_else(Budget::of_word, Budget::share),
        }
    }

    /// The whole word; what it cost is settled also if it fails.
    fn whole(&mut self, text: &mut String, words: Option<&mut Words>) -> Result<(), ExpandError> {
        let before = self.budget.left();
        let done = self.until(None, text, words);
        if let Some(budget) = self.lexer.budget {
            budget.settle(&self.budget, before);
        }
        done
    }

    fn finish(self, text: String) -> Expanded {
        let name = |(name, _): &(&str, bool)| (*name).to_owned();
        let unset = self.reads.iter().filter(|(_, is_set)| !is_set).map(name).collect();
        Expanded { text, reads: self.reads.iter().map(name).collect(), unset }
    }

    fn rest(&self) -> &'a str {
        &self.word[self.at..]
    }

    fn peek(&self) -> Option<char> {
        self.rest().chars().next()
    }

    fn next(&mut self) -> Option<char> {
        let c = self.peek()?;
        self.at += c.len_utf8();
        Some(c)
    }

    fn next_if(&mut self, wanted: impl Fn(char) -> bool) -> Option<char> {
        let c = self.peek().filter(|c| wanted(*c))?;
        self.at += c.len_utf8();
        Some(c)
    }

    /// Everything before the first character that is special.
    fn run(&mut self, special: impl Fn(char) -> bool) -> &'a str {
        let rest = self.rest();
        let mut end = 0;
        while let Some(byte) = rest.as_bytes().get(end) {
            // Nearly all characters are of one byte.
            let c = if byte.is_ascii() { char::from(*byte) } else { first_char(&rest[end..]) };
            if special(c) {
                break;
            }
            end += c.len_utf8();
        }
        self.at += end;
        &rest[..end]
    }

    /// [`Self::run`] where only quotes, `$`, the escape character, and what ends a modifier's words can
    /// be special.
    fn text_run(&mut self, special: impl Fn(char) -> bool) -> &'a str {
        let escape = self.lexer.escape as u8;
        let matters = |byte: &u8| MAY_BE_SPECIAL[usize::from(*byte)] || *byte == escape;
        let rest = self.rest();
        let mut end = 0;
        while let Some(plain) = rest.as_bytes()[end..].iter().position(matters) {
            end += plain;
            let c = first_char(&rest[end..]);
            if special(c) {
                self.at += end;
                return &rest[..end];
            }
            end += c.len_utf8();
        }
        self.at += rest.len();
        rest
    }

    /// Text up to `stop` (which is consumed) or, without one, to the end, onto the end of `text`.
    fn until(
        &mut self,
        stop: Option<char>,
        text: &mut String,
        mut words: Option<&mut Words>,
    ) -> Result<(), ExpandError> {
        let quotes = !self.lexer.options.skip_quotes;
        let start = text.len();
        while let Some(c) = self.peek() {
            if Some(c) == stop {
                self.next();
                return Ok(());
            }
            match c {
                '$' => {
                    let value = self.dollar()?;
                    text.push_str(&value);
                    if let Some(words) = &mut words {
                        words.push_all(&value);
                    }
                }
                '\'' | '"' if quotes => {
                    let quoted = text.len();
                    if c == '"' {
                        self.double_quotes(text)?;
                    } else {
                        text.push_str(self.single_quotes()?);
                    }
                    if let Some(words) = &mut words {
                        words.push(&text[quoted..]);
                    }
                }
                _ => self.plain(stop, text, words.as_deref_mut()),
            }
            check_length(&text[start..])?;
        }
        match stop {
            None => Ok(()),
            Some('/') => Err(ExpandError::MissingSlash),
            Some(_) => Err(ExpandError::MissingBrace),
        }
    }

    /// Characters that mean nothing, or an escape character and the next one.
    fn plain(&mut self, stop: Option<char>, text: &mut String, words: Option<&mut Words>) {
        let Lexer { escape, options, .. } = self.lexer;
        let special = |c| {
            c == '$'
                || c == escape
                || Some(c) == stop
                || (!options.skip_quotes && matches!(c, '\'' | '"'))
        };
        let run = self.text_run(special);
        if !run.is_empty() {
            text.push_str(run);
            if let Some(words) = words {
                words.push_all(run);
            }
            return;
        }
        let literal = text.len();
        text.extend(self.next().filter(|_| self.raw_escapes));
        text.extend(self.next());
        if let Some(words) = words {
            words.push(&text[literal..]);
        }
    }

    /// What stands in single quotes; with them, if they are kept.
    fn single_quotes(&mut self) -> Result<&'a str, ExpandError> {
        let raw = self.lexer.options.raw_quotes;
        let start = self.at;
        self.next();
        let inner = self.text_run(|c| c == '\'');
        self.next().ok_or(ExpandError::SingleQuote)?;
        Ok(if raw { &self.word[start..self.at] } else { inner })
    }

    /// What stands in double quotes, onto the end of `text`; with them, if they are kept.
    fn double_quotes(&mut self, text: &mut String) -> Result<(), ExpandError> {
        let raw = self.lexer.options.raw_quotes;
        let escape = self.lexer.escape;
        let start = text.len();
        if raw {
            text.push('"');
        }
        self.next();
        loop {
            text.push_str(self.text_run(|c| matches!(c, '"' | '$') || c == escape));
            match self.peek() {
                None => return Err(ExpandError::DoubleQuote),
                Some('"') => break,
                Some('$') => text.push_str(&self.dollar()?),
                Some(c) => {
                    self.next();
                    if self.raw_escapes {
                        text.push(c);
                    }
                    let escapable = |next| matches!(next, '"' | '$') || next == escape;
                    text.push(self.next_if(escapable).unwrap_or(c));
                }
            }
            check_length(&text[start..])?;
        }
        self.next();
        if raw {
            text.push('"');
        }
        Ok(())
    }

    /// A `$` and what belongs to it.
    fn dollar(&mut self) -> Result<Cow<'a, str>, ExpandError> {
        let start = self.at;
        self.next();
        let value = if self.peek() == Some('{') {
            self.next();
            if self.depth == MAX_EXPANSION_DEPTH {
                return Err(ExpandError::TooDeep { limit: MAX_EXPANSION_DEPTH });
            }
            self.depth += 1;
            let value = self.braces(start);
            self.depth -= 1;
            value?
        } else {
            match self.name() {
                "" => Cow::Borrowed("$"),
                name => self.value(name, start),
            }
        };
        self.budget.spend(value.len())?;
        Ok(value)
    }

    /// The value of a variable whose use began at `start` and ends here.
    fn value(&mut self, name: &'a str, start: usize) -> Cow<'a, str> {
        match self.lookup(name) {
            Some(value) => Cow::Borrowed(value),
            None if self.lexer.options.keep_unset => Cow::Borrowed(&self.word[start..self.at]),
            None => Cow::Borrowed(""),
        }
    }

    /// What stands after the `${` at `start`.
    fn braces(&mut self, start: usize) -> Result<Cow<'a, str>, ExpandError> {
        match self.peek() {
            None => return Err(ExpandError::MissingBrace),
            Some('{' | '}' | ':') => return Err(ExpandError::BadSubstitution),
            Some(_) => {}
        }
        let name = self.name();
        match self.next() {
            None => Err(ExpandError::MissingBrace),
            Some('}') => Ok(self.value(name, start)),
            Some(':') => match self.next() {
                None => Err(ExpandError::MissingBrace),
                Some(c @ ('#' | '%')) => Err(ExpandError::Modifier { modifier: format!(":{c}") }),
                Some(c) => self.modified(name, c, true),
            },
            Some('/') => self.replaced(name).map(Cow::Owned),
            Some(c @ ('+' | '-' | '?' | '#' | '%')) => self.modified(name, c, false),
            Some(c) => Err(ExpandError::Modifier { modifier: c.to_string() }),
        }
    }

    /// The word of a modifier, up to `stop`, with escapes kept or not.
    fn word_until(&mut self, stop: char, raw_escapes: bool) -> Result<String, ExpandError> {
        let before = std::mem::replace(&mut self.raw_escapes, raw_escapes);
        let mut word = String::new();
        let done = self.until(Some(stop), &mut word, None);
        self.raw_escapes = before;
        done.map(|()| word)
    }

    fn modified(
        &mut self,
        name: &'a str,
        modifier: char,
        empty_is_unset: bool,
    ) -> Result<Cow<'a, str>, ExpandError> {
        let trims = matches!(modifier, '#' | '%');
        let word = self.word_until('}', trims)?;
        let value = self.lookup(name);
        let colon = if empty_is_unset { ":" } else { "" };
        if value.is_none() && self.lexer.options.keep_unset {
            return Ok(Cow::Owned(format!("${{{name}{colon}{modifier}{word}}}")));
        }
        let usable = value.filter(|value| !(empty_is_unset && value.is_empty()));
        match modifier {
            '-' => Ok(usable.map_or(Cow::Owned(word), Cow::Borrowed)),
            '+' => Ok(usable.map_or(Cow::Borrowed(""), |_| Cow::Owned(word))),
            '?' => usable.map(Cow::Borrowed).ok_or_else(|| {
                let state = if value.is_none() { "unset" } else { "empty" };
                let message =
                    if word.is_empty() { format!("is not allowed to be {state}") } else { word };
                ExpandError::Required { name: name.to_owned(), message }
            }),
            '#' | '%' => {
                let longest = word.starts_with(modifier);
                let pattern = Pattern::parse(if longest { &word[1..] } else { &word })?;
                let value = value.unwrap_or_default();
                let trim =
                    if modifier == '#' { Pattern::trim_prefix } else { Pattern::trim_suffix };
                trim(&pattern, value, longest, &self.budget).map(Cow::Borrowed)
            }
            _ => Err(ExpandError::Modifier { modifier: format!("{colon}{modifier}") }),
        }
    }

    /// `${name/pattern/replacement}`, after the first `/`.
    fn replaced(&mut self, name: &'a str) -> Result<String, ExpandError> {
        let all = self.next_if(|c| c == '/').is_some();
        let pattern = self.word_until('/', true)?;
        let replacement = self.word_until('}', true)?;
        let value = self.lookup(name);
        if value.is_none() && self.lexer.options.keep_unset {
            return Ok(format!("${{{name}/{pattern}/{replacement}}}"));
        }
        let pattern = Pattern::parse(&pattern)?;
        let value = value.unwrap_or_default();
        let replace = if all { replace::all } else { replace::first };
        replace(&pattern, value, &replacement, &self.budget)
    }

    /// A variable's name at this place; empty if there is none.
    fn name(&mut self) -> &'a str {
        match self.peek() {
            Some(c) if is_digit(c) => self.run(|c| !is_digit(c)),
            Some('@' | '*' | '#' | '?' | '-' | '$' | '!') => {
                self.at += 1;
                &self.word[self.at - 1..self.at]
            }
            _ => self.run(|c| !is_name_char(c)),
        }
    }

    fn lookup(&mut self, name: &'a str) -> Option<&'a str> {
        let value = self.scope.get(name);
        if self.is_new(name) {
            self.reads.push((name, value.is_some()));
        }
        value
    }

    /// Whether a name is looked up for the first time.
    fn is_new(&mut self, name: &'a str) -> bool {
        if self.reads.len() < FEW_NAMES {
            return !self.reads.iter().any(|(read, _)| *read == name);
        }
        let reads = &self.reads;
        let known = self.known.get_or_insert_with(|| reads.iter().map(|(read, _)| *read).collect());
        known.insert(name)
    }
}

fn check_length(text: &str) -> Result<(), ExpandError> {
    if text.len() > MAX_EXPANDED_BYTES {
        return Err(ExpandError::TooLong { limit: MAX_EXPANDED_BYTES });
    }
    Ok(())
}

/// The first character of a text that has one.
fn first_char(text: &str) -> char {
    text.chars().next().expect("because the text is not empty")
}

fn is_name_char(c: char) -> bool {
    if c.is_ascii() {
        return c == '_' || c.is_ascii_alphanumeric();
    }
    is_digit(c) || (c.is_alphabetic() && !c.is_numeric())
}

/// A decimal digit of any script. The standard library only knows "numeric", which also holds
/// fractions and superscripts, and those end a name.
fn is_digit(c: char) -> bool {
    /// Where the scripts' ten digits begin.
    const ZEROS: [u32; 62] = [
        0x660, 0x6f0, 0x7c0, 0x966, 0x9e6, 0xa66, 0xae6, 0xb66, 0xbe6, 0xc66, 0xce6, 0xd66, 0xde6,
        0xe50, 0xed0, 0xf20, 0x1040, 0x1090, 0x17e0, 0x1810, 0x1946, 0x19d0, 0x1a80, 0x1a90,
        0x1b50, 0x1bb0, 0x1c40, 0x1c50, 0xa620, 0xa8d0, 0xa900, 0xa9d0, 0xa9f0, 0xaa50, 0xabf0,
        0xff10, 0x104a0, 0x10d30, 0x11066, 0x110f0, 0x11136, 0x111d0, 0x112f0, 0x11450, 0x114d0,
        0x11650, 0x116c0, 0x11730, 0x118e0, 0x11950, 0x11c50, 0x11d50, 0x11da0, 0x11f50, 0x16a60,
        0x16ac0, 0x16b50, 0x1e140, 0x1e2f0, 0x1e4f0, 0x1e950, 0x1fbf0,
    ];
    if c.is_ascii() {
        return c.is_ascii_digit();
    }
    let code = c as u32;
    // The mathematical digits stand in five rows of ten without a gap.
    (0x1d7ce..=0x1d7ff).contains(&code)
        || ZEROS.iter().any(|zero| (*zero..zero + 10).contains(&code))
}
