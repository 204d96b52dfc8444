//! From a Dockerfile's bytes to the plans of the stages that its target needs.

use super::batch::{Unplanned, independent, plan_all};
use super::describe;
use super::{BaseFacts, BuildPlan, Described, ImageKey, ImagePlace, StagePlan};
use crate::diagnostic::Diagnostic;
use crate::error::BuildError;
use crate::expand::Budget;
use crate::graph::{self, Graph, KnownBases};
use crate::instruction::{self, Dockerfile};
use crate::limits;
use crate::options::BuildOptions;
use crate::source::SourceFile;
use crate::syntax::Ast;
use std::collections::BTreeMap;
use std::sync::Arc;

/// A Dockerfile without errors, in all its forms.
#[derive(Debug, Clone)]
pub struct Parsed {
    /// The text.
    pub file: Arc<SourceFile>,
    /// What stands where.
    pub ast: Ast,
    /// What it means.
    pub dockerfile: Dockerfile,
    /// What is doubtful.
    pub warnings: Vec<Diagnostic>,
}

/// Parse the Dockerfile of these options; all its errors are reported together.
pub fn parse(options: &BuildOptions) -> Result<Parsed, BuildError> {
    let file = Arc::new(SourceFile::new(&options.dockerfile_name, options.dockerfile.clone()));
    let (ast, dockerfile, diagnostics) = instruction::read(&file);
    let (errors, warnings): (Vec<_>, Vec<_>) =
        diagnostics.into_iter().partition(Diagnostic::is_error);
    if !errors.is_empty() {
        return Err(BuildError::Dockerfile { file, diagnostics: errors });
    }
    Ok(Parsed { file, ast, dockerfile, warnings })
}

/// Plan every stage that the target needs, in file order. `guessed` says which images are not really
/// known: what depends on their variables is not judged.
pub fn plan_needed<'a>(
    graph: &'a Graph,
    options: &BuildOptions,
    file: &Arc<SourceFile>,
    known: KnownBases<'a>,
    guessed: &dyn Fn(&ImageKey) -> bool,
) -> Result<BTreeMap<usize, StagePlan>, BuildError> {
    let needed = graph.needed();
    within(needed.len(), limits::MAX_NEEDED_STAGES, "stages that the target needs")?;
    let mut plans: BTreeMap<usize, StagePlan> = BTreeMap::new();
    let mut guesses: BTreeMap<usize, bool> = BTreeMap::new();
    let mut entries = 0;
    let budget = Budget::of_file();
    let mut rest = needed.as_slice();
    while !rest.is_empty() {
        let (batch, later) = rest.split_at(independent(graph, &plans, rest));
        rest = later;
        for index in batch {
            let stage = &graph.stages[*index];
            let guess = match stage.parent() {
                Some(parent) => guesses.get(&parent).copied().unwrap_or_default(),
                None => stage.image().is_some_and(guessed),
            };
            guesses.insert(*index, guess);
        }
        let input = |index: &usize| {
            let stage = &graph.stages[*index];
            Unplanned {
                stage,
                parent: stage.parent().and_then(|parent| plans.get(&parent)),
                base: stage.image().and_then(known),
                graph,
                options,
                file,
                guess: guesses[index],
            }
        };
        let inputs: Vec<Unplanned<'_>> = batch.iter().map(input).collect();
        for (index, plan) in batch.iter().zip(plan_all(&inputs, &budget)?) {
            entries += plan.history().len() + plan.base_history().len();
            within(entries, limits::MAX_HISTORY_ENTRIES, "history entries over all stages")?;
            plans.insert(*index, plan);
        }
    }
    Ok(plans)
}

fn within(count: usize, limit: usize, what: &str) -> Result<(), BuildError> {
    if count <= limit {
        return Ok(());
    }
    Err(BuildError::plan(format!("more than {limit} {what}")))
}

/// A base image that the caller of [`plan`] knows.
#[derive(Debug, Clone, Default)]
pub struct Found {
    /// What planning has to know of it.
    pub facts: BaseFacts,
    /// Where it is.
    pub place: ImagePlace,
    /// The digest of its config, which is its id.
    pub config: Option<String>,
    /// The digest of its manifest.
    pub manifest: Option<String>,
}

/// Plan a build without doing anything: no file is read, no image fetched, no program run.
///
/// `find` is asked for what is known of each image that the build needs; `None` means that nothing is.
/// The plan is then made as if the image set no variable and had no trigger, and says so.
///
/// ```
/// use lapstrake_builder::BuildOptions;
/// use lapstrake_builder::plan::{Dependency, ImagePlace, Kind, plan};
///
/// let mut options = BuildOptions::of(
///     "FROM golang:1.25 AS build\n\
///      ARG NAME=hull\n\
///      COPY go.mod go.sum ./\n\
///      RUN --mount=type=cache,target=/go/pkg/mod go mod download\n\
///      FROM scratch\n\
///      COPY --from=build /out/$NAME /bin/\n\
///      FROM busybox AS unused\n",
/// );
/// options.target = Some("build".to_owned());
/// let only_build = plan(&options, &mut |_| None)?;
/// assert_eq!(only_build.stages.len(), 1);
///
/// let stage = &only_build.stages[0];
/// let [arg, copy, run] = stage.instructions.as_slice() else { panic!("three instructions") };
/// assert_eq!((arg.kind, copy.kind, run.kind), (Kind::Config, Kind::Copy, Kind::Run));
/// assert_eq!(copy.reads.files[0].paths, ["go.mod", "go.sum"]);
/// assert_eq!(run.reads.mounts[0].target, "/go/pkg/mod");
/// assert_eq!(run.depends_on, [Dependency::Instruction { stage: 0, number: 2 }]);
/// assert_eq!(only_build.images[0].place, ImagePlace::Unknown);
/// assert!(serde_json::to_string(&only_build).is_ok());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn plan(
    options: &BuildOptions,
    find: &mut dyn FnMut(&ImageKey) -> Option<Found>,
) -> Result<BuildPlan, BuildError> {
    outline(options, find).map_err(|error| crate::check::with_all_errors(options, error))
}

fn outline(
    options: &BuildOptions,
    find: &mut dyn FnMut(&ImageKey) -> Option<Found>,
) -> Result<BuildPlan, BuildError> {
    let parsed = parse(options)?;
    let mut graph = graph::resolve(&parsed.dockerfile, options, &parsed.file)?;
    let mut found: BTreeMap<ImageKey, Found> = BTreeMap::new();
    while let Some(wanted) = graph.missing_bases(&|image| found.get(image).map(|f| &f.facts)) {
        for image in wanted {
            let facts = find(&image).unwrap_or_default();
            found.insert(image, facts);
        }
        graph.apply_triggers(&|image| found.get(image).map(|f| &f.facts), &parsed.file)?;
    }
    let known = |image: &ImageKey| found.get(image).map(|f| &f.facts);
    let guessed =
        |image: &ImageKey| found.get(image).is_none_or(|f| f.place == ImagePlace::Unknown);
    let plans = plan_needed(&graph, options, &parsed.file, &known, &guessed)?;
    let described = Described { file: &parsed.file, graph: &graph, plans: &plans };
    Ok(describe(&described, options, &|image| found.get(image).cloned().unwrap_or_default()))
}
