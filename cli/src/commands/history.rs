//! `lap history`: how an image was made, as docker shows it.

use crate::args::{Format, PlatformArgs};
use crate::error::CommandError;
use crate::exit::Exit;
use crate::session::Session;
use crate::settings::Settings;
use crate::ui::format;
use crate::ui::table::Table;
use crate::ui::terminal::{print, print_json};
use lapstrake_layerstore::oci::History;
use serde_json::json;

/// Instructions are cut here unless `--no-trunc` is given; docker's own width.
const WIDTH: usize = 45;

/// Show how an image was made, newest step first
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  lap history app:1\n  lap history --no-trunc app:1\n  lap history \
         --format json app:1"
)]
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

/// Shows the history.
pub(crate) fn run(args: &Args, settings: Settings) -> Result<Exit, CommandError> {
    let session = Session::open_records(settings)?;
    let image = session.image_for(&args.image, &args.platform)?;
    let config = session.store.image_config(&image.record)?;
    let mut sizes = Vec::new();
    for layer in session.store.image_layers(&image.record)? {
        sizes.push(layer.toc()?.stats().bytes);
    }
    let mut steps = with_sizes(&config.history, &sizes);
    steps.reverse();
    match args.format {
        Format::Json => print_json(
            &steps
                .iter()
                .map(|(step, size)| {
                    json!({
                        "created": step.created, "created_by": step.created_by, "size": size,
                        "comment": step.comment, "empty_layer": step.empty_layer,
                    })
                })
                .collect(),
        )?,
        Format::Text => {
            let mut table = Table::new(&["CREATED", "CREATED BY", ">SIZE", "COMMENT"]);
            for (step, size) in steps {
                let width = if args.no_trunc { usize::MAX } else { WIDTH };
                table.row([
                    format::ago_of(step.created.as_deref(), session.settings.now),
                    format::truncated(&step.created_by, width),
                    format::bytes(size),
                    step.comment.clone(),
                ]);
            }
            print(&table.render())?;
        }
    }
    Ok(Exit::OK)
}

/// Each step with the bytes of its layer. Layers that the history does not mention (an image made
/// without one) follow as steps of their own.
pub(crate) fn with_sizes<'a>(
    history: &'a [History],
    sizes: &[u64],
) -> Vec<(std::borrow::Cow<'a, History>, u64)> {
    use std::borrow::Cow;
    let mut left = sizes.iter().copied();
    let mut steps: Vec<_> = history
        .iter()
        .map(|step| {
            (Cow::Borrowed(step), if step.empty_layer { 0 } else { left.next().unwrap_or(0) })
        })
        .collect();
    steps.extend(left.map(|size| (Cow::Owned(History::default()), size)));
    steps
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layers_belong_to_the_steps_that_made_them() {
        let step = |empty_layer| History { empty_layer, ..History::default() };
        let history = [step(false), step(true), step(false)];
        let sizes = |sizes: &[u64]| {
            with_sizes(&history, sizes).iter().map(|(_, size)| *size).collect::<Vec<_>>()
        };
        assert_eq!(sizes(&[5, 6]), [5, 0, 6]);
        assert_eq!(sizes(&[5, 6, 7]), [5, 0, 6, 7]);
        assert_eq!(sizes(&[5]), [5, 0, 0]);
    }
}
