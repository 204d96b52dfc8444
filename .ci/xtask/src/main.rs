//! The repository's own commands: `cargo xtask demo`, `cargo xtask test` and what CI runs.
//!
//! Everything here may print, read the environment and start programs: it is the outside of the
//! project. What a developer types is a line; what takes longer to say than three lines of shell
//! is written here.

#![expect(clippy::print_stdout, reason = "a task talks to the person who started it")]
#![forbid(unsafe_code)]

use std::process::ExitCode;

use anyhow::Result;

mod conformance;
mod demo;
mod packages;
mod shell;
mod tests_run;
mod user;

const HELP: &str = "\
usage: cargo xtask COMMAND

  demo                build images from nothing, look inside them, push, pull and run them
  test                install what the tests need, then run all of them (as root: rootless ones too)
  conformance         build the recorded cases and hold the counts against .ci/conformance.ratchet
  as-user CMD [ARG…]  run a program as the ordinary user that the rootless tests run as (root only)
  install             install the Debian packages that tests use (root only)
";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match run(&arguments) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            println!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// True when the task did what it should; false when it has said itself what failed.
fn run(arguments: &[String]) -> Result<bool> {
    let command = arguments.first().map(String::as_str);
    match command {
        Some("demo") => demo::run().map(|()| true),
        Some("test") => tests_run::run(&arguments[1..]),
        Some("conformance") => conformance::run(&arguments[1..]),
        Some("as-user") => {
            let user = user::TestUser::ensure()?;
            Ok(user.command(&arguments[1..])?.status()?.success())
        }
        Some("install") => packages::install().map(|()| true),
        _ => {
            print!("{HELP}");
            Ok(matches!(command, None | Some("help" | "--help" | "-h")))
        }
    }
}
