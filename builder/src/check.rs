//! Checking without building: every problem of a Dockerfile in one go.
//!
//! ```text
//! parse ▶ lower ▶ graph ▶ plan of what is known ▶ rules        pure; no IO
//! ```
//!
//! *Invariant:* what is reported is true whatever the base images are. They are not looked at, so a
//! problem that planning shows counts only if no value that an image could set takes part in it.

use crate::diagnostic::{self, Diagnostic, code};
use crate::error::BuildError;
use crate::graph::{self, Base, Graph};
use crate::ignore::Ignore;
use crate::instruction::{self, Dockerfile};
use crate::lint::{self, Config, Facts};
use crate::options::BuildOptions;
use crate::plan::{BaseFacts, StageInput, StagePlan, plan_stage};
use crate::source::SourceFile;
use crate::syntax::{self, Ast};
use std::collections::BTreeMap;
use std::sync::Arc;

/// What a check found.
#[derive(Debug, Clone)]
pub struct Report {
    /// The file.
    pub file: Arc<SourceFile>,
    /// Everything that is wrong or doubtful, in order of place.
    pub diagnostics: Vec<Diagnostic>,
}

/// Checks the Dockerfile of these options: syntax, references, values, all rules of [`lint::RULES`]
/// and [`lint::OWN_RULES`]. Of the options only the file, the ignore file, arguments, named contexts,
/// target and platforms count. The error is that of a target that does not exist.
pub fn check(options: &BuildOptions) -> Result<Report, BuildError> {
    let file = Arc::new(SourceFile::new(&options.dockerfile_name, options.dockerfile.clone()));
    let (ast, mut diagnostics) = syntax::parse(&file);
    let (dockerfile, more) = instruction::lower(&ast);
    diagnostics.extend(more);
    let (config, problems) = Config::of(&ast);
    diagnostics.extend(problems);
    if dockerfile.stages.is_empty() {
        diagnostic::tidy(&mut diagnostics);
        return Ok(Report { file, diagnostics });
    }
    match graph::resolve(&dockerfile, options, &file) {
        Ok(graph) => {
            plan(&graph, options, &file, &mut diagnostics);
            rules(
                &Subject { ast: &ast, dockerfile: &dockerfile, graph: &graph, config: &config },
                options,
                &mut diagnostics,
            );
        }
        Err(BuildError::Dockerfile { diagnostics: more, .. }) => {
            diagnostics.extend(more);
            diagnostics.extend(lint::check(&ast, &dockerfile, &config, &|_| true));
        }
        // A target that is not there may well be one of the lines that could not be read.
        Err(error) if !diagnostic::has_errors(&diagnostics) => return Err(error),
        Err(_) => {}
    }
    diagnostic::tidy(&mut diagnostics);
    Ok(Report { file, diagnostics })
}

struct Subject<'a> {
    ast: &'a Ast,
    dockerfile: &'a Dockerfile,
    graph: &'a Graph,
    config: &'a Config,
}

fn rules(subject: &Subject<'_>, options: &BuildOptions, diagnostics: &mut Vec<Diagnostic>) {
    let Subject { ast, dockerfile, graph, config } = subject;
    let ignore = options.ignore_file.as_ref().and_then(|(name, bytes)| {
        let failed = |error| {
            let message = format!("{name}: {error}");
            let place = dockerfile.stages.first().map(|stage| stage.span).unwrap_or_default();
            diagnostics.push(Diagnostic::error(code::BAD_IGNORE_FILE, place, message));
        };
        Ignore::parse(bytes).map_err(failed).ok()
    });
    let needed = graph.needed();
    diagnostics.extend(lint::check(ast, dockerfile, config, &|stage| needed.contains(&stage)));
    let facts = Facts { base: &|_| None, ignore: ignore.as_ref() };
    diagnostics.extend(lint::check_facts(graph, &options.build_args, config, facts));
    diagnostics.extend(lint::check_own(dockerfile, graph, config));
}

/// Plans each needed stage with what is known, and reports what would be wrong in any case.
fn plan(
    graph: &Graph,
    options: &BuildOptions,
    file: &Arc<SourceFile>,
    diagnostics: &mut Vec<Diagnostic>,
) {
    let nothing_known = BaseFacts::default();
    let mut plans: BTreeMap<usize, (StagePlan, bool)> = BTreeMap::new();
    for index in graph.needed() {
        let stage = &graph.stages[index];
        let parent = match stage.parent().map(|parent| plans.get(&parent)) {
            Some(None) => continue,
            Some(Some(parent)) => Some(parent),
            None => None,
        };
        let known = match parent {
            Some((_, known)) => *known,
            None => matches!(stage.base, Base::Scratch | Base::Named(_)),
        };
        let parent = parent.map(|(plan, _)| plan);
        let base = stage.image().map(|_| &nothing_known);
        match plan_stage(&StageInput { stage, parent, base, graph, options, file }) {
            Ok(plan) => drop(plans.insert(index, (plan, known))),
            Err(BuildError::Dockerfile { diagnostics: problems, .. }) => {
                // A trigger's text is not in the file: its problems stand at FROM.
                let certain = |problem: &Diagnostic| {
                    known
                        || (problem.span != stage.span && !file.slice(problem.span).contains(&b'$'))
                };
                diagnostics.extend(problems.into_iter().filter(certain));
            }
            Err(_) => {}
        }
    }
}

#[cfg(test)]
mod tests;
