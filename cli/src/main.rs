//! `lap`: builds OCI images from Dockerfiles, looks inside their layers, moves them. No daemon, no
//! root.
//!
//! Order matters here: a re-executed sandbox child is recognised before anything else happens, and
//! the command enters its user namespace (in [`session`]) before any thread exists.
#![forbid(unsafe_code)]

mod args;
mod commands;
mod config;
mod error;
mod exit;
mod output_file;
mod panics;
mod session;
mod settings;
mod signals;
mod storage;
mod ui;
mod values;
mod wiring;

use crate::args::Cli;
use crate::exit::Exit;
use clap::Parser;
use std::io::Write;
use std::process::ExitCode;

fn main() -> ExitCode {
    lapstrake_runner::init();
    panics::tell();
    let exit = match Cli::try_parse() {
        Ok(cli) => panics::caught(|| cli.run()).unwrap_or_else(|error| {
            drop(std::io::stderr().lock().write_all(error.render().as_bytes()));
            error.exit()
        }),
        Err(refused) => {
            // Help and version are data that was asked for; clap knows which stream each belongs
            // to.
            drop(refused.print());
            if refused.use_stderr() { Exit::USAGE } else { Exit::OK }
        }
    };
    exit.into()
}
