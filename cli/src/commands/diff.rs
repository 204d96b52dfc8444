//! `lap diff`: what differs between two images, or between the layers of one.
//!
//! Only tables of contents are read: no layer is unpacked and no file opened.

use crate::args::{Format, PlatformArgs};
use crate::error::CommandError;
use crate::exit::Exit;
use crate::session::{NamedImage, Session};
use crate::settings::Settings;
use crate::ui::changes::{self, Summary};
use crate::ui::terminal::{note, print, print_json};
use lapstrake_layerstore::toc::{Attribute, Change, ChangeKind};
use lapstrake_layerstore::view::{View, compare_views};
use serde_json::json;

/// What the help ends with.
const AFTER_HELP: &str = "\
Examples:
  lap diff app:1 app:2                   from one image to the other
  lap diff --layer 3 app:1               what layer 3 did (lap layers numbers them)
  lap diff --layer 1..3 app:1            from layer 1 to layer 3
  lap diff --ignore mtime app:1 app:2    files that only have another time are equal
  lap diff --format json app:1 app:2     for programs

One line for each path: A added, C changed, D deleted; then what differs, old and new.

Exit codes: 0 the two are equal, 1 they differ, 2 and above an error (see lap --help).";

/// Show what differs between two images, or between layers of one
#[derive(Debug, clap::Args)]
#[command(after_help = AFTER_HELP)]
pub(crate) struct Args {
    /// The old and the new image, or with --layer one image
    #[arg(value_name = "IMAGE", required = true, num_args = 1..=2)]
    images: Vec<String>,
    #[command(flatten)]
    platform: PlatformArgs,
    /// A layer against those below it, or one layer's state against another's; counted from 1, 0 is
    /// nothing
    #[arg(long, value_name = "N[..M]", value_parser = layer_range)]
    layer: Option<LayerRange>,
    /// Attributes that do not count
    #[arg(long, value_name = "ATTRIBUTE", value_delimiter = ',', value_enum)]
    ignore: Vec<Ignored>,
    /// Print nothing; the exit code says it
    #[arg(short, long)]
    quiet: bool,
    /// Text or JSON
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

/// An attribute that can be left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Ignored {
    /// Modification times.
    Mtime,
    /// Permission bits.
    Mode,
    /// Users and groups.
    Owner,
    /// Extended attributes.
    Xattrs,
}

impl Ignored {
    fn attribute(self) -> Attribute {
        match self {
            Self::Mtime => Attribute::Mtime,
            Self::Mode => Attribute::Mode,
            Self::Owner => Attribute::Owner,
            Self::Xattrs => Attribute::Xattrs,
        }
    }
}

/// The states after two layers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct LayerRange {
    old: usize,
    new: usize,
}

fn layer_range(text: &str) -> Result<LayerRange, String> {
    let number = |text: &str| text.parse::<usize>().map_err(|_| "write it as N or N..M".to_owned());
    if let Some((old, new)) = text.split_once("..") {
        return Ok(LayerRange { old: number(old)?, new: number(new)? });
    }
    let new = number(text)?;
    let old = new.checked_sub(1).ok_or("layers are counted from 1")?;
    Ok(LayerRange { old, new })
}

/// One side of the comparison.
struct Side {
    name: String,
    id: String,
    view: View,
}

/// Compares and shows.
pub(crate) fn run(args: &Args, settings: Settings) -> Result<Exit, CommandError> {
    let session = Session::open_records(settings)?;
    let (old, new) = sides(args, &session)?;
    let ignored: Vec<Attribute> = args.ignore.iter().map(|ignored| ignored.attribute()).collect();
    let changes = significant(compare_views(&old.view, &new.view), &ignored);
    let summary = Summary::of(&changes);
    if !args.quiet {
        match args.format {
            Format::Text => {
                print(&changes.iter().map(changes::line).collect::<String>())?;
                note(&summary.to_string());
            }
            Format::Json => print_json(&json!({
                "old": {"name": old.name, "id": old.id},
                "new": {"name": new.name, "id": new.id},
                "changes": changes.iter().map(changes::object).collect::<Vec<_>>(),
                "summary": summary.object(),
            }))?,
        }
    }
    Ok(if changes.is_empty() { Exit::OK } else { Exit::DIFFERENT })
}

fn sides(args: &Args, session: &Session) -> Result<(Side, Side), CommandError> {
    match (args.images.as_slice(), args.layer) {
        ([old, new], None) => Ok((whole(session, args, old)?, whole(session, args, new)?)),
        ([image], Some(range)) => {
            let image = session.image_for(image, &args.platform)?;
            Ok((up_to(session, &image, range.old)?, up_to(session, &image, range.new)?))
        }
        ([_], None) => Err(CommandError::usage("one image has nothing to be compared with")
            .hint("give two images, or one with --layer N")),
        _ => Err(CommandError::usage("--layer compares the layers of one image")),
    }
}

fn whole(session: &Session, args: &Args, name: &str) -> Result<Side, CommandError> {
    let image = session.image_for(name, &args.platform)?;
    let view = View::new(session.store.image_layers(&image.record)?)?;
    Ok(Side { name: image.typed, id: image.record.config.to_string(), view })
}

/// What the lowest `count` layers of the image show.
fn up_to(session: &Session, image: &NamedImage, count: usize) -> Result<Side, CommandError> {
    let mut layers = session.store.image_layers(&image.record)?;
    if count > layers.len() {
        return Err(CommandError::input(format!(
            "{} has {} layers, there is no layer {count}",
            image.typed,
            layers.len()
        ))
        .hint("`lap layers` shows them"));
    }
    layers.truncate(count);
    let name = format!("{}, layer {count}", image.typed);
    Ok(Side { name, id: image.record.config.to_string(), view: View::new(layers)? })
}

/// The changes that are left when these attributes do not count.
fn significant(changes: Vec<Change>, ignored: &[Attribute]) -> Vec<Change> {
    let keep = |mut change: Change| {
        if let ChangeKind::Changed { attributes } = &mut change.kind {
            attributes.retain(|attribute| !ignored.contains(attribute));
            if attributes.is_empty() {
                return None;
            }
        }
        Some(change)
    };
    changes.into_iter().filter_map(keep).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_of_layers() {
        assert_eq!(layer_range("3"), Ok(LayerRange { old: 2, new: 3 }));
        assert_eq!(layer_range("0..5"), Ok(LayerRange { old: 0, new: 5 }));
        for bad in ["0", "", "a", "1..", "..2", "-1"] {
            assert!(layer_range(bad).is_err(), "{bad}");
        }
    }
}
