//! When each part of a build ran, waited, hashed and sent, as one HTML file that needs nothing else.
//!
//! ```text
//! events ▶ Timeline ▶ spans ▶ rows (one per stage, more where spans overlap) ▶ page::render
//! ```
//!
//! Times are from the command's start. What went on in the background is told by the build when it
//! asks for the result, with the moment at which it had begun.

mod page;

use crate::ui::format;
use crate::ui::progress::Names;
use lapstrake_builder::event::{Event, StepId};
use lapstrake_layerstore::Digest;
use lapstrake_registry as registry;
use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Most spans that are drawn: a page with more cannot be read, and takes a browser minutes.
const SPANS_MAX: usize = 20_000;

/// What was done in a span of time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Doing {
    Lookup,
    Wait,
    Cached,
    Run,
    Failed,
    Digest,
    Transfer,
    Output,
}

/// From when to when something was done.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Span {
    lane: Lane,
    doing: Doing,
    label: String,
    from: Duration,
    to: Duration,
}

/// Where a span is drawn, in the order of the page.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Lane {
    Bases,
    Stage(usize),
    Background,
    Outputs,
    Transfers,
}

/// Collects what a build does.
#[derive(Debug)]
pub(crate) struct Timeline {
    begun: Instant,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    names: Names,
    spans: Vec<Span>,
    steps: BTreeMap<StepId, Duration>,
    bases: BTreeMap<String, Duration>,
    blobs: BTreeMap<String, (Duration, String)>,
}

impl Timeline {
    /// Times count from `begun`.
    pub(crate) fn new(begun: Instant) -> Self {
        Self { begun, state: Mutex::default() }
    }

    fn with<T>(&self, take: impl FnOnce(&mut State, Duration) -> T) -> T {
        let now = self.begun.elapsed();
        take(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner), now)
    }

    /// Takes a build's event in.
    pub(crate) fn event(&self, event: &Event<'_>) {
        self.with(|state, now| match event {
            Event::Planned { stages } => state.names.set(stages),
            Event::BaseStarted { reference } => {
                state.bases.insert((*reference).to_owned(), now);
            }
            Event::BaseResolved { reference, .. } => {
                let from = state.bases.remove(*reference).unwrap_or(now);
                state.add(Lane::Bases, Doing::Transfer, reference, from, now);
            }
            Event::Digested { layer, begun, elapsed, compressed, .. } => {
                let from = begun.saturating_duration_since(self.begun);
                let how = if *compressed { "hashed and compressed" } else { "hashed" };
                let label = format!("layer {} {how}", format::short_id(&layer.to_string()));
                state.add(Lane::Background, Doing::Digest, &label, from, from + *elapsed);
            }
            event => state.step(event, now),
        });
    }

    /// Takes a transfer's event in.
    pub(crate) fn transfer(&self, event: &registry::Event) {
        let key = Digest::to_string;
        self.with(|state, now| match event {
            registry::Event::Started { digest, part, size } => {
                let label = format!(
                    "{part} {}, {}",
                    format::short_id(&digest.to_string()),
                    format::bytes(*size)
                );
                state.blobs.insert(key(digest), (now, label));
            }
            registry::Event::Done { digest, .. } => {
                if let Some((from, label)) = state.blobs.remove(&key(digest)) {
                    state.add(Lane::Transfers, Doing::Transfer, &label, from, now);
                }
            }
            _ => {}
        });
    }

    /// Does something that is no step, and notes when.
    pub(crate) fn timed<T>(&self, label: &str, work: impl FnOnce() -> T) -> T {
        let from = self.begun.elapsed();
        let result = work();
        self.with(|state, now| state.add(Lane::Outputs, Doing::Output, label, from, now));
        result
    }

    /// The page.
    pub(crate) fn page(&self, title: &str) -> String {
        self.with(|state, now| page::render(title, &state.names, &state.spans, now))
    }
}

impl State {
    fn add(&mut self, lane: Lane, doing: Doing, label: &str, from: Duration, to: Duration) {
        if self.spans.len() < SPANS_MAX {
            self.spans.push(Span { lane, doing, label: label.to_owned(), from, to });
        }
    }

