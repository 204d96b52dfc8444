//! From a Dockerfile's bytes to steps, stage by stage and whole: 1,000, 10,000, 100,000 instructions.
//!
//! `cargo bench -p lapstrake-builder --bench language`; the figures are in `docs/benchmarks.md`.

use divan::{Bencher, black_box};
use lapstrake_builder::diagnostic::has_errors;
use lapstrake_builder::expand::Budget;
use lapstrake_builder::graph::{self, Graph};
use lapstrake_builder::instruction::{self, Dockerfile};
use lapstrake_builder::lint;
use lapstrake_builder::options::{BuildOptions, ContextSource};
use lapstrake_builder::plan::{self, BaseFacts, StageInput, plan_needed, plan_stage};
use lapstrake_builder::source::SourceFile;
use lapstrake_builder::syntax::{self, Ast};
use lapstrake_fixtures::dockerfile::realistic;
use lapstrake_layerstore::oci::Platform;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Instructions of the files that are measured.
const LENGTHS: [usize; 3] = [1_000, 10_000, 100_000];

fn main() {
    divan::main();
}

fn options(text: &str) -> BuildOptions {
    let platform = Platform::new("linux", "amd64", "");
    BuildOptions {
        build_args: vec![("VERSION_1".into(), "2.0.1".into())],
        ..BuildOptions::new(text, "Dockerfile", ContextSource::Empty, platform)
    }
}

fn parsed(file: &SourceFile) -> (Ast, Dockerfile) {
    let (ast, problems) = syntax::parse(file);
    assert!(!has_errors(&problems), "{problems:?}");
    let (dockerfile, problems) = instruction::lower(&ast);
    assert!(!has_errors(&problems), "{problems:?}");
    (ast, dockerfile)
}

/// Plans every stage as a build does; how many steps came of it.
fn plan(graph: &Graph, options: &BuildOptions, file: &Arc<SourceFile>) -> usize {
    let base = BaseFacts::default();
    let budget = Budget::of_file();
    let mut plans = BTreeMap::new();
    for index in graph.needed() {
        let stage = &graph.stages[index];
        let parent = stage.parent().and_then(|parent| plans.get(&parent));
        let base = stage.image().map(|_| &base);
        let budget = &budget;
        let input = StageInput { stage, parent, base, graph, options, file, guess: false, budget };
        plans.insert(index, plan_stage(&input).expect("the file is right"));
    }
    plans.values().map(|plan| plan.steps.len()).sum()
}

/// What a build says of the file besides building it.
fn lint(ast: &Ast, dockerfile: &Dockerfile, graph: &Graph, options: &BuildOptions) -> usize {
    let (config, _) = lint::Config::of(ast);
    let needed = graph.needed();
    let found = lint::check(ast, dockerfile, &config, &|stage| needed.contains(&stage));
    let facts = lint::Facts { base: &|_| None, ignore: None, context: None };
    found.len()
        + lint::check_facts(
            dockerfile,
            (graph, &graph.needed()),
            &options.build_args,
            &config,
            facts,
        )
        .len()
}

struct Input {
    options: BuildOptions,
    file: Arc<SourceFile>,
}

impl Input {
    fn new(instructions: usize) -> Self {
        let text = realistic(instructions);
        let options = options(&text);
        Self { options, file: Arc::new(SourceFile::new("Dockerfile", text)) }
    }
}

/// The goal: from bytes to the steps of all stages, as `lap build` and `plan::plan` go.
#[divan::bench(args = LENGTHS)]
fn parse_and_plan(bencher: Bencher<'_, '_>, instructions: usize) {
    let input = Input::new(instructions);
    let base = BaseFacts::default();
    bencher.bench_local(|| {
        let options = &input.options;
        let parsed = plan::parse(options).expect("the file is right");
        let graph = graph::resolve(&parsed.dockerfile, options, &parsed.file);
        let graph = graph.expect("the file is right");
        let plans = plan_needed(&graph, options, &parsed.file, &|_| Some(&base), &|_| false);
        let plans = plans.expect("the file is right");
        assert!(plans.values().map(|plan| plan.steps.len()).sum::<usize>() > instructions / 3);
        // What a build keeps until its end is not let go of within the time that is measured.
        (parsed, graph, plans)
    });
}

/// Everything that `lap build` does before it looks for the first step.
#[divan::bench(args = LENGTHS)]
fn whole(bencher: Bencher<'_, '_>, instructions: usize) {
    let input = Input::new(instructions);
    bencher.bench_local(|| {
        let options = &input.options;
        let file = Arc::new(SourceFile::new("Dockerfile", options.dockerfile.clone()));
        let (ast, dockerfile) = parsed(&file);
        let graph = graph::resolve(&dockerfile, options, &file).expect("the file is right");
        let steps = plan(&graph, options, &file);
        black_box((steps, lint(&ast, &dockerfile, &graph, options)))
    });
}

#[divan::bench(args = LENGTHS)]
fn parse(bencher: Bencher<'_, '_>, instructions: usize) {
    let input = Input::new(instructions);
    bencher.bench_local(|| {
        let file = SourceFile::new("Dockerfile", input.options.dockerfile.clone());
        black_box(syntax::parse(&file))
    });
}

#[divan::bench(args = LENGTHS)]
fn lower(bencher: Bencher<'_, '_>, instructions: usize) {
    let input = Input::new(instructions);
    let (ast, _) = syntax::parse(&input.file);
    bencher.bench_local(|| black_box(instruction::lower(&ast)));
}

#[divan::bench(args = LENGTHS)]
fn resolve(bencher: Bencher<'_, '_>, instructions: usize) {
    let Input { options, file } = Input::new(instructions);
    let (_, dockerfile) = parsed(&file);
    bencher.bench_local(|| black_box(graph::resolve(&dockerfile, &options, &file)));
}

#[divan::bench(args = LENGTHS)]
fn plan_all_stages(bencher: Bencher<'_, '_>, instructions: usize) {
    let Input { options, file } = Input::new(instructions);
    let graph = graph::resolve(&parsed(&file).1, &options, &file).expect("the file is right");
    bencher.bench_local(|| black_box(plan(&graph, &options, &file)));
}

#[divan::bench(args = LENGTHS)]
fn lint_as_a_build_does(bencher: Bencher<'_, '_>, instructions: usize) {
    let Input { options, file } = Input::new(instructions);
    let (ast, dockerfile) = parsed(&file);
    let graph = graph::resolve(&dockerfile, &options, &file).expect("the file is right");
    bencher.bench_local(|| black_box(lint(&ast, &dockerfile, &graph, &options)));
}
