//! `lap tag`: one more name for an image.

use crate::error::CommandError;
use crate::exit::Exit;
use crate::session::Session;
use crate::settings::Settings;
use lapstrake_layerstore::reference::Reference;

/// Give an image another name
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  lap tag app:1 app:latest\n  lap tag 3f2a9c \
         registry.example/team/app:1")]
pub(crate) struct Args {
    /// The image: a name, an id, or the beginning of an id
    #[arg(value_name = "IMAGE")]
    source: String,
    /// The new name; one that another image has moves to this one
    #[arg(value_name = "NAME[:TAG]")]
    target: String,
}

/// Adds the name.
pub(crate) fn run(args: &Args, settings: Settings) -> Result<Exit, CommandError> {
    let target = Reference::parse(&args.target)?;
    if target.digest().is_some() {
        return Err(CommandError::usage(format!(
            "{}: an image cannot be given a digest as its name",
            args.target
        )));
    }
    let session = Session::open_records(settings)?;
    let image = session.image(&args.source)?;
    session.store.tag(&target, &image.record)?;
    Ok(Exit::OK)
}
