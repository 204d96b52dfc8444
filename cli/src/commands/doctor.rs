//! `lap doctor`: what this machine lets `lap` do, and what is missing for more.

use crate::args::Format;
use crate::error::{CommandError, Kind};
use crate::exit::Exit;
use crate::settings::Settings;
use crate::ui::terminal::{print, print_json};
use lapstrake_runner::{Check, Host, Rung};
use std::fmt::Write as _;
use std::path::Path;

/// What the help ends with.
const AFTER_HELP: &str = "\
Examples:
  lap doctor
  lap doctor --format json

Things are tried, not guessed from settings: a child is put into the namespaces of a build step and
mounts an overlay there. The exit code is 4 when RUN cannot work here at all, else 0.";

/// Show what this machine allows, and what is missing for more
#[derive(Debug, clap::Args)]
#[command(after_help = AFTER_HELP)]
pub(crate) struct Args {
    /// Text or JSON
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

/// Probes the machine and shows what was found.
pub(crate) fn run(args: &Args, settings: &Settings) -> Result<Exit, CommandError> {
    let host = lapstrake_runner::probe();
    match args.format {
        Format::Text => print(&text(&host, settings.root()?))?,
        Format::Json => {
            let value = serde_json::to_value(&host)
                .map_err(|error| CommandError::chain(Kind::Bug, &error))?;
            print_json(&value)?;
        }
    }
    Ok(if host.rung == Rung::None { Exit::HOST } else { Exit::OK })
}

fn text(host: &Host, root: &Path) -> String {
    let mut text = String::new();
    let mut line = |name: &str, value: &str| {
        let _infallible = writeln!(text, "{name:<12} {value}");
    };
    line("store", &root.display().to_string());
    line("kernel", &host.kernel);
    line("user", &if host.euid == 0 { "root".to_owned() } else { format!("uid {}", host.euid) });
    line("namespaces", &check(host.namespaces));
    line("overlay", &check(host.overlay));
    line("proc", if host.proc_masked { "parts of it are hidden" } else { "can be given to steps" });
    line("ids", &ids(host));
    line("seccomp", if host.seccomp { "available" } else { "not in this kernel" });
    line("RUN", rung(host.rung));
    line("COPY, ADD", "work everywhere");
    for missing in &host.missing {
        let _infallible = write!(
            text,
            "\nmissing for {}:\n  {}\n  {}\n",
            rung_name(missing.rung),
            missing.what,
            missing.fix
        );
    }
    text
}

fn check(check: Check) -> String {
    match check {
        Check::Works => "work".into(),
        Check::Fails(errno) => format!("refused: {}", std::io::Error::from_raw_os_error(errno)),
        Check::Untried => "not tried, since namespaces are refused".into(),
    }
}

/// How many ids a build step can have.
fn ids(host: &Host) -> String {
    if host.euid == 0 && host.rung == Rung::Root {
        return "all".into();
    }
    let count: u64 = host.subuids.iter().map(|range| u64::from(range.count)).sum();
    match (count, &host.newuidmap) {
        (0, _) => "one: no range in /etc/subuid".into(),
        (count, Some(helper)) => format!("{} by {}", count + 1, helper.display()),
        (_, None) => "one: newuidmap is not installed".into(),
    }
}

fn rung(rung: Rung) -> &'static str {
    match rung {
        Rung::Root => "works, as root",
        Rung::Rootless => "works, without root",
        Rung::SingleId => "works for programs that need no other user than root",
        Rung::None => "does not work here",
    }
}

fn rung_name(rung: Rung) -> &'static str {
    match rung {
        Rung::Root => "running steps as the machine's root",
        Rung::Rootless => "steps with several users",
        Rung::SingleId | Rung::None => "RUN",
    }
}
