//! `lap fsck`: whether the store is whole, and the removal of what is not.

use crate::args::Format;
use crate::error::{CommandError, Kind};
use crate::exit::Exit;
use crate::session::Session;
use crate::settings::Settings;
use crate::ui::format::count;
use crate::ui::table::one_line;
use crate::ui::terminal::{note, print, print_json};
use lapstrake_layerstore::store::check::{FsckOptions, FsckReport, Problem, Severity};

/// What the help ends with.
const AFTER_HELP: &str = "\
Examples:
  lap fsck              hash blobs and packs, follow every name
  lap fsck --deep       and hash the files of unpacked layers, and make every layer's tar again
  lap fsck --repair     and remove exactly what cannot be used; images that need it go with it

Standard output has a line for each problem. Leftovers of killed processes are no damage: `lap prune`
removes them. What a newer lap wrote is left alone. The exit code is 6 when something is damaged and was not repaired, else 0.";

/// Check that the store is whole
#[derive(Debug, clap::Args)]
#[command(after_help = AFTER_HELP)]
pub(crate) struct Args {
    /// Remove what cannot be used
    #[arg(long)]
    repair: bool,
    /// Also look into unpacked layers
    #[arg(long)]
    deep: bool,
    /// Text or JSON
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

/// Checks the store and shows what is wrong.
pub(crate) fn run(args: &Args, settings: Settings) -> Result<Exit, CommandError> {
    let (session, before) = if args.repair {
        Session::open_repaired(settings)?
    } else {
        (Session::open(settings)?, Vec::new())
    };
    let mut report = session.store.fsck(FsckOptions { repair: args.repair, deep: args.deep })?;
    report.problems.splice(0..0, before);
    match args.format {
        Format::Text => {
            print(&report.problems.iter().map(line).collect::<String>())?;
            note(&summary(&report, args.repair));
        }
        Format::Json => {
            let value = serde_json::to_value(&report)
                .map_err(|error| CommandError::chain(Kind::Bug, &error))?;
            print_json(&value)?;
        }
    }
    Ok(if report.is_clean() { Exit::OK } else { Exit::CORRUPT })
}

fn line(problem: &Problem) -> String {
    let severity = match problem.severity {
        Severity::Damage => "damage",
        Severity::Leftover => "leftover",
        Severity::Unknown => "unknown",
    };
    let repaired = if problem.repaired { " (removed)" } else { "" };
    let text = format!("{severity}: {}: {}{repaired}", problem.object, problem.what);
    one_line(&text) + "\n"
}

/// `looked at 3 images, 5 layers, 12 blobs, 2 packs: nothing is damaged`
fn summary(report: &FsckReport, repair: bool) -> String {
    let looked = [
        count(report.tags, "name"),
        count(report.layers, "layer"),
        count(report.blobs, "blob"),
        count(report.packs, "pack"),
        count(report.cache_records, "cache record"),
    ];
    let damaged = report.problems.iter().filter(|problem| problem.severity == Severity::Damage);
    let (repaired, left): (Vec<_>, Vec<_>) = damaged.partition(|problem| problem.repaired);
    let verdict = match (repaired.len(), left.len()) {
        (0, 0) => "nothing is damaged".to_owned(),
        (repaired, 0) => format!("removed {repaired} damaged"),
        (_, left) if repair => format!("{left} damaged could not be removed"),
        (_, left) => format!("{left} damaged; `lap fsck --repair` removes what cannot be used"),
    };
    format!("looked at {}: {verdict}", looked.join(", "))
}
