//! `lap explain`: why the steps of a past build were or were not found in the cache.

use crate::args::Format;
use crate::error::CommandError;
use crate::exit::Exit;
use crate::session::Session;
use crate::settings::Settings;
use crate::ui::table::Table;
use crate::ui::terminal::{print, print_json};
use crate::ui::{explain, format};
use lapstrake_builder::explain::{Outcome, Recorded, Report};
use lapstrake_layerstore::store::BuildId;
use serde_json::json;

/// Explain why the steps of a build were or were not found in the cache
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  lap explain                    the newest build\n  \
    lap explain app:1              the newest build that made this image\n  \
    lap explain --list             the builds that are remembered\n  \
    lap explain --format json 5a1c the build whose id begins with 5a1c")]
pub(crate) struct Args {
    /// The build: the beginning of its id, or an image that it made [default: the newest]
    #[arg(value_name = "BUILD|IMAGE")]
    build: Option<String>,
    /// List the builds that are remembered, newest first
    #[arg(long, conflicts_with = "build")]
    list: bool,
    /// Text or JSON
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

/// Shows one build, or all.
pub(crate) fn run(args: &Args, settings: Settings) -> Result<Exit, CommandError> {
    let session = Session::open_records(settings)?;
    if args.list {
        list(&session, args.format)?;
    } else {
        let recorded = find(&session, args.build.as_deref())?;
        explain::show(&recorded, args.format, session.settings.now)?;
        if args.format == Format::Text {
            print(&other_platforms(&session, &recorded)?)?;
        }
    }
    Ok(Exit::OK)
}

/// Where the other platforms of the command that built this one are explained.
fn other_platforms(session: &Session, shown: &Recorded) -> Result<String, CommandError> {
    let command =
        |report: &Report| (report.started_unix, report.dockerfile.clone(), report.target.clone());
    let mut seen = vec![shown.report.platform.clone()];
    let mut lines = Vec::new();
    for (id, report) in builds(session)? {
        if command(&report) == command(&shown.report) && !seen.contains(&report.platform) {
            lines.push(format!("for {}: lap explain {id}\n", report.platform));
            seen.push(report.platform);
        }
    }
    Ok(lines.concat())
}

/// The builds of the store whose reports can be read, newest first.
fn builds(session: &Session) -> Result<impl Iterator<Item = (BuildId, Report)>, CommandError> {
    let all = session.store.builds()?.into_iter();
    Ok(all.filter_map(|(id, _)| {
        let report = Report::decode(&session.store.build_get(&id)?)?;
        Some((id, report))
    }))
}

fn find(session: &Session, wanted: Option<&str>) -> Result<Recorded, CommandError> {
    let Some(wanted) = wanted else {
        let newest = builds(session)?.next();
        let (id, report) = newest.ok_or_else(|| {
            CommandError::input("there is no build to explain")
                .hint("`lap build` leaves one; `lap prune --all` removes them")
        })?;
        return Ok(Recorded { id: Some(id), report });
    };
    let mut ids = builds(session)?.filter(|(id, _)| id.as_str().starts_with(wanted));
    if let Some((id, report)) = ids.next() {
        if ids.next().is_some() {
            return Err(CommandError::input(format!("several builds begin with `{wanted}`"))
                .hint("`lap explain --list` shows them"));
        }
        return Ok(Recorded { id: Some(id), report });
    }
    drop(ids);
    let no_build = || {
        CommandError::input(format!("no build that is remembered is or made `{wanted}`"))
            .hint("`lap explain --list` shows the builds")
    };
    let image = session.store.resolve(wanted)?.map(|(_, record)| record.config.to_string());
    let image = image.ok_or_else(no_build)?;
    let made = builds(session)?.find(|(_, report)| report.made(&image));
    made.map(|(id, report)| Recorded { id: Some(id), report }).ok_or_else(no_build)
}

fn list(session: &Session, format: Format) -> Result<(), CommandError> {
    let mut table =
        Table::new(&["BUILD", "STARTED", ">TOOK", ">CACHED", "PLATFORM", "IMAGE", "DOCKERFILE"]);
    let mut objects = Vec::new();
    for (id, report) in builds(session)? {
        let steps = || report.stages.iter().flat_map(|stage| &stage.steps);
        let cached = steps().filter(|step| step.outcome == Outcome::Hit).count();
        if format == Format::Json {
            objects.push(json!({
                "id": id.to_string(), "started_unix": report.started_unix,
                "milliseconds": report.milliseconds, "steps": steps().count(), "cached": cached,
                "image": report.image, "dockerfile": report.dockerfile, "target": report.target,
                "platform": report.platform,
            }));
            continue;
        }
        let target = report.target.as_ref();
        table.row([
            id.to_string(),
            format::ago(report.started_unix, session.settings.now),
            format::duration(std::time::Duration::from_millis(report.milliseconds)),
            format!("{cached} of {}", steps().count()),
            report.platform.clone(),
            report.image.as_deref().map_or("failed", format::short_id).to_owned(),
            report.dockerfile.clone() + &target.map_or(String::new(), |name| format!(" ({name})")),
        ]);
    }
    match format {
        Format::Text => print(&table.render()),
        Format::Json => print_json(&objects.into()),
    }
}
