//! A store, another one that is served, an archive, a root file system, and commands that use them.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;

use lapstrake_fixtures::host::missing;
use serde_json::Value;

use crate::registry::Serving;
use crate::support::{Lap, RUN};

/// Makes every command give the same image whenever it runs.
const EPOCH: &str = "1700000000";
/// Files of a context, of this many bytes each.
const FILES: usize = 12;
const FILE_BYTES: usize = 3000;

/// A store and what it may be asked to do.
pub(super) struct Scene {
    pub(super) lap: Lap,
    _source: Lap,
    _serving: Serving,
    pub(super) jobs: Vec<Job>,
    /// What each tag's job makes of it, by the job's name.
    made: BTreeMap<&'static str, String>,
}

/// A command line.
#[derive(Debug, Clone)]
pub(super) struct Job {
    pub(super) name: &'static str,
    pub(super) arguments: Vec<String>,
    /// What it names, or takes the name from.
    pub(super) tag: Option<String>,
    removes: bool,
}

/// What every name in a store stands for: the diffIDs of its layers.
pub(super) type Tags = BTreeMap<String, String>;

impl Scene {
    /// Makes everything, and runs each job that names something once, to know what it makes.
    pub(super) fn new(purpose: &str) -> Self {
        let with_run = RUN.into_iter().find_map(missing).is_none();
        let lap = if with_run { Lap::with_busybox(purpose) } else { Lap::new(purpose) };
        let source = Lap::new(&format!("{purpose}-source"));
        source.build(
            "app:1",
            "FROM scratch\nCOPY a b /d/\nCOPY b /e\n",
            &[("a", &"a".repeat(20_000)), ("b", "b")],
        );
        let archive = lap.work.join("app.tar");
        source.ok(["save", "-o", text(&archive), "app:1"]);
        let serving = Serving::start(&source, &["--writable"]);
        let remote = format!("{}/pulled:1", serving.address());
        source.ok(["tag", "app:1", &remote]);
        let jobs = jobs(&lap, &remote, with_run);
        let made = BTreeMap::new();
        let mut scene = Self { lap, _source: source, _serving: serving, jobs, made };
        for job in scene.jobs.clone() {
            let (Some(tag), false) = (&job.tag, job.removes) else { continue };
            scene.run(&job);
            let is = scene.tags().get(tag).cloned().expect("the job names it");
            scene.made.insert(job.name, is);
        }
        scene
    }

    /// The command, not yet started.
    pub(super) fn command(&self, job: &Job) -> Command {
        let mut command = self.lap.command(&job.arguments);
        command.env("SOURCE_DATE_EPOCH", EPOCH);
        command
    }

    /// Runs a job that must succeed.
    pub(super) fn run(&self, job: &Job) {
        let output = self.command(job).output().expect("lap can be started");
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{}: {errors}", job.name);
    }

    pub(super) fn job(&self, name: &str) -> &Job {
        self.jobs.iter().find(|job| job.name == name).expect("a job of this name")
    }

    /// What every name stands for.
    pub(super) fn tags(&self) -> Tags {
        tags(&self.lap)
    }

    /// The store is whole, and every name says what it said before or what one of the jobs makes
    /// of it. `story` is how it came to this.
    pub(super) fn check(&self, before: &Tags, jobs: &[&Job], story: &str) {
        let fsck = self.lap.run(["fsck", "--deep"]);
        let (found, errors) = (&fsck.stdout, &fsck.stderr);
        assert_eq!(fsck.code, Some(0), "{story}: fsck finds\n{found}{errors}");
        let damage = found.lines().find(|line| !line.starts_with("leftover: "));
        assert_eq!(damage, None, "{story}");
        let now = self.tags();
        for tag in before.keys().chain(now.keys()) {
            let is = now.get(tag);
            let of_tag = jobs.iter().filter(|job| job.tag.as_deref() == Some(tag.as_str()));
            let mut allowed: Vec<Option<&String>> = of_tag
                .map(|job| if job.removes { None } else { self.made.get(job.name) })
                .collect();
            allowed.push(before.get(tag));
            assert!(allowed.contains(&is), "{story}: {tag} is {is:?}, and not of {allowed:?}");
        }
    }
}

