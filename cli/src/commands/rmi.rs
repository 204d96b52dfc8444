//! `lap rmi`: removes names, and what no other name and no cached step needs of the images.

use crate::error::CommandError;
use crate::exit::Exit;
use crate::session::Session;
use crate::settings::Settings;
use crate::ui::terminal::print;

/// What the help ends with.
const AFTER_HELP: &str = "\
Examples:
  lap rmi app:1
  lap rmi app:1 app:2
  lap rmi $(lap images -q old/app)

Removes names. Layers that no other image and no cached build step needs are moved aside at once and
deleted in the background of a later command, or by `lap prune`; `lap prune --all` drops the cached
steps, too.";

/// Remove images by name or id
#[derive(Debug, clap::Args)]
#[command(after_help = AFTER_HELP)]
pub(crate) struct Args {
    /// A name, or an id, whose every name goes then
    #[arg(value_name = "IMAGE", required = true)]
    images: Vec<String>,
    /// Do not complain about images that are not there
    #[arg(short, long)]
    force: bool,
}

/// Removes every name given; a name that is not there does not keep the others.
pub(crate) fn run(args: &Args, settings: Settings) -> Result<Exit, CommandError> {
    let session = Session::open_records(settings)?;
    let (mut missing, mut removed) = (None, Vec::new());
    for name in &args.images {
        match session.image(name) {
            Ok(image) => {
                let tags = match image.reference {
                    Some(reference) => vec![reference],
                    None => names_of(&session, &image.record.config)?,
                };
                for tag in tags {
                    removed.extend(session.store.untag(&tag)?);
                    print(&format!("untagged {}\n", tag.familiar()))?;
                }
            }
            Err(_) if args.force => {}
            Err(error) => missing = missing.or(Some(error)),
        }
    }
    if !removed.is_empty() {
        session.store.discard(&removed)?;
    }
    missing.map_or(Ok(Exit::OK), Err)
}

fn names_of(
    session: &Session,
    config: &lapstrake_layerstore::Digest,
) -> Result<Vec<lapstrake_layerstore::reference::Reference>, CommandError> {
    let tags = session.store.tags()?;
    Ok(tags
        .into_iter()
        .filter(|(_, record)| record.config == *config)
        .map(|(tag, _)| tag)
        .collect())
}
