//! Excerpts of the user's Dockerfile with the place that a message is about.
//!
//! ```text
//! error[D012]: unknown stage `bulder`
//!   --> Dockerfile:14:12
//!    12 | FROM alpine AS run
//!  > 14 | COPY --from=bulder /app /app
//! hint: did you mean `builder` (line 3)?
//! ```

use crate::ui::format::truncated;
use lapstrake_builder::diagnostic::{Diagnostic, Severity};
use lapstrake_builder::source::{SourceFile, Span};
use std::collections::BTreeMap;
use std::fmt::Write as _;

/// An instruction that is longer is shown by its first lines.
const LINES_MAX: usize = 6;
/// A line that is longer is cut; nobody reads further, and a terminal would wrap it.
const WIDTH_MAX: usize = 160;

/// A diagnostic with its excerpt and hints.
pub(crate) fn render(file: &SourceFile, diagnostic: &Diagnostic) -> String {
    let severity = match diagnostic.severity {
        Severity::Error => "error",
        Severity::Warning => "warning",
    };
    let mut text = format!("{severity}[{}]: {}\n", diagnostic.code, diagnostic.message);
    let related: Vec<Span> = diagnostic.related.iter().map(|(span, _)| *span).collect();
    text.push_str(&excerpt(file, diagnostic.span, &related));
    let notes = diagnostic
        .related
        .iter()
        .map(|(span, note)| format!("note: {note} (line {})\n", file.line_col(span.start).line));
    text.extend(notes);
    if let Some(help) = &diagnostic.help {
        let _infallible = writeln!(text, "hint: {help}");
    }
    text
}

/// An error that showed only when the instruction at `span` was carried out.
pub(crate) fn render_at(file: &SourceFile, span: Span, message: &str) -> String {
    format!("error: {message}\n{}", excerpt(file, span, &[]))
}

/// Where it is, then the lines of `span`, marked, and the first lines of the other places, in
/// order.
fn excerpt(file: &SourceFile, span: Span, others: &[Span]) -> String {
    let at = file.line_col(span.start);
    let last = file.line_col(span.end.saturating_sub(1).max(span.start)).line;
    let shown_last = last.min(at.line + LINES_MAX - 1);
    let mut lines: BTreeMap<usize, bool> =
        others.iter().map(|other| (file.line_col(other.start).line, false)).collect();
    lines.extend((at.line..=shown_last).map(|line| (line, true)));
    let width = lines.keys().next_back().map_or(1, |line| line.to_string().len()).max(2);
    let mut text = format!("  --> {}:{at}\n", file.name);
    for (line, marked) in lines {
        let mark = if marked { '>' } else { ' ' };
        let source = file.line_text(line).unwrap_or_default().replace('\t', "    ");
        let shown = format!(" {mark} {line:>width$} | {}", truncated(&source, WIDTH_MAX));
        let _infallible = writeln!(text, "{}", shown.trim_end());
    }
    if last > shown_last {
        let _infallible = writeln!(text, "   {:>width$} | and {} more", "", last - shown_last);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_place_is_shown_with_what_explains_it() {
        let file = SourceFile::new("Dockerfile", "FROM a AS builder\n\nCOPY --from=bulder /a /b\n");
        let diagnostic = Diagnostic::error("D012", Span::new(31, 37), "unknown stage `bulder`")
            .with_related(Span::new(0, 5), "this one is near")
            .with_help("did you mean `builder`?");
        let expected = "error[D012]: unknown stage `bulder`\n  --> Dockerfile:3:13\n    1 | FROM a AS builder\n \
                        >  3 | COPY --from=bulder /a /b\nnote: this one is near (line 1)\nhint: did you mean `builder`?\n";
        assert_eq!(render(&file, &diagnostic), expected);
    }

    #[test]
    fn long_instructions_are_cut() {
        let file = SourceFile::new("D", "RUN a \\\n".repeat(20));
        let text = render_at(&file, Span::new(0, 160), "it failed");
        assert_eq!(text.lines().count(), 2 + LINES_MAX + 1);
        assert!(text.ends_with("| and 14 more\n"), "{text}");
    }
}
