//! A build on a terminal: what is done scrolls by, what is under way is redrawn below it.
//!
//! ```text
//! [base] debian:bookworm pulled, 3f2a9c01b4d2       done: lines that stay; cached steps are dim
//! [deps 2/3] CACHED RUN apt-get install -y gcc
//! ⠹ [build 2/3] RUN make                 12.4 s     a lane for each stage that works or waits
//!   | cc -o parser.o parser.c                       the last line of its program
//! ⠹ [docs 1/1] RUN asciidoctor …         waits for build
//! ⠹ a1b2c3d4e5f6 layer ━━━━━━━╌╌╌ 31 MB/52 MB       a line for each blob in transit
//! ```
//!
//! *Invariant:* lines of one step never mix with another's, and nothing is shown that would steer the
//! terminal. The output of a step that fails is told in full as far as [`TAIL_LINES`] reach.

use crate::ui::format;
use crate::ui::progress::{Names, shown_line};
use crate::ui::table::one_line;
use crate::ui::terminal::{self, note};
use console::Style;
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use lapstrake_builder::event::{Event, Observer, StepId};
use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// How many of a failed step's last lines are told.
const TAIL_LINES: usize = 25;

/// A line that is longer is shown in pieces, so that hostile output cannot fill the memory.
const LINE_BYTES_MAX: usize = 64 * 1024;

/// Most lanes that are drawn, two lines each: more would not fit a small terminal.
const LANES_MAX: usize = 8;

/// How often what is under way is redrawn when nothing happens.
const TICK: Duration = Duration::from_millis(100);

/// Shows a build as it goes.
#[derive(Debug)]
pub(crate) struct Live {
    bars: MultiProgress,
    state: Arc<Mutex<State>>,
    ended: Arc<AtomicBool>,
    ticker: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct State {
    names: Names,
    lanes: BTreeMap<usize, Lane>,
}

/// A stage's step that is under way.
#[derive(Debug)]
struct Lane {
    step: ProgressBar,
    output: ProgressBar,
    begun: Instant,
    /// What the step does, as it stands beside its name.
    text: String,
    partial: Vec<u8>,
    tail: VecDeque<String>,
}

impl Live {
    /// A view on standard error, which must be a terminal.
    pub(crate) fn new() -> Self {
        let bars = MultiProgress::new();
        terminal::set_live(Some(bars.clone()));
        let (state, ended) = (Arc::<Mutex<State>>::default(), Arc::new(AtomicBool::new(false)));
        let ticker = std::thread::Builder::new().name("progress".to_owned()).spawn({
            let (state, ended) = (Arc::clone(&state), Arc::clone(&ended));
            move || {
                while !ended.load(Ordering::Relaxed) {
                    std::thread::park_timeout(TICK);
                    lock(&state).lanes.values().for_each(Lane::tick);
                }
            }
        });
        // Without a thread the view stands still between events, which is no reason to stop.
        Self { bars, state, ended, ticker: ticker.ok() }
    }

    /// What draws blobs in transit beside the lanes.
    pub(crate) fn bars(&self) -> &MultiProgress {
        &self.bars
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Relaxed);
        if let Some(ticker) = self.ticker.take() {
            ticker.thread().unpark();
            drop(ticker.join());
        }
        lock(&self.state).lanes.clear();
        drop(self.bars.clear());
        terminal::set_live(None);
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Observer for Live {
    fn event(&self, event: Event<'_>) {
        let lines = lock(&self.state).take(event, &self.bars);
        for line in lines {
            note(&line);
        }
    }
}

impl State {
    /// Takes an event in; the lines that stay of it.
    fn take(&mut self, event: Event<'_>, bars: &MultiProgress) -> Vec<String> {
        match event {
            Event::Planned { stages } => {
                self.names.set(stages);
                Vec::new()
            }
            Event::BaseStarted { .. } | Event::Recorded { .. } | Event::Digested { .. } => {
                Vec::new()
            }
            Event::BaseResolved { reference, config_digest, local } => {
                vec![dim(&base_line(reference, &config_digest, local))]
            }
            Event::StepStarted { id } => {
                self.begin(id, bars);
                Vec::new()
            }
            Event::StepWaiting { id, stage } => {
                self.begin(id, bars);
                let waits =
                    format!("{} waits for {}", self.names.label(id), self.names.stage(stage));
                self.lanes.entry(id.stage).and_modify(|lane| lane.text = waits);
                Vec::new()
            }
            Event::StepWaited { id, .. } | Event::StepRunning { id } => {
                let text = self.text(id);
                self.lanes.entry(id.stage).and_modify(|lane| {
                    lane.begun = Instant::now();
                    lane.text = text;
                });
                Vec::new()
            }
            Event::Output { id, data, .. } => {
                if let Some(lane) = self.lanes.get_mut(&id.stage) {
                    lane.output(data);
                }
                Vec::new()
            }
            Event::StepCached { id, .. } => {
                self.end(id);
                let (label, text) = (self.names.label(id), self.names.text(id));
                vec![dim(&format!("{label} CACHED {text}"))]
            }
            Event::StepDone { id, elapsed, .. } => {
                self.end(id);
                let (label, text) = (self.names.label(id), self.names.text(id));
                let took = dim(&format!("({})", format::duration(elapsed)));
                vec![format!("{label} {text} {took}")]
            }
            Event::StepFailed { id, elapsed } => self.failed(id, elapsed),
            Event::Warning { message } => {
                vec![format!("{} {}", bold().yellow().apply_to("warning:"), one_line(&message))]
            }
        }
    }

    fn text(&self, id: StepId) -> String {
        format!("{} {}", self.names.label(id), self.names.text(id))
    }

