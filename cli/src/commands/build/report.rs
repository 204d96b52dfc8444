//! What a build says while it runs, and at its end.

use super::Wanted;
use super::args::{Args, ProgressMode};
use crate::args::Format;
use crate::error::CommandError;
use crate::output_file::OutputFile;
use crate::session::Session;
use crate::settings::Settings;
use crate::ui::live::Live;
use crate::ui::progress::Plain;
use crate::ui::rawjson::RawJson;
use crate::ui::terminal::{self, note, print};
use crate::ui::timeline::Timeline;
use crate::ui::transfer::Transfers;
use crate::ui::{diagnostic, explain, format, platforms};
use lapstrake_builder::event::{Event, Observer, Silent};
use lapstrake_builder::exec::BuildOutcome;
use lapstrake_builder::explain::Recorded;
use lapstrake_layerstore::reference::Reference;
use lapstrake_layerstore::store::ImageRecord;
use lapstrake_registry::Progress;
use serde_json::json;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Shows a build in the way that was asked for.
#[derive(Debug)]
pub(super) struct Reporter {
    mode: Mode,
    quiet: bool,
    iidfile: Option<PathBuf>,
    metadata_file: Option<PathBuf>,
    timeline: Option<(PathBuf, Timeline)>,
    /// What each build left for `lap explain`, by its place among those under way.
    recorded: Mutex<BTreeMap<usize, Recorded>>,
}

impl Observer for Reporter {
    fn event(&self, event: Event<'_>) {
        self.of(0, None).event(event);
    }
}

/// Hears of one of the builds that are under way.
#[derive(Debug)]
pub(super) struct OneOf<'a> {
    reporter: &'a Reporter,
    place: usize,
    platform: Option<String>,
}

impl Observer for OneOf<'_> {
    fn event(&self, event: Event<'_>) {
        let reporter = self.reporter;
        if let Event::Recorded { report } = &event {
            // That of a rehearsal explains nothing.
            reporter.recorded().entry(self.place).or_insert_with(|| (*report).clone());
        }
        if let Mode::RawJson(json) = &reporter.mode {
            json.of(self.platform.as_deref(), &event);
        }
        match &self.platform {
            None => reporter.show(event),
            Some(platform) => platforms::apart(event, self.place, platform, |it| reporter.show(it)),
        }
    }
}

impl Progress for Reporter {
    fn event(&self, event: lapstrake_registry::Event) {
        if let Some((_, timeline)) = &self.timeline {
            timeline.transfer(&event);
        }
        match &self.mode {
            Mode::Live(_, transfers) | Mode::Plain(_, transfers) => transfers.event(event),
            Mode::RawJson(json) => json.transfer(&event),
            Mode::Silent => {}
        }
    }
}

