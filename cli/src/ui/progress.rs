//! A build as plain lines on standard error.
//!
//! ```text
//! [build 1/3] FROM debian:bookworm
//! [build 2/3] RUN make
//! [build 2/3] | cc -o app main.c
//! [build 2/3] done in 1.42 s
//! [build 3/3] CACHED COPY app /app
//! ```
//!
//! Output of programs is shown line by line with its step's name, a line that is not complete when
//! its step ends as it is. Two steps that run at once never mix within a line.

use crate::ui::format;
use crate::ui::live::base_line;
use crate::ui::table::{one_line, visible};
use crate::ui::terminal::note;
use lapstrake_builder::event::{Event, Observer, StageSummary, StepId, Stream};
use std::collections::BTreeMap;
use std::sync::Mutex;

/// An output line that is longer is shown in pieces, so that hostile output cannot fill the memory.
const LINE_BYTES_MAX: usize = 64 * 1024;
/// The text of a step is cut here; it is in the Dockerfile in full.
const STEP_WIDTH: usize = 120;

/// Shows each event as lines.
#[derive(Debug, Default)]
pub(crate) struct Plain {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    names: Names,
    partial: BTreeMap<(StepId, bool), Vec<u8>>,
}

impl Plain {
    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

impl Observer for Plain {
    fn event(&self, event: Event<'_>) {
        for line in self.state().take(event) {
            note(&line);
        }
    }
}

impl State {
    /// Takes an event in; the lines to show for it.
    fn take(&mut self, event: Event<'_>) -> Vec<String> {
        match event {
            Event::Planned { stages } => {
                self.names.set(stages);
                Vec::new()
            }
            Event::BaseStarted { .. }
            | Event::StepStarted { .. }
            | Event::StepWaiting { .. }
            | Event::StepWaited { .. }
            | Event::Digested { .. }
            | Event::Recorded { .. } => Vec::new(),
            Event::BaseResolved { reference, config_digest, local } => {
                vec![base_line(reference, &config_digest, local)]
            }
            Event::StepCached { id, .. } => {
                vec![format!("{} CACHED {}", self.names.label(id), self.names.text(id))]
            }
            Event::StepRunning { id } => {
                vec![format!("{} {}", self.names.label(id), self.names.text(id))]
            }
            Event::Output { id, stream, data } => self.output(id, stream, data),
            Event::StepDone { id, elapsed, .. } => self.ended(id, "done in", elapsed),
            Event::StepFailed { id, elapsed } => self.ended(id, "FAILED after", elapsed),
            Event::Warning { message } => vec![format!("warning: {}", one_line(&message))],
        }
    }

    fn ended(&mut self, id: StepId, how: &str, elapsed: std::time::Duration) -> Vec<String> {
        let mut lines = self.rest(id);
        lines.push(format!("{} {how} {}", self.names.label(id), format::duration(elapsed)));
        lines
    }

    fn output(&mut self, id: StepId, stream: Stream, data: &[u8]) -> Vec<String> {
        let label = self.names.label(id);
        let partial = self.partial.entry((id, stream == Stream::Stderr)).or_default();
        let mut lines = Vec::new();
        for piece in data.split_inclusive(|&byte| byte == b'\n') {
            partial.extend_from_slice(piece);
            if piece.ends_with(b"\n") || partial.len() >= LINE_BYTES_MAX {
                lines.push(output_line(&label, partial));
                partial.clear();
            }
        }
        lines
    }

    /// The last lines of a step's output that had no newline.
    fn rest(&mut self, id: StepId) -> Vec<String> {
        let label = self.names.label(id);
        let kept = [false, true].map(|stderr| self.partial.remove(&(id, stderr)));
        let kept = kept.into_iter().flatten().filter(|line| !line.is_empty());
        kept.map(|line| output_line(&label, &line)).collect()
    }
}

/// What steps are called, once the plan is made.
#[derive(Debug, Default)]
pub(crate) struct Names(BTreeMap<usize, StageSummary>);

impl Names {
    /// Takes the plan in.
    pub(crate) fn set(&mut self, stages: &[StageSummary]) {
        self.0.extend(stages.iter().map(|stage| (stage.index, stage.clone())));
    }

