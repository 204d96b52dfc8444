//! `lap prune`: frees what no name, no running build and no cached step needs.

mod filters;

use crate::args::Format;
use crate::error::CommandError;
use crate::exit::Exit;
use crate::session::Session;
use crate::settings::Settings;
use crate::ui::format;
use crate::ui::terminal::{note, print, print_json};
use crate::values;
use filters::Filters;
use lapstrake_layerstore::store::gc::{PruneOptions, PruneReport};
use serde_json::json;

/// What the help ends with.
const AFTER_HELP: &str = "\
Examples:
  lap prune                       what nothing needs any more
  lap prune --until 7d            and results of build steps that were not used for a week
  lap prune --keep-storage 10g    and the oldest ones until the store has at most 10 GiB
  lap prune --all                 and the whole build cache
  lap prune --filter type=exec.cachemount             cache mounts
  lap prune --filter 'description~=apt-get' --until 7d    what these steps made, unless it was used
  lap prune --filter label=stage=ci                   images without a name that have this label

Images that have a name stay, and so does what a running build, pull or push uses. `lap du` shows
who owns what. --keep-storage counts what `du` counts: blocks that several files share (reflinks of
XFS and btrfs) for each of them, so that the disk may have more room than the cap says.";

/// Free what is no longer needed
#[derive(Debug, clap::Args)]
#[command(after_help = AFTER_HELP)]
pub(crate) struct Args {
    /// Drop the whole build cache and every cache mount, too
    #[arg(short, long)]
    all: bool,
    /// Drop results of build steps that were not used for so long
    #[arg(long, value_name = "DURATION", value_parser = values::duration_seconds)]
    until: Option<u64>,
    /// Drop the least recently used results until the store is no larger
    #[arg(long, visible_alias = "max-used-space", value_name = "BYTES", value_parser = values::size_bytes)]
    keep_storage: Option<u64>,
    /// Drop only what it says: until=DURATION; of the build cache type=, id=, description~=, shared=, private=,
    /// inuse=, mutable=, immutable=; of images without a name label=, label!=, dangling=true
    #[arg(long, value_name = "KEY=VALUE")]
    filter: Vec<String>,
    /// Do not ask, which never happens
    #[arg(short, long)]
    force: bool,
    /// Text or JSON
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

/// Prunes and says what was freed.
pub(crate) fn run(args: &Args, settings: Settings) -> Result<Exit, CommandError> {
    let Filters { until, cache, images } = Filters::parse(&args.filter)?;
    if images.is_some() && args.keep_storage.is_some() {
        return Err(CommandError::usage(
            "--keep-storage is about the whole store, and this filter about images without a name",
        ));
    }
    let until = args.until.or(until);
    let session = Session::open(settings)?;
    let now = session.settings.now;
    let until = until.map(|age| now.saturating_sub(i64::try_from(age).unwrap_or(i64::MAX)));
    let (all, keep_storage) = (args.all, args.keep_storage);
    let options = PruneOptions { all, until, keep_storage, cache, images };
    let report = session.store.prune(&options)?;
    match args.format {
        Format::Text => print(&text(&report))?,
        Format::Json => print_json(&json!({
            "layers": report.layers.iter().map(ToString::to_string).collect::<Vec<_>>(),
            "blobs": report.blobs.iter().map(ToString::to_string).collect::<Vec<_>>(),
            "packs": report.packs.len(),
            "packs_rewritten": report.packs_rewritten,
            "cache_records": report.cache_records,
            "mounts": report.mounts,
            "bytes": report.bytes,
        }))?,
    }
    if report.live_leases > 0 {
        note(&format!(
            "{} at work kept what is in use",
            format::count(report.live_leases, "other lap process")
        ));
    }
    Ok(Exit::OK)
}

fn text(report: &PruneReport) -> String {
    let parts = [
        (report.layers.len(), "layer"),
        (report.blobs.len(), "blob"),
        (report.packs.len(), "pack"),
        (report.packs_rewritten, "shrunk pack"),
        (report.cache_records, "cache record"),
        (report.mounts.len(), "cache mount"),
        (report.work_areas, "unfinished piece of work"),
    ];
    let removed: Vec<String> = parts
        .iter()
        .filter(|(count, _)| *count > 0)
        .map(|(count, noun)| format::count(*count, noun))
        .collect();
    if removed.is_empty() {
        return "nothing to remove\n".into();
    }
    format!("removed {}; {} freed\n", removed.join(", "), format::bytes(report.bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reports_read_well() {
        assert_eq!(text(&PruneReport::default()), "nothing to remove\n");
        let report =
            PruneReport { cache_records: 2, work_areas: 1, bytes: 1000, ..PruneReport::default() };
        assert_eq!(
            text(&report),
            "removed 2 cache records, 1 unfinished piece of work; 1.00 kB freed\n"
        );
    }
}
