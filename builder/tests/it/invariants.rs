//! What must hold of the language's pure half whatever the bytes are.
//!
//! Each function takes any bytes and panics if something that is promised does not hold. The
//! property tests beside it and the fuzz targets in `builder/fuzz` call the same functions, so what
//! a fuzzer finds becomes a test by adding the bytes to a list.

use lapstrake_builder::check;
use lapstrake_builder::diagnostic::{Diagnostic, has_errors};
use lapstrake_builder::expand::{self, ExpandError, Scope};
use lapstrake_builder::format::{self, FormatError, Meaning};
use lapstrake_builder::ignore::{Ignore, ParentMatches};
use lapstrake_builder::instruction::{self, Dockerfile, Instruction, Located};
use lapstrake_builder::limits::{MAX_DIAGNOSTICS, MAX_EXPANDED_BYTES};
use lapstrake_builder::options::{BuildOptions, ContextSource};
use lapstrake_builder::source::{SourceFile, Span};
use lapstrake_builder::syntax::{self, Ast, Heredoc, ItemKind, Node};
use lapstrake_layerstore::oci::Platform;
use std::sync::Arc;

/// Parsing and lowering: no panic, items cover the file, every span lies in the file and cuts no
/// character.
pub(crate) fn syntax(bytes: &[u8]) {
    let source = SourceFile::new("Dockerfile", bytes);
    let (ast, problems) = syntax::parse(&source);
    let spans = Spans::new(bytes);
    spans.cover(&ast);
    spans.diagnostics(&problems);
    for node in ast.nodes() {
        spans.node(node);
    }
    let (file, problems) = instruction::lower(&ast);
    spans.diagnostics(&problems);
    spans.file(&file);
    for located in file.stages.iter().flat_map(|stage| &stage.instructions) {
        if let Instruction::OnBuild(trigger) = &located.instruction {
            drop(instruction::parse_onbuild(&trigger.text));
        }
    }
}

/// The way of `lap check`: no panic, and every problem has a place in the file.
pub(crate) fn check(bytes: &[u8]) {
    let mut options = options(bytes);
    let ignore = bytes.iter().position(|byte| *byte == 0);
    if let Some(at) = ignore {
        options.dockerfile.truncate(at);
        options.ignore_file = Some((".dockerignore".to_owned(), bytes[at + 1..].to_vec()));
    }
    if let Ok(report) = check::check(&options, &check::Surroundings::default()) {
        let spans = Spans::new(&report.file.bytes);
        spans.diagnostics(&report.diagnostics);
    }
}

/// Formatting: the meaning stays, a second time changes nothing, heredocs stay byte for byte, and a
/// file is refused only for its errors.
pub(crate) fn format(bytes: &[u8]) {
    let source = SourceFile::new("Dockerfile", bytes);
    let formatted = match format::format(&source) {
        Ok(formatted) => formatted,
        Err(FormatError::Invalid { errors }) => {
            assert!(has_errors(&errors));
            return Spans::new(bytes).diagnostics(&errors);
        }
        Err(FormatError::Meaning) => panic!("the meaning would have changed"),
    };
    let after = SourceFile::new("Dockerfile", formatted.bytes);
    assert_eq!(Meaning::of(&source), Meaning::of(&after));
    let bodies = |file: &SourceFile| -> Vec<Arc<[u8]>> {
        let (ast, _) = syntax::parse(file);
        ast.nodes().flat_map(|node| node.heredocs.clone()).map(|heredoc| heredoc.body).collect()
    };
    assert_eq!(bodies(&source), bodies(&after));
    let again = format::format(&after).expect("because the first time worked");
    let lossy = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert_eq!(lossy(&again.bytes), lossy(&after.bytes), "formatting again changes something");
    for span in formatted.untouched {
        Spans::new(bytes).check(span, "untouched");
    }
}

