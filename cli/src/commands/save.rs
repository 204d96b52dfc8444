//! `lap save`: images as an archive.

use super::build::{Dest, to_file};
use super::push::CodecName;
use crate::args::PlatformArgs;
use crate::error::CommandError;
use crate::exit::Exit;
use crate::session::Session;
use crate::settings::Settings;
use lapstrake_layerstore::transfer::{self, NamedImages, SaveOptions};
use lapstrake_layerstore::view::View;
use std::path::{Path, PathBuf};

/// What the help ends with.
const AFTER_HELP: &str = "\
Examples:
  lap save -o app.tar app:1
  lap save --format docker app:1 | docker load
  lap save --compression zstd -o both.tar app:1 app:2
  lap save --format oci-dir -o layout app:1
  lap save --format rootfs app:1 | tar xf - -C root";

/// Write images to an archive
#[derive(Debug, clap::Args)]
#[command(after_help = AFTER_HELP)]
pub(crate) struct Args {
    /// The images
    #[arg(value_name = "IMAGE", required = true)]
    images: Vec<String>,
    #[command(flatten)]
    platform: PlatformArgs,
    /// The archive; it appears when it is complete [default: standard output]
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// The form
    #[arg(long, value_enum, default_value_t)]
    format: ArchiveFormat,
    /// How layers are compressed that were not yet (not for docker, whose layers are not)
    #[arg(long, value_enum, default_value = "gzip")]
    compression: CodecName,
}

/// The form of an archive.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
enum ArchiveFormat {
    /// An OCI archive: skopeo, podman, docker 25 and newer read it.
    #[default]
    Oci,
    /// A docker archive: every docker reads it.
    Docker,
    /// A directory in OCI layout.
    OciDir,
    /// The root file system of one image, without its configuration.
    Rootfs,
}

/// Saves the images.
pub(crate) fn run(args: &Args, settings: Settings) -> Result<Exit, CommandError> {
    let output = args.output.as_deref().filter(|path| *path != Path::new("-"));
    let session = Session::open(settings)?;
    let lease = session.store.lease()?;
    let mut images = NamedImages::new();
    for name in &args.images {
        let image = session.image_for(name, &args.platform)?;
        lease.hold_layers(&session.store.image_layers(&image.record)?)?;
        lease.hold_blob(&image.record.config)?;
        images.push((image.reference, image.record));
    }
    let options = SaveOptions::new(args.compression.compression());
    let dest = output.map_or(Dest::Stdout, |path| Dest::File(path.to_owned()));
    match (args.format, output) {
        (ArchiveFormat::Oci, _) => {
            to_file(&dest, |out| Ok(transfer::save_oci(&session.store, &images, out, &options)?))?;
        }
        (ArchiveFormat::Docker, _) => {
            to_file(&dest, |out| Ok(transfer::save_docker(&session.store, &images, out)?))?;
        }
        (ArchiveFormat::OciDir, Some(path)) => {
            transfer::save_oci_dir(&session.store, &images, path, &options)?;
        }
        (ArchiveFormat::Rootfs, _) => {
            let [(_, image)] = images.as_slice() else {
                return Err(CommandError::usage("a root file system is that of one image"));
            };
            let view = View::new(session.store.image_layers(image)?)?;
            to_file(&dest, |out| Ok(transfer::export_rootfs(&session.store, &view, out)?))?;
        }
        (ArchiveFormat::OciDir, None) => {
            return Err(CommandError::usage("a directory needs a name: -o DIR"));
        }
    }
    Ok(Exit::OK)
}
