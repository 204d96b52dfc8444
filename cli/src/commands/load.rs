//! `lap load`: images from an archive or a directory into the store.

use crate::error::CommandError;
use crate::exit::Exit;
use crate::session::Session;
use crate::settings::Settings;
use crate::storage::Keeper;
use crate::ui::format;
use crate::ui::terminal::print;
use lapstrake_layerstore::oci::Platform;
use lapstrake_layerstore::transfer::{self, LoadOptions, NamedImages};
use std::fs::File;
use std::io::{self, IsTerminal};
use std::path::{Path, PathBuf};

/// What the help ends with.
const AFTER_HELP: &str = "\
Examples:
  lap load -i image.tar
  lap load -i layout/                            a directory in OCI layout
  skopeo copy docker://debian oci-archive:/dev/stdout | lap load

OCI archives, OCI layouts and docker archives are read, compressed or not. Everything is verified
before it gets a name; from a broken archive nothing is kept. Standard output has a line for each
image.";

/// Load images from an archive (OCI or docker), an OCI layout, or standard input
#[derive(Debug, clap::Args)]
#[command(after_help = AFTER_HELP)]
pub(crate) struct Args {
    /// The archive or directory [default: standard input]
    #[arg(short, long, value_name = "FILE")]
    input: Option<PathBuf>,
    /// Which image of several [default: the one for this machine]
    #[arg(long, value_name = "OS/ARCH[/VARIANT]", conflicts_with = "all_platforms")]
    platform: Option<Platform>,
    /// The images of all platforms, under one name
    #[arg(long)]
    all_platforms: bool,
    /// Print nothing
    #[arg(short, long)]
    quiet: bool,
}

/// Loads and names the images.
pub(crate) fn run(args: &Args, settings: Settings) -> Result<Exit, CommandError> {
    let input = args.input.as_deref().filter(|path| *path != Path::new("-"));
    let session = Session::open(settings)?;
    let _keeper = Keeper::start(&session, None)?;
    let lease = session.store.lease()?;
    let (platform, all_platforms) = (args.platform.clone(), args.all_platforms);
    let options = LoadOptions { platform, all_platforms, ..LoadOptions::default() };
    let images: NamedImages = match input {
        Some(path) if path.is_dir() => transfer::load_dir(&session.store, &lease, path, &options)?,
        Some(path) => {
            let file = File::open(path).map_err(|error| CommandError::from_open(path, &error))?;
            transfer::load_file(&session.store, &lease, &file, &options)?
        }
        None => {
            if io::stdin().is_terminal() {
                return Err(CommandError::usage("there is no archive on a terminal")
                    .hint("name it with -i FILE, or send it to standard input"));
            }
            transfer::load(&session.store, &lease, &mut io::stdin(), &options)?
        }
    };
    session.store.sync()?;
    for (name, record) in &images {
        for image in record.every() {
            session.store.make_durable(&session.store.image_layers(image)?)?;
        }
        if let Some(name) = name {
            session.store.tag(name, record)?;
        }
    }
    if !args.quiet {
        print(
            &images
                .iter()
                .map(|(name, record)| {
                    let id = record.id().to_string();
                    match name {
                        Some(name) => {
                            format!("loaded {} ({})\n", name.familiar(), format::short_id(&id))
                        }
                        None => format!("loaded {id}\n"),
                    }
                })
                .collect::<String>(),
        )?;
    }
    Ok(Exit::OK)
}
