//! Where the Dockerfile names an image that could not be had, and which stage may have been meant.
//!
//! Base images are fetched before any instruction runs, so the builder's error has only the name.

use crate::error::CommandError;
use crate::ui::diagnostic;
use lapstrake_builder::error::BuildError;
use lapstrake_builder::instruction::{self, Dockerfile, Instruction, Stage};
use lapstrake_builder::source::{SourceFile, Span};
use lapstrake_builder::{BuildOptions, suggest, syntax};

/// The error as a person is told it, with the place of an image's name and a stage of a like name.
pub(super) fn explain(error: BuildError, options: &BuildOptions) -> CommandError {
    let reference = match error.root() {
        BuildError::Base { reference, .. } | BuildError::BaseNotFound { reference } => {
            reference.clone()
        }
        _ => return error.into(),
    };
    let located = matches!(error, BuildError::AtInstruction { .. });
    let message = error.to_string();
    let file = SourceFile::new(&options.dockerfile_name, options.dockerfile.clone());
    let (ast, _) = syntax::parse(&file);
    let (dockerfile, _) = instruction::lower(&ast);
    let mut shown = CommandError::from(error);
    if let Some(span) = place(&dockerfile, &reference).filter(|_| !located) {
        shown = shown.excerpts(vec![diagnostic::render_at(&file, span, &message)]);
    }
    let names = dockerfile.stages.iter().filter_map(|stage| stage.name.as_deref());
    match suggest::nearest(&reference, names) {
        Some(stage) => shown.hint(format!("did you mean the stage `{stage}`?")),
        None => shown,
    }
}

/// The first place that names the image, as far as it is written out.
fn place(dockerfile: &Dockerfile, reference: &str) -> Option<Span> {
    dockerfile.stages.iter().find_map(|stage| {
        if stage.base == reference {
            return Some(stage.base_span);
        }
        copies_from(stage, reference)
    })
}

fn copies_from(stage: &Stage, reference: &str) -> Option<Span> {
    let option = format!("from={reference}");
    stage.instructions.iter().find_map(|located| match &located.instruction {
        Instruction::Copy(copy) if copy.from.as_deref() == Some(reference) => {
            Some(located.flag_span("from"))
        }
        Instruction::Run(_) if located.text.contains(&option) => Some(located.flag_span("mount")),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_found_where_they_stand() {
        let text = "FROM base AS one\nFROM one\nCOPY --from=two /a /b\nRUN \
             --mount=from=three,target=/x true\n";
        let file = SourceFile::new("Dockerfile", text);
        let (dockerfile, _) = instruction::lower(&syntax::parse(&file).0);
        let line = |name: &str| place(&dockerfile, name).map(|span| file.line_col(span.start).line);
        assert_eq!(
            [line("base"), line("two"), line("three"), line("four")],
            [Some(1), Some(3), Some(4), None]
        );
    }
}
