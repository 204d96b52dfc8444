//! `lap` on a store of its own, and what its commands are checked with.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use lapstrake_fixtures::{Need, TempDir, busybox};

/// What a test needs that runs programs in images.
pub(crate) const RUN: [Need; 3] = [Need::Busybox, Need::UserNamespaces, Need::SubordinateIds];

/// The programs that the test image has.
const APPLETS: [&str; 9] = ["sh", "cat", "id", "sleep", "true", "ls", "env", "mkdir", "rm"];

/// Names another `lap` than the one just built: a release build, or one that stays while new ones are
/// made.
const OTHER_LAP: &str = "LAPSTRAKE_TEST_LAP";

/// `lap` on an empty store.
pub(crate) struct Lap {
    pub(crate) work: TempDir,
}

/// What a command printed and ended with.
#[derive(Debug)]
pub(crate) struct Output {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Lap {
    /// An empty store.
    pub(crate) fn new(purpose: &str) -> Self {
        Self { work: TempDir::new(purpose) }
    }

    /// A store with the image `busybox`, made of this machine's busybox without running anything.
    pub(crate) fn with_busybox(purpose: &str) -> Self {
        let lap = Self::new(purpose);
        let program = busybox::find().expect("the test asked for busybox");
        let context = lap.work.join("busybox");
        fs::create_dir_all(context.join("bin")).expect("a folder can be made");
        fs::copy(program, context.join("bin/busybox")).expect("busybox can be copied");
        for applet in APPLETS {
            symlink("busybox", context.join("bin").join(applet)).expect("a link can be made");
        }
        let passwd = "root:x:0:0:root:/root:/bin/sh\napp:x:1000:1000::/home/app:/bin/sh\n";
        lap.work.write("busybox/etc/passwd", passwd);
        lap.work.write(
            "busybox/Dockerfile",
            "FROM scratch\nCOPY bin /bin\nCOPY etc /etc\nCMD [\"sh\"]\n",
        );
        lap.ok(["build", "-t", "busybox", &context.display().to_string()]);
        lap
    }

    /// The store.
    pub(crate) fn root(&self) -> PathBuf {
        self.work.join("store")
    }

    /// A command on the store, not yet started.
    pub(crate) fn command<S: AsRef<OsStr>>(
        &self,
        arguments: impl IntoIterator<Item = S>,
    ) -> Command {
        let program =
            std::env::var_os(OTHER_LAP).unwrap_or_else(|| env!("CARGO_BIN_EXE_lap").into());
        let mut command = Command::new(program);
        command.arg("--root").arg(self.root()).args(arguments).current_dir(self.work.path());
        for variable in [
            "BUILDKIT_PROGRESS",
            "SOURCE_DATE_EPOCH",
            "LAP_ROOT",
            "LAP_KEEP_STORAGE",
            "XDG_CONFIG_HOME",
            "DOCKER_CONFIG",
            "REGISTRY_AUTH_FILE",
        ] {
            command.env_remove(variable);
        }
        command.env("HOME", self.work.path()).stdin(Stdio::null());
        command
    }

    /// Runs a command to its end.
    pub(crate) fn run<S: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = S>) -> Output {
        let output = self.command(arguments).output().expect("lap can be started");
        Output {
            code: output.status.code(),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    /// Runs a command that must succeed; its standard output.
    pub(crate) fn ok<S: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = S>) -> String {
        let output = self.run(arguments);
        assert_eq!(output.code, Some(0), "{}\n{}", output.stdout, output.stderr);
        output.stdout
    }

    /// Writes `Dockerfile` into the context `name`, which is made; the context's path.
    pub(crate) fn context(&self, name: &str, dockerfile: &str) -> String {
        self.work.write(format!("{name}/Dockerfile"), dockerfile);
        self.work.join(name).display().to_string()
    }

    /// Builds a context whose every file is named here, under a name; what was printed for people.
    pub(crate) fn build(&self, tag: &str, dockerfile: &str, files: &[(&str, &str)]) -> String {
        let folder = format!("context-{}", tag.replace([':', '/'], "-"));
        let context = self.context(&folder, dockerfile);
        for (path, text) in files {
            self.work.write(format!("{folder}/{path}"), text);
        }
        let output = self.run(["build", "-t", tag, &context]);
        assert_eq!(output.code, Some(0), "{}", output.stderr);
        output.stderr
    }

    /// A command that must fail with `code`, say each of `words` in exactly one error, and print no
    /// data; the store must be whole afterwards.
    pub(crate) fn refused<S: AsRef<OsStr>>(
        &self,
        arguments: impl IntoIterator<Item = S>,
        code: i32,
        words: &[&str],
    ) {
        let output = self.run(arguments);
        assert_eq!(output.code, Some(code), "{}", output.stderr);
        for word in words {
            assert!(output.stderr.contains(word), "`{word}` is not in:\n{}", output.stderr);
        }
        let errors = output.stderr.lines().filter(|line| line.starts_with("error")).count();
        assert_eq!(errors, 1, "{}", output.stderr);
        assert!(!output.stderr.contains("panicked"), "{}", output.stderr);
        assert_eq!(output.stdout, "");
        self.is_whole();
    }

    /// The store must be whole, with nothing of dead processes in it.
    pub(crate) fn is_whole(&self) {
        let output = self.run(["fsck", "--deep"]);
        assert_eq!((output.code, output.stdout.as_str()), (Some(0), ""), "{}", output.stderr);
    }
}

impl Drop for Lap {
    /// An ordinary user's store has files of subordinate ids, which only their namespace can
    /// remove.
    fn drop(&mut self) {
        if fs::remove_dir_all(self.root()).is_err() && self.root().exists() {
            let mut remove = Command::new("unshare");
            remove.args(["--user", "--map-auto", "--map-root-user", "rm", "-rf"]).arg(self.root());
            drop(remove.status());
        }
    }
}

/// Whether a folder has nothing in it besides these names.
pub(crate) fn holds_only(folder: &Path, names: &[&str]) -> bool {
    let entries = fs::read_dir(folder).expect("the folder is there");
    let mut found: Vec<String> = entries
        .map(|entry| {
            entry.expect("the folder can be read").file_name().to_string_lossy().into_owned()
        })
        .collect();
    found.sort();
    found == names
}
