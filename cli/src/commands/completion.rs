//! `lap completion`: scripts that let a shell complete commands and flags.

use crate::args::Cli;
use crate::error::CommandError;
use crate::exit::Exit;
use crate::ui::terminal::print;
use clap::CommandFactory;
use clap_complete::Shell;

/// What the help ends with.
const AFTER_HELP: &str = "\
Examples:
  lap completion bash > ~/.local/share/bash-completion/completions/lap
  lap completion zsh > ~/.zfunc/_lap
  lap completion fish > ~/.config/fish/completions/lap.fish";

/// Print a completion script for a shell
#[derive(Debug, clap::Args)]
#[command(after_help = AFTER_HELP)]
pub(crate) struct Args {
    /// Which shell
    #[arg(value_enum)]
    shell: Shell,
}

/// Prints the script.
pub(crate) fn run(args: &Args) -> Result<Exit, CommandError> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "lap", &mut script);
    print(&String::from_utf8_lossy(&script))?;
    Ok(Exit::OK)
}
