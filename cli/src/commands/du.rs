//! `lap du`: who owns the bytes of the store.

use crate::args::Format;
use crate::error::{CommandError, Kind};
use crate::exit::Exit;
use crate::session::Session;
use crate::settings::Settings;
use crate::ui::format;
use crate::ui::table::Table;
use crate::ui::terminal::{print, print_json};
use lapstrake_layerstore::store::usage::Usage;

/// What the help ends with.
const AFTER_HELP: &str = "\
Examples:
  lap du
  lap du --format json

OWN is what only this image needs, SHARED what it has in common with others; so OWN is what `lap rmi`
and `lap prune` would free. Sizes are what the disk gives, as du shows them.";

/// Show what uses how much disk space
#[derive(Debug, clap::Args)]
#[command(after_help = AFTER_HELP)]
pub(crate) struct Args {
    /// Text or JSON
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

/// Shows the store's bytes by owner.
pub(crate) fn run(args: &Args, settings: Settings) -> Result<Exit, CommandError> {
    let session = Session::open(settings)?;
    let usage = session.store.usage()?;
    match args.format {
        Format::Text => print(&text(&usage))?,
        Format::Json => {
            let value = serde_json::to_value(&usage)
                .map_err(|error| CommandError::chain(Kind::Bug, &error))?;
            print_json(&value)?;
        }
    }
    Ok(Exit::OK)
}

fn text(usage: &Usage) -> String {
    let mut images = Table::new(&["IMAGE", ">OWN", ">SHARED"]);
    for image in &usage.images {
        images.row([
            image.reference.familiar(),
            format::bytes(image.exclusive),
            format::bytes(image.shared),
        ]);
    }
    let layers: u64 = usage.layers.iter().map(|layer| layer.directory + layer.blobs).sum();
    let mut parts = Table::new(&["PART", ">SIZE"]);
    let rows = [
        ("layers (trees and blobs)", layers),
        ("file contents (packs)", usage.packs.bytes),
        ("  of which nothing needs", usage.packs.unused),
        ("other blobs", usage.other_blobs),
        ("cache records", usage.cache),
        ("cache mounts", usage.mounts.values().sum()),
        ("work in progress", usage.work),
        ("everything else", usage.rest),
        ("total", usage.total),
    ];
    for (part, size) in rows {
        parts.row([part.to_owned(), format::bytes(size)]);
    }
    let images = if usage.images.is_empty() { String::new() } else { images.render() + "\n" };
    images + &parts.render()
}
