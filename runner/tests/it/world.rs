//! What a case needs: a folder with a busybox root, and shorthands to run a script in it.

use std::cell::RefCell;
use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use lapstrake_fixtures::temp::TempDir;
use lapstrake_runner::{
    Cancel, Exit, Mount, MountKind, Root, RunError, Runner, Sandbox, Spec, Stream,
};

/// One case's folder: `base` is a read-only layer with busybox, `upper` takes changes.
pub(crate) struct World {
    folder: TempDir,
    sandbox: Sandbox,
    made: RefCell<u32>,
}

/// What a run gave.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Ran {
    pub(crate) exit: Exit,
    pub(crate) out: String,
    pub(crate) err: String,
}

const APPLETS: [&str; 27] = [
    "sh", "cat", "echo", "ls", "id", "env", "pwd", "stat", "sleep", "kill", "touch", "mkdir", "rm",
    "mount", "hostname", "grep", "ps", "true", "dd", "wc", "sort", "setsid", "readlink", "ip",
    "sed", "test", "chmod",
];

impl World {
    pub(crate) fn new(busybox: &Path) -> Self {
        let folder = TempDir::new("runner");
        let bin = folder.join("base/bin");
        fs::create_dir_all(&bin).unwrap();
        fs::copy(busybox, bin.join("busybox")).unwrap();
        for applet in APPLETS {
            symlink("busybox", bin.join(applet)).unwrap();
        }
        for name in ["base/etc", "base/tmp", "base/root"] {
            fs::create_dir(folder.join(name)).unwrap();
        }
        let base = folder.join("base");
        fs::set_permissions(&base, fs::Permissions::from_mode(0o755)).unwrap();
        fs::set_permissions(base.join("tmp"), fs::Permissions::from_mode(0o1777)).unwrap();
        Self { folder, sandbox: Sandbox::new(), made: RefCell::new(0) }
    }

    pub(crate) fn sandbox(&self) -> &Sandbox {
        &self.sandbox
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// A new directory with some files in it.
    pub(crate) fn layer(&self, name: &str, files: &[(&str, &str)]) -> PathBuf {
        let layer = self.path(name);
        fs::create_dir_all(&layer).unwrap();
        for (file, content) in files {
            let path = layer.join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, content).unwrap();
        }
        layer
    }

    /// A fresh pair of upper and work directories.
    pub(crate) fn scratch(&self) -> (PathBuf, PathBuf) {
        *self.made.borrow_mut() += 1;
        let number = *self.made.borrow();
        let pair = (self.path(&format!("upper{number}")), self.path(&format!("work{number}")));
        fs::create_dir(&pair.0).unwrap();
        fs::create_dir(&pair.1).unwrap();
        pair
    }

    /// A specification that runs a shell script over `base` with a fresh upper directory.
    pub(crate) fn script(&self, script: &str) -> Spec {
        self.program(&["/bin/sh", "-c", script])
    }

    pub(crate) fn program(&self, argv: &[&str]) -> Spec {
        let (upper, work) = self.scratch();
        let root = Root::Overlay { lowers: vec![self.path("base")], upper, work };
        let mut spec = Spec::new(root, argv.iter().map(OsString::from).collect());
        spec.process.env = vec![("PATH".into(), "/bin".into())];
        spec
    }

    pub(crate) fn try_run(&self, spec: &Spec) -> Result<Ran, RunError> {
        run_in(&self.sandbox, spec)
    }

    /// Gives a specification that has run another upper directory.
    pub(crate) fn renew(&self, spec: &mut Spec) {
        if let Root::Overlay { upper, work, .. } = &mut spec.root {
            (*upper, *work) = self.scratch();
        }
    }

    pub(crate) fn run(&self, spec: &Spec) -> Ran {
        self.try_run(spec).unwrap_or_else(|error| panic!("{error}: {error:?}"))
    }

    /// Runs a script that must succeed; its standard output.
    pub(crate) fn out(&self, spec: &Spec) -> String {
        let ran = self.run(spec);
        assert_eq!(ran.exit, Exit::Code(0), "{ran:?}");
        ran.out
    }
}

pub(crate) fn run_in(sandbox: &Sandbox, spec: &Spec) -> Result<Ran, RunError> {
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let mut output = |stream, bytes: &[u8]| match stream {
        Stream::Stdout => out.extend_from_slice(bytes),
        Stream::Stderr => err.extend_from_slice(bytes),
    };
    let exit = sandbox.run(spec, &mut output, &Cancel::new())?;
    let text = |bytes| String::from_utf8(bytes).unwrap();
    Ok(Ran { exit, out: text(out), err: text(err) })
}

/// The directory that takes the changes of a specification's root.
pub(crate) fn upper(spec: &Spec) -> &Path {
    match &spec.root {
        Root::Overlay { upper, .. } => upper,
        Root::Directory { path, .. } => path,
    }
}

pub(crate) fn bind(source: impl Into<PathBuf>, target: &str, read_only: bool) -> Mount {
    let kind = MountKind::Bind { source: source.into() };
    Mount { target: target.into(), read_only, kind }
}

pub(crate) fn file(target: &str, content: &str) -> Mount {
    let kind = MountKind::File { content: content.into(), mode: 0o644, uid: 0, gid: 0 };
    Mount { target: target.into(), read_only: true, kind }
}

pub(crate) fn effective_uid() -> u32 {
    fs::metadata("/proc/self").unwrap().uid()
}

/// The mounts that this process sees.
pub(crate) fn own_mounts() -> Vec<String> {
    fs::read_to_string("/proc/self/mountinfo").unwrap().lines().map(str::to_owned).collect()
}

/// Processes of the machine whose command line has a word.
pub(crate) fn processes_with(word: &str) -> usize {
    let entries = fs::read_dir("/proc").unwrap().flatten();
    let lines = entries.filter_map(|entry| fs::read(entry.path().join("cmdline")).ok());
    lines.filter(|line| line.split(|byte| *byte == 0).any(|part| part == word.as_bytes())).count()
}

/// An ordinary user with lines in both files of subordinate ids.
pub(crate) fn user_with_ranges() -> Option<String> {
    let owners = |path: &str| -> Vec<String> {
        let text = fs::read_to_string(path).unwrap_or_default();
        text.lines().filter_map(|line| Some(line.split_once(':')?.0.to_owned())).collect()
    };
    let groups = owners("/etc/subgid");
    let passwd = fs::read_to_string("/etc/passwd").unwrap_or_default();
    let exists = |name: &String| passwd.lines().any(|line| line.starts_with(&format!("{name}:")));
    owners("/etc/subuid")
        .into_iter()
        .find(|name| name != "root" && groups.contains(name) && exists(name))
}
