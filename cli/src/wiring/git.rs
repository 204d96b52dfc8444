//! Repositories, by the `git` program.
//!
//! git is given an environment and a configuration of its own: neither the system's nor the user's are read,
//! nothing is asked, no hook or filter is run, and only the protocols http, https, git and ssh may be used,
//! by submodules, too. Passwords stand in a configuration file that only this user can read, never among
//! the arguments. *Invariants:* every run ends: with the build, at a time limit, or after a silence.

use crate::args::RegistryArgs;
use crate::settings::Settings;
use lapstrake_builder::remote::address::{is_commit, is_short_commit};
use lapstrake_builder::remote::{CheckedOut, Checkout, GitRef, RemoteError, Repository};
use rustix::process::Signal;
use std::ffi::{OsStr, OsString};
use std::fmt::Write as _;
use std::fs;
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// Longest time that one git command may take: a clone of the largest public repositories is done by then.
const TIME_MAX: Duration = Duration::from_secs(3600);
/// Longest silence of a server, in seconds, before git gives it up.
const SILENCE_SECONDS: u32 = 60;
/// Largest file that git may write, in blocks of at least 512 bytes: 16 GiB, no pack is larger.
const FILE_BLOCKS_MAX: u64 = 32 << 20;
/// How much of what git prints is kept; lists of a hundred thousand refs are shorter.
const OUTPUT_BYTES_MAX: u64 = 16 << 20;
/// How often a running git is looked after.
const POLL: Duration = Duration::from_millis(5);
/// How many of git's last words are shown.
const WORDS_MAX: usize = 400;

/// git, prepared for one repository.
#[derive(Debug)]
pub(super) struct Git<'a> {
    program: PathBuf,
    environment: Vec<(&'static str, OsString)>,
    from: Repository<'a>,
}

impl<'a> Git<'a> {
    /// Finds the program and writes its configuration into the repository's work directory.
    pub(super) fn new(
        settings: &Settings,
        args: &RegistryArgs,
        from: &Repository<'a>,
    ) -> Result<Self, RemoteError> {
        let no_git = || RemoteError::NoGit { url: from.url.to_owned() };
        let search = settings.search_path.clone().unwrap_or_default();
        let program = find(&search).ok_or_else(no_git)?;
        let home = from.work.join("home");
        let config = home.join("config");
        let prepare = || -> io::Result<()> {
            fs::create_dir_all(home.join("template"))?;
            let mut options = fs::OpenOptions::new();
            let mut file =
                options.write(true).create(true).truncate(true).mode(0o600).open(&config)?;
            io::Write::write_all(&mut file, configuration(args, from, &home)?.as_bytes())
        };
        prepare().map_err(|error| failed("prepare git for", from, &error))?;
        let environment = environment(settings, from, &home, search);
        Ok(Self { program, environment, from: *from })
    }

    /// What a ref means now: by its full name, else as git looks it up: tags before branches.
    pub(super) fn resolve(&self, reference: Option<&str>) -> Result<GitRef, RemoteError> {
        let at = self.from.work;
        let listed =
            self.run("list the refs of", at, ["ls-remote", "--quiet", "--", self.from.url])?;
        let listed = String::from_utf8_lossy(&listed);
        let refs: Vec<(&str, &str)> =
            listed.lines().filter_map(|line| line.split_once('\t')).collect();
        let wanted = reference.unwrap_or("HEAD");
        let names = match wanted {
            "HEAD" => vec![wanted.to_owned()],
            _ => ["", "refs/", "refs/tags/", "refs/heads/"]
                .map(|prefix| format!("{prefix}{wanted}"))
                .to_vec(),
        };
        for name in names {
            // What an annotated tag points to is listed below it.
            let peeled = format!("{name}^{{}}");
            let of = |name: &str| refs.iter().find(|(_, other)| *other == name).map(|(id, _)| *id);
            if let Some(commit) = of(&peeled).or_else(|| of(&name)).filter(|id| is_commit(id)) {
                let name = (name != "HEAD").then_some(name);
                return Ok(GitRef { commit: commit.to_owned(), name });
            }
        }
        if is_short_commit(wanted) {
            return self.complete(wanted);
        }
        Err(self.no_ref(wanted))
    }

