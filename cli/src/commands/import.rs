//! `lap import`: a root file system as an image of one layer.

mod changes;

use crate::error::CommandError;
use crate::exit::Exit;
use crate::session::Session;
use crate::settings::Settings;
use crate::storage::Keeper;
use crate::ui::terminal::print;
use lapstrake_layerstore::oci::{Platform, time};
use lapstrake_layerstore::reference::Reference;
use lapstrake_layerstore::transfer::{self, ImportOptions};
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

/// What the help ends with.
const AFTER_HELP: &str = "\
Examples:
  mmdebstrap --variant=minbase bookworm | lap import - debian:bookworm
  lap import rootfs.tar.zst debian:bookworm
  lap import --change 'CMD [\"bash\"]' --change 'ENV LANG=C.UTF-8' rootfs.tar debian:bookworm

The archive may be compressed with gzip, bzip2, xz or zstd. Changes are lines of a Dockerfile that
configure the image (CMD, ENTRYPOINT, ENV, EXPOSE, HEALTHCHECK, LABEL, SHELL, STOPSIGNAL, USER,
VOLUME, WORKDIR). Standard output is the image's id.";

/// Make an image from the archive of a root file system
#[derive(Debug, clap::Args)]
#[command(after_help = AFTER_HELP)]
pub(crate) struct Args {
    /// The archive; `-` is standard input
    #[arg(value_name = "FILE")]
    file: std::path::PathBuf,
    /// What the image is called
    #[arg(value_name = "NAME[:TAG]")]
    name: Option<String>,
    /// Configure the image by a line of a Dockerfile
    #[arg(short, long, value_name = "INSTRUCTION")]
    change: Vec<String>,
    /// A remark for the image's history
    #[arg(short, long, value_name = "TEXT", default_value = "")]
    message: String,
    /// What the files run on [default: this machine's platform]
    #[arg(long, value_name = "OS/ARCH[/VARIANT]")]
    platform: Option<Platform>,
}

/// Imports, configures and names the image.
pub(crate) fn run(args: &Args, settings: Settings) -> Result<Exit, CommandError> {
    let name = args.name.as_deref().map(Reference::parse).transpose()?;
    changes::check(&args.change)?;
    let session = Session::open(settings)?;
    let _keeper = Keeper::start(&session, None)?;
    let lease = session.store.lease()?;
    let mut reader: Box<dyn Read + Send> = if args.file == Path::new("-") {
        Box::new(io::stdin())
    } else {
        Box::new(
            File::open(&args.file).map_err(|error| CommandError::from_open(&args.file, &error))?,
        )
    };
    let options = ImportOptions {
        platform: args.platform.clone().unwrap_or_else(Platform::host),
        created: Some(time::format(session.settings.now, 0)),
        comment: args.message.clone(),
        ..ImportOptions::default()
    };
    let mut image = transfer::import_rootfs(&session.store, &lease, &mut *reader, &options)?;
    if !args.change.is_empty() {
        image = changes::apply(&session, &lease, image, &args.change)?;
    }
    session.store.sync()?;
    session.store.make_durable(&session.store.image_layers(&image)?)?;
    if let Some(name) = &name {
        session.store.tag(name, &image)?;
    }
    print(&format!("{}\n", image.config))?;
    Ok(Exit::OK)
}