/// Expansion of a word (the first line) over variables (the other lines, `name=value`).
pub(crate) fn expansion(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let (word, variables) = text.split_once('\n').unwrap_or((&text, ""));
    let scope: Vec<(String, String)> = variables
        .lines()
        .filter_map(|line| line.split_once('='))
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect();
    for escape in ['\\', '`'] {
        if let Ok(expanded) = expand::expand(word, escape, &scope) {
            assert!(expanded.text.len() <= MAX_EXPANDED_BYTES);
            for (at, name) in expanded.reads.iter().enumerate() {
                assert!(!expanded.reads[..at].contains(name), "{name} is read twice");
                let unset = Scope::get(&scope, name).is_none();
                assert_eq!(expanded.unset.contains(name), unset, "{name} is unset: {unset}");
            }
            for name in &expanded.unset {
                assert!(expanded.reads.contains(name), "{name} is unset and not read");
            }
            // What was not read cannot matter.
            let needed: Vec<(String, String)> =
                scope.iter().filter(|(name, _)| expanded.reads.contains(name)).cloned().collect();
            assert_eq!(expand::expand(word, escape, &needed).as_ref(), Ok(&expanded));
        }
        // As in the reference, a byte order mark at the start goes.
        let plain = |c: char| !matches!(c, '$' | '\'' | '"' | '\\' | '`' | '\u{feff}');
        if word.chars().all(plain) {
            let whole = expand::expand(word, escape, &scope).map(|expanded| expanded.text);
            assert_eq!(whole.as_deref(), Ok(word), "a word without marks stays as it is");
        }
        match expand::expand_words(word, escape, &scope) {
            Ok(words) => {
                assert!(words.iter().map(String::len).sum::<usize>() <= MAX_EXPANDED_BYTES);
            }
            Err(ExpandError::TooLong { limit }) => assert_eq!(limit, MAX_EXPANDED_BYTES),
            Err(_) => {}
        }
    }
    drop(expand::expand_body(word, &scope));
}

/// Heredocs of an instruction: bodies are exactly the bytes of the file.
pub(crate) fn heredoc(bytes: &[u8]) {
    for head in [&b"FROM a\nRUN "[..], b"FROM a\nCOPY ", b"# escape=`\nONBUILD ADD "] {
        let bytes = [head, bytes].concat();
        let source = SourceFile::new("Dockerfile", bytes.clone());
        let (ast, problems) = syntax::parse(&source);
        let spans = Spans::new(&bytes);
        spans.cover(&ast);
        for node in ast.nodes() {
            spans.node(node);
            let mut end = node.line_span().end;
            for heredoc in &node.heredocs {
                assert!(heredoc.body_span.start >= end, "bodies follow each other");
                end = heredoc.body_span.end;
                assert_eq!(source.slice(heredoc.body_span), &*heredoc.body);
                check_heredoc(heredoc);
            }
        }
        spans.diagnostics(&problems);
        let (file, problems) = instruction::lower(&ast);
        spans.diagnostics(&problems);
        for located in file.stages.iter().flat_map(|stage| &stage.instructions) {
            match &located.instruction {
                Instruction::Run(run) => drop(run.script()),
                Instruction::OnBuild(trigger) => {
                    drop(instruction::parse_onbuild(&trigger.text));
                }
                _ => {}
            }
        }
    }
    for word in String::from_utf8_lossy(bytes).split(' ') {
        drop(syntax::heredoc_word(word));
    }
}

fn check_heredoc(heredoc: &Heredoc) {
    let content = heredoc.content();
    if heredoc.strip_tabs {
        assert!(!content.split(|byte| *byte == b'\n').any(|line| line.starts_with(b"\t")));
    } else {
        assert_eq!(content, *heredoc.body);
    }
    let lines = |bytes: &[u8]| bytes.split(|byte| *byte == b'\n').count();
    assert_eq!(lines(&content), lines(&heredoc.body));
    drop(expand::expand_body(&heredoc.content_text(), &expand::NoScope));
}

/// Ignore files: patterns up to the first NUL, then paths, one a line.
pub(crate) fn ignore(bytes: &[u8]) {
    let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
    let Ok(ignore) = Ignore::parse(&bytes[..end]) else { return };
    let rest = bytes.get(end + 1..).unwrap_or_default();
    let paths = rest.split(|byte| *byte == b'\n').filter(|path| is_clean(path));
    for path in paths {
        let mut parent = ParentMatches::default();
        let mut pruned = false;
        let slashes = path.iter().enumerate().filter(|(_, byte)| **byte == b'/').map(|(at, _)| at);
        for at in slashes.chain([path.len()]) {
            let (ignored, matches) = ignore.decide(&path[..at], &parent);
            assert_eq!(ignored, ignore.is_excluded(&path[..at]));
            assert!(ignored || !pruned, "pruned too much");
            pruned |= ignored && ignore.can_prune(&path[..at], &matches);
            parent = matches;
        }
    }
    for pattern in ignore.matcher().patterns() {
        assert!(!ignore.is_empty());
        let _ = pattern.matches(b"a/b");
    }
}

