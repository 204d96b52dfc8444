//! RUN: a program over the layers so far; what it changes becomes a layer.

use super::failed;
use super::mounts::{self, PreparedMount};
use super::session::Session;
use super::stage::{Prepared, StepContext};
use super::trees::ViewTree;
use crate::copy::Selected;
use crate::error::BuildError;
use crate::event::{Event, Stream};
use crate::identity::{Accounts, StepIdentity};
use crate::key::{KeyEncoder, StepKey};
use crate::options::{BuildOptions, NetworkMode};
use crate::plan::{DEFAULT_PATH, RunStep};
use crate::scope::{BuildArgs, EnvList};
use crate::text::Text;
use lapstrake_layerstore::layers::{Layer, UpperOptions};
use lapstrake_runner::{
    Exit, Identity, Mount, MountKind, Network, Output, Process, Root, Security, Spec, Stdin,
};
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The host name that steps see, unless the build argument gives them another.
const HOSTNAME: &str = "buildkitsandbox";
const HOSTNAME_ARGUMENT: &str = "BUILDKIT_SANDBOX_HOSTNAME";

/// A RUN whose mounts are looked up.
struct PreparedRun<'a> {
    step: &'a RunStep,
    mounts: Vec<PreparedMount<'a>>,
    key: StepKey,
}

/// Look mounts up and key a RUN.
pub(crate) fn prepare<'s>(
    at: &StepContext<'s>,
    step: &'s RunStep,
) -> Result<Box<dyn Prepared + 's>, BuildError> {
    if step.argv.is_empty() {
        return Err(BuildError::plan("arguments are required"));
    }
    let mounts =
        step.mounts.iter().map(|m| mounts::prepare(at, m)).collect::<Result<Vec<_>, _>>()?;
    let key = key(at, step, &mounts);
    Ok(Box::new(PreparedRun { step, mounts, key }))
}

fn key(at: &StepContext<'_>, step: &RunStep, mounts: &[PreparedMount<'_>]) -> StepKey {
    let options = at.session.options;
    let mut key = KeyEncoder::new("RUN", at.platform());
    key.parent(&at.below.chain);
    key.list("command", step.argv.iter().map(Text::as_str));
    if let Some((path, script)) = &step.script {
        key.text("script", path);
        key.bytes("script content", script);
    }
    let env: Vec<String> = step.env.iter().map(|(n, v)| format!("{n}={v}")).collect();
    key.list("environment", env.iter().map(String::as_str));
    key.text("working directory", &step.cwd);
    key.text("user", &step.user);
    key.text(
        "network",
        match step.network {
            NetworkMode::Default => "default",
            NetworkMode::None => "none",
            NetworkMode::Host => "host",
        },
    );
    key.text("security", if step.insecure { "insecure" } else { "sandbox" });
    key.list("extra hosts", options.extra_hosts.iter().map(|(name, _)| name.as_str()));
    let ulimits: Vec<String> = options.ulimits.iter().map(|u| format!("{u:?}")).collect();
    key.list("ulimits", ulimits.iter().map(String::as_str));
    key.text("shm size", &options.shm_size_bytes.to_string());
    let hostname = hostname(options);
    if hostname != HOSTNAME {
        key.text("host name", hostname);
    }
    for mount in mounts {
        mount.add_to_key(&mut key);
    }
    key.finish()
}

impl Prepared for PreparedRun<'_> {
    fn key(&self) -> &StepKey {
        &self.key
    }

    fn read(&self) -> Vec<&[Selected]> {
        self.mounts.iter().map(PreparedMount::read).collect()
    }

    fn execute(self: Box<Self>, at: &StepContext<'_>) -> Result<Arc<Layer>, BuildError> {
        let store = at.session.deps.store;
        let view = at.below.view()?;
        let below = ViewTree::new(view.clone(), store.layers());
        let identity = Accounts::read(&below, &below)?.step(&self.step.user)?;
        let lowers = tree_paths(at.session, &at.below.layers)?;
        let area = store.work_dir()?;
        let overlay = Overlay::make(area.path(), lowers)?;
        let mut held = Vec::new();
        let mut spec = spec(at.session, self.step, &identity, overlay.root());
        for mount in self.mounts {
            mounts::apply(at, mount, &area, &mut spec, &mut held)?;
        }
        finish_environment(&mut spec, &identity);
        order_mounts(&mut spec);
        run(at, &spec, self.step).map_err(|error| {
            let error = foreign(at, area.path(), error);
            failed::look_into(at, self.step, &spec, (&overlay, &view), error)
        })?;
        drop(held);
        Ok(store.layers().create_from_upper(&overlay.upper, &view, &UpperOptions::default())?)
    }
}

