//! `lap push`: sends an image to its registry.

use crate::args::{PlatformArgs, RegistryArgs};
use crate::error::CommandError;
use crate::exit::Exit;
use crate::session::Session;
use crate::settings::Settings;
use crate::ui::terminal::{note, print};
use crate::ui::transfer::Transfers;
use crate::wiring;
use lapstrake_layerstore::compress::{Codec, Compression};
use lapstrake_layerstore::reference::Reference;

/// What the help ends with.
const AFTER_HELP: &str = "\
Examples:
  lap push registry.example/team/app:1
  lap push --compression zstd 127.0.0.1:5000/app:1

The name says where it goes; `lap tag` gives an image another one. Blobs that the registry has are
not sent. Standard output is the image's full name with its digest.";

/// Send an image to a registry
#[derive(Debug, clap::Args)]
#[command(after_help = AFTER_HELP)]
pub(crate) struct Args {
    /// The image
    #[arg(value_name = "NAME[:TAG]")]
    name: String,
    #[command(flatten)]
    platform: PlatformArgs,
    /// How layers are compressed that were not yet
    #[arg(long, value_enum, default_value = "gzip")]
    compression: CodecName,
    /// Say nothing on the way
    #[arg(short, long)]
    quiet: bool,
    #[command(flatten)]
    registry: RegistryArgs,
}

/// A codec by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum CodecName {
    /// gzip, which everything reads.
    Gzip,
    /// Zstandard, smaller and faster; needs readers from 2021 on.
    Zstd,
    /// Nothing.
    Uncompressed,
}

impl CodecName {
    /// The codec at its default level.
    pub(crate) fn compression(self) -> Compression {
        let codec = match self {
            Self::Gzip => Codec::Gzip,
            Self::Zstd => Codec::Zstd,
            Self::Uncompressed => Codec::None,
        };
        Compression { codec, level: None, force: false }
    }
}

/// Pushes the image.
pub(crate) fn run(args: &Args, settings: Settings) -> Result<Exit, CommandError> {
    let reference = Reference::parse(&args.name)?;
    let session = Session::open(settings)?;
    let image = session.image_for(&args.name, &args.platform)?;
    let client = wiring::client(&session.settings, &args.registry)?;
    let lines = Transfers::new();
    let progress: &dyn lapstrake_registry::Progress =
        if args.quiet { &lapstrake_registry::Silent } else { &lines };
    let digest = client.push(
        &session.store,
        &image.record,
        &reference,
        args.compression.compression(),
        progress,
    )?;
    if !args.quiet {
        note(&format!("pushed {}", reference.familiar()));
    }
    print(&format!("{}@{digest}\n", reference.name()))?;
    Ok(Exit::OK)
}
