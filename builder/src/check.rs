//! Checking without building: every problem of a Dockerfile in one go.
//!
//! ```text
//! parse ▶ lower ▶ graph ▶ plan of what is known ▶ rules        pure; no IO
//! ```
//!
//! *Invariant:* what is reported is true whatever the base images are. They are not looked at, so a
//! problem that planning shows counts only if no value that an image could set takes part in it.

mod fix;

pub use fix::{Fixed, fix};

use crate::diagnostic::{self, Diagnostic, code};
use crate::error::BuildError;
use crate::expand::Budget;
use crate::graph::{self, Graph};
use crate::ignore::Ignore;
use crate::instruction::{self, Dockerfile};
use crate::limits::MAX_NEEDED_STAGES;
use crate::lint::{self, Config, ContextFacts, Facts};
use crate::options::BuildOptions;
use crate::plan::{BaseFacts, ImageKey, StageInput, StagePlan, plan_stage};
use crate::source::SourceFile;
use crate::syntax::{self, Ast};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// What a check found.
#[derive(Debug, Clone)]
pub struct Report {
    /// The file.
    pub file: Arc<SourceFile>,
    /// Everything that is wrong or doubtful, in order of place.
    pub diagnostics: Vec<Diagnostic>,
}

/// What is known of the world around a file, and how much is wanted.
#[derive(Clone, Copy)]
pub struct Surroundings<'a> {
    /// The base images that somebody has looked at.
    pub base: &'a dyn Fn(&ImageKey) -> Option<&'a BaseFacts>,
    /// The size of the context.
    pub context: Option<&'a ContextFacts>,
    /// Whether [`lint::OWN_RULES`] speak, too; a build has the reference's alone.
    pub own_rules: bool,
    /// Whether all stages are looked at where no target is asked for, as in the reference's check; a
    /// build looks at those that its target needs.
    pub every_stage: bool,
}

impl Default for Surroundings<'_> {
    /// Nothing is known, and everything is wanted.
    fn default() -> Self {
        Self { base: &|_| None, context: None, own_rules: true, every_stage: true }
    }
}

impl std::fmt::Debug for Surroundings<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Surroundings").field("context", &self.context).finish_non_exhaustive()
    }
}

/// Checks the Dockerfile of these options: syntax, references, values, all rules of [`lint::RULES`]
/// and, if they are wanted, of [`lint::OWN_RULES`]. Of the options only the file, the ignore file,
/// arguments, named contexts, target and platforms count. The error is that of a target that does not
/// exist.
pub fn check(
    options: &BuildOptions,
    surroundings: &Surroundings<'_>,
) -> Result<Report, BuildError> {
    let file = Arc::new(SourceFile::new(&options.dockerfile_name, options.dockerfile.clone()));
    let (ast, mut diagnostics) = syntax::parse(&file);
    let (dockerfile, more) = instruction::lower(&ast);
    diagnostics.extend(more);
    let (config, problems) = Config::of(&ast);
    diagnostics.extend(problems);
    if !dockerfile.stages.is_empty() {
        let (mut graph, problems) = graph::lay_out(&dockerfile, options);
        diagnostics.extend(problems);
        match graph.aim(options) {
            // A target that is not there may well be one of the lines that could not be read.
            Err(error) if !diagnostic::has_errors(&diagnostics) => return Err(error),
            Err(_) | Ok(()) => {}
        }
        let stages = looked_at(&graph, options, surroundings);
        let subject =
            Subject { file: &file, ast, dockerfile: &dockerfile, graph: &graph, config, stages };
        if subject.stages.len() > MAX_NEEDED_STAGES {
            let message = format!("more than {MAX_NEEDED_STAGES} stages that the target needs");
            let place = graph.stages.last().map(|stage| stage.span).unwrap_or_default();
            diagnostics.push(Diagnostic::error(code::OVER_LIMIT, place, message));
        } else {
            subject.plan(options, surroundings, &mut diagnostics);
            subject.rules(options, surroundings, &mut diagnostics);
        }
    }
    diagnostic::tidy(&mut diagnostics);
    Ok(Report { file, diagnostics })
}

/// The stages whose instructions are looked at, in file order. Where all of them are too many, those
/// that the target needs must do.
fn looked_at(graph: &Graph, options: &BuildOptions, surroundings: &Surroundings<'_>) -> Vec<usize> {
    let all = surroundings.every_stage && options.target.is_none();
    if all && graph.stages.len() <= MAX_NEEDED_STAGES {
        return (0..graph.stages.len()).collect();
    }
    graph.needed()
}

