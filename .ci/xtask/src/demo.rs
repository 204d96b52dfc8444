//! `cargo xtask demo`: in half a minute, what `lap` is for.
//!
//! Every step is printed as a person would type it, then runs with its output shown. All stores
//! and files lie in one folder that is emptied first, so that the demo is the same every time.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::Instant;

use anyhow::{Context as _, Result, bail};
use lapstrake_fixtures::case::fixtures_dir;

use crate::{packages, shell};

/// Runs the whole demo.
pub(crate) fn run() -> Result<()> {
    if let Some(command) = packages::lacks_for_rootless() {
        bail!(
            "builds without root need a range of user ids, which one command gives:\n  {command}"
        );
    }
    let started = Instant::now();
    let demo = Demo::prepare()?;
    demo.base()?;
    demo.build()?;
    demo.look_inside()?;
    demo.move_around()?;
    println!(
        "\nDone in {:.1} s. All of it lies in {}.",
        started.elapsed().as_secs_f32(),
        demo.dir.display()
    );
    Ok(())
}

/// The program and the folder of one run.
struct Demo {
    lap: PathBuf,
    dir: PathBuf,
}

impl Demo {
    fn prepare() -> Result<Self> {
        title(
            "What we need",
            "lap itself, and Debian's busybox-static: one program without libraries",
        );
        let busybox = packages::busybox()?;
        println!("busybox: {}", busybox.display());
        let lap = shell::release_lap()?;
        println!("lap:     {}", lap.display());
        let dir = shell::scratch("demo")?;
        let demo = Self { lap, dir };
        demo.empty()?;
        for name in ["base", "tides"] {
            copy_folder(&fixtures_dir().join("demo").join(name), &demo.dir.join(name))?;
        }
        fs::copy(&busybox, demo.dir.join("base/busybox")).context("copy busybox")?;
        println!("\n$ cd {}\n$ export LAP_ROOT=$PWD/store", demo.dir.display());
        demo.lap(&["version"])?;
        Ok(demo)
    }

    /// Removes what an earlier demo left, with `lap`'s own help: a rootless store holds files of
    /// other ids, which only the user namespace that made them may remove.
    fn empty(&self) -> Result<()> {
        for name in ["store", "elsewhere", "registry", "base", "tides"] {
            let path = self.dir.join(name);
            if path.exists() && fs::remove_dir_all(&path).is_err() {
                let mut remove = Command::new("unshare");
                remove.args(["--map-auto", "--map-root-user", "--user", "rm", "-rf"]);
                shell::run(remove.arg(&path))?;
            }
        }
        Ok(())
    }

    fn base(&self) -> Result<()> {
        title("A base image", "FROM scratch, one file copied, one command run in it");
        self.show_file("base/Dockerfile")?;
        self.lap(&["build", "-t", "busybox:demo", "base"])
    }

    fn build(&self) -> Result<()> {
        title("An image in two stages", "the first makes a table, the second takes it along");
        self.show_file("tides/Dockerfile")?;
        self.lap(&["build", "-t", "tides:1", "tides"])?;
        self.lap(&["run", "--rm", "tides:1"])?;

        title("Nothing changed", "the same build again: every step is known");
        let again = Instant::now();
        self.lap(&["build", "-t", "tides:1", "tides"])?;
        println!("({} ms from start to end)", again.elapsed().as_millis());

        title("One line changed", "only what depends on it is made again");
        println!("$ echo 'Lisbon,03:05,3.2' >> tides/harbours.csv");
        let csv = self.dir.join("tides/harbours.csv");
        let text = fs::read_to_string(&csv)? + "Lisbon,03:05,3.2\n";
        fs::write(&csv, text)?;
        self.lap(&["build", "-t", "tides:2", "tides"])
    }

    fn look_inside(&self) -> Result<()> {
        title("What is in it", "each layer with the instruction that made it");
        self.lap(&["layers", "tides:2"])?;
        title("What is different", "between two versions, from tables of contents alone");
        // `lap diff` ends with 1 when the images differ, as diff(1) does.
        self.lap_exits(&["diff", "tides:1", "tides:2"], &[0, 1])?;
        self.lap(&["images"])
    }

