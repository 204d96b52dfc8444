//! A build as JSON, one object per event and line on standard error; the shapes are in
//! `docs/cli.md`.

use crate::error::CommandError;
use crate::ui::terminal::note;
use lapstrake_builder::event::{Event, StageSummary, StepId, Stream};
use lapstrake_registry as registry;
use serde_json::{Value, json};
use std::sync::Mutex;

/// Shows each event as a line of JSON.
#[derive(Debug, Default)]
pub(crate) struct RawJson {
    /// Keeps lines whole when two steps report at once.
    writing: Mutex<()>,
}

impl RawJson {
    /// Shows an event of the build for a platform, which is named if there are several.
    pub(crate) fn of(&self, platform: Option<&str>, event: &Event<'_>) {
        let mut object = object(event);
        if let Some(platform) = platform {
            object["platform"] = platform.into();
        }
        let _writing = self.writing.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        note(&object.to_string());
    }

    /// Shows what the build ended with when it did not succeed.
    pub(crate) fn failed(&self, error: &CommandError) {
        let _writing = self.writing.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        note(
            &json!({"event": "failed", "exit": error.exit().code(), "text": error.render()})
                .to_string(),
        );
    }

    /// Shows an event of a transfer.
    pub(crate) fn transfer(&self, event: &registry::Event) {
        if let Some(object) = transfer(event) {
            let _writing = self.writing.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            note(&object.to_string());
        }
    }
}

/// Each blob is told when it begins and when it is through; in between nothing, since bytes come by the
/// thousand.
fn transfer(event: &registry::Event) -> Option<Value> {
    match event {
        registry::Event::Started { digest, part, size } => Some(json!({
            "event": "transfer-started", "digest": digest, "part": part.to_string(), "size": size,
        })),
        registry::Event::Done { digest, outcome } => {
            let outcome = match outcome {
                registry::Outcome::Present => "present",
                registry::Outcome::Downloaded => "downloaded",
                registry::Outcome::Uploaded => "uploaded",
                registry::Outcome::Mounted { .. } => "mounted",
            };
            Some(json!({"event": "transfer-done", "digest": digest, "outcome": outcome}))
        }
        registry::Event::Waiting { reason, wait } => Some(json!({
            "event": "transfer-waiting", "reason": reason, "seconds": wait.as_secs_f64(),
        })),
        _ => None,
    }
}

fn object(event: &Event<'_>) -> Value {
    let step = |kind: &str, id: &StepId| json!({"event": kind, "stage": id.stage, "step": id.step});
    let with = |mut object: Value, key: &str, value: Value| {
        object[key] = value;
        object
    };
    match event {
        Event::Planned { stages } => {
            let stage = |stage: &StageSummary| {
                let (index, steps) = (stage.index, &stage.steps);
                json!({"stage": index, "name": stage.name, "base": stage.base, "steps": steps})
            };
            json!({"event": "planned", "stages": stages.iter().map(stage).collect::<Vec<_>>()})
        }
        Event::BaseStarted { reference } => {
            json!({"event": "base-started", "reference": reference})
        }
        Event::BaseResolved { reference, config_digest, local } => {
            json!({
                "event": "base-resolved",
                "reference": reference,
                "config": config_digest,
                "local": local,
            })
        }
        Event::StepStarted { id } => step("step-started", id),
        Event::StepWaiting { id, stage } => {
            with(step("step-waiting", id), "for-stage", json!(stage))
        }
        Event::StepWaited { id, stage, elapsed } => {
            let object = with(step("step-waited", id), "for-stage", json!(stage));
            with(object, "seconds", elapsed.as_secs_f64().into())
        }
        Event::Digested { layer, elapsed, compressed, .. } => json!({
            "event": "digested",
            "layer": layer.to_string(),
            "seconds": elapsed.as_secs_f64(),
            "compressed": compressed,
        }),
        Event::StepCached { id, layer } => {
            with(step("step-cached", id), "layer", layer.to_string().into())
        }
        Event::StepRunning { id } => step("step-running", id),
        Event::Output { id, stream, data } => {
            let stream = if *stream == Stream::Stdout { "stdout" } else { "stderr" };
            let object = with(step("output", id), "stream", stream.into());
            with(object, "text", String::from_utf8_lossy(data).into())
        }
        Event::StepDone { id, layer, elapsed } => {
            let object = with(step("step-done", id), "layer", layer.to_string().into());
            with(object, "seconds", elapsed.as_secs_f64().into())
        }
        Event::StepFailed { id, elapsed } => {
            with(step("step-failed", id), "seconds", elapsed.as_secs_f64().into())
        }
        Event::Recorded { report } => {
            json!({"event": "recorded", "build": report.id.as_ref().map(ToString::to_string)})
        }
        Event::Warning { message } => json!({"event": "warning", "message": message}),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_objects() {
        let id = StepId { stage: 1, step: 2 };
        let event = Event::Output { id, stream: Stream::Stderr, data: b"a\xff" };
        let expected = r#"{"event":"output","stage":1,"step":2,"stream":"stderr","text":"a�"}"#;
        assert_eq!(object(&event).to_string(), expected);
    }
}
