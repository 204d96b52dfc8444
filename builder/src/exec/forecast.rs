//! What a build would do, step by step, without doing it: nothing is executed, fetched or stored.
//!
//! A step's key is known when everything below it and everything it reads is known: behind a miss nothing
//! is, but for linked copies, whose keys do not count what is below. Files of the context are hashed as in
//! a build, and only their hashes are kept, for as long as this takes.
//!
//! *Invariant:* a hit that is forecast is a hit in a build that starts now, and so is a miss.

use super::board::{Board, StageResult};
use super::session::Session;
use super::stage::StepContext;
use super::together::Together;
use super::{BuildDeps, Planned, copy, prepare, stage};
use crate::diagnostic::Diagnostic;
use crate::error::BuildError;
use crate::event::StepId;
use crate::graph::Base;
use crate::instruction::mount::MountKind;
use crate::key::ChainId;
use crate::options::{BuildOptions, NamedContext};
use crate::plan::{
    Action, BuildPlan, Cache, CacheState, Described, ImagePlace, Origin, StagePlan, Step, describe,
};
use crate::source::SourceFile;
use std::collections::BTreeMap;
use std::sync::Arc;

/// A plan with what the cache has for its steps.
#[derive(Debug)]
pub struct Forecast {
    /// The plan.
    pub plan: BuildPlan,
    /// What is not as it should be in the Dockerfile.
    pub warnings: Vec<Diagnostic>,
    /// The Dockerfile, for excerpts.
    pub file: Arc<SourceFile>,
}

/// What is known of a stage after its last step.
#[derive(Clone)]
enum Known {
    /// Its layers, and whether their files can be looked at here.
    Layers(StageResult, bool),
    /// Nothing, for this reason.
    Not(String),
}

/// Plan the target of a Dockerfile, and look its steps up.
pub fn forecast(options: &BuildOptions, deps: &BuildDeps<'_>) -> Result<Forecast, BuildError> {
    let options = &*crate::plan::with_epoch(options);
    let together = Together::new(deps.store, 1)?;
    let lease = &together.lease;
    let planned =
        prepare(options, &mut |bases, wanted, _| bases.look(wanted, options, deps, lease))?;
    let all = Described { file: &planned.file, graph: &planned.graph, plans: &planned.plans };
    let mut plan = describe(&all, options, &|image| planned.bases.found(image));
    let session = Session::new(options, deps, &together, &planned).dry();
    let board = Board::new(planned.plans.keys().copied());
    let mut ahead =
        Ahead { session: &session, planned: &planned, board: &board, known: BTreeMap::new() };
    for (index, stage) in &planned.plans {
        ahead.stage(*index, stage, &mut plan)?;
    }
    drop(ahead);
    drop(session);
    let Planned { warnings, file, .. } = planned;
    Ok(Forecast { plan, warnings, file })
}

/// The look ahead at work.
struct Ahead<'a> {
    session: &'a Session<'a>,
    planned: &'a Planned,
    board: &'a Board,
    known: BTreeMap<usize, Known>,
}

impl<'a> Ahead<'a> {
    fn stage(
        &mut self,
        index: usize,
        plan: &'a StagePlan,
        shown: &mut BuildPlan,
    ) -> Result<(), BuildError> {
        let mut state = self.start(index)?;
        let mut outline = shown.stages.iter_mut().find(|stage| stage.index == index);
        for (number, step) in plan.steps.iter().enumerate() {
            let (cache, files) =
                self.step(StepId { stage: index, step: number }, step, &mut state)?;
            let Some(place) = outline.as_mut().and_then(|stage| stage.step_mut(number)) else {
                continue;
            };
            place.cache = Some(cache);
            if let (Some((count, bytes)), Some(read)) = (files, place.reads.files.first_mut()) {
                (read.count, read.bytes) = (Some(count), Some(bytes));
            }
        }
        if let Known::Layers(result, true) = &state {
            self.board.finish(index, Ok(result.clone()));
        }
        self.known.insert(index, state);
        Ok(())
    }

    /// What a stage builds on.
    fn start(&self, index: usize) -> Result<Known, BuildError> {
        Ok(match &self.planned.graph.stages[index].base {
            Base::Scratch => Known::Layers(nothing(), true),
            Base::Stage(parent) => self.known[parent].clone(),
            Base::Named(name) => {
                Known::Not(format!("the context `{name}` has to become a layer first"))
            }
            Base::Image(image) => match self.planned.bases.place(image) {
                ImagePlace::Store => Known::Layers(self.planned.bases.start(image)?, true),
                // Its config names its layers, and the key counts no more than that.
                ImagePlace::Registry => Known::Layers(self.planned.bases.start(image)?, false),
                ImagePlace::Unknown => {
                    Known::Not(format!("nothing is known of the image {}", image.reference))
                }
            },
        })
    }