    /// What a stage is called.
    pub(crate) fn stage(&self, index: usize) -> String {
        let name = self.0.get(&index).map_or_else(|| index.to_string(), |s| s.name.clone());
        if name == index.to_string() { format!("stage {name}") } else { name }
    }

    /// `[build 2/3]`; a stage without a name is shown by its number.
    pub(crate) fn label(&self, id: StepId) -> String {
        let steps = self.0.get(&id.stage).map_or(id.step + 1, |stage| stage.steps.len());
        format!("[{} {}/{steps}]", self.stage(id.stage), id.step + 1)
    }

    /// What a step does, in one line.
    pub(crate) fn text(&self, id: StepId) -> String {
        let step = self.0.get(&id.stage).and_then(|stage| stage.steps.get(id.step));
        step.map(|text| format::truncated(&one_line(text), STEP_WIDTH)).unwrap_or_default()
    }
}

/// A line of a program's output. What would steer the terminal is made visible, except tabs; of a
/// line that is overwritten by carriage returns (progress bars), the last state is shown.
pub(crate) fn shown_line(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let text = text.trim_end_matches(['\n', '\r']);
    let last = text.rsplit('\r').next().unwrap_or(text);
    last.chars()
        .flat_map(|c| {
            let tab = (c == '\t').then_some(c);
            tab.into_iter().chain(tab.is_none().then(|| visible(c)).into_iter().flatten())
        })
        .collect()
}

fn output_line(label: &str, bytes: &[u8]) -> String {
    format!("{label} | {}", shown_line(bytes)).trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use lapstrake_layerstore::digest::LayerId;
    use std::time::Duration;

    const FIRST: StepId = StepId { stage: 0, step: 0 };
    const SECOND: StepId = StepId { stage: 1, step: 0 };

    fn planned() -> State {
        let stage = |index, name: &str, step: &str| StageSummary {
            index,
            name: name.into(),
            base: "scratch".into(),
            steps: vec![step.into()],
        };
        let mut state = State::default();
        let stages = [stage(0, "0", "RUN a"), stage(1, "build", "RUN b\n  c")];
        assert!(state.take(Event::Planned { stages: &stages }).is_empty());
        state
    }

    #[test]
    fn lines_carry_their_step() {
        let mut state = planned();
        assert_eq!(state.take(Event::StepRunning { id: FIRST }), ["[stage 0 1/1] RUN a"]);
        assert_eq!(state.take(Event::StepRunning { id: SECOND }), ["[build 1/1] RUN b   c"]);
        let output = |state: &mut State, data: &[u8]| {
            state.take(Event::Output { id: SECOND, stream: Stream::Stdout, data })
        };
        assert_eq!(output(&mut state, b"one\ntw"), ["[build 1/1] | one"]);
        assert_eq!(
            output(&mut state, b"o\n\n10%\r100%\nrest\x1b["),
            ["[build 1/1] | two", "[build 1/1] |", "[build 1/1] | 100%"]
        );
        let done = Event::StepDone {
            id: SECOND,
            layer: LayerId::from_bytes([0; 32]),
            elapsed: Duration::from_millis(1420),
        };
        assert_eq!(state.take(done), ["[build 1/1] | rest\\u{1b}[", "[build 1/1] done in 1.42 s"]);
    }

    #[test]
    fn endless_lines_are_shown_in_pieces() {
        let mut state = planned();
        let data = vec![b'x'; LINE_BYTES_MAX];
        let lines = state.take(Event::Output { id: FIRST, stream: Stream::Stderr, data: &data });
        assert_eq!(lines.len(), 1);
    }
}