/// How progress is shown. Transfers stand before the view whose bars they use.
#[derive(Debug)]
enum Mode {
    Live(Live, Transfers),
    Plain(Plain, Transfers),
    RawJson(RawJson),
    Silent,
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
    /// `--progress`, else `BUILDKIT_PROGRESS`, else what suits standard error.
    pub(super) fn new(
        args: &Args,
        settings: &Settings,
        begun: Instant,
    ) -> Result<Self, CommandError> {
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
            _ if quiet => Mode::Silent,
            ProgressMode::Quiet | ProgressMode::None => Mode::Silent,
            ProgressMode::Rawjson => Mode::RawJson(RawJson::default()),
            // A shell in a failed step has the terminal to itself.
            ProgressMode::Auto | ProgressMode::Tty
                if terminal::is_terminal() && !args.steps.debug_shell =>
            {
                let live = Live::new();
                let transfers = Transfers::among(live.bars());
                Mode::Live(live, transfers)
            }
            ProgressMode::Auto | ProgressMode::Plain | ProgressMode::Tty => {
                Mode::Plain(Plain::default(), Transfers::default())
            }
        };
        let (iidfile, metadata_file) = (args.iidfile.clone(), args.metadata_file.clone());
        let timeline = args.timeline.clone().map(|path| (path, Timeline::new(begun)));
        Ok(Self { mode, quiet, iidfile, metadata_file, timeline, recorded: Mutex::default() })
    }

    /// The error that ends the build, as an event where events are what is wanted.
    pub(super) fn failed(&self, error: CommandError) -> CommandError {
        match &self.mode {
            Mode::RawJson(json) => {
                json.failed(&error);
                error.said()
            }
            _ => error,
        }
    }

    /// Does something that is no step of the build; the timeline shows it.
    pub(super) fn timed<T>(&self, label: &str, work: impl FnOnce() -> T) -> T {
        match &self.timeline {
            Some((_, timeline)) => timeline.timed(label, work),
            None => work(),
        }
    }

    /// Writes the timeline, of a failed build as well.
    pub(super) fn write_timeline(&self, title: &str) -> Result<(), CommandError> {
        match &self.timeline {
            Some((path, timeline)) => OutputFile::write(path, timeline.page(title).as_bytes()),
            None => Ok(()),
        }
    }

    /// Hears of the build at this place among those under way; what it is for, if there are several.
    pub(super) fn of(&self, place: usize, platform: Option<String>) -> OneOf<'_> {
        OneOf { reporter: self, place, platform }
    }

    /// Shows an event whose steps are told apart from those of other builds.
    fn show(&self, event: Event<'_>) {
        if let Some((_, timeline)) = &self.timeline {
            timeline.event(&event);
        }
        match &self.mode {
            Mode::Live(live, _) => live.event(event),
            Mode::Plain(plain, _) => plain.event(event),
            Mode::RawJson(_) | Mode::Silent => Silent.event(event),
        }
    }

    fn recorded(&self) -> MutexGuard<'_, BTreeMap<usize, Recorded>> {
        self.recorded.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Prints why each step was or was not found. A build that did not come as far as its steps has
    /// nothing to explain.
    pub(super) fn explain(&self, format: Format, now: i64) -> Result<(), CommandError> {
        let all = self.recorded();
        for recorded in all.values() {
            // In JSON the platform stands in the report.
            if all.len() > 1 && format == Format::Text {
                print(&format!("{}: ", recorded.report.platform))?;
            }
            explain::show(recorded, format, now)?;
        }
        Ok(())
    }

    /// Says something of the build as a whole.
    pub(super) fn say(&self, what: &str, text: &str) {
        match &self.mode {
            Mode::Live(..) | Mode::Plain(..) => note(&format!("[{what}] {text}")),
            Mode::RawJson(_) => note(&json!({"event": what, what: text}).to_string()),
            Mode::Silent => {}
        }
    }

    /// Shows what is doubtful in the Dockerfile.
    pub(super) fn warnings(&self, outcome: &BuildOutcome) {
        if matches!(self.mode, Mode::Live(..) | Mode::Plain(..)) {
            for warning in &outcome.warnings {
                note(diagnostic::render(&outcome.file, warning).trim_end());
            }
        }
    }

    /// The last line, and the files that name the result.
    pub(super) fn finish(
        &self,
        session: &Session,
        outcomes: &[BuildOutcome],
        image: &ImageRecord,
        wanted: &Wanted,
        elapsed: Duration,
    ) -> Result<(), CommandError> {
        let id = image.id().to_string();
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
            Mode::Live(..) | Mode::Plain(..) => {
                note(&last_line(session, outcomes, image, wanted, elapsed)?);
            }
            Mode::RawJson(_) => note(
                &json!({
                    "event": "built", "image": id, "steps": counts(outcomes).0,
                    "cached": counts(outcomes).1,
                    "seconds": elapsed.as_secs_f64(),
                })
                .to_string(),
            ),
            Mode::Silent => {}
        }
        Ok(())
    }
}

/// `built 3f2a9c… as app:1: 3 layers, 5.1 MB, in 0.42 s, 2 of 3 steps cached`
fn last_line(
    session: &Session,
    outcomes: &[BuildOutcome],
    image: &ImageRecord,
    wanted: &Wanted,
    elapsed: Duration,
) -> Result<String, CommandError> {
    let (mut layers, mut bytes) = (0, 0);
    for image in image.every() {
        for layer in &session.store.image_layers(image)? {
            layers += 1;
            bytes += layer.toc()?.stats().bytes;
        }
    }
    let platforms = match image.every().len() {
        1 => String::new(),
        many => format!("{}, ", format::count(many, "platform")),
    };
    let (steps, cached) = counts(outcomes);
    let names: Vec<String> = wanted.tags.iter().map(Reference::familiar).collect();
    let named = if names.is_empty() { String::new() } else { format!(" as {}", names.join(", ")) };
    Ok(format!(
        "built {}{named}: {platforms}{}, {}, in {}, {cached} of {} cached",
        format::short_id(&image.id().to_string()),
        format::count(layers, "layer"),
        format::bytes(bytes),
        format::duration(elapsed),
        format::count(steps, "step"),
    ))
}

/// Steps, and how many of them were cached.
fn counts(outcomes: &[BuildOutcome]) -> (usize, usize) {
    let all = outcomes.iter().map(|outcome| (outcome.steps, outcome.cached));
    all.fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1))
}

/// Docker's keys.
fn metadata(image: &ImageRecord, wanted: &Wanted) -> serde_json::Value {
    let mut object = json!({"containerimage.config.digest": image.config});
    let top = match &image.index {
        Some(index) => index.manifest.as_ref(),
        None => image.manifest.as_ref(),
    };
    if let Some(manifest) = top {
        object["containerimage.digest"] = json!(manifest.digest);
        object["containerimage.descriptor"] = json!(manifest);
    }
    if !wanted.tags.is_empty() {
        let names: Vec<String> = wanted.tags.iter().map(ToString::to_string).collect();
        object["image.name"] = names.join(",").into();
    }
    object
}
