//! FROM: the head of a stage.

use super::flag::{self, Flags};
use super::{Instructions, Stage};
use crate::diagnostic::{Diagnostic, code};
use crate::syntax::Node;
use crate::syntax::word::blank_words;

/// Reads a FROM line. There is always a stage, so that what follows is not reported as homeless.
pub(super) fn stage(node: &Node, index: usize, out: &mut Vec<Diagnostic>) -> Stage {
    let words = blank_words(node.rest());
    let flags = Flags::read(node, &[flag::text("platform")], out);
    let mut stage = Stage {
        index,
        name: None,
        name_written: None,
        name_span: None,
        base: words.first().map(|word| node.line.text.part_of(word.text)).unwrap_or_default(),
        base_span: words.first().map_or(node.keyword_span, |w| node.span_in_rest(w.range.clone())),
        platform: flags.text("platform"),
        platform_span: flags.span("platform"),
        instructions: Instructions::default(),
        span: node.line_span(),
        text: node.line.text.part_of(node.line.text.trim()),
        comments: node.comments.clone(),
    };
    match words.as_slice() {
        [_] => {}
        [_, keyword, name] if keyword.text.eq_ignore_ascii_case("as") => {
            let span = node.span_in_rest(name.range.clone());
            let lower = name.text.to_lowercase();
            if is_stage_name(&lower) {
                stage.name = Some(lower);
                stage.name_written = Some(node.line.text.part_of(name.text));
                stage.name_span = Some(span);
            } else {
                out.push(
                    Diagnostic::error(
                        code::BAD_STAGE_NAME,
                        span,
                        format!("invalid name for build stage: `{}`", name.text),
                    )
                    .with_help(
                        "a name begins with a letter; letters, digits, `-`, `_`, `.` follow",
                    ),
                );
            }
        }
        _ => out.push(wrong_count(node)),
    }
    stage
}

fn wrong_count(node: &Node) -> Diagnostic {
    let diagnostic = Diagnostic::error(
        code::BAD_ARGUMENTS,
        node.rest_span(),
        "FROM requires either one or three arguments",
    );
    if node.rest().contains('#') {
        return diagnostic.with_help("a comment needs a line of its own");
    }
    diagnostic.with_help("write `FROM <image>` or `FROM <image> AS <name>`")
}

/// Whether a lower-case name may name a stage.
fn is_stage_name(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_lowercase())
        && name
            .chars()
            .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '-' | '_' | '.'))
}
