//! Long files are read and planned by several threads: what comes out is what one thread finds.

use std::collections::BTreeMap;
use std::sync::Arc;

use lapstrake_builder::BuildError;
use lapstrake_builder::diagnostic::Diagnostic;
use lapstrake_builder::expand::Budget;
use lapstrake_builder::graph::{self, Graph};
use lapstrake_builder::options::{BuildOptions, ContextSource};
use lapstrake_builder::plan::{
    self, BaseFacts, Parsed, StageInput, StagePlan, plan_needed, plan_stage,
};
use lapstrake_builder::source::SourceFile;
use lapstrake_builder::{instruction, syntax};
use lapstrake_fixtures::dockerfile::realistic;
use lapstrake_layerstore::oci::Platform;

fn options(text: &str) -> BuildOptions {
    let platform = Platform::new("linux", "amd64", "");
    BuildOptions::new(text, "Dockerfile", ContextSource::Empty, platform)
}

fn parsed(options: &BuildOptions) -> (Parsed, Graph) {
    let parsed = plan::parse(options).expect("a right file");
    let graph = graph::resolve(&parsed.dockerfile, options, &parsed.file).expect("a right file");
    (parsed, graph)
}

/// Each stage after the one before, by this thread.
fn one_by_one(
    graph: &Graph,
    options: &BuildOptions,
    file: &Arc<SourceFile>,
) -> Result<BTreeMap<usize, StagePlan>, BuildError> {
    let (base, budget) = (BaseFacts::default(), Budget::of_file());
    let mut plans = BTreeMap::new();
    for index in graph.needed() {
        let stage = &graph.stages[index];
        let input = StageInput {
            stage,
            parent: stage.parent().and_then(|parent| plans.get(&parent)),
            base: stage.image().map(|_| &base),
            graph,
            options,
            file,
            guess: false,
            budget: &budget,
        };
        plans.insert(index, plan_stage(&input)?);
    }
    Ok(plans)
}

fn at_once(
    graph: &Graph,
    options: &BuildOptions,
    file: &Arc<SourceFile>,
) -> Result<BTreeMap<usize, StagePlan>, BuildError> {
    let base = BaseFacts::default();
    plan_needed(graph, options, file, &|_| Some(&base), &|_| false)
}

fn told<T: std::fmt::Debug>(planned: Result<T, BuildError>) -> Vec<Diagnostic> {
    match planned {
        Err(BuildError::Dockerfile { diagnostics, .. }) => diagnostics,
        other => panic!("{other:?}"),
    }
}

/// Twenty stages, of which some build on others.
fn with_parents() -> String {
    let mut text = realistic(2_000);
    for (child, parent) in [(3, 2), (4, 2), (9, 4), (15, 9)] {
        let from = format!("FROM debian:12-slim AS part{child}\n");
        assert!(text.contains(&from));
        text = text.replace(&from, &format!("FROM part{parent} AS part{child}\n"));
    }
    text
}

#[test]
fn what_lines_mean_is_the_same() {
    for text in [realistic(3_000), with_parents()] {
        let options = options(&text);
        let (parsed, _) = parsed(&options);
        let (ast, _) = syntax::parse(&parsed.file);
        let (dockerfile, _) = instruction::lower(&ast);
        assert_eq!(format!("{:?}", parsed.dockerfile), format!("{dockerfile:?}"));
        assert_eq!(format!("{:?}", parsed.ast), format!("{ast:?}"));
    }
}

#[test]
fn problems_are_the_same_and_in_order() {
    let mut text = realistic(2_000);
    for part in [2, 7, 11] {
        let from = format!("AS part{part}\n");
        text = text.replace(&from, &format!("{from}COPY --form=x a b\nSHELL bash\nNOPE\n"));
    }
    let options = options(&text);
    for _ in 0..10 {
        let Err(BuildError::Dockerfile { file, diagnostics }) = plan::parse(&options) else {
            panic!("it has errors")
        };
        let (_, lone) = instruction::lower(&syntax::parse(&file).0);
        assert_eq!(diagnostics, lone);
        assert_eq!(diagnostics.len(), 9);
    }
}

#[test]
fn stages_are_planned_the_same() {
    for text in [realistic(3_000), with_parents()] {
        let options = options(&text);
        let (parsed, graph) = parsed(&options);
        let lone = one_by_one(&graph, &options, &parsed.file).expect("a right file");
        let plans = at_once(&graph, &options, &parsed.file).expect("a right file");
        assert!(plans.len() > 10, "{} stages", plans.len());
        assert_eq!(format!("{plans:?}"), format!("{lone:?}"));
    }
}

#[test]
fn the_first_stage_that_fails_is_told() {
    let mut text = realistic(2_000);
    for part in [5, 12] {
        let from = format!("AS part{part}\n");
        text = text.replace(&from, &format!("{from}ENV A=${{B:?part{part}}}\n"));
    }
    let options = options(&text);
    let (parsed, graph) = parsed(&options);
    for _ in 0..10 {
        let error = told(at_once(&graph, &options, &parsed.file));
        assert_eq!(error, told(one_by_one(&graph, &options, &parsed.file)));
        assert!(error.len() == 1 && error[0].message.contains("part5"), "{error:?}");
    }
}
