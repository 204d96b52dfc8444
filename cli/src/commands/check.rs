//! `lap check`: everything that is wrong or doubtful in a Dockerfile, without building it.
//!
//! Neither the store nor a network is touched: only the Dockerfile and its ignore file are read, and,
//! where there is no ignore file, the files of the context are counted.

mod context;
mod fix;
mod report;

use crate::commands::build::{Given, build_args, context_ignore_file, read_inputs};
use crate::error::CommandError;
use crate::exit::Exit;
use crate::ui::diagnostic;
use crate::ui::terminal::{note, print, print_json};
use clap::ValueEnum;
use lapstrake_builder::BuildOptions;
use lapstrake_builder::check::{Report, Surroundings, check};
use lapstrake_builder::options::ContextSource;
use lapstrake_layerstore::oci::Platform;
use std::path::{Path, PathBuf};

/// What the help ends with.
const AFTER_HELP: &str = "\
Examples:
  lap check                                ./Dockerfile
  lap check -f docker/app.df .             another file; -f may be given several times
  lap check --fix                          repair what can be repaired mechanically
  lap check --diff                         show what --fix would do
  lap check --format sarif > check.sarif   for a code scanning service
  echo 'FROM busybox' | lap check -        a Dockerfile on standard input

A rule is switched off by `# check=skip=RuleName` at the top of the file, or for one instruction by
the same comment directly above it. docs/checks/ has a page for each rule.

Exit codes: 0 nothing was found, 3 something was found, be it an error or a warning; after --fix, what
is left counts.";

/// Check a Dockerfile without building it
#[derive(Debug, clap::Args)]
#[command(after_help = AFTER_HELP)]
pub(crate) struct Args {
    /// The build context, for its Dockerfile and .dockerignore; `-` reads a Dockerfile from
    /// standard input
    #[arg(value_name = "PATH", default_value = ".")]
    context: String,
    /// The Dockerfile, seen from here or else from PATH; `-` is standard input; may be given several
    /// times [default: PATH/Dockerfile]
    #[arg(short, long, value_name = "FILE")]
    file: Vec<PathBuf>,
    /// A variable that the Dockerfile declares with ARG; without =VALUE it is taken from the
    /// environment
    #[arg(long, value_name = "NAME[=VALUE]")]
    build_arg: Vec<String>,
    /// Check this stage and what it needs [default: all stages]
    #[arg(long, value_name = "STAGE")]
    target: Option<String>,
    /// How findings are shown
    #[arg(long, value_enum, default_value_t)]
    format: CheckFormat,
    /// Repair what can be repaired without changing what the file means
    #[arg(long)]
    fix: bool,
    /// Print what --fix would change, and change nothing
    #[arg(long, conflicts_with = "fix")]
    diff: bool,
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
    let files: Vec<Option<&Path>> = match args.file.as_slice() {
        [] => vec![None],
        files => files.iter().map(|file| Some(file.as_path())).collect(),
    };
    let mut reports = Vec::new();
    let mut would_change = false;
    for file in files {
        let (mut options, path) = options(args, file)?;
        if args.diff {
            would_change |= fix::show(&options)?;
            continue;
        }
        if args.fix {
            fix::apply(&mut options, path.as_deref())?;
        }
        reports.push(check_own(&options)?);
    }
    if args.diff {
        return Ok(if would_change { Exit::INPUT } else { Exit::OK });
    }
    show(&reports, args.format)
}

/// What is to be checked (of a build's options, those that a check looks at), and the file it is in.
fn options(
    args: &Args,
    file: Option<&Path>,
) -> Result<(BuildOptions, Option<PathBuf>), CommandError> {
    let Given::Ready(inputs) = read_inputs(&args.context, file)? else {
        return Err(CommandError::usage("check reads only what is on this machine")
            .hint("`lap build --check` fetches the context first"));
    };
    let ignore_file = ignore_file(inputs.ignore_file, &inputs.context)?;
    let options = BuildOptions {
        ignore_file,
        build_args: build_args(&args.build_arg)?,
        target: args.target.clone().filter(|target| !target.is_empty()),
        // Rights are given to a build, not to a file.
        allow_host_network: true,
        allow_insecure: true,
        ..BuildOptions::new(inputs.dockerfile, inputs.name, inputs.context, Platform::host())
    };
    Ok((options, inputs.path))
}

/// The Dockerfile's own ignore file, else the context's.
fn ignore_file(
    own: Option<(String, Vec<u8>)>,
    context: &ContextSource,
) -> Result<Option<(String, Vec<u8>)>, CommandError> {
    match (own, context) {
        (None, ContextSource::Directory(directory)) => context_ignore_file(directory),
        (own, _) => Ok(own),
    }
}

/// All rules, ours included, with the size of the context.
fn check_own(options: &BuildOptions) -> Result<Report, CommandError> {
    let context = match &options.context {
        ContextSource::Directory(directory) if options.ignore_file.is_none() => {
            Some(context::count(directory))
        }
        _ => None,
    };
    let surroundings = Surroundings { context: context.as_ref(), ..Surroundings::default() };
    Ok(check(options, &surroundings)?)
}

/// `lap build --check`: the reference's rules, and no others, so that the exit code is docker's.
pub(crate) fn run_for_build(
    options: &BuildOptions,
    format: CheckFormat,
) -> Result<Exit, CommandError> {
    let ignore_file = ignore_file(options.ignore_file.clone(), &options.context)?;
    let options = BuildOptions { ignore_file, ..options.clone() };
    let surroundings = Surroundings { own_rules: false, ..Surroundings::default() };
    show(&[check(&options, &surroundings)?], format)
}

fn show(reports: &[Report], format: CheckFormat) -> Result<Exit, CommandError> {
    match format {
        CheckFormat::Text => reports.iter().try_for_each(text)?,
        CheckFormat::Json => print_json(&report::json(reports))?,
        CheckFormat::Sarif => print_json(&report::sarif(reports))?,
        CheckFormat::Github => print(&reports.iter().map(report::github).collect::<String>())?,
    }
    let clean = reports.iter().all(|report| report.diagnostics.is_empty());
    Ok(if clean { Exit::OK } else { Exit::INPUT })
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
