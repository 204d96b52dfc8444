//! `lap check`: everything that is wrong or doubtful in a Dockerfile, without building it.
//!
//! Neither the store nor a network is touched: only the Dockerfile and its ignore file are read.

mod report;

use crate::commands::build::{build_args, read_inputs};
use crate::error::CommandError;
use crate::exit::Exit;
use crate::ui::diagnostic;
use crate::ui::terminal::{note, print, print_json};
use clap::ValueEnum;
use lapstrake_builder::BuildOptions;
use lapstrake_builder::check::{Report, check};
use lapstrake_builder::options::{ContextSource, NetworkMode};
use lapstrake_layerstore::oci::Platform;
use std::collections::BTreeMap;
use std::path::PathBuf;

/// What the help ends with.
const AFTER_HELP: &str = "\
Examples:
  lap check                                ./Dockerfile
  lap check -f docker/app.df .             another file
  lap check --format sarif > check.sarif   for a code scanning service
  echo 'FROM busybox' | lap check -        a Dockerfile on standard input

A rule is switched off by `# check=skip=RuleName` at the top of the file, or for one instruction by
the same comment directly above it. docs/checks/ has a page for each rule.

Exit codes: 0 nothing was found, 3 something was found, be it an error or a warning.";

/// Check a Dockerfile without building it
#[derive(Debug, clap::Args)]
#[command(after_help = AFTER_HELP)]
pub(crate) struct Args {
    /// The build context, for its Dockerfile and .dockerignore; `-` reads a Dockerfile from
    /// standard input
    #[arg(value_name = "PATH", default_value = ".")]
    context: String,
    /// The Dockerfile, seen from here or else from PATH; `-` is standard input [default:
    /// PATH/Dockerfile]
    #[arg(short, long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// A variable that the Dockerfile declares with ARG; without =VALUE it is taken from the
    /// environment
    #[arg(long, value_name = "NAME[=VALUE]")]
    build_arg: Vec<String>,
    /// Check what this stage needs [default: the last stage]
    #[arg(long, value_name = "STAGE")]
    target: Option<String>,
    /// How findings are shown
    #[arg(long, value_enum, default_value_t)]
    format: CheckFormat,
}

/// How findings are shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub(crate) enum CheckFormat {
    /// Excerpts for people.
    #[default]
    Text,
    /// An array of findings.
    Json,
    /// SARIF 2.1.0, which code scanning services take.
    Sarif,
    /// Annotations of GitHub Actions.
    Github,
}

/// Checks, shows, and says by the exit code whether anything was found.
pub(crate) fn run(args: &Args) -> Result<Exit, CommandError> {
    let inputs = read_inputs(&args.context, args.file.as_deref())?;
    show(
        &BuildOptions {
            dockerfile: inputs.dockerfile,
            dockerfile_name: inputs.name,
            context: inputs.context,
            ignore_file: inputs.ignore_file,
            named_contexts: BTreeMap::new(),
            build_args: build_args(&args.build_arg)?,
            labels: Vec::new(),
            target: args.target.clone().filter(|target| !target.is_empty()),
            platform: Platform::host(),
            build_platform: Platform::host(),
            no_cache: false,
            no_cache_filter: Vec::new(),
            pull: false,
            secrets: BTreeMap::new(),
            ssh: BTreeMap::new(),
            network: NetworkMode::Default,
            // Rights are given to a build, not to a file.
            allow_host_network: true,
            allow_insecure: true,
            extra_hosts: Vec::new(),
            ulimits: Vec::new(),
            shm_size_bytes: lapstrake_runner::SHM_SIZE_DEFAULT_BYTES,
            resolv_conf: Vec::new(),
            epoch: None,
            now: 0,
            jobs: 1,
            compression: None,
        },
        args.format,
    )
}

/// Checks the Dockerfile of these options; `lap build --check` comes here, too.
pub(crate) fn show(options: &BuildOptions, format: CheckFormat) -> Result<Exit, CommandError> {
    let report = match (&options.ignore_file, &options.context) {
        (None, ContextSource::Directory(directory)) => {
            let ignore_file = crate::commands::build::context_ignore_file(directory)?;
            check(&BuildOptions { ignore_file, ..options.clone() })
        }
        _ => check(options),
    }?;
    match format {
        CheckFormat::Text => text(&report)?,
        CheckFormat::Json => print_json(&report::json(&report))?,
        CheckFormat::Sarif => print_json(&report::sarif(&report))?,
        CheckFormat::Github => print(&report::github(&report))?,
    }
    Ok(if report.diagnostics.is_empty() { Exit::OK } else { Exit::INPUT })
}

fn text(report: &Report) -> Result<(), CommandError> {
    let shown = report.diagnostics.iter().map(|found| diagnostic::render(&report.file, found));
    print(&crate::error::printable(&shown.collect::<Vec<_>>().join("\n")))?;
    let errors = report.diagnostics.iter().filter(|found| found.is_error()).count();
    let warnings = report.diagnostics.len() - errors;
    note(&match (errors, warnings) {
        (0, 0) => format!("{}: nothing found", report.file.name),
        _ => format!(
            "{}: {}, {}",
            report.file.name,
            crate::ui::format::count(errors, "error"),
            crate::ui::format::count(warnings, "warning")
        ),
    });
    Ok(())
}
