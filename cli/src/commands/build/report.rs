//! What a build says while it runs, and at its end.

use super::Wanted;
use super::args::{Args, ProgressMode};
use crate::args::Format;
use crate::error::CommandError;
use crate::output_file::OutputFile;
use crate::session::Session;
use crate::settings::Settings;
use crate::ui::progress::Plain;
use crate::ui::rawjson::RawJson;
use crate::ui::terminal::{note, print};
use crate::ui::{diagnostic, explain, format};
use lapstrake_builder::event::{Event, Observer, Silent};
use lapstrake_builder::exec::BuildOutcome;
use lapstrake_builder::explain::Recorded;
use lapstrake_layerstore::reference::Reference;
use lapstrake_layerstore::store::ImageRecord;
use serde_json::json;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Shows a build in the way that was asked for.
#[derive(Debug)]
pub(super) struct Reporter {
    mode: Mode,
    quiet: bool,
    iidfile: Option<PathBuf>,
    metadata_file: Option<PathBuf>,
    /// What the build left for `lap explain`.
    recorded: Mutex<Option<Recorded>>,
}

impl Observer for Reporter {
    fn event(&self, event: Event<'_>) {
        if let Event::Recorded { report } = &event {
            *self.recorded() = Some((*report).clone());
        }
        match &self.mode {
            Mode::Plain(plain) => plain.event(event),
            Mode::RawJson(json) => json.event(event),
            Mode::Silent(silent) => silent.event(event),
        }
    }
}

#[derive(Debug)]
enum Mode {
    Plain(Plain),
    RawJson(RawJson),
    Silent(Silent),
}

/// Tells warnings, and nothing of what is under way.
#[derive(Debug)]
pub(super) struct WarningsOnly;

impl Observer for WarningsOnly {
    fn event(&self, event: Event<'_>) {
        if let Event::Warning { message } = event {
            note(&crate::error::printable(&format!("warning: {message}")));
        }
    }
}

impl Reporter {
    /// `--progress`, else `BUILDKIT_PROGRESS`, else lines.
    pub(super) fn new(args: &Args, settings: &Settings) -> Result<Self, CommandError> {
        let from_environment = || {
            settings.progress.as_deref().map(|name| {
                use clap::ValueEnum as _;
                ProgressMode::from_str(name, true).map_err(|_| {
                    CommandError::usage(format!(
                        "BUILDKIT_PROGRESS is `{name}`, which is no way to show progress"
                    ))
                })
            })
        };
        let chosen = match args.progress {
            Some(mode) => mode,
            None => from_environment().transpose()?.unwrap_or(ProgressMode::Auto),
        };
        let quiet = args.quiet || chosen == ProgressMode::Quiet;
        let mode = match chosen {
            _ if quiet => Mode::Silent(Silent),
            ProgressMode::Quiet | ProgressMode::None => Mode::Silent(Silent),
            ProgressMode::Rawjson => Mode::RawJson(RawJson::default()),
            ProgressMode::Auto | ProgressMode::Plain | ProgressMode::Tty => {
                Mode::Plain(Plain::default())
            }
        };
        let (iidfile, metadata_file) = (args.iidfile.clone(), args.metadata_file.clone());
        Ok(Self { mode, quiet, iidfile, metadata_file, recorded: Mutex::default() })
    }

    fn recorded(&self) -> MutexGuard<'_, Option<Recorded>> {
        self.recorded.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Prints why each step was or was not found. A build that did not come as far as its steps has
    /// nothing to explain.
    pub(super) fn explain(&self, format: Format, now: i64) -> Result<(), CommandError> {
        match &*self.recorded() {
            Some(recorded) => explain::show(recorded, format, now),
            None => Ok(()),
        }
    }

    /// Shows what is doubtful in the Dockerfile.
    pub(super) fn warnings(&self, outcome: &BuildOutcome) {
        if matches!(self.mode, Mode::Plain(_)) {
            for warning in &outcome.warnings {
                note(diagnostic::render(&outcome.file, warning).trim_end());
            }
        }
    }

    /// The last line, and the files that name the result.
    pub(super) fn finish(
        &self,
        session: &Session,
        outcome: &BuildOutcome,
        image: &ImageRecord,
        wanted: &Wanted,
        elapsed: Duration,
    ) -> Result<(), CommandError> {
        let id = image.config.to_string();
        if let Some(path) = &self.iidfile {
            OutputFile::write(path, id.as_bytes())?;
        }
        if let Some(path) = &self.metadata_file {
            OutputFile::write(path, format!("{:#}\n", metadata(image, wanted)).as_bytes())?;
        }
        if self.quiet {
            print(&format!("{id}\n"))?;
        }
        match &self.mode {
            Mode::Plain(_) => note(&last_line(session, outcome, image, wanted, elapsed)?),
            Mode::RawJson(_) => note(
                &json!({
                    "event": "built", "image": id, "steps": outcome.steps, "cached": outcome.cached,
                    "seconds": elapsed.as_secs_f64(),
                })
                .to_string(),
            ),
            Mode::Silent(_) => {}
        }
        Ok(())
    }
}

/// `built 3f2a9c… as app:1: 3 layers, 5.1 MB, in 0.42 s, 2 of 3 steps cached`
fn last_line(
    session: &Session,
    outcome: &BuildOutcome,
    image: &ImageRecord,
    wanted: &Wanted,
    elapsed: Duration,
) -> Result<String, CommandError> {
    let layers = session.store.image_layers(image)?;
    let mut bytes = 0;
    for layer in &layers {
        bytes += layer.toc()?.stats().bytes;
    }
    let names: Vec<String> = wanted.tags.iter().map(Reference::familiar).collect();
    let named = if names.is_empty() { String::new() } else { format!(" as {}", names.join(", ")) };
    Ok(format!(
        "built {}{named}: {}, {}, in {}, {} of {} cached",
        format::short_id(&image.config.to_string()),
        format::count(layers.len(), "layer"),
        format::bytes(bytes),
        format::duration(elapsed),
        outcome.cached,
        format::count(outcome.steps, "step"),
    ))
}

/// Docker's keys.
fn metadata(image: &ImageRecord, wanted: &Wanted) -> serde_json::Value {
    let mut object = json!({"containerimage.config.digest": image.config});
    if let Some(manifest) = &image.manifest {
        object["containerimage.digest"] = json!(manifest.digest);
        object["containerimage.descriptor"] = json!(manifest);
    }
    if !wanted.tags.is_empty() {
        let names: Vec<String> = wanted.tags.iter().map(ToString::to_string).collect();
        object["image.name"] = names.join(",").into();
    }
    object
}
