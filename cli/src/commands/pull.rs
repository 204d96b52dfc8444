//! `lap pull`: fetches an image from its registry.

use crate::args::RegistryArgs;
use crate::error::CommandError;
use crate::exit::Exit;
use crate::session::Session;
use crate::settings::Settings;
use crate::storage::Keeper;
use crate::ui::terminal::{note, print};
use crate::ui::transfer::Transfers;
use crate::wiring;
use lapstrake_layerstore::oci::Platform;
use lapstrake_layerstore::reference::Reference;

/// What the help ends with.
const AFTER_HELP: &str = "\
Examples:
  lap pull debian:bookworm
  lap pull --platform linux/arm64 debian:bookworm
  lap pull --all-platforms debian:bookworm
  lap pull 127.0.0.1:5000/app:1              plain http, since it is loopback

Credentials are those of docker and the containers tools (config.json, credential helpers,
auth.json). Standard output is the image's full name with its digest.";

/// Fetch an image from a registry into the store
#[derive(Debug, clap::Args)]
#[command(after_help = AFTER_HELP)]
pub(crate) struct Args {
    /// The image
    #[arg(value_name = "NAME[:TAG|@DIGEST]")]
    name: String,
    /// Which image of several [default: the one for this machine]
    #[arg(long, value_name = "OS/ARCH[/VARIANT]", conflicts_with = "all_platforms")]
    platform: Option<Platform>,
    /// The images of all platforms, under one name
    #[arg(long)]
    all_platforms: bool,
    /// Say nothing on the way
    #[arg(short, long)]
    quiet: bool,
    #[command(flatten)]
    registry: RegistryArgs,
}

/// Pulls and names the image.
pub(crate) fn run(args: &Args, settings: Settings) -> Result<Exit, CommandError> {
    let reference = Reference::parse(&args.name)?;
    let session = Session::open(settings)?;
    let client = wiring::client(&session.settings, &args.registry)?;
    let platform = args.platform.clone().unwrap_or_else(Platform::host);
    let _keeper = Keeper::start(&session, None)?;
    let lease = session.store.lease()?;
    let lines = Transfers::new();
    let progress: &dyn lapstrake_registry::Progress =
        if args.quiet { &lapstrake_registry::Silent } else { &lines };
    let record = if args.all_platforms {
        client.pull_all(&reference, &session.store, &lease, progress)?
    } else {
        client.pull(&reference, &platform, &session.store, &lease, progress)?
    };
    session.store.sync()?;
    for image in record.every() {
        session.store.make_durable(&session.store.image_layers(image)?)?;
    }
    session.store.tag(&reference, &record)?;
    let digest = record.manifests().next();
    let digest = digest.map(|manifest| format!("@{}", manifest.digest)).unwrap_or_default();
    if !args.quiet {
        let platforms: Vec<String> =
            record.every().iter().map(|image| image.platform.to_string()).collect();
        note(&format!("pulled {} for {}", reference.familiar(), platforms.join(", ")));
    }
    print(&format!("{}{digest}\n", reference.name()))?;
    Ok(Exit::OK)
}
