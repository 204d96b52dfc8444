//! `lap fmt`: Dockerfiles in their canonical form. Neither the store nor a network is touched.
//!
//! *Invariant:* a file is replaced only after every file that was named could be formatted, and
//! each by one rename.

use crate::commands::build::{DOCKERFILE_BYTES_MAX, default_dockerfile, read_bounded};
use crate::error::{CommandError, Kind, printable};
use crate::exit::Exit;
use crate::output_file::OutputFile;
use crate::ui::diagnostic;
use crate::ui::difference::{for_terminal, unified};
use crate::ui::terminal::{note, print};
use lapstrake_builder::format::{FormatError, Formatted, format};
use lapstrake_builder::source::SourceFile;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

/// What the help ends with.
const AFTER_HELP: &str = "\
Examples:
  lap fmt                        format ./Dockerfile in place
  lap fmt --check */Dockerfile   for CI: name the files that would change
  lap fmt --diff                 show what would change
  lap fmt - < Dockerfile         format standard input to standard output

Only the layout changes: comments, heredocs and the text of every shell command stay, so that
history and cache keys stay, too. docs/fmt.md has the rules.

Exit codes: 0 done, 1 with --check or --diff when a file would change, 3 a Dockerfile has errors;
then nothing is written.";

/// Format Dockerfiles
#[derive(Debug, clap::Args)]
#[command(after_help = AFTER_HELP)]
pub(crate) struct Args {
    /// The Dockerfiles; `-` reads standard input and writes standard output [default: ./Dockerfile]
    #[arg(value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Write nothing; print the names of the files that would change
    #[arg(long)]
    check: bool,
    /// Write nothing; print what would change as a unified diff
    #[arg(long, conflicts_with = "check")]
    diff: bool,
}

/// A Dockerfile before and after.
#[derive(Debug)]
struct Subject {
    /// Where it lies; `None` is standard input.
    path: Option<PathBuf>,
    before: SourceFile,
    after: Vec<u8>,
}

impl Subject {
    fn changes(&self) -> bool {
        self.before.bytes != self.after
    }
}

/// Formats all, then writes or shows all.
pub(crate) fn run(args: &Args) -> Result<Exit, CommandError> {
    let files = if args.files.is_empty() {
        vec![default_dockerfile(Path::new("."))?]
    } else {
        args.files.clone()
    };
    let subjects: Vec<Subject> =
        files.iter().map(|file| subject(file)).collect::<Result<_, CommandError>>()?;
    if !args.check && !args.diff {
        subjects.iter().try_for_each(write)?;
        return Ok(Exit::OK);
    }
    let changed = subjects.iter().filter(|subject| subject.changes());
    let shown = |subject: &Subject| {
        let name = &subject.before.name;
        if args.diff {
            unified(name, &subject.before.bytes, &subject.after)
        } else {
            for_terminal(format!("{name}\n"))
        }
    };
    print(&changed.map(shown).collect::<String>())?;
    Ok(if subjects.iter().any(Subject::changes) { Exit::DIFFERENT } else { Exit::OK })
}

/// Reads and formats one file.
fn subject(file: &Path) -> Result<Subject, CommandError> {
    let path = (file != Path::new("-")).then(|| file.to_owned());
    let (name, bytes) = match &path {
        None => ("<stdin>".to_owned(), read_stdin()?),
        Some(path) => {
            let name = path.strip_prefix("./").unwrap_or(path).display().to_string();
            (name, read_bounded(path, DOCKERFILE_BYTES_MAX)?)
        }
    };
    let before = SourceFile::new(name, bytes);
    let Formatted { bytes: after, untouched } =
        format(&before).map_err(|error| refused(&before, &error))?;
    for span in untouched {
        let place = before.line_col(span.start);
        note(&printable(&format!(
            "{}:{}: left as it is: no other form of it is known to mean the same",
            before.name, place.line
        )));
    }
    Ok(Subject { path, before, after })
}

fn read_stdin() -> Result<Vec<u8>, CommandError> {
    let failed = |error: io::Error| CommandError::from_open(Path::new("standard input"), &error);
    let mut bytes = Vec::new();
    io::stdin().lock().take(DOCKERFILE_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() as u64 > DOCKERFILE_BYTES_MAX {
        return Err(CommandError::input(format!(
            "standard input is larger than the limit of {DOCKERFILE_BYTES_MAX} bytes"
        )));
    }
    Ok(bytes)
}

fn refused(file: &SourceFile, error: &FormatError) -> CommandError {
    match error {
        FormatError::Invalid { errors } => {
            let excerpts = errors.iter().map(|one| diagnostic::render(file, one)).collect();
            CommandError::input(error.to_string()).excerpts(excerpts).hint("nothing was written")
        }
        FormatError::Meaning => CommandError::chain(Kind::Bug, error)
            .cause(format!("{} would build something else", file.name)),
    }
}

/// Writes a file that changes; standard output gets the text in any case.
fn write(subject: &Subject) -> Result<(), CommandError> {
    let Some(path) = &subject.path else {
        let mut out = io::stdout().lock();
        return out
            .write_all(&subject.after)
            .and_then(|()| out.flush())
            .map_err(CommandError::from_stdout);
    };
    if !subject.changes() {
        return Ok(());
    }
    // A link stays a link: what it leads to is replaced.
    let target = path.canonicalize().map_err(|error| CommandError::from_open(path, &error))?;
    if !target.is_file() {
        return Err(CommandError::input(format!("{} is no regular file", path.display()))
            .hint("`lap fmt -` reads standard input and writes standard output"));
    }
    OutputFile::replace(&target, &subject.after)
}