/// What every name in a store stands for.
fn tags(lap: &Lap) -> Tags {
    let images: Value =
        serde_json::from_str(&lap.ok(["images", "--format", "json"])).expect("JSON");
    let name = |image: &Value| image["name"].as_str().expect("a name").to_owned();
    let names: Vec<String> = images.as_array().expect("a list").iter().map(name).collect();
    let layers = |name: &String| {
        let inspected: Value = serde_json::from_str(&lap.ok(["inspect", name])).expect("JSON");
        inspected[0]["RootFS"]["Layers"].to_string()
    };
    names.into_iter().map(|name| (name.clone(), layers(&name))).collect()
}

fn jobs(lap: &Lap, remote: &str, with_run: bool) -> Vec<Job> {
    let files: Vec<String> = (0..FILES).map(|number| format!("f{number}")).collect();
    for (number, file) in files.iter().enumerate() {
        lap.work.write(format!("copy/{file}"), format!("{number} ").repeat(FILE_BYTES / 3));
    }
    let copy = format!("FROM scratch\nARG V\nCOPY {} /files/\nCOPY f$V /v\n", files.join(" "));
    let copy = lap.context("copy", &copy);
    let rootfs = rootfs(lap);
    let mut jobs = vec![
        named("copy-1", &["build", "-q", "--build-arg", "V=1", "-t", "copy:1", &copy], "copy:1"),
        named("copy-2", &["build", "-q", "--build-arg", "V=2", "-t", "copy:1", &copy], "copy:1"),
        named(
            "copy-cold",
            &["build", "-q", "--no-cache", "--build-arg", "V=3", "-t", "copy:3", &copy],
            "copy:3",
        ),
        named("pull", &["pull", "-q", remote], remote),
        named("load", &["load", "-q", "-i", "app.tar"], "app:1"),
        named("import", &["import", &rootfs, "imported:1"], "imported:1"),
        Job { removes: true, ..named("rmi", &["rmi", "-f", "imported:1"], "imported:1") },
        plain("save", &["save", "-o", "saved.tar", "app:1"]),
        plain("prune", &["prune"]),
        plain("prune-all", &["prune", "--all"]),
        plain("prune-cap", &["prune", "--keep-storage", "100k"]),
        plain("repair", &["fsck", "--repair"]),
    ];
    if with_run {
        let run = "FROM busybox\nARG V\nRUN mkdir /made && echo $V > /made/v\nCOPY --from=0 \
                   /bin/busybox /again\n";
        let run = lap.context("run", &run.replace("--from=0", "--from=busybox"));
        jobs.push(named(
            "run-1",
            &["build", "-q", "--build-arg", "V=1", "-t", "run:1", &run],
            "run:1",
        ));
        jobs.push(named(
            "run-cold",
            &["build", "-q", "--no-cache", "--build-arg", "V=2", "-t", "run:1", &run],
            "run:1",
        ));
    }
    jobs
}

/// A root file system in a tar, and its path.
fn rootfs(lap: &Lap) -> String {
    lap.work.write("root/etc/name", "me\n".repeat(2000));
    lap.work.write("root/bin/tool", "tool");
    let tar = Command::new("tar")
        .args(["--sort=name", "--mtime=@1", "--owner=0", "--group=0", "-cf", "root.tar", "root"])
        .current_dir(lap.work.path())
        .status();
    assert!(tar.expect("tar is everywhere").success());
    text(&lap.work.join("root.tar")).to_owned()
}

fn named(name: &'static str, arguments: &[&str], tag: &str) -> Job {
    Job { tag: Some(tag.to_owned()), ..plain(name, arguments) }
}

fn plain(name: &'static str, arguments: &[&str]) -> Job {
    let arguments = arguments.iter().map(ToString::to_string).collect();
    Job { name, arguments, tag: None, removes: false }
}

/// A path that was made of text.
pub(super) fn text(path: &Path) -> &str {
    path.to_str().expect("because the test made it of text")
}

/// As [`Lap::command`], under another program that is given `lap` and its arguments.
pub(super) fn under<S: AsRef<OsStr>>(program: &str, before: &[S], command: &Command) -> Command {
    let mut outer = Command::new(program);
    outer.args(before).arg(command.get_program()).args(command.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => outer.env(name, value),
            None => outer.env_remove(name),
        };
    }
    let directory: Option<PathBuf> = command.get_current_dir().map(Path::to_owned);
    outer.current_dir(directory.expect("because every command of a scene has one"));
    outer.stdin(std::process::Stdio::null());
    outer
}
