//! What a build leaves behind to explain the next one: collects how its steps end, compares them with
//! those of the newest earlier build of the same Dockerfile, and stores the report.
//!
//! Nothing of this can fail a build: a report that cannot be stored has no id and is shown all the same.

use super::board::lock;
use super::{BaseTable, Planned};
use crate::copy::Selected;
use crate::event::StepId;
use crate::explain::{
    Compared, FileChanges, FileList, Outcome, REPORT_VERSION, Reason, Recorded, Report,
    StageReport, StepReport, StepResult, files_digest, named_by, pair_stages, pair_steps, reasons,
};
use crate::graph::Base;
use crate::key::StepKey;
use crate::options::{BuildOptions, ContextSource};
use crate::plan::{Action, Step};
use crate::text::Text;
use lapstrake_layerstore::digest::LayerId;
use lapstrake_layerstore::store::{BuildId, CacheKey, Store};
use serde_json::Value;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

/// What is known of a step that began.
#[derive(Debug)]
struct Note {
    key: CacheKey,
    inputs: Value,
    /// The files that it read, where they are others than those of its last result.
    files: Option<Files>,
    no_cache: bool,
    outcome: Outcome,
    layer: Option<LayerId>,
    elapsed: Duration,
}

/// A list of files, and the bytes to store, which are made while the step is executed.
#[derive(Debug)]
struct Files {
    list: Arc<FileList>,
    encoded: JoinHandle<Option<Vec<u8>>>,
}

impl Files {
    fn new(list: FileList) -> Self {
        let list = Arc::new(list);
        let shared = Arc::clone(&list);
        Self { list, encoded: std::thread::spawn(move || shared.encode()) }
    }

    fn encoded(self) -> Option<Vec<u8>> {
        self.encoded.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }
}

/// Collects from all threads of a build.
#[derive(Debug)]
pub(crate) struct Journal {
    slot: String,
    previous: Option<(BuildId, Report)>,
    /// What each step was in the previous build.
    old: BTreeMap<StepId, StepReport>,
    notes: Mutex<BTreeMap<StepId, Note>>,
}

impl Journal {
    /// Looks up the build that this one will be compared with.
    pub(crate) fn open(store: &Store, options: &BuildOptions, planned: &Planned) -> Self {
        let slot = slot(options);
        let previous = store.build_newest(&slot).and_then(|id| {
            let report = Report::decode(&store.build_get(&id)?)?;
            Some((id, report))
        });
        let mut old = BTreeMap::new();
        for (index, plan) in &planned.plans {
            let name = planned.graph.stages[*index].shown_name();
            let stage =
                previous.as_ref().and_then(|(_, report)| pair_stages(report, &name, *index));
            let Some(stage) = stage else { continue };
            let texts: Vec<String> = plan.steps.iter().map(|step| step.title.to_string()).collect();
            for (number, pair) in pair_steps(&stage.steps, &texts).into_iter().enumerate() {
                if let Some(pair) = pair {
                    old.insert(StepId { stage: *index, step: number }, stage.steps[pair].clone());
                }
            }
        }
        Self { slot, previous, old, notes: Mutex::default() }
    }