    /// The commit whose hash begins so; servers do not know, so everything is fetched.
    fn complete(&self, short: &str) -> Result<GitRef, RemoteError> {
        let bare = self.from.work.join("bare");
        self.run(
            "prepare",
            self.from.work,
            [OsStr::new("init"), "-q".as_ref(), "--bare".as_ref(), bare.as_os_str()],
        )?;
        let all = [self.from.url, "+refs/*:refs/*"];
        // Of servers that know no filters, git fetches what it misses by running itself, and that one
        // again, without end; only newer ones can be told not to.
        let filter = self.knows_no_lazy_fetch()?.then_some("--filter=tree:0");
        self.run("fetch", &bare, ["fetch", "-q"].into_iter().chain(filter).chain(all))?;
        let spec = format!("{short}^{{commit}}");
        let found = self.run("look into", &bare, ["rev-parse", "--verify", "--quiet", &spec]);
        let commit = found.map_err(|_| self.no_ref(short))?;
        let commit = String::from_utf8_lossy(&commit).trim().to_owned();
        if is_commit(&commit) { Ok(GitRef { commit, name: None }) } else { Err(self.no_ref(short)) }
    }

    /// Whether `GIT_NO_LAZY_FETCH` means something to it, as it does since 2.45.
    fn knows_no_lazy_fetch(&self) -> Result<bool, RemoteError> {
        let said = self.run("ask the version of git for", self.from.work, ["version"])?;
        Ok(version(&String::from_utf8_lossy(&said)) >= (2, 45))
    }

    fn no_ref(&self, reference: &str) -> RemoteError {
        RemoteError::NoRef { url: self.from.url.to_owned(), reference: reference.to_owned() }
    }

    /// Fetches a commit, as little beside it as the server allows, and its submodules.
    pub(super) fn check_out(&self, wanted: &Checkout<'_>) -> Result<CheckedOut, RemoteError> {
        let (at, commit) = (wanted.directory, wanted.at.commit.as_str());
        let format = if commit.len() == 64 { "sha256" } else { "sha1" };
        self.run("prepare", at, ["init", "-q", &format!("--object-format={format}")])?;
        self.run("prepare", at, ["remote", "add", "origin", self.from.url])?;
        self.fetch(wanted)?;
        self.run("check out", at, ["checkout", "-q", "--detach", commit])?;
        if wanted.submodules && at.join(".gitmodules").exists() {
            let update = ["submodule", "--quiet", "update", "--init", "--recursive"];
            let shallow = update.iter().chain(&["--depth=1"]).copied();
            // Servers that do not give single commits give all of them.
            if self.run("fetch the submodules of", at, shallow).is_err() {
                self.run("fetch the submodules of", at, update)?;
            }
        }
        let time = self.run("look into", at, ["show", "-s", "--format=%ct", commit])?;
        let time = String::from_utf8_lossy(&time).trim().parse().unwrap_or_default();
        // Where HEAD was before is of no use to anyone and differs each time.
        for left in [".git/logs", ".git/FETCH_HEAD"] {
            let path = at.join(left);
            drop(fs::remove_dir_all(&path).or_else(|_| fs::remove_file(&path)));
        }
        Ok(CheckedOut { time })
    }

    /// By the commit's hash, else by the ref's name, else everything there is.
    fn fetch(&self, wanted: &Checkout<'_>) -> Result<(), RemoteError> {
        let (at, commit) = (wanted.directory, wanted.at.commit.as_str());
        let shallow = ["fetch", "-q", "--depth=1", "--no-tags", "origin"];
        let here = || {
            let commit = format!("{commit}^{{commit}}");
            self.run("look into", at, ["cat-file", "-e", &commit]).is_ok()
        };
        let name = wanted.at.name.as_ref().map(|name| {
            let own = name.strip_prefix("refs/heads/").map(|b| format!("refs/remotes/origin/{b}"));
            format!("+{name}:{}", own.as_ref().unwrap_or(name))
        });
        for spec in name.as_deref().into_iter().chain([commit]) {
            match self.run("fetch", at, shallow.iter().copied().chain([spec])) {
                Ok(_) if here() => return Ok(()),
                Err(RemoteError::Cancelled) => return Err(RemoteError::Cancelled),
                // The next way asks for more.
                Ok(_) | Err(_) => {}
            }
        }
        let all = ["+refs/heads/*:refs/remotes/origin/*", "+refs/tags/*:refs/tags/*"];
        self.run("fetch", at, ["fetch", "-q", "origin"].iter().chain(&all).copied())?;
        if here() { Ok(()) } else { Err(self.no_ref(commit)) }
    }