    /// One step: what the cache has, and how many files it copies. `state` becomes what is known after it.
    fn step(
        &self,
        id: StepId,
        step: &'a Step,
        state: &mut Known,
    ) -> Result<(Cache, Option<(u64, u64)>), BuildError> {
        let below = match &*state {
            Known::Layers(result, _) => result.clone(),
            Known::Not(_) => nothing(),
        };
        let (session, planned, board) = (self.session, self.planned, self.board);
        let at = StepContext { session, planned, board, id, below: &below };
        let linked = matches!(&step.action, Action::Copy(copy) if copy.link);
        let unknown = match (self.unreadable(step), &*state) {
            (Some(why), _) => Some(why),
            (None, Known::Not(why)) if !linked => Some(why.clone()),
            (None, _) => None,
        };
        let result = match unknown {
            Some(why) => {
                self.behind(&at, step).map(|files| (cache(CacheState::Unknown, why), files))
            }
            None => self.look_up(&at, step, state),
        };
        let (found, files) = result.map_err(|cause| BuildError::AtInstruction {
            file: Arc::clone(&planned.file),
            span: step.span,
            step: step.title.to_string(),
            cause: Box::new(cause),
        })?;
        if found.state != CacheState::Hit && matches!(state, Known::Layers(..)) {
            let stage = planned.graph.stages[id.stage].shown_name();
            let number = id.step + 1;
            *state = Known::Not(format!("step {number} of stage `{stage}` has to be done first"));
        }
        Ok((found, files))
    }

    /// Key the step and look the key up.
    fn look_up(
        &self,
        at: &StepContext<'a>,
        step: &'a Step,
        state: &mut Known,
    ) -> Result<(Cache, Option<(u64, u64)>), BuildError> {
        let prepared = stage::prepare(at, step)?;
        let (key, files) = (prepared.key(), prepared.files());
        let mut found = if self.session.is_uncached(at.id.stage) {
            cache(CacheState::Miss, "nothing is looked up for this stage (--no-cache)".to_owned())
        } else if let Some(layer) = self.session.peek(key)? {
            let id = layer.id().to_string();
            if let Known::Layers(result, here) = state {
                result.chain = result.chain.with_layer(layer.id());
                if *here {
                    result.layers.push(layer);
                }
            }
            Cache { state: CacheState::Hit, key: None, layer: Some(id), why: None }
        } else if let Some((name, id)) = self.session.peek_shared(key) {
            if let Known::Layers(result, here) = state {
                result.chain = result.chain.with_layer(&id);
                *here = false;
            }
            let (layer, why) = (Some(id.to_string()), Some(format!("it is in the cache {name}")));
            Cache { state: CacheState::Hit, key: None, layer, why }
        } else {
            cache(CacheState::Miss, "no earlier result has this key".to_owned())
        };
        found.key = Some(key.key.hex());
        Ok((found, files))
    }

    /// What can be said of a step that cannot be keyed: how many files it copies, when they are here; that
    /// one is missing is an error now as it would be later.
    fn behind(&self, at: &StepContext<'_>, step: &Step) -> Result<Option<(u64, u64)>, BuildError> {
        match &step.action {
            Action::Copy(copy) if copy.paths().next().is_some() && self.is_here(&copy.origin) => {
                copy::measure(at, copy).map(Some)
            }
            _ => Ok(None),
        }
    }

    /// Why what the step reads cannot be looked at, if that is so.
    fn unreadable(&self, step: &Step) -> Option<String> {
        let origins: Vec<&Origin> = match &step.action {
            Action::Copy(copy) => {
                if let Some(remote) = copy.remotes.values().find(|remote| !remote.is_pinned()) {
                    return Some(format!("{} has to be asked first", remote.url()));
                }
                copy.paths().next().map(|_| &copy.origin).into_iter().collect()
            }
            Action::Run(run) => {
                let reads = |kind| matches!(kind, MountKind::Bind | MountKind::Cache);
                run.mounts.iter().filter(|m| reads(m.mount.kind)).map(|m| &m.origin).collect()
            }
            Action::Workdir { .. } => Vec::new(),
        };
        let hidden = origins.into_iter().find(|origin| !self.is_here(origin))?;
        Some(match hidden {
            Origin::Stage(stage) => {
                let name = self.planned.graph.stages[*stage].shown_name();
                match &self.known[stage] {
                    Known::Not(why) => format!("it reads stage `{name}`: {why}"),
                    Known::Layers(..) => {
                        format!("it reads stage `{name}`, whose image is not here")
                    }
                }
            }
            Origin::Image(image) => {
                format!("it reads the image {}, which is not here", image.reference)
            }
            Origin::Named(name) => {
                format!("it reads the context `{name}`, which has to be fetched first")
            }
            Origin::Context | Origin::Scratch => String::new(),
        })
    }

    /// Whether the files of a place can be looked at.
    fn is_here(&self, origin: &Origin) -> bool {
        match origin {
            Origin::Stage(stage) => matches!(self.known.get(stage), Some(Known::Layers(_, true))),
            Origin::Image(image) => self.planned.bases.place(image) == ImagePlace::Store,
            Origin::Named(name) => {
                let context = self.session.options.context_of(name);
                !matches!(context, Some(NamedContext::Remote(_)))
            }
            Origin::Context | Origin::Scratch => true,
        }
    }
}

fn cache(state: CacheState, why: String) -> Cache {
    Cache { state, key: None, layer: None, why: Some(why) }
}

/// No layers at all.
fn nothing() -> StageResult {
    let (layers, names, times) = (Vec::new(), Vec::new(), Vec::new());
    StageResult { layers, names, times, chain: ChainId::empty() }
}
