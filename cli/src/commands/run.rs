//! `lap run`: runs an image once; what it writes is thrown away.

mod container;

use crate::args::PlatformArgs;
use crate::error::{CommandError, Kind};
use crate::exit::Exit;
use crate::session::Session;
use crate::settings::{Settings, named_variable};
use crate::signals::Interrupts;
use crate::values;
use lapstrake_runner::{Exit as ProgramExit, Network, RunError, Runner, Sandbox, Ulimit};
use std::path::PathBuf;

/// What the help ends with.
const AFTER_HELP: &str = "\
Examples:
  lap run --rm app:1                          its ENTRYPOINT and CMD
  lap run -e LEVEL=debug app:1 serve --all    other arguments
  lap run --entrypoint sh app:1 -c 'id; env'  another program
  lap run -v $PWD:/src:ro -w /src app:1 make  with files of this machine

The program has this terminal, and changes to its files are gone when it ends. It runs as in a build
step: own processes, own mounts, the 14 default capabilities, by default the host's network.

Exit code: the program's own; 128 + N when signal N ended it; when lap itself could not run it, lap's
codes (see lap --help) with an error on standard error.";

/// Run a program in an image; its changes are thrown away
#[derive(Debug, clap::Args)]
#[command(after_help = AFTER_HELP)]
#[expect(clippy::struct_excessive_bools, reason = "each is a switch that docker has")]
pub(crate) struct Args {
    /// The image: a name, an id, or the beginning of an id
    #[arg(value_name = "IMAGE")]
    image: String,
    #[command(flatten)]
    platform: PlatformArgs,
    /// Arguments in place of the image's CMD
    #[arg(value_name = "COMMAND", trailing_var_arg = true, allow_hyphen_values = true)]
    command: Vec<String>,

    /// Set a variable; without =VALUE it is taken from the environment
    #[arg(short, long, value_name = "NAME[=VALUE]")]
    env: Vec<String>,
    /// Where the program starts
    #[arg(short, long, value_name = "DIR")]
    workdir: Option<String>,
    /// Whom it runs as
    #[arg(short, long, value_name = "USER[:GROUP]")]
    user: Option<String>,
    /// The program in place of the image's ENTRYPOINT; empty for none
    #[arg(long, value_name = "PROGRAM")]
    entrypoint: Option<String>,
    /// The network it sees
    #[arg(
        long,
        value_name = "default|none|host",
        default_value = "default",
        hide_default_value = true
    )]
    network: String,
    /// Show a file or directory of this machine
    #[arg(short, long, value_name = "SOURCE:TARGET[:ro]", value_parser = volume)]
    volume: Vec<Volume>,
    /// Add a line to /etc/hosts
    #[arg(long, value_name = "NAME:IP", value_parser = values::extra_host)]
    add_host: Vec<(String, String)>,
    /// The host name it sees
    #[arg(long, value_name = "NAME", default_value = "lap")]
    hostname: String,
    /// Set a resource limit
    #[arg(long, value_name = "NAME=SOFT[:HARD]", value_parser = values::ulimit)]
    ulimit: Vec<Ulimit>,
    /// Size of /dev/shm
    #[arg(long, value_name = "BYTES", value_parser = values::size_bytes)]
    shm_size: Option<u64>,
    /// Let it do what this process may do: all capabilities, nothing masked
    #[arg(long)]
    privileged: bool,

    /// Throw the changes away, which happens in any case
    #[arg(long, help_heading = "Accepted for docker's sake")]
    rm: bool,
    /// Give it standard input, which happens in any case
    #[arg(short, long, help_heading = "Accepted for docker's sake")]
    interactive: bool,
    /// Give it the terminal, which happens in any case if there is one
    #[arg(short, long, help_heading = "Accepted for docker's sake")]
    tty: bool,
    #[arg(short, long, hide = true)]
    detach: bool,
}

/// A path of this machine and where it is shown.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Volume {
    source: PathBuf,
    target: PathBuf,
    read_only: bool,
}

