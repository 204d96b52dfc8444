//! `lap version`.

use crate::args::Format;
use crate::error::CommandError;
use crate::exit::Exit;
use crate::ui::terminal::{print, print_json};
use lapstrake_layerstore::oci::Platform;
use serde_json::json;

/// Show the version of lap
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  lap version\n  lap version --format json")]
pub(crate) struct Args {
    /// Text or JSON
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

/// Shows version and platform.
pub(crate) fn run(args: &Args) -> Result<Exit, CommandError> {
    let (version, platform) = (env!("CARGO_PKG_VERSION"), Platform::host().to_string());
    match args.format {
        Format::Text => print(&format!("lap {version}, {platform}\n"))?,
        Format::Json => print_json(&json!({"version": version, "platform": platform}))?,
    }
    Ok(Exit::OK)
}
