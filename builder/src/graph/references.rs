//! What the instructions of a stage refer to by `--from=` and `from=`, and what such a name means there.

use super::{Graph, SCRATCH};
use crate::diagnostic::{Diagnostic, code};
use crate::instruction::Instruction;
use crate::options::LAYOUT_SCHEME;
use crate::plan::{ImageKey, Origin};
use crate::source::Span;
use crate::suggest;
use lapstrake_layerstore::reference::Reference;

/// What a reference means.
type Meaning = Result<Origin, BadReference>;

/// Where a reference to a later stage is reported.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Later {
    /// In every stage: somebody asked what is wrong with the file.
    Everywhere,
    /// Where a build would follow it.
    WhereFollowed,
}

/// Why a `from` cannot be looked up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BadReference {
    name: String,
    text: String,
    /// The stage that it means, when that one cannot be used here.
    stage: Option<usize>,
}

impl BadReference {
    fn new(name: &str, text: String) -> Self {
        Self { name: name.to_owned(), text, stage: None }
    }

    fn later(name: &str, stage: usize, itself: bool) -> Self {
        let text = if itself {
            format!(
                "a stage cannot copy from itself: `{name}` is the current stage (circular dependency)"
            )
        } else {
            format!("stage `{name}` needs to be defined before current stage")
        };
        Self { stage: Some(stage), ..Self::new(name, text) }
    }
}

impl std::fmt::Display for BadReference {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.text)
    }
}

pub(super) fn check_reference(text: &str) -> Result<(), String> {
    if text.starts_with(LAYOUT_SCHEME) {
        return Ok(());
    }
    Reference::parse(text).map(|_| ()).map_err(|e| {
        format!("failed to parse stage name \"{text}\": invalid reference format: {e}")
    })
}

impl Graph {
    /// What the instructions of a stage read; what cannot be looked up was reported by
    /// [`Graph::check_references`].
    pub(super) fn origins(&self, index: usize) -> Vec<Origin> {
        let mut origins = Vec::new();
        self.each_reference(index, &mut |origin, _| origins.extend(origin));
        origins
    }

    /// Reports references that mean nothing, and those to later stages everywhere, or only
    /// where following them is an error: in stages that the target needs, and in those that wait for
    /// each other.
    pub(super) fn check_references(&self, later: Later, problems: &mut Vec<Diagnostic>) {
        let mut found = Vec::new();
        for index in 0..self.stages.len() {
            self.each_reference(index, &mut |origin, span| {
                found.extend(origin.err().map(|bad| (index, bad, span)));
            });
        }
        let mut counts = vec![true; self.stages.len()];
        if later == Later::WhereFollowed && found.iter().any(|(_, bad, _)| bad.stage.is_some()) {
            counts = self.circles();
            self.needed().into_iter().for_each(|index| counts[index] = true);
        }
        for (index, bad, span) in found {
            if counts[index] || bad.stage.is_none() {
                problems.push(self.bad_reference(bad, span));
            }
        }
    }

    /// The stages whose files the instructions of a stage read, later ones among them.
    pub(super) fn reads_of(&self, index: usize) -> Vec<usize> {
        let stage = |origin| match origin {
            Ok(Origin::Stage(stage)) => Some(stage),
            Ok(_) => None,
            Err(BadReference { stage, .. }) => stage,
        };
        let mut stages = Vec::new();
        self.each_reference(index, &mut |origin, _| stages.extend(stage(origin)));
        stages
    }

    /// What is wrong with a reference, with the stage that it means or may have meant.
    fn bad_reference(&self, bad: BadReference, span: Span) -> Diagnostic {
        let names = self.stages.iter().filter_map(|stage| stage.name.as_deref());
        let nearest = suggest::nearest(&bad.name, names);
        let problem =
            Diagnostic::error(code::UNKNOWN_STAGE, span, bad.text).with_suggestion(nearest);
        let near = |name: &str| self.named.get(name).and_then(|all| all.last()).copied();
        match (bad.stage, nearest.and_then(near)) {
            (Some(stage), _) => problem.with_related(self.stages[stage].span, "it is defined here"),
            (None, Some(stage)) => {
                problem.with_related(self.stages[stage].span, "a stage of a like name")
            }
            (None, None) => problem,
        }
    }

    /// Tells what each reference of a stage means, and where it is.
    fn each_reference(&self, index: usize, tell: &mut dyn FnMut(Meaning, Span)) {
        for located in self.stages[index].instructions.referring() {
            match &located.instruction {
                Instruction::Copy(copy) | Instruction::Add(copy) => {
                    if let Some(from) = &copy.from {
                        tell(self.copy_origin(index, from), located.flag_span("from"));
                    }
                }
                Instruction::Run(run) => {
                    for from in run.mounts.iter().filter_map(|mount| mount.from.as_ref()) {
                        tell(self.mount_origin(index, from), located.line_span);
                    }
                }
                _ => {}
            }
        }
    }

    /// What `COPY --from=` means in a stage.
    pub fn copy_origin(&self, stage: usize, from: &str) -> Result<Origin, BadReference> {
        if let Ok(number) = from.parse::<i64>() {
            return match usize::try_from(number) {
                Ok(index) if index < stage => Ok(Origin::Stage(index)),
                Ok(index) if index < self.stages.len() => {
                    Err(BadReference::later(from, index, index == stage))
                }
                _ => Err(BadReference::new(from, format!("invalid stage index {from}"))),
            };
        }
        self.mount_origin(stage, from)
    }

    /// What `from=` of a mount means in a stage: a name, never a number.
    pub fn mount_origin(&self, stage: usize, from: &str) -> Result<Origin, BadReference> {
        let lower = from.to_lowercase();
        let named = self.named.get(&lower).map_or(&[][..], Vec::as_slice);
        let (earlier, rest) = named.split_at(named.partition_point(|index| *index < stage));
        if let Some(found) = earlier.last() {
            return Ok(Origin::Stage(*found));
        }
        if let Some(first) = rest.first() {
            return Err(BadReference::later(from, *first, *first == stage));
        }
        match self.named_context(from) {
            Some((name, context)) => match context.image() {
                Some(image) => self.image_origin(&image),
                None => Ok(Origin::Named(name)),
            },
            None if from == SCRATCH => Ok(Origin::Scratch),
            None => self.image_origin(from),
        }
    }

    fn image_origin(&self, reference: &str) -> Result<Origin, BadReference> {
        check_reference(reference).map_err(|text| BadReference::new(reference, text))?;
        let (reference, platform) = (reference.to_owned(), self.platform.clone());
        Ok(Origin::Image(ImageKey { reference, platform }))
    }
}