fn volume(text: &str) -> Result<Volume, String> {
    let mut parts = text.split(':');
    let (Some(source), Some(target)) = (parts.next(), parts.next()) else {
        return Err("write it as SOURCE:TARGET; volumes without a source do not exist here".into());
    };
    let read_only = match (parts.next(), parts.next()) {
        (None | Some("rw"), None) => false,
        (Some("ro"), None) => true,
        _ => return Err("after SOURCE:TARGET there may be :ro or :rw".into()),
    };
    if !source.starts_with(['/', '.']) {
        return Err(format!(
            "`{source}` is a volume's name, and there are no volumes; a path begins with / or ."
        ));
    }
    if !target.starts_with('/') {
        return Err(format!("`{target}` is not an absolute path"));
    }
    Ok(Volume { source: source.into(), target: target.into(), read_only })
}

/// Runs the program and passes its exit code on.
pub(crate) fn run(args: &Args, settings: Settings) -> Result<Exit, CommandError> {
    if args.detach {
        return Err(CommandError::usage(
            "--detach is not supported: there is no daemon that could watch it",
        ));
    }
    let network = network(&args.network)?;
    let session = Session::open(settings)?;
    let image = session.image_for(&args.image, &args.platform)?;
    if let Some(refusal) = session.run_refusal() {
        return Err(CommandError::new(Kind::Host, "programs cannot be run here")
            .cause(refusal)
            .hint("`lap doctor` says what is missing"));
    }
    let interrupts = Interrupts::watch()?;
    let prepared = container::prepare(&session, &image, args, network)?;
    let result = Sandbox::new().run(&prepared.spec, &mut |_, _| {}, interrupts.cancel());
    match result {
        Ok(ProgramExit::Code(code)) => Ok(Exit::program(code)),
        Ok(ProgramExit::Signal { signal, .. }) => Ok(Exit::signal(signal)),
        Err(RunError::Cancelled) => Err(interrupts.error().unwrap_or_else(|| {
            CommandError::new(Kind::Bug, "the run was cancelled without a reason")
        })),
        Err(error) => Err(error.into()),
    }
}

/// `--network`.
pub(crate) fn network(text: &str) -> Result<Network, CommandError> {
    match text {
        "default" | "host" | "bridge" => Ok(Network::Host),
        "none" => Ok(Network::None),
        other => Err(CommandError::usage(format!(
            "there is no network `{other}`; there are default, none and host"
        ))),
    }
}

/// `-e`, in order, a later one of a name in the place of an earlier.
fn overlaid(image: &[String], given: &[String]) -> Vec<(String, String)> {
    let mut all: Vec<(String, String)> = Vec::new();
    let mut set = |name: &str, value: String| match all.iter_mut().find(|(known, _)| known == name)
    {
        Some((_, old)) => *old = value,
        None => all.push((name.to_owned(), value)),
    };
    for text in image {
        let (name, value) = text.split_once('=').unwrap_or((text, ""));
        set(name, value.to_owned());
    }
    for text in given {
        match text.split_once('=') {
            Some((name, value)) => set(name, value.to_owned()),
            None => {
                if let Some(value) = named_variable(text) {
                    set(text, value.to_string_lossy().into_owned());
                }
            }
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn volumes() {
        let expected = Volume { source: "/a".into(), target: "/b".into(), read_only: true };
        assert_eq!(volume("/a:/b:ro"), Ok(expected));
        for bad in ["/a", "name:/b", "/a:b", "/a:/b:rx", "/a:/b:ro:rw"] {
            assert!(volume(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn later_variables_win_in_place() {
        let image = ["PATH=/bin".to_owned(), "A=1".into()];
        let given = ["B=2".to_owned(), "PATH=/x".into(), "LAP_TEST_IS_NOT_SET".into()];
        let expected =
            [("PATH", "/x"), ("A", "1"), ("B", "2")].map(|(n, v)| (n.to_owned(), v.to_owned()));
        assert_eq!(overlaid(&image, &given), expected);
    }
}