fn is_clean(path: &[u8]) -> bool {
    let good = |part: &[u8]| !part.is_empty() && part != b"." && part != b"..";
    path.split(|byte| *byte == b'/').all(good)
}

/// Options of a check of these bytes, with nothing else given.
fn options(bytes: &[u8]) -> BuildOptions {
    let mut options =
        BuildOptions::new(bytes, "Dockerfile", ContextSource::Empty, Platform::host());
    options.build_args = vec![("A".to_owned(), "b c".to_owned())];
    (options.allow_host_network, options.allow_insecure) = (true, true);
    options
}

/// The places in a file at which a span may begin and end.
struct Spans {
    allowed: Vec<bool>,
}

impl Spans {
    /// A place is allowed if no character of valid text lies across it.
    fn new(bytes: &[u8]) -> Self {
        let mut allowed = Vec::with_capacity(bytes.len() + 1);
        for chunk in bytes.utf8_chunks() {
            for c in chunk.valid().chars() {
                allowed.push(true);
                allowed.extend(std::iter::repeat_n(false, c.len_utf8() - 1));
            }
            allowed.extend(std::iter::repeat_n(true, chunk.invalid().len()));
        }
        allowed.push(true);
        Self { allowed }
    }

    fn check(&self, span: Span, what: &str) {
        let size = self.allowed.len() - 1;
        assert!(span.start <= span.end && span.end <= size, "{what}: {span:?} of {size}");
        let cut = !self.allowed[span.start] || !self.allowed[span.end];
        assert!(!cut, "{what}: {span:?} cuts a character");
    }

    /// The items, put together, are the file.
    fn cover(&self, ast: &Ast) {
        let mut at = 0;
        for item in &ast.items {
            assert_eq!(item.span.start, at, "a gap, or an overlap");
            assert!(!item.span.is_empty(), "an empty item");
            self.check(item.span, "item");
            at = item.span.end;
            let inner = match &item.kind {
                ItemKind::Instruction(node) => node.span,
                ItemKind::Comment(comment) => comment.span,
                ItemKind::Directive(directive) => directive.span,
                _ => continue,
            };
            self.check(inner, "what an item holds");
            assert!(item.span.start <= inner.start && inner.end <= item.span.end);
        }
        assert_eq!(at, self.allowed.len() - 1, "the items end before the file");
    }

    fn node(&self, node: &Node) {
        let mut inside = vec![node.keyword_span, node.rest_span(), node.line_span()];
        inside.extend(node.flags.iter().map(|flag| flag.span));
        inside.extend(node.blank_continuations.iter().copied());
        inside.extend(node.heredocs.iter().map(|heredoc| heredoc.body_span));
        for span in inside {
            self.check(span, "part of an instruction");
            let within = node.span.start <= span.start && span.end <= node.span.end;
            let blank = node.blank_continuations.contains(&span);
            assert!(within || blank, "{span:?} in {:?}", node.span);
        }
        for comment in &node.comments {
            self.check(comment.span, "comment");
        }
    }

    fn file(&self, file: &Dockerfile) {
        for arg in &file.global_args {
            self.check(arg.span, "global argument");
            arg.args.iter().for_each(|arg| self.check(arg.span, "argument"));
        }
        for stage in &file.stages {
            self.check(stage.span, "stage");
            self.check(stage.base_span, "base");
            stage.name_span.into_iter().for_each(|span| self.check(span, "name"));
            stage.instructions.iter().for_each(|located| self.located(located));
        }
    }

    fn located(&self, located: &Located) {
        self.check(located.span, "instruction");
        self.check(located.line_span, "line");
        located.word_spans.iter().for_each(|span| self.check(*span, "word"));
        located.flag_spans.iter().for_each(|(_, span)| self.check(*span, "flag"));
        if let Instruction::Arg(args) = &located.instruction {
            for arg in args {
                self.check(arg.span, "argument");
            }
        }
    }

    fn diagnostics(&self, diagnostics: &[Diagnostic]) {
        assert!(diagnostics.len() <= MAX_DIAGNOSTICS);
        for diagnostic in diagnostics {
            self.check(diagnostic.span, &diagnostic.message);
            for (span, note) in &diagnostic.related {
                self.check(*span, note);
            }
            assert!(!diagnostic.message.is_empty());
        }
    }
}
