//! Which stage and step of an earlier build a stage or step of this one is.
//!
//! Stages pair by name, else by index. Steps pair by their text, in order; between those that pair,
//! what is left over pairs by the instruction's first word, in order: that is the edited step.

use super::{Report, StageReport, StepReport};
use crate::glob::Pattern;
use similar::{Algorithm, DiffOp, capture_diff_slices};

/// The stage of `previous` that corresponds to the stage of this name and index.
pub(crate) fn pair_stages<'r>(
    previous: &'r Report,
    name: &str,
    index: usize,
) -> Option<&'r StageReport> {
    let all = || previous.stages.iter().chain(&previous.other_stages);
    let unnamed = name == index.to_string();
    let by_name = all().find(|stage| !unnamed && stage.name == name);
    // A stage that got a name, or another one, is still the same stage if its place is.
    by_name.or_else(|| all().find(|stage| stage.index == index))
}

/// For each new step, the old one that it is.
pub(crate) fn pair_steps(old: &[StepReport], new: &[String]) -> Vec<Option<usize>> {
    let old: Vec<&str> = old.iter().map(|step| step.instruction.as_str()).collect();
    let new: Vec<&str> = new.iter().map(String::as_str).collect();
    let mut pairs = vec![None; new.len()];
    for op in capture_diff_slices(Algorithm::Myers, &old, &new) {
        match op {
            DiffOp::Equal { old_index, new_index, len } => {
                for step in 0..len {
                    pairs[new_index + step] = Some(old_index + step);
                }
            }
            DiffOp::Replace { old_index, old_len, new_index, new_len } => {
                let mut left: Vec<usize> = (old_index..old_index + old_len).collect();
                for step in new_index..new_index + new_len {
                    let same = |at: &usize| word(old[*at]) == word(new[step]);
                    if let Some(found) = left.iter().position(same) {
                        pairs[step] = Some(left[found]);
                        // Order counts: what was passed over has no partner further on.
                        left.drain(..=found);
                    }
                }
            }
            DiffOp::Delete { .. } | DiffOp::Insert { .. } => {}
        }
    }
    pairs
}

fn word(instruction: &str) -> &str {
    instruction.split_ascii_whitespace().next().unwrap_or_default()
}

/// The first of an instruction's sources that names this path, or a directory that it is below.
pub(crate) fn named_by(sources: &[String], path: &[u8]) -> Option<String> {
    let is_name = |part: &&[u8]| !matches!(*part, b"" | b".");
    let names = |source: &&String| {
        let mut parts = path.split(|byte| *byte == b'/').filter(is_name);
        let mut wanted = source.as_bytes().split(|byte| *byte == b'/').filter(is_name);
        wanted.all(|want| {
            let Some(part) = parts.next() else { return false };
            want == part || Pattern::parse(want).is_ok_and(|pattern| pattern.matches(part))
        })
    };
    sources.iter().find(names).cloned()
}