    /// A step has its key.
    pub(crate) fn keyed<'s>(
        &self,
        id: StepId,
        key: &StepKey,
        no_cache: bool,
        read: impl FnOnce() -> Vec<&'s [Selected]>,
    ) {
        let digest = files_digest(&key.inputs);
        let known = self.old.get(&id).and_then(|old| old.result.as_ref()?.files.clone());
        let files = digest.filter(|digest| known.as_ref() != Some(digest));
        let note = Note {
            key: key.key,
            inputs: key.inputs.clone(),
            files: files.map(|digest| Files::new(FileList::of(&digest, read()))),
            no_cache,
            outcome: Outcome::Stopped,
            layer: None,
            elapsed: Duration::ZERO,
        };
        lock(&self.notes).insert(id, note);
    }

    /// A step has ended.
    pub(crate) fn ended(
        &self,
        id: StepId,
        outcome: Outcome,
        layer: Option<LayerId>,
        elapsed: Duration,
    ) {
        if let Some(note) = lock(&self.notes).get_mut(&id) {
            (note.outcome, note.layer, note.elapsed) = (outcome, layer, elapsed);
        }
    }

    /// Writes the report.
    pub(crate) fn finish(
        &self,
        store: &Store,
        options: &BuildOptions,
        planned: &Planned,
        image: Option<String>,
        elapsed: Duration,
    ) -> Recorded {
        let notes = std::mem::take(&mut *lock(&self.notes));
        let (journal, below, rehearsal) = (self, BTreeMap::new(), options.rehearsal);
        let mut writer = Writer { journal, store, planned, notes, below, rehearsal };
        let stages: Vec<StageReport> =
            planned.plans.keys().map(|index| writer.stage(*index)).collect();
        let report = Report {
            version: REPORT_VERSION,
            dockerfile: planned.file.name.clone(),
            target: options.target.clone(),
            platform: options.platform.to_string(),
            started_unix: options.now,
            milliseconds: milliseconds(elapsed),
            previous: self.previous.as_ref().map(|(id, _)| id.to_string()),
            image,
            other_stages: self.others(&stages),
            stages,
        };
        let keep = || store.build_put(&self.slot, &report.encode()).ok();
        Recorded { id: if options.rehearsal { None } else { keep() }, report }
    }

    /// The stages of earlier builds that none of these is.
    fn others(&self, stages: &[StageReport]) -> Vec<StageReport> {
        let Some((_, previous)) = &self.previous else { return Vec::new() };
        let is_new = |old: &&StageReport| {
            stages.iter().all(|new| new.name != old.name && new.index != old.index)
        };
        previous.stages.iter().chain(&previous.other_stages).filter(is_new).cloned().collect()
    }
}

/// Puts a report together, stage by stage in file order.
struct Writer<'a> {
    journal: &'a Journal,
    store: &'a Store,
    planned: &'a Planned,
    notes: BTreeMap<StepId, Note>,
    /// For each stage, the first thing in its chain of layers that is different.
    below: BTreeMap<usize, Option<Reason>>,
    rehearsal: bool,
}