    /// Runs git to its end; what it printed.
    fn run<S: AsRef<OsStr>>(
        &self,
        action: &'static str,
        directory: &Path,
        arguments: impl IntoIterator<Item = S>,
    ) -> Result<Vec<u8>, RemoteError> {
        let mut command = Command::new("/bin/sh");
        let limits = "umask 022; ulimit -f \"$1\" 2>/dev/null; shift; exec \"$@\"";
        command.args(["-c", limits, "sh"]).arg(FILE_BLOCKS_MAX.to_string()).arg(&self.program);
        command.args(arguments).current_dir(directory).env_clear();
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let child = command.process_group(0).spawn();
        let mut child = child.map_err(|error| failed(action, &self.from, &error))?;
        let (out, words) = (drain(child.stdout.take()), drain(child.stderr.take()));
        let ended = self.wait(&mut child);
        let join = |thread: thread::JoinHandle<Vec<u8>>| thread.join().unwrap_or_default();
        let (out, words) = (join(out), join(words));
        if ended? { Ok(out) } else { Err(failed(action, &self.from, &last_words(&words))) }
    }

    /// Whether it succeeded. Its helpers are in its process group and end with it.
    fn wait(&self, child: &mut Child) -> Result<bool, RemoteError> {
        let begun = Instant::now();
        let stop = |child: &mut Child| {
            if let Some(group) = rustix::process::Pid::from_raw(child.id().cast_signed()) {
                // It may have ended by itself just now.
                let _gone = rustix::process::kill_process_group(group, Signal::KILL);
            }
            drop(child.wait());
        };
        loop {
            match child.try_wait() {
                Ok(Some(status)) => return Ok(status.success()),
                Ok(None) => {}
                Err(error) => return Err(failed("wait for git and", &self.from, &error)),
            }
            if self.from.cancel.is_cancelled() {
                stop(child);
                return Err(RemoteError::Cancelled);
            }
            if begun.elapsed() > TIME_MAX {
                stop(child);
                let (url, seconds) = (self.from.url.to_owned(), TIME_MAX.as_secs());
                return Err(RemoteError::TooSlow { url, seconds });
            }
            thread::sleep(POLL);
        }
    }
}

fn failed(action: &'static str, from: &Repository<'_>, message: &dyn ToString) -> RemoteError {
    RemoteError::Git { action, url: from.url.to_owned(), message: message.to_string() }
}

/// The first `git` on the search path.
fn find(search: &OsStr) -> Option<PathBuf> {
    let candidates = std::env::split_paths(search).filter(|dir| dir.is_absolute());
    candidates.map(|dir| dir.join("git")).find(|path| path.is_file())
}

/// The first two numbers of what `git version` prints; zeros if there are none.
fn version(said: &str) -> (u32, u32) {
    let numbers = said.trim_start_matches(|c: char| !c.is_ascii_digit());
    let mut parts = numbers.split('.').map(|part| part.trim().parse().unwrap_or_default());
    (parts.next().unwrap_or_default(), parts.next().unwrap_or_default())
}

/// Reads a pipe to its end, keeping its beginning.
fn drain(pipe: Option<impl Read + Send + 'static>) -> thread::JoinHandle<Vec<u8>> {
    thread::spawn(move || {
        let mut kept = Vec::new();
        if let Some(mut pipe) = pipe {
            // A pipe that breaks has ended.
            drop(pipe.by_ref().take(OUTPUT_BYTES_MAX).read_to_end(&mut kept));
            drop(io::copy(&mut pipe, &mut io::sink()));
        }
        kept
    })
}

/// What git says when the program that it reached the server with failed.
const UNREADABLE: &str = "Could not read from remote repository";

/// The end of what git complained of, on one line and fit for a terminal.
fn last_words(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let mut lines: Vec<&str> =
        text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    match lines.iter().position(|line| line.starts_with("fatal: ")) {
        // The reason stands before it, in the words of ssh.
        Some(at) if at > 0 && lines[at].contains(UNREADABLE) => lines.truncate(at),
        Some(at) => drop(lines.drain(..at)),
        None => {}
    }
    let joined = lines.join("; ");
    let words: String =
        joined.chars().map(|c| if c.is_control() { ' ' } else { c }).take(WORDS_MAX).collect();
    if words.is_empty() { "git failed without a word".to_owned() } else { words }
}

