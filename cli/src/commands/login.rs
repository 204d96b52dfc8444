//! `lap login`: stores a user name and password for a registry, where docker stores them.

use crate::error::{CommandError, Kind};
use crate::exit::Exit;
use crate::settings::Settings;
use crate::ui::terminal::note;
use crate::wiring::docker_config::{self, DockerConfig};
use std::io::{self, Read};

/// What the help ends with.
const AFTER_HELP: &str = "\
Examples:
  echo \"$TOKEN\" | lap login -u me --password-stdin registry.example
  lap login -u me -p secret 127.0.0.1:5000

The password is written to docker's config.json ($DOCKER_CONFIG, else ~/.docker), readable by you
alone, and is not tried out: the next pull or push does that. Where a credential helper is
configured for the registry, log in with the program that it belongs to.";

/// No password is longer; tokens of cloud providers have a few kilobytes.
const PASSWORD_BYTES_MAX: u64 = 64 * 1024;

/// Store a user name and password for a registry
#[derive(Debug, clap::Args)]
#[command(after_help = AFTER_HELP)]
pub(crate) struct Args {
    /// The registry [default: docker.io]
    #[arg(value_name = "HOST[:PORT]")]
    registry: Option<String>,
    /// The user name
    #[arg(short, long)]
    username: String,
    /// The password; other users of this machine may see it in the list of processes
    #[arg(short, long, conflicts_with = "password_stdin")]
    password: Option<String>,
    /// Read the password from standard input
    #[arg(long)]
    password_stdin: bool,
}

/// Stores the credential.
pub(crate) fn run(args: &Args, settings: &Settings) -> Result<Exit, CommandError> {
    let password = match (&args.password, args.password_stdin) {
        (Some(password), _) => password.clone(),
        (None, true) => read_password()?,
        (None, false) => {
            return Err(CommandError::usage("there is no password").hint("use --password-stdin"));
        }
    };
    if args.username.is_empty() || args.username.contains(':') {
        return Err(CommandError::usage("a user name is not empty and has no colon"));
    }
    let registry = docker_config::key(args.registry.as_deref());
    let mut config = DockerConfig::read(settings)?;
    config.refuse_helper(&registry)?;
    config.set(&registry, &args.username, &password);
    config.write()?;
    note(&format!("stored the password for {} in {}", registry, config.path().display()));
    Ok(Exit::OK)
}

fn read_password() -> Result<String, CommandError> {
    let mut password = String::new();
    io::stdin().lock().take(PASSWORD_BYTES_MAX).read_to_string(&mut password).map_err(|error| {
        CommandError::io(Kind::Input, "cannot read the password from standard input", &error)
    })?;
    let trimmed = password.trim_end_matches(['\r', '\n']);
    if trimmed.is_empty() {
        return Err(CommandError::input("standard input has no password"));
    }
    Ok(trimmed.to_owned())
}