/// The directories of one overlay, as they lie in a work area.
pub(crate) struct Overlay {
    pub(crate) lowers: Vec<PathBuf>,
    pub(crate) upper: PathBuf,
    pub(crate) work: PathBuf,
}

impl Overlay {
    /// Make the upper and work directories in `area`. The upper directory becomes `/` as the step sees it,
    /// always root's with mode 0755: no layer says otherwise, since the root itself is in no layer.
    pub(crate) fn make(area: &Path, lowers: Vec<PathBuf>) -> Result<Self, BuildError> {
        use std::os::unix::fs::PermissionsExt as _;
        let (upper, work) = (area.join("upper"), area.join("work"));
        let wrap = |verb, path: &Path| {
            let path = path.to_owned();
            move |source: std::io::Error| BuildError::Context {
                verb,
                path,
                errno: source.raw_os_error().unwrap_or(0),
                source,
            }
        };
        std::fs::create_dir(&upper).map_err(wrap("create", &upper))?;
        std::fs::create_dir(&work).map_err(wrap("create", &work))?;
        let mode = std::fs::Permissions::from_mode(0o755);
        std::fs::set_permissions(&upper, mode).map_err(wrap("set the mode of", &upper))?;
        Ok(Self { lowers, upper, work })
    }

    pub(crate) fn root(&self) -> Root {
        Root::Overlay {
            lowers: self.lowers.clone(),
            upper: self.upper.clone(),
            work: self.work.clone(),
        }
    }
}

/// The trees of layers given bottom first, topmost first, made where they are missing. A layer with nothing
/// in it is left out. One that is there twice is mounted once, at its upper place: it hides all that it
/// could show at the lower one, and overlayfs refuses a directory that is given twice.
pub(crate) fn tree_paths(
    session: &Session<'_>,
    layers: &[Arc<Layer>],
) -> Result<Vec<PathBuf>, BuildError> {
    let store = session.deps.store.layers();
    let mut paths: Vec<PathBuf> = Vec::with_capacity(layers.len());
    for layer in store.stack(layers)?.iter().rev() {
        if layer.toc()?.is_empty() {
            continue;
        }
        let path = store.tree(layer)?;
        if !paths.contains(&path) {
            paths.push(path);
        }
    }
    Ok(paths)
}

fn spec(session: &Session<'_>, step: &RunStep, identity: &StepIdentity, root: Root) -> Spec {
    let options = session.options;
    let os = |text: &str| OsString::from(text);
    let mut env: Vec<_> = step.env.iter().map(|(n, v)| (os(n), os(v))).collect();
    let proxies = BuildArgs::new(&options.build_args).proxies();
    env.extend(proxies.iter().map(|(n, v)| (os(n), os(v))));
    if !step.env.iter().any(|(name, _)| &**name == "PATH") {
        env.push(("PATH".into(), DEFAULT_PATH.into()));
    }
    let hostname = hostname(options);
    let mut mounts = vec![
        file("/etc/resolv.conf", options.resolv_conf.clone(), 0o644, true),
        file("/etc/hosts", hosts(hostname, &options.extra_hosts), 0o644, true),
    ];
    if let Some((path, script)) = &step.script {
        mounts.push(file(path, script.clone(), 0o755, true));
    }
    Spec {
        root,
        mounts,
        process: Process {
            argv: step.argv.iter().map(|word| OsString::from(word.as_str())).collect(),
            env,
            cwd: PathBuf::from(step.cwd.as_str()),
        },
        identity: Identity {
            uid: identity.uid,
            gid: identity.gid,
            groups: identity.groups.clone(),
        },
        network: match step.network {
            NetworkMode::None => Network::None,
            NetworkMode::Default | NetworkMode::Host => Network::Host,
        },
        hostname: hostname.to_owned(),
        security: if step.insecure { Security::Insecure } else { Security::Sandbox },
        shm_size: options.shm_size_bytes,
        ulimits: options.ulimits.clone(),
        stdin: Stdin::Null,
        output: Output::Capture,
    }
}

