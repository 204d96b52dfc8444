//! `lap inspect`: everything about an image, in docker's shape.

use crate::args::PlatformArgs;
use crate::error::{CommandError, Kind};
use crate::exit::Exit;
use crate::session::{NamedImage, Session};
use crate::settings::Settings;
use crate::ui::terminal::{print, print_json};
use lapstrake_layerstore::limits;
use serde_json::{Value, json};

/// What the help ends with.
const AFTER_HELP: &str = "\
Examples:
  lap inspect app:1
  lap inspect app:1 | jq '.[0].Config.Env'
  lap inspect --raw config app:1           the exact bytes whose digest is the image's id";

/// Show everything about images as JSON, as docker does
#[derive(Debug, clap::Args)]
#[command(after_help = AFTER_HELP)]
pub(crate) struct Args {
    /// The images: names, ids, or beginnings of ids
    #[arg(value_name = "IMAGE", required = true)]
    images: Vec<String>,
    #[command(flatten)]
    platform: PlatformArgs,
    /// Print a document of one image as it is stored
    #[arg(long, value_enum, value_name = "DOCUMENT")]
    raw: Option<Document>,
}

/// What `--raw` can print.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Document {
    /// The image config.
    Config,
    /// The manifest, if the image came with one or was pushed or saved.
    Manifest,
}

/// Shows the images.
pub(crate) fn run(args: &Args, settings: Settings) -> Result<Exit, CommandError> {
    let session = Session::open_records(settings)?;
    let images = args
        .images
        .iter()
        .map(|name| session.image_for(name, &args.platform))
        .collect::<Result<Vec<_>, _>>()?;
    match (args.raw, images.as_slice()) {
        (None, images) => {
            let objects = images
                .iter()
                .map(|image| object(&session, image))
                .collect::<Result<Vec<_>, _>>()?;
            print_json(&Value::from(objects))?;
        }
        (Some(document), [image]) => print(&raw(&session, image, document)?)?,
        (Some(_), _) => return Err(CommandError::usage("--raw prints a document of one image")),
    }
    Ok(Exit::OK)
}

fn raw(session: &Session, image: &NamedImage, document: Document) -> Result<String, CommandError> {
    let (digest, limit) = match (document, &image.record.manifest) {
        (Document::Config, _) => (image.record.config, limits::CONFIG_BYTES_MAX),
        (Document::Manifest, Some(manifest)) => (manifest.digest, limits::MANIFEST_BYTES_MAX),
        (Document::Manifest, None) => {
            return Err(CommandError::input(format!("{} has no manifest yet", image.typed))
                .hint("a manifest names compressed layers; `lap push` and `lap save` make one"));
        }
    };
    let bytes = session.store.blobs().get(&digest, limit)?;
    String::from_utf8(bytes).map_err(|error| CommandError::chain(Kind::Corrupt, &error))
}

fn object(session: &Session, image: &NamedImage) -> Result<Value, CommandError> {
    let config = session.store.image_config(&image.record)?;
    let mut size = 0;
    for layer in session.store.image_layers(&image.record)? {
        size += layer.toc()?.stats().bytes;
    }
    let tags = session.store.tags()?;
    let own: Vec<_> =
        tags.into_iter().filter(|(_, record)| record.config == image.record.config).collect();
    let names: Vec<String> = own.iter().map(|(tag, _)| tag.familiar()).collect();
    let mut digests: Vec<String> = Vec::new();
    if let Some(manifest) = &image.record.manifest {
        digests.extend(
            own.iter().map(|(tag, _)| format!("{}@{}", tag.familiar_name(), manifest.digest)),
        );
        digests.dedup();
    }
    let run = serde_json::to_value(&config.config)
        .map_err(|error| CommandError::chain(Kind::Bug, &error))?;
    let mut object = json!({
        "Id": image.record.config.to_string(),
        "RepoTags": names,
        "RepoDigests": digests,
        "Comment": config.history.last().map(|step| step.comment.clone()).unwrap_or_default(),
        "Created": config.created,
        "Author": config.author,
        "Config": run,
        "Architecture": config.architecture,
        "Os": config.os,
        "Size": size,
        "RootFS": {"Type": config.rootfs.kind, "Layers": config.rootfs.diff_ids},
    });
    if !config.variant.is_empty() {
        object["Variant"] = config.variant.clone().into();
    }
    if let Some(manifest) = &image.record.manifest {
        object["Descriptor"] = json!({
            "mediaType": manifest.media_type, "digest": manifest.digest, "size": manifest.size,
        });
    }
    Ok(object)
}
