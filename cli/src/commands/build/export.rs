//! The outputs of a build: archives, layouts, plain files, registries.
//!
//! A file is complete under its name or is not there at all (`output_file`).

mod local;

use super::Wanted;
use super::outputs::{Codec, Dest, Form, Output};
use crate::args::RegistryArgs;
use crate::error::{CommandError, Kind};
use crate::output_file::OutputFile;
use crate::session::Session;
use crate::ui::terminal::note;
use crate::wiring;
use lapstrake_layerstore::archive::Epoch;
use lapstrake_layerstore::compress::{self, Compression};
use lapstrake_layerstore::reference::Reference;
use lapstrake_layerstore::store::{ImageRecord, ManifestOptions};
use lapstrake_layerstore::transfer::{self, NamedImages};
use lapstrake_layerstore::view::View;
use lapstrake_registry::Progress;
use std::io::{self, IsTerminal, Write};

/// How much is collected before standard output is written.
const BUFFER_BYTES: usize = 256 * 1024;

/// Writes one output.
pub(super) fn write(
    session: &Session,
    image: &mut ImageRecord,
    output: &Output,
    wanted: &Wanted,
    epoch: Option<i64>,
) -> Result<(), CommandError> {
    let store = &session.store;
    match output {
        Output::OciArchive { dest, form, names } => {
            let options = wanted.manifests(form);
            to_file(dest, |out| {
                Ok(transfer::save_oci(store, &named(image, names, wanted), out, &options)?)
            })?;
            record(session, image, &options, wanted)
        }
        Output::OciDirectory { dest, form, names } => {
            let options = wanted.manifests(form);
            transfer::save_oci_dir(store, &named(image, names, wanted), dest, &options)?;
            record(session, image, &options, wanted)
        }
        Output::DockerArchive { dest, names } => to_file(dest, |out| {
            Ok(transfer::save_docker(store, &named(image, names, wanted), out)?)
        }),
        Output::Tar { dest } => {
            let view = View::new(store.image_layers(image)?)?;
            to_file(dest, |out| {
                Ok(transfer::export_rootfs_at(store, &view, out, epoch.map(Epoch::Set))?)
            })
        }
        Output::Local { dest, split } => {
            let split = split.unwrap_or(wanted.platforms.len() > 1);
            for image in image.every() {
                // As the reference names them: `linux_arm_v7`.
                let below = || dest.join(image.platform.to_string().replace('/', "_"));
                let dest = if split { below() } else { dest.clone() };
                local::write(session, image, &dest, epoch)?;
            }
            Ok(())
        }
        // The image is in the store, and pushes come last.
        Output::Image { .. } => Ok(()),
    }
}

/// Pushes the names that are to be pushed, each in its form.
pub(super) fn push(
    session: &Session,
    registry: &RegistryArgs,
    image: &mut ImageRecord,
    wanted: &Wanted,
    progress: &dyn Progress,
) -> Result<(), CommandError> {
    let client = wiring::client(&session.settings, registry)?;
    for (name, form) in &wanted.pushes {
        let options = wanted.manifests(form);
        let digest = client.push(&session.store, image, name, options, progress)?;
        note(&format!("pushed {}@{digest}", name.familiar()));
    }
    match wanted.pushes.first() {
        Some((_, form)) => record(session, image, &wanted.manifests(form), wanted),
        None => Ok(()),
    }
}

/// Remembers the manifests that the image was exported with.
pub(super) fn record(
    session: &Session,
    image: &mut ImageRecord,
    options: &ManifestOptions,
    wanted: &Wanted,
) -> Result<(), CommandError> {
    *image = session.store.publish(image, options)?.record(image);
    for name in &wanted.tags {
        session.store.tag(name, image)?;
    }
    Ok(())
}

/// The image under the output's own names, else under those of the build, else without one.
fn named(image: &ImageRecord, own: &[Reference], wanted: &Wanted) -> NamedImages {
    let names = if own.is_empty() { &wanted.tags } else { own };
    if names.is_empty() {
        return vec![(None, image.clone())];
    }
    names.iter().map(|name| (Some(name.clone()), image.clone())).collect()
}

pub(super) fn compression(form: &Form) -> Compression {
    let codec = match form.codec {
        None | Some(Codec::Gzip) => compress::Codec::Gzip,
        Some(Codec::Zstd) => compress::Codec::Zstd,
        Some(Codec::Uncompressed) => compress::Codec::None,
    };
    Compression { codec, level: form.level, force: form.force }
}

/// Hands a writer for `dest` to `write`, and gives the file its name when it succeeded.
pub(crate) fn to_file(
    dest: &Dest,
    write: impl FnOnce(&mut dyn Write) -> Result<(), CommandError>,
) -> Result<(), CommandError> {
    match dest {
        Dest::File(path) => {
            let mut file = OutputFile::create(path)?;
            write(&mut file)?;
            file.finish()
        }
        Dest::Stdout => {
            let stdout = io::stdout();
            if stdout.is_terminal() {
                return Err(CommandError::usage("an archive cannot be shown on a terminal")
                    .hint("name a file, or send standard output to one"));
            }
            let mut out = io::BufWriter::with_capacity(BUFFER_BYTES, stdout.lock());
            write(&mut out)?;
            out.flush().map_err(CommandError::from_stdout)
        }
    }
}

/// An output error about a path.
fn failed(path: &std::path::Path, error: &io::Error) -> CommandError {
    CommandError::io(Kind::Host, format!("cannot write {}", path.display()), error)
}