fn file(target: &str, content: Vec<u8>, mode: u32, read_only: bool) -> Mount {
    let kind = MountKind::File { content, mode, uid: 0, gid: 0 };
    Mount { target: target.into(), read_only, kind }
}

fn hostname(options: &BuildOptions) -> &str {
    options.builder_argument(HOSTNAME_ARGUMENT).unwrap_or(HOSTNAME)
}

/// `/etc/hosts` as the reference writes it.
fn hosts(hostname: &str, extra: &[(String, String)]) -> Vec<u8> {
    let mut text =
        format!("127.0.0.1\tlocalhost {hostname}\n::1\tlocalhost ip6-localhost ip6-loopback\n");
    for (name, ip) in extra {
        text.extend([ip.as_str(), "\t", name.as_str(), "\n"]);
    }
    text.into_bytes()
}

/// The last setting of a name counts, and a home directory is always there.
fn finish_environment(spec: &mut Spec, identity: &StepIdentity) {
    let mut list = EnvList::default();
    for (name, value) in &spec.process.env {
        list.set(&*name.to_string_lossy(), &*value.to_string_lossy());
    }
    if list.value("HOME").is_none_or(str::is_empty) {
        list.set("HOME", &identity.home);
    }
    spec.process.env = list.pairs().iter().map(|(n, v)| ((&**n).into(), (&**v).into())).collect();
}

/// Outer targets before inner ones; of two mounts on one target the later one counts.
fn order_mounts(spec: &mut Spec) {
    let mut kept: Vec<Mount> = Vec::new();
    for mount in std::mem::take(&mut spec.mounts) {
        kept.retain(|m| m.target != mount.target);
        kept.push(mount);
    }
    kept.sort_by_key(|m| m.target.components().count());
    spec.mounts = kept;
}

/// What a program of another platform says that could not be started: that it could not be found, or not
/// be executed. If nothing here runs such programs, that is what is wrong.
fn foreign(at: &StepContext<'_>, scratch: &Path, error: BuildError) -> BuildError {
    let platform = at.platform();
    let unstarted = matches!(&error, BuildError::Step { exit: Exit::Code(126 | 127), .. });
    if !unstarted || platform.matches(&at.session.options.build_platform) {
        return error;
    }
    let can_run = at.session.deps.runner.can_run(&platform.os, &platform.architecture, scratch);
    can_run.err().map_or(error, BuildError::Foreign)
}

fn run(at: &StepContext<'_>, spec: &Spec, step: &RunStep) -> Result<(), BuildError> {
    let deps = at.session.deps;
    let mut output = |stream, data: &[u8]| {
        let stream = match stream {
            lapstrake_runner::Stream::Stdout => Stream::Stdout,
            lapstrake_runner::Stream::Stderr => Stream::Stderr,
        };
        deps.observer.event(Event::Output { id: at.id, stream, data });
    };
    let exit = deps.runner.run(spec, &mut output, deps.cancel);
    // A program that ended by itself has a result of its own; what was killed has none.
    if deps.cancel.is_cancelled() && !matches!(exit, Ok(Exit::Code(1..))) {
        return Err(BuildError::Cancelled);
    }
    match exit.map_err(BuildError::Run)? {
        Exit::Code(0) => Ok(()),
        exit => {
            let (command, kept, full) = (step.argv.join(" "), None, None);
            Err(BuildError::Step { command, exit, kept, full })
        }
    }
}