/// What git finds in its environment, which is nothing of ours but what is listed here.
fn environment(
    settings: &Settings,
    from: &Repository<'_>,
    home: &Path,
    search: OsString,
) -> Vec<(&'static str, OsString)> {
    let mut all: Vec<(&'static str, OsString)> = vec![
        ("PATH", search),
        ("HOME", home.into()),
        ("XDG_CONFIG_HOME", home.into()),
        ("LC_ALL", "C".into()),
        ("GIT_CONFIG_NOSYSTEM", "1".into()),
        ("GIT_CONFIG_GLOBAL", home.join("config").into()),
        ("GIT_ATTR_NOSYSTEM", "1".into()),
        ("GIT_TEMPLATE_DIR", home.join("template").into()),
        ("GIT_TERMINAL_PROMPT", "0".into()),
        ("GIT_ASKPASS", "/bin/false".into()),
        ("GIT_ALLOW_PROTOCOL", "http:https:git:ssh".into()),
        ("GIT_LFS_SKIP_SMUDGE", "1".into()),
        ("GIT_NO_LAZY_FETCH", "1".into()),
        ("GIT_SSH_VARIANT", "ssh".into()),
        ("GIT_SSH_COMMAND", ssh_command(settings).into()),
    ];
    if let Some(socket) = from.ssh_agent {
        all.push(("SSH_AUTH_SOCK", socket.into()));
    }
    let proxies = &settings.proxies;
    all.extend(proxies.http.iter().map(|value| ("http_proxy", value.into())));
    all.extend(proxies.https.iter().map(|value| ("https_proxy", value.into())));
    if !proxies.none.is_empty() {
        all.push(("no_proxy", proxies.none.join(",").into()));
    }
    all
}

/// ssh asks nothing, reads no configuration, takes keys from the agent alone, and speaks only to hosts that
/// the user knows.
fn ssh_command(settings: &Settings) -> String {
    let mut text = "ssh -F /dev/null -o BatchMode=yes -o StrictHostKeyChecking=yes \
                    -o IdentityFile=none -o ConnectTimeout=30"
        .to_owned();
    if let Some(home) = settings.home.as_ref().and_then(|home| home.to_str()) {
        let file = format!("{home}/.ssh/known_hosts").replace('\'', "'\\''");
        write!(text, " -o UserKnownHostsFile='\"{file}\"'").expect("because a String grows");
    }
    text
}

/// git's configuration file.
fn configuration(args: &RegistryArgs, from: &Repository<'_>, home: &Path) -> io::Result<String> {
    let mut text = format!(
        "[core]\n\thooksPath = /dev/null\n\tfsmonitor = false\n\tsymlinks = true\n\tautocrlf = false\n\
         [advice]\n\tdetachedHead = false\n[init]\n\tdefaultBranch = main\n\
         [safe]\n\tdirectory = *\n[gc]\n\tauto = 0\n[maintenance]\n\tauto = false\n\
         [fetch]\n\trecurseSubmodules = false\n[credential]\n\thelper =\n\
         [http]\n\tlowSpeedLimit = 1\n\tlowSpeedTime = {SILENCE_SECONDS}\n"
    );
    if !args.ca_file.is_empty() {
        let bundle = home.join("authorities.pem");
        fs::write(&bundle, authorities(&args.ca_file)?)?;
        writeln!(text, "\tsslCAInfo = \"{}\"", quoted(&bundle.to_string_lossy()))
            .expect("because a String grows");
    }
    if let Some(authorization) = from.authorization {
        let origin: String = from.url.splitn(4, '/').take(3).collect::<Vec<_>>().join("/");
        let value = quoted(&format!("Authorization: {}", authorization.expose()));
        write!(text, "[http \"{}/\"]\n\textraHeader = \"{value}\"\n", quoted(&origin))
            .expect("because a String grows");
    }
    Ok(text)
}

/// A value within double quotes; line breaks cannot be in what is quoted here.
fn quoted(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"")
}

/// The user's own authorities beside those of the system, as one file, which is all that git can be told.
fn authorities(files: &[PathBuf]) -> io::Result<Vec<u8>> {
    const SYSTEM: [&str; 2] =
        ["/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt"];
    // A machine without any trusts the user's own alone.
    let mut all = SYSTEM.iter().find_map(|path| fs::read(path).ok()).unwrap_or_default();
    for file in files {
        all.push(b'\n');
        all.extend(fs::read(file)?);
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::{last_words, version};

    #[test]
    fn versions_are_compared_as_numbers() {
        assert_eq!(version("git version 2.47.3\n"), (2, 47));
        assert_eq!(version("git version 2.39.5 (Apple Git-154)"), (2, 39));
        assert_eq!(version("git version 3.1-rc0"), (3, 0));
        assert_eq!(version("hello"), (0, 0));
    }

    #[test]
    fn the_reason_is_told() {
        let ssh = "Host key verification failed.\r\nfatal: Could not read from remote repository.\n\n\
                   Please make sure you have the correct access rights\nand the repository exists.\n";
        assert_eq!(last_words(ssh.as_bytes()), "Host key verification failed.");
        let other = "Cloning into 'x'...\nfatal: repository 'y' not found\n";
        assert_eq!(last_words(other.as_bytes()), "fatal: repository 'y' not found");
        let alone = "fatal: Could not read from remote repository.\n";
        assert_eq!(last_words(alone.as_bytes()), "fatal: Could not read from remote repository.");
        assert_eq!(last_words(b""), "git failed without a word");
    }
}
