//! `lap du`: who owns the bytes of the store.

use crate::args::Format;
use crate::error::{CommandError, Kind};
use crate::exit::Exit;
use crate::session::Session;
use crate::settings::Settings;
use crate::ui::format;
use crate::ui::table::Table;
use crate::ui::terminal::{print, print_json};
use lapstrake_layerstore::reference::Reference;
use lapstrake_layerstore::store::usage::Usage;

/// What the help ends with.
const AFTER_HELP: &str = "\
Examples:
  lap du
  lap du -v
  lap du --format json

OWN is what only this image needs, SHARED what it has in common with others; so OWN is what `lap rmi`
and `lap prune --all` would free. The parts add up to the total, and the total to what `du -s` says of
the store. Blocks that several files share (reflinks of XFS and btrfs) count for each of them, as for
`du`; how much that is stands below the total. What nothing needs goes with `lap prune`.";

/// Show what uses how much disk space
#[derive(Debug, clap::Args)]
#[command(after_help = AFTER_HELP)]
pub(crate) struct Args {
    /// Show each layer and each cache mount, too
    #[arg(short, long)]
    verbose: bool,
    /// Text or JSON
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

/// Shows the store's bytes by owner.
pub(crate) fn run(args: &Args, settings: Settings) -> Result<Exit, CommandError> {
    let session = Session::open(settings)?;
    let usage = session.store.usage_with(Some(&lapstrake_runner::shared_extents))?;
    match args.format {
        Format::Text => print(&text(&usage, args.verbose))?,
        Format::Json => {
            let value = serde_json::to_value(&usage)
                .map_err(|error| CommandError::chain(Kind::Bug, &error))?;
            print_json(&value)?;
        }
    }
    Ok(Exit::OK)
}

fn text(usage: &Usage, verbose: bool) -> String {
    let mut text = String::new();
    if !usage.images.is_empty() {
        text += &(images(usage).render() + "\n");
    }
    if verbose {
        text += &(layers(usage).render() + "\n");
        if !usage.mounts.is_empty() {
            text += &(mounts(usage).render() + "\n");
        }
    }
    text + &owners(usage).render()
}

fn images(usage: &Usage) -> Table {
    let mut images = Table::new(&["IMAGE", ">OWN", ">SHARED"]);
    for image in &usage.images {
        images.row([
            image.reference.familiar(),
            format::bytes(image.exclusive),
            format::bytes(image.shared),
        ]);
    }
    images
}

fn layers(usage: &Usage) -> Table {
    let mut layers = Table::new(&["LAYER", "OWNER", ">DIRECTORY", ">BLOBS", ">CONTENTS", "IMAGES"]);
    for layer in &usage.layers {
        let names: Vec<String> = layer.images.iter().map(Reference::familiar).collect();
        layers.row([
            layer.layer.to_string(),
            layer.owner.as_str().to_owned(),
            format::bytes(layer.directory),
            format::bytes(layer.blobs),
            format::bytes(layer.contents),
            names.join(", "),
        ]);
    }
    layers
}

fn mounts(usage: &Usage) -> Table {
    let mut mounts = Table::new(&["CACHE MOUNT", ">SIZE"]);
    for (id, bytes) in &usage.mounts {
        mounts.row([id.clone(), format::bytes(*bytes)]);
    }
    mounts
}

fn owners(usage: &Usage) -> Table {
    let mut parts = Table::new(&["PART", ">SIZE"]);
    let owners = &usage.owners;
    let rows = [
        ("images, what one alone needs", owners.exclusive),
        ("images, what several need", owners.shared),
        ("build cache", owners.cached),
        ("cache mounts", owners.mounts),
        ("what nothing needs", owners.unused),
        ("work in progress", owners.work),
        ("everything else", owners.rest),
        ("total", usage.total),
    ];
    for (part, size) in rows {
        parts.row([part.to_owned(), format::bytes(size)]);
    }
    if usage.reflinked > 0 {
        let disk = usage.total.saturating_sub(usage.reflinked);
        let counted = ("of it counted more than once (reflinks)", usage.reflinked);
        for (part, size) in [counted, ("on the disk", disk)] {
            parts.row([part.to_owned(), format::bytes(size)]);
        }
    }
    parts
}
