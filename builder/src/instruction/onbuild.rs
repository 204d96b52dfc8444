//! ONBUILD: a line kept for the builds that start from this image.

use super::config::{Lowered, at_least_one, missing_or_not_strings};
use super::{Located, lower};
use crate::diagnostic::{Diagnostic, code};
use crate::source::{SourceFile, Span};
use crate::syntax::{self, Node};
use std::sync::Arc;

/// An ONBUILD instruction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OnBuild {
    /// The text as the image keeps it: the line without `ONBUILD`, and the heredocs.
    pub text: String,
    /// The trigger's own keyword, as written.
    pub trigger: String,
}

/// Reads an ONBUILD line. The trigger is judged when it is triggered; only its shape counts here.
pub(super) fn read(node: &Node, out: &mut Vec<Diagnostic>) -> Lowered<OnBuild> {
    let rest = node.rest();
    if rest.is_empty() {
        out.push(at_least_one(node));
        return None;
    }
    let trigger = rest.split(syntax::word::is_blank).next().unwrap_or(rest);
    let forbidden = match trigger.trim().to_uppercase().as_str() {
        "ONBUILD" => Some("chaining ONBUILD via `ONBUILD ONBUILD` isn't allowed".to_owned()),
        name @ ("FROM" | "MAINTAINER") => {
            Some(format!("{name} isn't allowed as an ONBUILD trigger"))
        }
        _ => None,
    };
    if let Some(message) = forbidden {
        out.push(Diagnostic::error(code::BAD_TRIGGER, node.rest_span(), message));
        return None;
    }
    let (ast, _) = syntax::parse(&SourceFile::new("ONBUILD", rest));
    for inner in ast.nodes() {
        let problems = missing_or_not_strings(inner);
        out.extend(
            problems.into_iter().map(|problem| Diagnostic { span: node.rest_span(), ..problem }),
        );
    }
    let after_keyword = node.line.text.trim_start().get(node.keyword.len()..).unwrap_or_default();
    let mut text = after_keyword.trim_start_matches(|c: char| c.is_ascii_whitespace()).to_owned();
    for heredoc in &node.heredocs {
        text.push('\n');
        text.push_str(&heredoc.body_text());
        text.push_str(&heredoc.name);
    }
    Some(OnBuild { text, trigger: trigger.to_owned() })
}

/// Reads a trigger when it is triggered: exactly one instruction, with the default escape character
/// whatever the directives of the file that it comes from. Spans are those of the trigger's text.
pub fn parse_onbuild(text: &str) -> Result<Located, Vec<Diagnostic>> {
    let source = SourceFile::new("ONBUILD", text);
    let (ast, mut diagnostics) = syntax::parse(&source);
    let mut nodes = ast.nodes();
    let located = if let (Some(node), None) = (nodes.next(), nodes.next()) {
        lower::located(node, &mut diagnostics)
    } else {
        diagnostics.push(Diagnostic::error(
            code::BAD_TRIGGER,
            Span::new(0, text.len()),
            "onbuild trigger should be a single expression",
        ));
        None
    };
    diagnostics.retain(Diagnostic::is_error);
    match located {
        Some(located) if diagnostics.is_empty() => Ok(Arc::unwrap_or_clone(located)),
        _ => Err(diagnostics),
    }
}
