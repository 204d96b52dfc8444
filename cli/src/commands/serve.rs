//! `lap serve`: the store as a registry.

use super::push::CodecName;
use crate::error::{CommandError, Kind};
use crate::exit::Exit;
use crate::session::Session;
use crate::settings::Settings;
use crate::signals::Interrupts;
use crate::ui::terminal::{note, print};
use lapstrake_registry::serve::{ServeOptions, Server};
use std::net::SocketAddr;
use std::sync::Arc;

/// What the help ends with.
const AFTER_HELP: &str = "\
Examples:
  lap serve                                     images of the store on a free loopback port
  lap serve --listen 127.0.0.1:5000 --writable  push to it, too
  docker pull 127.0.0.1:5000/app:1              from another program, while it runs

The first line of standard output is the address, once the server listens. It runs until ^C. There
is no access control: whoever reaches the address may read everything, and with --writable write.";

/// Offer the images of the store as a registry
#[derive(Debug, clap::Args)]
#[command(after_help = AFTER_HELP)]
pub(crate) struct Args {
    /// Where to listen; port 0 takes a free one
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:0")]
    listen: SocketAddr,
    /// Allow pushes
    #[arg(long)]
    writable: bool,
    /// Allow an address that other machines can reach
    #[arg(long)]
    allow_remote: bool,
}

/// Serves until a signal comes.
pub(crate) fn run(args: &Args, settings: Settings) -> Result<Exit, CommandError> {
    if !args.listen.ip().is_loopback() && !args.allow_remote {
        return Err(CommandError::usage(format!(
            "{} can be reached from other machines, without access control",
            args.listen
        ))
        .hint("listen on 127.0.0.1, or say --allow-remote if that is meant"));
    }
    let session = Session::open(settings)?;
    let interrupts = Interrupts::watch()?;
    let options =
        ServeOptions { writable: args.writable, compression: CodecName::Gzip.compression() };
    let server = Server::start(Arc::clone(&session.store), args.listen, options)
        .map_err(|error| CommandError::chain(Kind::Host, &error))?;
    print(&format!("{}\n", server.addr()))?;
    let rights = if args.writable { "pull and push" } else { "pull only; --writable allows push" };
    note(&format!("serving {} ({rights}); ^C ends it", session.settings.root()?.display()));
    interrupts.wait_for_signal();
    server.stop();
    Ok(Exit::OK)
}
