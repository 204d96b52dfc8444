//! `lap rmi`: removes names; what no name and no cached step needs any more goes with `lap prune`.

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

Removes names. The layers stay as long as other images or cached build steps need them; `lap prune`
frees what nobody needs.";

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
    let mut missing = None;
    for name in &args.images {
        match session.image(name) {
            Ok(image) => {
                let tags = match image.reference {
                    Some(reference) => vec![reference],
                    None => names_of(&session, &image.record.config)?,
                };
                for tag in tags {
                    session.store.untag(&tag)?;
                    print(&format!("untagged {}\n", tag.familiar()))?;
                }
            }
            Err(_) if args.force => {}
            Err(error) => missing = missing.or(Some(error)),
        }
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