    fn step(&mut self, event: &Event<'_>, now: Duration) {
        let (id, doing) = match event {
            Event::StepStarted { id } => {
                self.steps.insert(*id, now);
                return;
            }
            Event::StepWaited { id, stage, elapsed } => {
                let label = match stage {
                    Some(stage) => format!("waits for {}", self.names.stage(*stage)),
                    None => "waits for other steps".to_owned(),
                };
                let from = now.saturating_sub(*elapsed);
                // What came before the wait was looking up.
                if let Some(begun) = self.steps.insert(*id, now) {
                    self.span(*id, Doing::Lookup, begun, from);
                }
                self.add(Lane::Stage(id.stage), Doing::Wait, &label, from, now);
                return;
            }
            Event::StepRunning { id } => (*id, Doing::Lookup),
            Event::StepCached { id, .. } => (*id, Doing::Cached),
            Event::StepDone { id, .. } => (*id, Doing::Run),
            Event::StepFailed { id, .. } => (*id, Doing::Failed),
            _ => return,
        };
        let begun = self.steps.insert(id, now).unwrap_or(now);
        self.span(id, doing, begun, now);
    }

    fn span(&mut self, id: StepId, doing: Doing, from: Duration, to: Duration) {
        let label = format!("{} {}", self.names.label(id), self.names.text(id));
        self.add(Lane::Stage(id.stage), doing, &label, from, to);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use lapstrake_builder::event::StageSummary;
    use lapstrake_layerstore::digest::LayerId;

    const ID: StepId = StepId { stage: 1, step: 0 };

    fn planned() -> Timeline {
        let timeline = Timeline::new(Instant::now());
        let stage = |index, name: &str, step: &str| {
            let (name, base, steps) = (name.into(), "scratch".into(), vec![step.into()]);
            StageSummary { index, name, base, steps }
        };
        let stages = [stage(0, "0", "COPY a /"), stage(1, "build", "RUN a <b> && \"c\"")];
        timeline.event(&Event::Planned { stages: &stages });
        timeline
    }

    #[test]
    fn a_step_is_looked_up_waits_and_runs() {
        let timeline = planned();
        timeline.event(&Event::StepStarted { id: ID });
        std::thread::sleep(Duration::from_millis(4));
        let elapsed = Duration::from_millis(2);
        timeline.event(&Event::StepWaited { id: ID, stage: Some(0), elapsed });
        timeline.event(&Event::StepRunning { id: ID });
        let (layer, elapsed) = (LayerId::from_bytes([0; 32]), Duration::from_millis(1));
        timeline.event(&Event::StepDone { id: ID, layer, elapsed });
        let spans = timeline.with(|state, _| state.spans.clone());
        let doing: Vec<Doing> = spans.iter().map(|span| span.doing).collect();
        assert_eq!(doing, [Doing::Lookup, Doing::Wait, Doing::Lookup, Doing::Run]);
        assert_eq!(spans[1].label, "waits for stage 0");
        assert!(spans.windows(2).all(|pair| pair[0].to == pair[1].from), "{spans:?}");
    }

    #[test]
    fn the_page_is_whole_and_nothing_in_it_is_taken_for_markup() {
        let timeline = planned();
        timeline.event(&Event::StepStarted { id: ID });
        timeline.event(&Event::StepFailed { id: ID, elapsed: Duration::ZERO });
        assert_eq!(timeline.timed("oci <x>", || 7), 7);
        let page = timeline.page("a & b");
        assert!(page.starts_with("<!doctype html>") && page.ends_with("</html>\n"), "{page}");
        assert!(page.contains("RUN a &lt;b&gt; &amp;&amp; &quot;c&quot;"), "{page}");
        assert!(page.contains("oci &lt;x&gt;") && page.contains("<title>a &amp; b</title>"));
        for outside in ["http", "src=", "href=", "<script", "NaN", "inf"] {
            assert!(!page.contains(outside), "{outside} in {page}");
        }
    }
}
