//! Do what the plan says: look each step up, execute the ones that are new, assemble the image.
//!
//! Stages run at once, many threads taking them in file order; a stage waits only for what its next step
//! reads. A step's layer is known (content id and table of contents) before the next one starts; digests
//! that only the image config needs are worked out in the background.

mod agent;
mod ahead;
mod bases;
mod board;
mod copy;
mod digests;
mod failed;
mod forecast;
mod journal;
mod mounts;
mod remotes;
mod run;
mod session;
mod sources;
mod stage;
mod together;
mod trees;
mod unpack;

use crate::diagnostic::{Diagnostic, code};
use crate::error::BuildError;
use crate::event::{Event, Observer, StageSummary};
use crate::explain::Recorded;
use crate::graph::{self, Graph};
use crate::identity::Accounts;
use crate::image;
use crate::instruction;
use crate::lint;
use crate::options::BuildOptions;
use crate::plan::{self, Action, ImageKey, ImagePlace, Parsed, StagePlan};
use crate::remote::RemoteSource;
use crate::share::MadeStep;
use crate::source::SourceFile;
use crate::syntax;
pub use bases::BaseTable;
use board::{Board, StageResult};
pub use forecast::{Forecast, forecast};
use lapstrake_layerstore::layers::Layers;
use lapstrake_layerstore::oci::ImageConfig;
use lapstrake_layerstore::source::ImageSource;
use lapstrake_layerstore::store::{ImageRecord, Lease, Store};
use lapstrake_layerstore::view::View;
use lapstrake_runner::{Cancel, Runner};
pub use remotes::{ContextContent, FetchedContext, Fetcher};
pub(crate) use session::CLOCK_SLACK_SECONDS;
use session::Session;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;
use together::Together;
pub use unpack::is_archive;

/// What a build works with; the caller owns all of it.
#[derive(Clone, Copy)]
pub struct BuildDeps<'a> {
    /// The store.
    pub store: &'a Arc<Store>,
    /// Runs steps.
    pub runner: &'a dyn Runner,
    /// Fetches base images that the store does not have.
    pub images: &'a dyn ImageSource,
    /// Fetches what ADD and contexts name by a URL.
    pub remotes: &'a dyn RemoteSource,
    /// Hears what happens.
    pub observer: &'a dyn Observer,
    /// Stops the build.
    pub cancel: &'a Cancel,
}

impl std::fmt::Debug for BuildDeps<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("BuildDeps").finish_non_exhaustive()
    }
}

/// A finished build.
#[derive(Debug)]
pub struct BuildOutcome {
    /// The image, stored but not tagged.
    pub image: ImageRecord,
    /// Its config.
    pub config: ImageConfig,
    /// Steps that made or would make layers, over all stages that were built.
    pub steps: usize,
    /// How many of them came from the cache.
    pub cached: usize,
    /// These steps, for a shared cache.
    pub made: Vec<MadeStep>,
    /// What is not as it should be in the Dockerfile.
    pub warnings: Vec<Diagnostic>,
    /// The Dockerfile, for excerpts.
    pub file: Arc<SourceFile>,
    /// How each step ended.
    pub report: Recorded,
    /// Keeps what the image needs until the caller has tagged or exported it.
    pub lease: Arc<Lease>,
}

/// Build the target of a Dockerfile into an image in the store.
pub fn build(options: &BuildOptions, deps: &BuildDeps<'_>) -> Result<BuildOutcome, BuildError> {
    build_beside(options, deps, &Together::new(deps.store, options.jobs)?)
}