    /// A lane for the step, if its stage has none: one that waits for its base began before its first step.
    fn begin(&mut self, id: StepId, bars: &MultiProgress) {
        let text = self.text(id);
        if let Some(lane) = self.lanes.get_mut(&id.stage) {
            lane.text = text;
            return;
        }
        let shown = self.lanes.len() < LANES_MAX;
        let (step, output) = if shown {
            (bars.add(ProgressBar::new_spinner()), bars.add(ProgressBar::new_spinner()))
        } else {
            (ProgressBar::hidden(), ProgressBar::hidden())
        };
        step.set_style(style("{spinner} {wide_msg}"));
        output.set_style(style("{wide_msg:.dim}"));
        let (begun, partial, tail) = (Instant::now(), Vec::new(), VecDeque::new());
        self.lanes.insert(id.stage, Lane { step, output, begun, text, partial, tail });
    }

    fn end(&mut self, id: StepId) -> Option<Lane> {
        let lane = self.lanes.remove(&id.stage)?;
        lane.output.finish_and_clear();
        lane.step.finish_and_clear();
        Some(lane)
    }

    fn failed(&mut self, id: StepId, elapsed: Duration) -> Vec<String> {
        let (label, text) = (self.names.label(id), self.names.text(id));
        let mut lines = vec![format!("{label} {text}")];
        if let Some(mut lane) = self.end(id) {
            let rest = std::mem::take(&mut lane.partial);
            lane.keep(&rest);
            lines.extend(lane.tail.iter().map(|line| format!("{label} | {line}")));
        }
        let failed = bold().red().apply_to("FAILED");
        lines.push(format!("{label} {failed} after {}", format::duration(elapsed)));
        lines
    }
}

impl Lane {
    fn tick(&self) {
        let elapsed = format::duration(self.begun.elapsed());
        self.step.set_message(format!("{elapsed:>8} {}", self.text));
        if let Some(line) = self.tail.back() {
            self.output.set_message(format!("           | {line}"));
        }
        self.step.tick();
        self.output.tick();
    }

    fn output(&mut self, data: &[u8]) {
        for piece in data.split_inclusive(|&byte| byte == b'\n') {
            self.partial.extend_from_slice(piece);
            if piece.ends_with(b"\n") || self.partial.len() >= LINE_BYTES_MAX {
                let line = std::mem::take(&mut self.partial);
                self.keep(&line);
            }
        }
    }

    fn keep(&mut self, line: &[u8]) {
        if line.is_empty() {
            return;
        }
        if self.tail.len() == TAIL_LINES {
            self.tail.pop_front();
        }
        self.tail.push_back(shown_line(line));
    }
}

/// `[base] debian:bookworm pulled, 3f2a9c01b4d2`
pub(crate) fn base_line(reference: &str, config_digest: &str, local: bool) -> String {
    let from = if local { "in the store" } else { "pulled" };
    format!("[base] {} {from}, {}", one_line(reference), format::short_id(config_digest))
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_spinner())
}

fn bold() -> Style {
    Style::new().for_stderr().bold()
}

fn dim(text: &str) -> String {
    Style::new().for_stderr().dim().apply_to(text).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use indicatif::ProgressDrawTarget;
    use lapstrake_builder::event::{StageSummary, Stream};
    use lapstrake_layerstore::digest::LayerId;

    const ID: StepId = StepId { stage: 0, step: 0 };

    fn begun() -> (State, MultiProgress) {
        console::set_colors_enabled_stderr(false);
        let bars = MultiProgress::with_draw_target(ProgressDrawTarget::hidden());
        let mut state = State::default();
        let (name, base, steps) = ("app".into(), "scratch".into(), vec!["RUN make".into()]);
        let stage = StageSummary { index: 0, name, base, steps };
        assert!(state.take(Event::Planned { stages: &[stage] }, &bars).is_empty());
        assert!(state.take(Event::StepStarted { id: ID }, &bars).is_empty());
        (state, bars)
    }

    #[test]
    fn what_is_done_stays_as_one_line() {
        let (mut state, bars) = begun();
        let data = b"one\ntwo\n";
        let output = Event::Output { id: ID, stream: Stream::Stdout, data };
        assert!(state.take(output, &bars).is_empty());
        let (layer, elapsed) = (LayerId::from_bytes([0; 32]), Duration::from_millis(1420));
        let done = state.take(Event::StepDone { id: ID, layer, elapsed }, &bars);
        assert_eq!(done, ["[app 1/1] RUN make (1.42 s)"]);
        assert!(state.lanes.is_empty());
    }

    #[test]
    fn a_failed_step_tells_its_last_lines() {
        let (mut state, bars) = begun();
        let text = (0..TAIL_LINES + 5).fold(String::new(), |text, n| text + &format!("line {n}\n"));
        let data = format!("{text}\x1b[31mlast");
        let output = Event::Output { id: ID, stream: Stream::Stderr, data: data.as_bytes() };
        state.take(output, &bars);
        let elapsed = Duration::from_secs(3);
        let lines = state.take(Event::StepFailed { id: ID, elapsed }, &bars);
        assert_eq!(lines.len(), TAIL_LINES + 2);
        assert_eq!(lines[1], "[app 1/1] | line 6");
        assert_eq!(lines[TAIL_LINES], "[app 1/1] | \\u{1b}[31mlast");
        assert_eq!(lines[TAIL_LINES + 1], "[app 1/1] FAILED after 3.00 s");
    }

    #[test]
    fn endless_lines_are_cut() {
        let (mut state, bars) = begun();
        let data = vec![b'x'; 3 * LINE_BYTES_MAX];
        state.take(Event::Output { id: ID, stream: Stream::Stdout, data: &data }, &bars);
        assert!(state.lanes[&0].partial.is_empty());
    }
}
