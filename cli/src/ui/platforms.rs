//! Several builds in one view: each has stages of its own, named after its platform.
//!
//! ```text
//! [linux/amd64 build 2/3] RUN make
//! [linux/arm64 build 2/3] RUN make
//! [base] debian:bookworm for linux/arm64 pulled, 3f2a9c01b4d2
//! ```

use lapstrake_builder::event::{Event, StageSummary, StepId};

/// Between the numbers of two builds' first stages: more stages than any file has.
const STAGES_APART: usize = 1 << (usize::BITS / 2);

/// Shows the event of the build at `place` so that nothing in it is taken for another's.
pub(crate) fn apart(event: Event<'_>, place: usize, platform: &str, show: impl FnOnce(Event<'_>)) {
    let base = place * STAGES_APART;
    let at = |id: StepId| StepId { stage: base + id.stage, step: id.step };
    let of = |reference: &str| format!("{reference} for {platform}");
    match event {
        Event::Planned { stages } => {
            let stages: Vec<_> = stages.iter().map(|it| summary(it, base, platform)).collect();
            show(Event::Planned { stages: &stages });
        }
        Event::BaseStarted { reference } => {
            show(Event::BaseStarted { reference: &of(reference) });
        }
        Event::BaseResolved { reference, config_digest, local } => {
            show(Event::BaseResolved { reference: &of(reference), config_digest, local });
        }
        Event::StepStarted { id } => show(Event::StepStarted { id: at(id) }),
        Event::StepWaiting { id, stage } => {
            show(Event::StepWaiting { id: at(id), stage: base + stage });
        }
        Event::StepWaited { id, stage, elapsed } => {
            let stage = stage.map(|stage| base + stage);
            show(Event::StepWaited { id: at(id), stage, elapsed });
        }
        Event::StepCached { id, layer } => show(Event::StepCached { id: at(id), layer }),
        Event::StepRunning { id } => show(Event::StepRunning { id: at(id) }),
        Event::Output { id, stream, data } => show(Event::Output { id: at(id), stream, data }),
        Event::StepDone { id, layer, elapsed } => {
            show(Event::StepDone { id: at(id), layer, elapsed });
        }
        Event::StepFailed { id, elapsed } => show(Event::StepFailed { id: at(id), elapsed }),
        Event::Warning { message } => {
            show(Event::Warning { message: format!("{platform}: {message}") });
        }
        whole @ (Event::Digested { .. } | Event::Recorded { .. }) => show(whole),
    }
}

fn summary(stage: &StageSummary, base: usize, platform: &str) -> StageSummary {
    let unnamed = stage.name == stage.index.to_string();
    let word = if unnamed { "stage " } else { "" };
    StageSummary {
        index: base + stage.index,
        name: format!("{platform} {word}{}", stage.name),
        ..stage.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stages_are_named_after_their_platform() {
        let stage = |index: usize, name: &str| StageSummary {
            index,
            name: name.to_owned(),
            base: "scratch".to_owned(),
            steps: Vec::new(),
        };
        let stages = [stage(0, "0"), stage(1, "build")];
        apart(Event::Planned { stages: &stages }, 2, "linux/arm64", |event| {
            let Event::Planned { stages } = event else { panic!("{event:?}") };
            let named: Vec<_> = stages.iter().map(|it| (it.index, it.name.as_str())).collect();
            let base = 2 * STAGES_APART;
            assert_eq!(named, [(base, "linux/arm64 stage 0"), (base + 1, "linux/arm64 build")]);
        });
        let id = StepId { stage: 1, step: 3 };
        apart(Event::StepRunning { id }, 1, "linux/arm64", |event| {
            let Event::StepRunning { id } = event else { panic!("{event:?}") };
            assert_eq!((id.stage, id.step), (STAGES_APART + 1, 3));
        });
    }
}