/// Several builds at once over one store, as those of one Dockerfile for several platforms are. They must
/// have the same contexts and secrets.
///
/// A step that several of them need is done once. The first's `jobs` is how many steps run at once in all
/// of them. The first that fails stops the others; those that failed by themselves are told, each with its
/// place among `builds`.
///
/// # Panics
/// If a build does.
pub fn build_together(
    builds: &[(BuildOptions, BuildDeps<'_>)],
) -> Result<Vec<BuildOutcome>, Vec<(usize, BuildError)>> {
    let Some((first, deps)) = builds.first() else { return Ok(Vec::new()) };
    let together = Together::new(deps.store, first.jobs).map_err(|error| vec![(0, error)])?;
    let build = |(options, deps): &(BuildOptions, BuildDeps<'_>)| {
        let built = build_beside(options, deps, &together);
        if built.is_err() {
            deps.cancel.cancel();
        }
        built
    };
    let ended: Vec<_> = std::thread::scope(|scope| {
        let build = &build;
        let others: Vec<_> =
            builds[1..].iter().map(|each| scope.spawn(move || build(each))).collect();
        let others = others
            .into_iter()
            .map(|other| other.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
        std::iter::once(build(&builds[0])).chain(others).collect()
    });
    let (mut outcomes, mut failed, mut stopped) = (Vec::new(), Vec::new(), None);
    for (place, ended) in ended.into_iter().enumerate() {
        match ended {
            Ok(outcome) => outcomes.push(outcome),
            Err(error) if matches!(error.root(), BuildError::Cancelled) => stopped = Some(error),
            Err(error) => failed.push((place, error)),
        }
    }
    match stopped {
        _ if !failed.is_empty() => Err(failed),
        Some(error) => Err(vec![(0, error)]),
        None => Ok(outcomes),
    }
}

/// One of the builds that are under way.
fn build_beside(
    options: &BuildOptions,
    deps: &BuildDeps<'_>,
    together: &Together,
) -> Result<BuildOutcome, BuildError> {
    let begun = Instant::now();
    let options = &*plan::with_epoch(options);
    let mut fetch = |bases: &mut BaseTable, wanted: &[ImageKey], graph: &Graph| {
        bases.fetch(wanted, &graph.run_over(), (options, deps, together))
    };
    let planned = prepare(options, &mut fetch)?;
    refuse_unsupported(&planned.plans, &planned.file)?;
    deps.observer.event(Event::Planned { stages: &planned.summaries() });
    session::warn_of_unknown_filters(options, deps, &planned.graph);
    let session = Session::new(options, deps, together, &planned);
    let made = make_image(&session, &planned);
    let image = made.as_ref().ok().map(|(image, _)| image.config.to_string());
    let report = session.journal.finish(deps.store, options, &planned, image, begun.elapsed());
    deps.observer.event(Event::Recorded { report: &report });
    let (image, config) = made?;
    let (steps, cached) = session.counts();
    let made = session.take_made();
    let Planned { file, warnings, .. } = planned;
    drop(session);
    let lease = Arc::clone(&together.lease);
    Ok(BuildOutcome { image, config, steps, cached, made, warnings, file, report, lease })
}

/// Run all stages and put the target's image into the store.
fn make_image(
    session: &Session<'_>,
    planned: &Planned,
) -> Result<(ImageRecord, ImageConfig), BuildError> {
    let results = run_stages(session, planned)?;
    std::thread::scope(|scope| {
        scope.spawn(|| session.save_memos());
        put_image(session, planned, &results)
    })
}

/// Puts the image together from the stages' layers.
fn put_image(
    session: &Session<'_>,
    planned: &Planned,
    results: &BTreeMap<usize, StageResult>,
) -> Result<(ImageRecord, ImageConfig), BuildError> {
    let (options, deps) = (session.options, session.deps);
    let target = results.get(&planned.graph.target).ok_or(BuildError::Cancelled)?;
    let plan = &planned.plans[&planned.graph.target];
    let diff_ids = session.digests.all(target, deps.observer)?;
    let config = image::config(plan, &target.times, diff_ids, &options.platform, &options.labels);
    let image = deps.store.put_image(&config.to_json(), &target.layers)?;
    // One sync for all that is new, before any name can point to it.
    deps.store.make_durable(&target.layers)?;
    Ok((image, config))
}

/// A Dockerfile that was parsed, whose bases are known, and that is planned.
pub(crate) struct Planned {
    pub(crate) file: Arc<SourceFile>,
    pub(crate) graph: Graph,
    pub(crate) bases: BaseTable,
    pub(crate) plans: BTreeMap<usize, StagePlan>,
    pub(crate) warnings: Vec<Diagnostic>,
}

impl Planned {
    fn summaries(&self) -> Vec<StageSummary> {
        let summary = |(index, plan): (&usize, &StagePlan)| StageSummary {
            index: *index,
            name: self.graph.stages[*index].shown_name(),
            base: self.graph.shown_base(*index),
            steps: plan.steps.iter().map(|s| s.title.to_string()).collect(),
        };
        self.plans.iter().map(summary).collect()
    }
}

/// Brings images into the table: by fetching them, or by looking at them.
type GetBases<'a> =
    &'a mut dyn FnMut(&mut BaseTable, &[ImageKey], &Graph) -> Result<(), BuildError>;

/// Everything before the first step: parse, find the stages that matter, get their bases, plan.
pub(crate) fn prepare(options: &BuildOptions, get: GetBases<'_>) -> Result<Planned, BuildError> {
    planned(options, get).map_err(|error| crate::check::with_all_errors(options, error))
}

fn planned(options: &BuildOptions, get: GetBases<'_>) -> Result<Planned, BuildError> {
    let Parsed { file, ast, dockerfile, mut warnings } = plan::parse(options)?;
    let mut graph = graph::resolve(&dockerfile, options, &file)?;
    let mut bases = BaseTable::default();
    // A base image's ONBUILD triggers can name further images, hence the loop; it ends because each
    // round gets an image that was not there before.
    while let Some(wanted) = graph.missing_bases(&|image| bases.facts(image)) {
        get(&mut bases, &wanted, &graph)?;
        graph.apply_triggers(&|image| bases.facts(image), &file)?;
    }
    let known = |image: &ImageKey| bases.facts(image);
    let guessed = |image: &ImageKey| bases.place(image) == ImagePlace::Unknown;
    let plans = plan::plan_needed(&graph, options, &file, &known, &guessed)?;
    let checked = Checked { ast: &ast, dockerfile: &dockerfile, graph: &graph, bases: &bases };
    warnings.extend(lint(&checked, options, &file)?);
    Ok(Planned { file, graph, bases, plans, warnings })
}

/// What can be planned and not yet be done is refused before the first step, not in the middle.
fn refuse_unsupported(
    plans: &BTreeMap<usize, StagePlan>,
    file: &Arc<SourceFile>,
) -> Result<(), BuildError> {
    let mut diagnostics = Vec::new();
    for step in plans.values().flat_map(|plan| &plan.steps) {
        let message = match &step.action {
            // One that is not required is not there on this machine, which is all that it says.
            Action::Run(run) => run.devices.iter().find(|device| device.required).map(|device| {
                format!(
                    "the device {} cannot be given to a step: RUN --device is not there yet",
                    device.name
                )
            }),
            Action::Copy(_) | Action::Workdir { .. } => None,
        };
        diagnostics.extend(
            message.map(|message| {
                Diagnostic::error(code::BAD_ARGUMENTS, step.span, message).with_help(
                    "without `required` the step runs and has no device; lap run has none either: do what \
                     needs the device outside of the build, and COPY what comes of it",
                )
            }),
        );
    }
    if diagnostics.is_empty() {
        return Ok(());
    }
    Err(BuildError::Dockerfile { file: Arc::clone(file), diagnostics })
}

/// A file in all its forms, with what is known of its base images.
struct Checked<'a> {
    ast: &'a syntax::Ast,
    dockerfile: &'a instruction::Dockerfile,
    graph: &'a Graph,
    bases: &'a BaseTable,
}

/// What the checks of the language find; with `# check=error=true` that is an error.
fn lint(
    checked: &Checked<'_>,
    options: &BuildOptions,
    file: &Arc<SourceFile>,
) -> Result<Vec<Diagnostic>, BuildError> {
    let Checked { ast, dockerfile, graph, bases } = *checked;
    let (config, problems) = lint::Config::of(ast);
    let (errors, mut found): (Vec<_>, Vec<_>) =
        problems.into_iter().partition(Diagnostic::is_error);
    if !errors.is_empty() {
        return Err(BuildError::Dockerfile { file: Arc::clone(file), diagnostics: errors });
    }
    let needed = graph.needed();
    // Of a stage that a named context replaces, nothing but its FROM is looked at.
    let reached =
        |stage: usize| needed.binary_search(&stage).is_ok() && !graph.stages[stage].replaced;
    found.extend(lint::check(ast, dockerfile, &config, &reached));
    // An ignore file that cannot be used is reported when the context is opened, if it ever is.
    let ignore = session::main_ignore(options).ok().flatten();
    // Of an image that was looked for and not found, nothing is known, which is not the same as no variables.
    let known = |image: &ImageKey| bases.place(image) != ImagePlace::Unknown;
    let base = |image: &ImageKey| bases.facts(image).filter(|_| known(image));
    let facts = lint::Facts { base: &base, ignore: ignore.as_ref(), context: None };
    found.extend(lint::check_facts(
        dockerfile,
        (graph, &needed),
        &options.build_args,
        &config,
        facts,
    ));
    match lint::failure(&found) {
        Some(message) if config.error => {
            let help = Some("the directive `# check=error=true` asks for this".to_owned());
            Err(BuildError::Plan { message, help })
        }
        _ => Ok(found),
    }
}

/// Most stages that are under way at once; a Dockerfile may have thousands.
const STAGES_AT_ONCE_MAX: usize = 64;

/// Run every needed stage, many at once. Threads take stages in file order, and a stage needs only earlier
/// ones, so the earliest that is not done never waits for one that no thread has.
fn run_stages(
    session: &Session<'_>,
    planned: &Planned,
) -> Result<BTreeMap<usize, StageResult>, BuildError> {
    let board = Board::new(planned.plans.keys().copied());
    let stages: Vec<_> = planned.plans.iter().collect();
    let next = AtomicUsize::new(0);
    let worker = || {
        while let Some((index, plan)) = stages.get(next.fetch_add(1, Ordering::Relaxed)) {
            let result = stage::run(session, planned, &board, **index, plan);
            if result.is_err() {
                session.deps.cancel.cancel();
            }
            board.finish(**index, result);
        }
    };
    std::thread::scope(|scope| {
        for _ in 1..stages.len().min(STAGES_AT_ONCE_MAX) {
            scope.spawn(worker);
        }
        worker();
    });
    board.into_results()
}

/// The users and groups of an image, for whoever runs it outside of a build.
pub fn accounts(layers: &Layers, view: View) -> Result<Accounts, BuildError> {
    let tree = trees::ViewTree::new(view, layers);
    Accounts::read(&tree, &tree)
}