impl Writer<'_> {
    fn stage(&mut self, index: usize) -> StageReport {
        let node = &self.planned.graph.stages[index];
        let name = node.shown_name();
        let base = self.planned.graph.shown_base(index);
        let base_digest = base_digest(&self.planned.bases, &node.base);
        let old = self.journal.previous.as_ref();
        let old = old.and_then(|(_, report)| pair_stages(report, &name, index));
        let mut below = self.base_change(index, &base, base_digest.as_deref(), old);
        let mut steps = Vec::new();
        let mut next_old = 0;
        for (number, step) in self.planned.plans[&index].steps.iter().enumerate() {
            let id = StepId { stage: index, step: number };
            let was = self.journal.old.get(&id);
            if let (Some(stage), Some(was)) = (old, was) {
                let at = stage.steps.iter().skip(next_old).position(|step| step == was);
                if let Some(skipped) = at.filter(|skipped| *skipped > 0)
                    && below.is_none()
                {
                    let instruction = stage.steps[next_old + skipped - 1].instruction.clone();
                    below = Some(Reason::StepRemoved { instruction });
                }
                next_old += at.map_or(0, |at| at + 1);
            }
            let report = self.step(id, step, below.as_ref());
            let layer = |step: &StepReport| step.result.as_ref().map(|result| result.layer.clone());
            if below.is_none() && was.and_then(layer) != layer(&report) {
                below = Some(Reason::Below {
                    stage: name.clone(),
                    line: report.line,
                    instruction: report.instruction.clone(),
                });
            }
            steps.push(report);
        }
        self.below.insert(index, below);
        StageReport { index, name, base, base_digest, steps }
    }

    /// What is different in what a stage builds on.
    fn base_change(
        &self,
        index: usize,
        base: &str,
        digest: Option<&str>,
        old: Option<&StageReport>,
    ) -> Option<Reason> {
        let old = old?;
        let change = |old: &str, new: &str| {
            let (base, old, new) = (base.to_owned(), old.to_owned(), new.to_owned());
            Some(Reason::Base { base, old, new })
        };
        if let Some(parent) = self.planned.graph.stages[index].parent() {
            return self.below.get(&parent).cloned().flatten();
        }
        if old.base != base {
            return change(&old.base, base);
        }
        match (old.base_digest.as_deref(), digest) {
            (Some(before), Some(now)) if before != now => change(before, now),
            _ => None,
        }
    }

    fn step(&mut self, id: StepId, step: &Step, below: Option<&Reason>) -> StepReport {
        let was = self.journal.old.get(&id);
        let old_result = was.and_then(|was| was.result.clone());
        let line = self.planned.file.line_col(step.span.start).line;
        let mut report = StepReport {
            line,
            instruction: step.title.to_string(),
            outcome: Outcome::NotReached,
            milliseconds: 0,
            reasons: Vec::new(),
            result: old_result.clone(),
        };
        let Some(mut note) = self.notes.remove(&id) else { return report };
        report.outcome = note.outcome;
        report.milliseconds = milliseconds(note.elapsed);
        let key = note.key.hex();
        if note.outcome != Outcome::Hit {
            let old_key = old_result.as_ref().and_then(|result| result.key.parse().ok());
            let old_record = old_key.and_then(|key| self.store.cache_peek(&key));
            report.reasons = reasons(Compared {
                old: was,
                old_inputs: old_record.as_ref().map(|record| &record.inputs),
                instruction: &step.title,
                key: &key,
                inputs: &note.inputs,
                below,
                files: self.file_changes(&note, old_result.as_ref(), step),
                no_cache: note.no_cache,
            });
        }
        if let Some(layer) = note.layer {
            let files = files_digest(&note.inputs);
            let kept = old_result.and_then(|result| result.list);
            let list = match note.files.take() {
                Some(files) if !self.rehearsal => self.keep_list(id, kept, files),
                Some(_) => None,
                None => kept.filter(|_| files.is_some()),
            };
            report.result = Some(StepResult { key, layer: layer.to_string(), files, list });
        }
        report
    }

    fn file_changes(
        &self,
        note: &Note,
        old: Option<&StepResult>,
        step: &Step,
    ) -> Option<FileChanges> {
        let now = &note.files.as_ref()?.list;
        let before = old.and_then(|old| {
            let list = FileList::decode(&self.store.memo_get(old.list.as_deref()?)?)?;
            old.files.as_deref().is_some_and(|digest| list.is_of(digest)).then_some(list)
        });
        let Some(before) = before else {
            return Some(FileChanges { unknown: true, ..FileChanges::default() });
        };
        let sources: Vec<String> = match &step.action {
            Action::Copy(copy) => copy.sources.iter().map(Text::to_string).collect(),
            Action::Run(run) => {
                run.mounts.iter().map(|m| m.mount.source.clone().unwrap_or_default()).collect()
            }
            Action::Workdir { .. } => Vec::new(),
        };
        Some(now.changes(&before, &|path| named_by(&sources, path)))
    }

    /// Stores the list under the name that the step's lists have, or a new one.
    fn keep_list(&self, id: StepId, name: Option<String>, files: Files) -> Option<String> {
        let previous = self.journal.previous.as_ref().map(|(id, _)| id.to_string());
        let name = name.unwrap_or_else(|| {
            let (slot, previous) = (&self.journal.slot, previous.unwrap_or_default());
            format!("files {slot}\0{previous}\0{}\0{}", id.stage, id.step)
        });
        self.store.memo_put(&name, &files.encoded()?).ok()?;
        Some(name)
    }
}

/// What makes builds comparable: the Dockerfile's name, the context, the platform.
fn slot(options: &BuildOptions) -> String {
    let context = match &options.context {
        ContextSource::Directory(path) => {
            let whole = std::fs::canonicalize(path).unwrap_or_else(|_| path.clone());
            blake3::hash(whole.as_os_str().as_encoded_bytes()).to_hex().to_string()
        }
        ContextSource::Fetched(files) => blake3::hash(files.name.as_bytes()).to_hex().to_string(),
        ContextSource::Empty => String::new(),
    };
    format!("{context} {} {}", options.platform, options.dockerfile_name)
}

fn base_digest(bases: &BaseTable, base: &Base) -> Option<String> {
    match base {
        Base::Image(image) => bases.digest(image),
        _ => None,
    }
}

fn milliseconds(elapsed: Duration) -> u64 {
    u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX)
}
