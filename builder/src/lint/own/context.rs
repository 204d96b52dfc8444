//! A large context that no ignore file makes smaller.

use crate::instruction::{Instruction, Located, Stage};
use crate::limits;
use crate::lint::{ContextFacts, ContextPart, Facts, Found};
use crate::text::Text;

/// How many of the largest directories are named.
const NAMED_PARTS: usize = 3;

/// A directory is named if at least this part of the files or bytes is in it: one in so many.
const NAMED_SHARE: u64 = 10;

pub(super) fn find<'a>(
    mut stages: impl Iterator<Item = &'a Stage>,
    facts: Facts<'_>,
) -> Option<Found<'a>> {
    let context = facts.context.filter(|_| facts.ignore.is_none())?;
    if context.files < limits::LARGE_CONTEXT_FILES && context.bytes < limits::LARGE_CONTEXT_BYTES {
        return None;
    }
    let copy = stages.find_map(|stage| stage.instructions.iter().find(|it| copies_all(it)))?;
    let more = if context.is_cut { "more than " } else { "" };
    let message = format!(
        "this copies {more}{} files, {}: there is no .dockerignore",
        context.files,
        megabytes(context.bytes)
    );
    let rule = "LargeContextWithoutIgnoreFile";
    let found = Found::new(rule, copy.line_span, message, &copy.comments);
    Some(found.with(|it| it.with_help(advice(context))))
}

fn copies_all(located: &Located) -> bool {
    match &located.instruction {
        Instruction::Copy(copy) | Instruction::Add(copy) => {
            let is_all = |source: &Text| matches!(source.as_str(), "." | "./" | "/");
            copy.from.is_none() && copy.excludes.is_empty() && copy.sources.iter().any(is_all)
        }
        _ => false,
    }
}

fn advice(context: &ContextFacts) -> String {
    let counts = |part: &&ContextPart| {
        part.files >= context.files / NAMED_SHARE || part.bytes >= context.bytes / NAMED_SHARE
    };
    let parts: Vec<String> = context
        .parts
        .iter()
        .filter(counts)
        .take(NAMED_PARTS)
        .map(|part| format!("{} ({} files, {})", part.name, part.files, megabytes(part.bytes)))
        .collect();
    if parts.is_empty() {
        return "list in .dockerignore what the image does not need".to_owned();
    }
    format!("list in .dockerignore what the image does not need; largest: {}", parts.join(", "))
}

fn megabytes(bytes: u64) -> String {
    format!("{} MB", bytes.div_ceil(1_000_000))
}