    fn move_around(&self) -> Result<()> {
        title("To a registry and back", "lap serves one itself, on loopback");
        let registry = Registry::start(&self.lap, &self.dir.join("registry"))?;
        let name = format!("{}/harbour/tides:2", registry.address);
        self.lap(&["tag", "tides:2", &name])?;
        self.lap(&["push", &name])?;
        println!("\nNow from an empty store:");
        self.lap(&["--root", "elsewhere", "pull", &name])?;
        self.lap(&["--root", "elsewhere", "run", "--rm", &name, "tides", "lisbon"])?;
        self.lap(&["--root", "elsewhere", "fsck"])
    }

    fn lap(&self, arguments: &[&str]) -> Result<()> {
        self.lap_exits(arguments, &[0])
    }

    /// Prints the command line and runs it with its output shown.
    fn lap_exits(&self, arguments: &[&str], codes: &[i32]) -> Result<()> {
        println!("\n$ lap {}", arguments.join(" "));
        let mut command = Command::new(&self.lap);
        command.args(arguments).current_dir(&self.dir).stdin(Stdio::null());
        command.env("LAP_ROOT", self.dir.join("store"));
        // People's notes and data belong together here, in the order in which they came.
        let status = command.status().with_context(|| format!("start {}", self.lap.display()))?;
        match status.code() {
            Some(code) if codes.contains(&code) => Ok(()),
            _ => bail!("lap {}: {status}", arguments.join(" ")),
        }
    }

    fn show_file(&self, name: &str) -> Result<()> {
        println!("\n$ cat {name}");
        let text = fs::read_to_string(self.dir.join(name))?;
        for line in text.lines() {
            println!("    {line}");
        }
        Ok(())
    }
}

/// `lap serve` as a child, ended with this value.
struct Registry {
    child: Child,
    address: String,
    /// Held open: a server whose stdout is closed would end at the next line it prints.
    _stdout: BufReader<ChildStdout>,
}

impl Registry {
    fn start(lap: &Path, root: &Path) -> Result<Self> {
        println!("\n$ lap --root registry serve --writable --listen 127.0.0.1:0 &");
        let mut command = Command::new(lap);
        command.arg("--root").arg(root).args(["serve", "--writable", "--listen", "127.0.0.1:0"]);
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .context("start lap serve")?;
        let stdout = child.stdout.take().context("lap serve has no stdout")?;
        let mut stdout = BufReader::new(stdout);
        let mut line = String::new();
        stdout.read_line(&mut line)?;
        print!("{line}");
        let Some(address) = line.split_whitespace().find_map(loopback_address) else {
            drop(child.kill());
            bail!("lap serve did not say where it listens: {line:?}")
        };
        Ok(Self { child, address, _stdout: stdout })
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        // It may have ended by itself; either way it is gone afterwards.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// The address in a word such as `http://127.0.0.1:4567/`.
fn loopback_address(word: &str) -> Option<String> {
    let from = word.find("127.0.0.1:")?;
    let end = word[from..].find(|c: char| !c.is_ascii_digit() && c != '.' && c != ':');
    Some(word[from..].get(..end.unwrap_or(word.len() - from))?.to_owned())
}

fn copy_folder(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to).with_context(|| format!("create {}", to.display()))?;
    for entry in fs::read_dir(from).with_context(|| format!("read {}", from.display()))? {
        let entry = entry?;
        fs::copy(entry.path(), to.join(entry.file_name()))?;
    }
    Ok(())
}

fn title(what: &str, why: &str) {
    let width = 78_usize.saturating_sub(what.len() + 4);
    println!("\n── {what} {}\n   {why}", "─".repeat(width));
}

#[cfg(test)]
mod tests {
    use super::loopback_address;

    #[test]
    fn an_address_is_found_in_what_serve_prints() {
        assert_eq!(loopback_address("127.0.0.1:4567"), Some("127.0.0.1:4567".to_owned()));
        assert_eq!(loopback_address("http://127.0.0.1:80/v2/"), Some("127.0.0.1:80".to_owned()));
        assert_eq!(loopback_address("listening"), None);
    }
}
