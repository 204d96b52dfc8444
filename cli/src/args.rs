//! The command line as it is typed. Each command's own flags stand in its file below `commands/`.

use crate::commands;
use crate::error::CommandError;
use crate::exit::Exit;
use crate::settings::Settings;
use clap::{Args, Parser, Subcommand, ValueEnum};
use lapstrake_layerstore::oci::Platform;
use std::path::PathBuf;

/// What `lap --help` ends with.
const AFTER_HELP: &str = "\
Examples:
  lap build -t app:1 .                     build ./Dockerfile
  lap run --rm app:1                       run what came out
  lap diff app:1 app:2                     what changed between two images
  lap push registry.example/team/app:1     send it to a registry

`lap COMMAND --help` explains a command. Data goes to standard output, words for people to
standard error. Exit codes: 0 done, 1 a build step failed, 2 wrong usage, 3 wrong input, 4 this
machine cannot, 5 a server did not, 6 damaged data, 70 a bug.";

/// Build OCI images from Dockerfiles, look inside their layers, and move them. No daemon, no root.
#[derive(Debug, Parser)]
#[command(name = "lap", version, after_help = AFTER_HELP, max_term_width = 100)]
#[command(
    disable_help_subcommand = true,
    subcommand_required = true,
    arg_required_else_help = true
)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: GlobalArgs,
    #[command(subcommand)]
    command: Command,
}

/// Flags of every command.
#[derive(Debug, Args)]
pub(crate) struct GlobalArgs {
    /// The store [default: $LAP_ROOT, else $XDG_DATA_HOME/lapstrake, else
    /// ~/.local/share/lapstrake; /var/lib/lapstrake for root]
    #[arg(long, global = true, value_name = "DIR", help_heading = "Global options")]
    pub(crate) root: Option<PathBuf>,
}

/// Text for people, or JSON for programs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub(crate) enum Format {
    /// Columns.
    #[default]
    #[value(alias = "table")]
    Text,
    /// JSON; its shape is described in docs/cli.md.
    Json,
}

/// Which image of a name that stands for several.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct PlatformArgs {
    /// Of a name for several platforms the image for this one
    #[arg(long, value_name = "OS/ARCH[/VARIANT]")]
    pub(crate) platform: Option<Platform>,
}

/// How to reach registries.
#[derive(Debug, Clone, Args)]
pub(crate) struct RegistryArgs {
    /// Let this registry be spoken to in plain http (loopback always may be); without a value, any
    #[arg(long, value_name = "HOST[:PORT]", num_args = 0..=1, require_equals = true, default_missing_value = "*")]
    pub(crate) insecure: Vec<String>,
    /// Trust the certificate authorities in this PEM file, too
    #[arg(long, value_name = "FILE")]
    pub(crate) ca_file: Vec<PathBuf>,
}

#[derive(Debug, Subcommand)]
enum Command {
    Build(Box<commands::build::Args>),
    Check(commands::check::Args),
    Explain(commands::explain::Args),
    Fmt(commands::fmt::Args),
    Run(Box<commands::run::Args>),
    Images(commands::images::Args),
    Inspect(commands::inspect::Args),
    History(commands::history::Args),
    Layers(commands::layers::Args),
    Diff(commands::diff::Args),
    Tag(commands::tag::Args),
    Rmi(commands::rmi::Args),
    Pull(commands::pull::Args),
    Push(commands::push::Args),
    Login(commands::login::Args),
    Logout(commands::logout::Args),
    Load(commands::load::Args),
    Save(commands::save::Args),
    Import(commands::import::Args),
    Serve(commands::serve::Args),
    Du(commands::du::Args),
    Prune(commands::prune::Args),
    Fsck(commands::fsck::Args),
    Doctor(commands::doctor::Args),
    Completion(commands::completion::Args),
    Version(commands::version::Args),
}

impl Cli {
    /// Runs the command.
    pub(crate) fn run(self) -> Result<Exit, CommandError> {
        let settings = Settings::resolve(&self.global);
        match self.command {
            Command::Build(args) => commands::build::run(&args, settings),
            Command::Check(args) => commands::check::run(&args),
            Command::Explain(args) => commands::explain::run(&args, settings),
            Command::Fmt(args) => commands::fmt::run(&args),
            Command::Run(args) => commands::run::run(&args, settings),
            Command::Images(args) => commands::images::run(&args, settings),
            Command::Inspect(args) => commands::inspect::run(&args, settings),
            Command::History(args) => commands::history::run(&args, settings),
            Command::Layers(args) => commands::layers::run(&args, settings),
            Command::Diff(args) => commands::diff::run(&args, settings),
            Command::Tag(args) => commands::tag::run(&args, settings),
            Command::Rmi(args) => commands::rmi::run(&args, settings),
            Command::Pull(args) => commands::pull::run(&args, settings),
            Command::Push(args) => commands::push::run(&args, settings),
            Command::Login(args) => commands::login::run(&args, &settings),
            Command::Logout(args) => commands::logout::run(&args, &settings),
            Command::Load(args) => commands::load::run(&args, settings),
            Command::Save(args) => commands::save::run(&args, settings),
            Command::Import(args) => commands::import::run(&args, settings),
            Command::Serve(args) => commands::serve::run(&args, settings),
            Command::Du(args) => commands::du::run(&args, settings),
            Command::Prune(args) => commands::prune::run(&args, settings),
            Command::Fsck(args) => commands::fsck::run(&args, settings),
            Command::Doctor(args) => commands::doctor::run(&args, &settings),
            Command::Completion(args) => commands::completion::run(&args),
            Command::Version(args) => commands::version::run(&args),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_command_explains_itself_with_examples() {
        for command in Cli::command().get_subcommands() {
            let name = command.get_name();
            assert!(command.get_about().is_some(), "{name} has no one-line description");
            let after = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            assert!(after.contains(&format!("lap {name}")), "{name} shows no example");
            for arg in command.get_arguments().filter(|arg| !arg.is_hide_set()) {
                assert!(arg.get_help().is_some(), "{name}: {} is not explained", arg.get_id());
            }
        }
    }
}
