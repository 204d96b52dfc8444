//! `lap logout`: removes what `lap login` stored.

use crate::error::CommandError;
use crate::exit::Exit;
use crate::settings::Settings;
use crate::ui::terminal::note;
use crate::wiring::docker_config::{self, DockerConfig};

/// Remove the stored password for a registry
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  lap logout registry.example\n  lap logout                 docker.io"
)]
pub(crate) struct Args {
    /// The registry [default: docker.io]
    #[arg(value_name = "HOST[:PORT]")]
    registry: Option<String>,
}

/// Removes the credential; one that is not there is no error.
pub(crate) fn run(args: &Args, settings: &Settings) -> Result<Exit, CommandError> {
    let registry = docker_config::key(args.registry.as_deref());
    let mut config = DockerConfig::read(settings)?;
    if config.remove(&registry) {
        config.write()?;
        note(&format!("removed the password for {registry}"));
    } else {
        note(&format!("there is no password for {registry}"));
    }
    Ok(Exit::OK)
}
