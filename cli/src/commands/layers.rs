//! `lap layers`: what each layer of an image is and does.

use crate::args::{Format, PlatformArgs};
use crate::error::CommandError;
use crate::exit::Exit;
use crate::session::{NamedImage, Session};
use crate::settings::Settings;
use crate::ui::format;
use crate::ui::table::Table;
use crate::ui::terminal::{print, print_json};
use lapstrake_layerstore::limits;
use lapstrake_layerstore::oci::{ImageConfig, Manifest};
use lapstrake_layerstore::toc::{ChangeKind, Kind, Toc};
use lapstrake_layerstore::view::View;
use serde_json::{Value, json};

/// What the help ends with.
const AFTER_HELP: &str = "\
Examples:
  lap layers app:1
  lap layers --format json app:1
  lap diff --layer 3 app:1           the files behind the counts of layer 3

SIZE is the sum of the layer's files, BLOB the size of its compressed form where that is known (it
was pulled, pushed or saved). ADDED, CHANGED and REMOVED count paths against the layers below; a
directory that a layer repeats without changing it is not counted.";

/// Instructions are cut here unless `--no-trunc` is given.
const WIDTH: usize = 60;

/// Show the layers of an image: instruction, sizes, what changed
#[derive(Debug, clap::Args)]
#[command(after_help = AFTER_HELP)]
pub(crate) struct Args {
    /// The image: a name, an id, or the beginning of an id
    #[arg(value_name = "IMAGE")]
    image: String,
    #[command(flatten)]
    platform: PlatformArgs,
    /// Do not cut instructions
    #[arg(long)]
    no_trunc: bool,
    /// Text or JSON
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

struct Row {
    instruction: String,
    diff_id: String,
    files: u64,
    blob: Option<u64>,
    counts: Counts,
}

/// Paths that a layer adds, changes and removes.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
struct Counts {
    added: u64,
    changed: u64,
    removed: u64,
}

/// Shows the layers, bottom first.
pub(crate) fn run(args: &Args, settings: Settings) -> Result<Exit, CommandError> {
    let session = Session::open_records(settings)?;
    let image = session.image_for(&args.image, &args.platform)?;
    let rows = rows(&session, &image)?;
    match args.format {
        Format::Json => print_json(&rows.iter().enumerate().map(object).collect())?,
        Format::Text => print(&table(&rows, args.no_trunc))?,
    }
    Ok(Exit::OK)
}

fn rows(session: &Session, image: &NamedImage) -> Result<Vec<Row>, CommandError> {
    let config = session.store.image_config(&image.record)?;
    let blobs = blob_sizes(session, image)?;
    let mut instructions = instructions(&config).into_iter();
    let mut rows = Vec::new();
    let mut below = View::new(Vec::new())?;
    for (at, layer) in session.store.image_layers(&image.record)?.into_iter().enumerate() {
        let with = below.push(layer.clone())?;
        rows.push(Row {
            instruction: instructions.next().unwrap_or_default(),
            diff_id: config.rootfs.diff_ids.get(at).map(ToString::to_string).unwrap_or_default(),
            files: layer.toc()?.stats().bytes,
            blob: blobs.get(at).copied().or_else(|| layer.blob().map(|blob| blob.size)),
            counts: counts(&below, layer.toc()?, &with),
        });
        below = with;
    }
    Ok(rows)
}

/// The instructions that made layers, in order.
fn instructions(config: &ImageConfig) -> Vec<String> {
    let made = config.history.iter().filter(|step| !step.empty_layer);
    made.map(|step| step.created_by.trim_end_matches(" # buildkit").to_owned()).collect()
}

/// The sizes of the compressed layers, in order, if the image has a manifest.
fn blob_sizes(session: &Session, image: &NamedImage) -> Result<Vec<u64>, CommandError> {
    let Some(descriptor) = &image.record.manifest else { return Ok(Vec::new()) };
    if !session.store.blobs().has(&descriptor.digest) {
        return Ok(Vec::new());
    }
    let bytes = session.store.blobs().get(&descriptor.digest, limits::MANIFEST_BYTES_MAX)?;
    let manifest = Manifest::parse(&bytes)
        .map_err(|error| CommandError::chain(crate::error::Kind::Corrupt, &error))?;
    Ok(manifest.layers.iter().map(|layer| layer.size).collect())
}

/// What `toc` does to `below`; `with` is the view with it on top.
fn counts(below: &View, toc: &Toc, with: &View) -> Counts {
    let mut counts = Counts::default();
    for change in lapstrake_layerstore::view::compare_views(below, with) {
        match change.kind {
            ChangeKind::Added => counts.added += 1,
            ChangeKind::Removed => counts.removed += 1,
            // A layer lists the directories above what it changes; their times alone are no news.
            ChangeKind::Changed { attributes } => {
                let directory = change.new.is_some_and(|entry| entry.kind == Kind::Dir);
                let listed_only =
                    directory && attributes == [lapstrake_layerstore::toc::Attribute::Mtime];
                counts.changed += u64::from(!listed_only);
            }
        }
    }
    debug_assert!(!toc.is_empty() || counts == Counts::default(), "an empty layer changes nothing");
    counts
}

fn table(rows: &[Row], whole: bool) -> String {
    let mut table =
        Table::new(&[">LAYER", ">SIZE", ">BLOB", ">ADDED", ">CHANGED", ">REMOVED", "INSTRUCTION"]);
    for (at, row) in rows.iter().enumerate() {
        let width = if whole { usize::MAX } else { WIDTH };
        table.row([
            (at + 1).to_string(),
            format::bytes(row.files),
            row.blob.map_or_else(|| "-".into(), format::bytes),
            row.counts.added.to_string(),
            row.counts.changed.to_string(),
            row.counts.removed.to_string(),
            format::truncated(&row.instruction, width),
        ]);
    }
    table.render()
}

fn object((at, row): (usize, &Row)) -> Value {
    json!({
        "layer": at + 1,
        "instruction": row.instruction,
        "diff_id": row.diff_id,
        "size": row.files,
        "blob_size": row.blob,
        "added": row.counts.added,
        "changed": row.counts.changed,
        "removed": row.counts.removed,
    })
}