/// An error of the file with all others that it has: what stops a build first is rarely all that is
/// wrong. References between stages are left to the build, which follows only those that it needs.
pub(crate) fn with_all_errors(options: &BuildOptions, error: BuildError) -> BuildError {
    let BuildError::Dockerfile { file, mut diagnostics } = error else { return error };
    let surroundings =
        Surroundings { own_rules: false, every_stage: false, ..Surroundings::default() };
    if let Ok(report) = check(options, &surroundings) {
        let counts =
            |found: &Diagnostic| found.code != code::UNKNOWN_STAGE && !lint::is_rule(found.code);
        let known: BTreeSet<_> = diagnostics.iter().map(|d| (d.code, d.span.start)).collect();
        let more = report.diagnostics.into_iter().filter(|d| d.is_error() && counts(d));
        diagnostics.extend(more.filter(|d| !known.contains(&(d.code, d.span.start))));
        diagnostic::tidy(&mut diagnostics);
    }
    BuildError::Dockerfile { file, diagnostics }
}

/// A file in all its forms.
struct Subject<'a> {
    file: &'a Arc<SourceFile>,
    ast: Ast,
    dockerfile: &'a Dockerfile,
    graph: &'a Graph,
    config: Config,
    /// The stages whose instructions are looked at.
    stages: Vec<usize>,
}

impl Subject<'_> {
    fn rules(
        &self,
        options: &BuildOptions,
        surroundings: &Surroundings<'_>,
        diagnostics: &mut Vec<Diagnostic>,
    ) {
        let Self { ast, dockerfile, graph, config, stages, .. } = self;
        let ignore = options.ignore_file.as_ref().and_then(|(name, bytes)| {
            let failed = |error| {
                let message = format!("{name}: {error}");
                let place = dockerfile.stages.first().map(|stage| stage.span).unwrap_or_default();
                diagnostics.push(Diagnostic::error(code::BAD_IGNORE_FILE, place, message));
            };
            Ignore::parse(bytes).map_err(failed).ok()
        });
        let reached = |stage: usize| stages.binary_search(&stage).is_ok();
        let mut found = lint::check(ast, dockerfile, config, &reached);
        let Surroundings { context, own_rules, .. } = *surroundings;
        let base = |image: &ImageKey| (surroundings.base)(image);
        let facts = Facts { base: &base, ignore: ignore.as_ref(), context };
        found.extend(lint::check_facts(
            dockerfile,
            (graph, stages),
            &options.build_args,
            config,
            facts,
        ));
        if own_rules {
            found.extend(lint::check_own(dockerfile, (graph, stages), config, facts));
        }
        lint::raise(&mut found, config);
        diagnostics.extend(found);
    }

    /// Plans each stage with what is known, and reports what would be wrong in any case.
    fn plan(
        &self,
        options: &BuildOptions,
        surroundings: &Surroundings<'_>,
        diagnostics: &mut Vec<Diagnostic>,
    ) {
        let Self { graph, file, stages, .. } = self;
        let nothing_known = BaseFacts::default();
        let budget = Budget::of_file();
        let mut plans: BTreeMap<usize, (StagePlan, bool)> = BTreeMap::new();
        for index in stages.iter().copied() {
            let stage = &graph.stages[index];
            let parent = match stage.parent().map(|parent| plans.get(&parent)) {
                Some(None) => continue,
                Some(Some(parent)) => Some(parent),
                None => None,
            };
            let image = stage.image().map(|image| (surroundings.base)(image));
            let known = match (parent, image) {
                (Some((_, known)), _) => *known,
                (None, Some(facts)) => facts.is_some(),
                (None, None) => true,
            };
            let parent = parent.map(|(plan, _)| plan);
            let base = image.map(|facts| facts.unwrap_or(&nothing_known));
            match plan_stage(&StageInput {
                stage,
                parent,
                base,
                graph,
                options,
                file,
                guess: false,
                budget: &budget,
            }) {
                Ok(plan) => drop(plans.insert(index, (plan, known))),
                Err(BuildError::Dockerfile { diagnostics: problems, .. }) => {
                    // References were looked up when the graph was laid out. A trigger's text is not
                    // in the file: its problems stand at FROM.
                    let certain = |problem: &Diagnostic| {
                        if problem.code == code::UNKNOWN_STAGE {
                            return false;
                        }
                        known
                            || (problem.span != stage.span
                                && !file.slice(problem.span).contains(&b'$'))
                    };
                    diagnostics.extend(problems.into_iter().filter(certain));
                }
                Err(error) => {
                    let message = error.to_string();
                    diagnostics.push(Diagnostic::error(code::OVER_LIMIT, stage.span, message));
                    return;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;
