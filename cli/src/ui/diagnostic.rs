//! Excerpts of the user's Dockerfile with the place that a message is about.
//!
//! ```text
//! error[D012]: stage `run` needs to be defined before current stage
//!   --> Dockerfile:2:6
//!    |
//!  2 | COPY --from=run /app /app
//!    |      ^^^^^^^^^^
//!  3 | FROM alpine AS run
//!    | ------------------ it is defined here
//! hint: move the stage up
//! ```

use annotate_snippets::{AnnotationKind, Level, Renderer, Snippet};
use lapstrake_builder::diagnostic::{Diagnostic, Severity};
use lapstrake_builder::source::{SourceFile, Span};
use std::fmt::Write as _;

/// Another place that is further away is named by its line and not drawn: who draws has to count all
/// lines between.
const DRAWN_LINES_MAX: usize = 500;
/// A line that is longer is cut around the place; a terminal would wrap it.
const WIDTH_MAX: usize = 160;

/// A diagnostic with its excerpt and hints.
pub(crate) fn render(file: &SourceFile, diagnostic: &Diagnostic) -> String {
    let level = match diagnostic.severity {
        Severity::Error => Level::ERROR,
        Severity::Warning => Level::WARNING,
    };
    let title = level.primary_title(diagnostic.message.as_str()).id(diagnostic.code);
    let here = file.line_col(diagnostic.span.start).line;
    let is_near = |(span, _): &&(Span, String)| {
        file.line_col(span.start).line.abs_diff(here) <= DRAWN_LINES_MAX
    };
    let near: Vec<_> = diagnostic.related.iter().filter(is_near).collect();
    let excerpt = Excerpt::of(file, diagnostic.span, &near);
    let mut text = Renderer::plain()
        .term_width(WIDTH_MAX)
        .render(&[title.element(excerpt.snippet(file, diagnostic.span, &near))]);
    text.push('\n');
    for (span, note) in diagnostic.related.iter().filter(|related| !is_near(related)) {
        let line = file.line_col(span.start).line;
        let _infallible = writeln!(text, "note: {note} (line {line})");
    }
    if let Some(help) = &diagnostic.help {
        let _infallible = writeln!(text, "hint: {help}");
    }
    text
}

/// An error that showed only when the instruction at `span` was carried out.
pub(crate) fn render_at(file: &SourceFile, span: Span, message: &str) -> String {
    let excerpt = Excerpt::of(file, span, &[]);
    let title = Level::ERROR.primary_title(message);
    let text = Renderer::plain().term_width(WIDTH_MAX).render(&[title.element(excerpt.snippet(
        file,
        span,
        &[],
    ))]);
    text + "\n"
}

/// The lines that are drawn: from the first that matters to the last.
struct Excerpt {
    first_line: usize,
    span: Span,
}

impl Excerpt {
    fn of(file: &SourceFile, span: Span, near: &[&(Span, String)]) -> Self {
        let spans = || near.iter().map(|(span, _)| *span).chain([span]);
        let line = |offset| file.line_col(offset).line;
        let first_line = spans().map(|span| line(span.start)).min().unwrap_or(1);
        let last_line = spans().map(|span| line(span.end.max(span.start))).max().unwrap_or(1);
        let start = file.line_span(first_line).map_or(0, |span| span.start);
        let end = file.line_span(last_line).map_or(start, |span| span.end);
        Self { first_line, span: Span::new(start, end) }
    }

    /// Offsets count in the decoded text, in which a byte that is no character is three.
    fn snippet<'a>(
        &self,
        file: &SourceFile,
        span: Span,
        near: &[&'a (Span, String)],
    ) -> Snippet<'a, annotate_snippets::Annotation<'a>> {
        let at = |offset: usize| {
            let offset = offset.clamp(self.span.start, self.span.end);
            file.text(Span::new(self.span.start, offset)).len()
        };
        let range = |span: Span| at(span.start)..at(span.end).max(at(span.start));
        let others = near
            .iter()
            .map(|(span, note)| AnnotationKind::Context.span(range(*span)).label(note.as_str()));
        Snippet::source(file.text(self.span))
            .path(file.name.clone())
            .line_start(self.first_line)
            .annotation(AnnotationKind::Primary.span(range(span)))
            .annotations(others)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_place_is_shown_with_what_explains_it() {
        let text = "FROM a AS builder\n\nCOPY --from=bulder /a /b\n";
        let file = SourceFile::new("Dockerfile", text);
        let diagnostic = Diagnostic::error("D012", Span::new(31, 37), "unknown stage `bulder`")
            .with_related(Span::new(0, 17), "this one is near")
            .with_help("did you mean `builder`?");
        let expected = "\
error[D012]: unknown stage `bulder`
 --> Dockerfile:3:13
  |
1 | FROM a AS builder
  | ----------------- this one is near
2 |
3 | COPY --from=bulder /a /b
  |             ^^^^^^
hint: did you mean `builder`?
";
        assert_eq!(render(&file, &diagnostic), expected);
    }

    #[test]
    fn tabs_wide_characters_and_bad_bytes_are_aligned() {
        let shown = |bytes: &[u8], span: Span| {
            let file = SourceFile::new("D", bytes);
            let text = render_at(&file, span, "x");
            text.split_inclusive('\n').skip(3).collect::<String>()
        };
        assert_eq!(shown(b"\tRUN x", Span::new(5, 6)), "1 |     RUN x\n  |         ^\n");
        let wide = "# \u{6e7e} x";
        assert_eq!(shown(wide.as_bytes(), Span::new(6, 7)), format!("1 | {wide}\n  |      ^\n"));
        assert_eq!(
            shown(b"a \xff\xfe x", Span::new(5, 6)),
            "1 | a \u{fffd}\u{fffd} x\n  |      ^\n"
        );
        assert_eq!(shown(b"", Span::new(0, 0)), "1 |\n  | ^\n");
    }

    #[test]
    fn long_instructions_are_cut_and_far_places_named() {
        let file = SourceFile::new("D", "RUN a \\\n".repeat(2000));
        let text = render_at(&file, Span::new(0, 16_000), "it failed");
        assert!(text.lines().count() < 20, "{text}");
        let far = Diagnostic::warning("X", Span::new(0, 3), "here")
            .with_related(Span::new(15_000, 15_003), "and there");
        let text = render(&file, &far);
        assert!(text.contains("note: and there (line 1876)"), "{text}");
        assert!(text.lines().count() < 10, "{text}");
    }
}
