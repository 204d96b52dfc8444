//! `RUN --mount`: what is mounted, and what of it counts for the key.

use super::agent::Agent;
use super::run::tree_paths;
use super::sources::Source;
use super::stage::StepContext;
use super::trees::EmptyTree;
use crate::copy::{Placement, Selected, Selector, Staging, place};
use crate::error::BuildError;
use crate::instruction::mount::{MountKind, Sharing};
use crate::key::{KeyEncoder, digest_selected};
use crate::plan::PlannedMount;
use lapstrake_layerstore::store::WorkArea;
use lapstrake_layerstore::store::{CacheMount, Sharing as StoreSharing};
use lapstrake_runner::{Mount, MountKind as Kind, Scratch, Spec};
use std::path::{Path, PathBuf};

/// Where secrets are found when no target is given.
const SECRETS_DIR: &str = "/run/secrets";
/// Where agents' sockets are found when no target is given.
const SSH_SOCKET: &str = "/run/buildkit/ssh_agent";
/// The build argument that keeps the caches of some builds apart from those of others.
const CACHE_NAMESPACE_ARGUMENT: &str = "BUILDKIT_CACHE_MOUNT_NS";
/// Mode of a new cache directory.
const CACHE_MODE: u32 = 0o755;
/// Mode of a tmpfs, as the kernel has it.
const TMPFS_MODE: u32 = 0o1777;
/// Mode of a secret's file.
const SECRET_MODE: u32 = 0o400;
/// Mode of an agent's socket whose owner is given.
const AGENT_MODE: u32 = 0o600;

/// A mount whose files are selected and hashed.
pub(crate) struct PreparedMount<'a> {
    plan: &'a PlannedMount,
    files: Option<Files<'a>>,
}

/// What a bind mount shows, or a new cache starts with.
struct Files<'a> {
    source: Source<'a>,
    selected: Vec<Selected>,
    path: String,
}

/// What a step holds on to while it runs.
#[derive(Debug)]
pub(crate) enum Held {
    /// A cache directory.
    Cache {
        /// Its full id.
        id: String,
        /// The directory, kept for this step.
        mount: CacheMount,
    },
    /// A socket before an agent.
    Agent(#[expect(dead_code, reason = "it ends when it is dropped")] Agent),
}

/// Select what the mount reads.
pub(crate) fn prepare<'s>(
    at: &StepContext<'s>,
    plan: &'s PlannedMount,
) -> Result<PreparedMount<'s>, BuildError> {
    let mount = &plan.mount;
    let reads = match mount.kind {
        MountKind::Bind => true,
        MountKind::Cache => mount.from.is_some(),
        MountKind::Tmpfs | MountKind::Secret | MountKind::Ssh => false,
    };
    if !reads {
        return Ok(PreparedMount { plan, files: None });
    }
    let source = Source::open(at, &plan.origin)?;
    let path = mount.source.clone().unwrap_or_default();
    let how = Selector { literal: true, ..Selector::default() };
    let selected = source.select(at.session, &[path.as_bytes()], &how)?;
    Ok(PreparedMount { plan, files: Some(Files { source, selected, path }) })
}

impl PreparedMount<'_> {
    /// The files that count for the key.
    pub(crate) fn read(&self) -> &[Selected] {
        match (self.plan.mount.kind, &self.files) {
            (MountKind::Bind, Some(files)) => &files.selected,
            _ => &[],
        }
    }

    /// What a step can see of the mount.
    pub(crate) fn add_to_key(&self, key: &mut KeyEncoder) {
        let mount = &self.plan.mount;
        let size = mount.size.map(|s| s.to_string());
        key.items(
            "mount",
            [
                mount.kind.name(),
                self.plan.target.as_str(),
                if mount.read_only { "ro" } else { "rw" },
                size.as_deref().unwrap_or_default(),
                mount.env.as_deref().unwrap_or_default(),
            ],
        );
        if let (MountKind::Bind, Some(files)) = (mount.kind, &self.files) {
            key.bytes("mounted files", digest_selected(&files.selected).as_bytes());
        }
    }
}

/// Add the mount to what the step gets.
pub(crate) fn apply(
    at: &StepContext<'_>,
    prepared: PreparedMount<'_>,
    area: &WorkArea,
    spec: &mut Spec,
    held: &mut Vec<Held>,
) -> Result<(), BuildError> {
    let plan = prepared.plan;
    match plan.mount.kind {
        MountKind::Bind => {
            let Some(files) = prepared.files else { return Ok(()) };
            let mut mount = bind(at, plan, files, area, spec.mounts.len())?;
            set_apart(&mut mount, &spec.mounts, area)?;
            spec.mounts.push(mount);
        }
        MountKind::Cache => {
            let source = cache(at, plan, prepared.files, held)?;
            let kind = Kind::Bind { source };
            let target = PathBuf::from(&plan.target);
            spec.mounts.push(Mount { target, read_only: plan.mount.read_only, kind });
        }
        MountKind::Tmpfs => spec.mounts.push(Mount {
            target: PathBuf::from(&plan.target),
            read_only: plan.mount.read_only,
            kind: Kind::Tmpfs { size: plan.mount.size, mode: TMPFS_MODE },
        }),
        MountKind::Secret => secret(at, plan, spec)?,
        MountKind::Ssh => ssh(at, plan, area, spec, held)?,
    }
    Ok(())
}

fn bind(
    at: &StepContext<'_>,
    plan: &PlannedMount,
    files: Files<'_>,
    area: &WorkArea,
    number: usize,
) -> Result<Mount, BuildError> {
    let (lowers, subpath) = match files.source {
        Source::Layers(_) => (tree_paths(at.session, files.source.layers())?, files.path.clone()),
        _ => materialised(at, files)?,
    };
    let scratch = if plan.mount.read_only {
        None
    } else {
        let base = area.path().join(format!("mount-{number}"));
        let overlay_dirs = Scratch { upper: base.join("upper"), work: base.join("work") };
        for dir in [&base, &overlay_dirs.upper, &overlay_dirs.work] {
            make_directory(dir)?;
        }
        Some(overlay_dirs)
    };
    let subpath = PathBuf::from("/").join(subpath.trim_start_matches('/'));
    let kind = Kind::Layers { lowers, subpath, scratch };
    Ok(Mount { target: PathBuf::from(&plan.target), read_only: plan.mount.read_only, kind })
}

/// Trees of two versions of a layer may have files in common, as hard links. A step that sees both must
/// not see that, and does not where one of them is an overlay: that has a device number of its own.
fn set_apart(mount: &mut Mount, others: &[Mount], area: &WorkArea) -> Result<(), BuildError> {
    let is_bare = |kind: &Kind| matches!(kind, Kind::Layers { lowers, scratch: None, .. } if lowers.len() == 1);
    if !is_bare(&mount.kind) || !others.iter().any(|other| is_bare(&other.kind)) {
        return Ok(());
    }
    if let Kind::Layers { lowers, .. } = &mut mount.kind {
        let empty = area.path().join(format!("empty-{}", others.len()));
        make_directory(&empty)?;
        lowers.push(empty);
    }
    Ok(())
}

fn make_directory(path: &Path) -> Result<(), BuildError> {
    std::fs::create_dir(path).map_err(|source| BuildError::Context {
        verb: "create",
        path: path.to_owned(),
        errno: source.raw_os_error().unwrap_or(0),
        source,
    })
}

/// Files of a context as a layer with a tree, and the path in it that is meant.
fn materialised(
    at: &StepContext<'_>,
    mut files: Files<'_>,
) -> Result<(Vec<PathBuf>, String), BuildError> {
    let store = at.session.deps.store;
    files.source.ensure_contents(at.session, &mut files.selected)?;
    let mut staging = Staging::over(&EmptyTree, 0);
    let Some(selected) = files.selected.first() else { return Ok((Vec::new(), String::new())) };
    let is_dir = selected.node.is_dir();
    // A fixed name, so that no name of the context can matter here.
    let dest = if is_dir { b"/d/".to_vec() } else { b"/f".to_vec() };
    let how = Placement { dest, owner: None, mode: None, now: 0 };
    place(&mut staging, selected, &how)?;
    if is_dir {
        // The mount shows the directory itself, with its own mode.
        let path = crate::tree::clean_from_root(b"d")?;
        staging.put(path, selected.node.clone())?;
    }
    let layer = store.layers().create(staging.into_entries()?)?;
    at.session.lease.hold(layer.short())?;
    let tree = store.layers().tree(&layer)?;
    Ok((vec![tree], if is_dir { "d".to_owned() } else { "f".to_owned() }))
}

/// The directory of a cache mount, kept until the step ends. Two mounts of one step that name the same
/// cache get the same directory, or they would wait for each other.
fn cache(
    at: &StepContext<'_>,
    plan: &PlannedMount,
    files: Option<Files<'_>>,
    held: &mut Vec<Held>,
) -> Result<PathBuf, BuildError> {
    let mount = &plan.mount;
    let mut id = mount
        .id
        .clone()
        .filter(|id| !id.is_empty())
        .unwrap_or_else(|| crate::glob::clean(&mount.target));
    if let Some(namespace) = at.session.options.builder_argument(CACHE_NAMESPACE_ARGUMENT) {
        id = format!("{namespace}/{id}");
    }
    if let Some(files) = &files {
        let digest = digest_selected(&files.selected);
        id = format!("{id}\0{}", blake3::hash(digest.as_bytes()).to_hex());
    }
    for other in held.iter() {
        match other {
            Held::Cache { id: other, mount } if *other == id => return Ok(mount.path().to_owned()),
            _ => {}
        }
    }
    let seed = match files {
        Some(files) => Some(seed_tree(at, files)?),
        None => None,
    };
    let sharing = match mount.sharing.unwrap_or_default() {
        Sharing::Shared => StoreSharing::Shared,
        Sharing::Private => StoreSharing::Private,
        Sharing::Locked => StoreSharing::Locked,
    };
    let mut fill = |dir: &Path| -> std::io::Result<()> {
        use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown};
        let (mut uid, mut gid, mut mode) = (0, 0, CACHE_MODE);
        if let Some(tree) = &seed {
            let like = tree.metadata()?;
            (uid, gid, mode) = (like.uid(), like.gid(), like.mode() & 0o7777);
        }
        chown(dir, Some(mount.uid.unwrap_or(uid)), Some(mount.gid.unwrap_or(gid)))?;
        let mode = mount.mode.unwrap_or(mode);
        std::fs::set_permissions(dir, std::fs::Permissions::from_mode(mode))?;
        match &seed {
            Some(tree) => copy_tree(tree, dir),
            None => Ok(()),
        }
    };
    let mut waiting = || {
        let message = format!("cache mount `{}` is in use: waiting for it", plan.target);
        at.session.deps.observer.event(crate::event::Event::Warning { message });
    };
    let got = at.session.deps.store.cache_mount(&id, sharing, &mut fill, &mut waiting)?;
    let path = got.path().to_owned();
    held.push(Held::Cache { id, mount: got });
    Ok(path)
}

/// A directory on disk that holds what a new cache starts with. Layers, too, are first made into one, since
/// several cannot be copied from.
fn seed_tree(at: &StepContext<'_>, files: Files<'_>) -> Result<PathBuf, BuildError> {
    let (lowers, subpath) = materialised(at, files)?;
    Ok(lowers.into_iter().next().unwrap_or_default().join(subpath))
}

/// Copy a tree of ours with owners, modes and times; devices are left out.
fn copy_tree(from: &Path, to: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::{MetadataExt as _, lchown, symlink};
    for entry in std::fs::read_dir(from)? {
        let entry = entry?;
        let (source, target) = (entry.path(), to.join(entry.file_name()));
        let meta = source.symlink_metadata()?;
        if meta.is_symlink() {
            symlink(std::fs::read_link(&source)?, &target)?;
            lchown(&target, Some(meta.uid()), Some(meta.gid()))?;
            continue;
        }
        if meta.is_dir() {
            std::fs::create_dir(&target)?;
            copy_tree(&source, &target)?;
        } else if meta.is_file() {
            std::fs::copy(&source, &target)?;
        } else {
            continue;
        }
        lchown(&target, Some(meta.uid()), Some(meta.gid()))?;
        std::fs::set_permissions(&target, meta.permissions())?;
        let times = std::fs::FileTimes::new().set_modified(meta.modified()?);
        std::fs::File::open(&target)?.set_times(times)?;
    }
    Ok(())
}

fn base_name(path: &str) -> &str {
    path.trim_end_matches('/').rsplit('/').next().unwrap_or(path)
}

fn secret(at: &StepContext<'_>, plan: &PlannedMount, spec: &mut Spec) -> Result<(), BuildError> {
    let mount = &plan.mount;
    let named = mount.id.as_deref().or(mount.source.as_deref()).filter(|id| !id.is_empty());
    let id = named.unwrap_or_else(|| base_name(&mount.target));
    let value = at.session.options.secrets.get(id);
    if value.is_none() && mount.required {
        return Err(BuildError::MissingInput { kind: "secret", id: id.to_owned() });
    }
    if let Some(name) = &mount.env {
        let text = String::from_utf8_lossy(value.map_or(&[][..], Vec::as_slice)).into_owned();
        spec.process.env.push((name.into(), text.into()));
        if mount.target.is_empty() {
            return Ok(());
        }
    }
    let Some(value) = value else { return Ok(()) };
    let target = if mount.target.is_empty() {
        format!("{SECRETS_DIR}/{}", base_name(id))
    } else {
        plan.target.clone()
    };
    let kind = Kind::File {
        content: value.clone(),
        mode: mount.mode.unwrap_or(SECRET_MODE),
        uid: mount.uid.unwrap_or(0),
        gid: mount.gid.unwrap_or(0),
    };
    spec.mounts.push(Mount { target: target.into(), read_only: true, kind });
    Ok(())
}

fn ssh(
    at: &StepContext<'_>,
    plan: &PlannedMount,
    area: &WorkArea,
    spec: &mut Spec,
    held: &mut Vec<Held>,
) -> Result<(), BuildError> {
    let mount = &plan.mount;
    let id = mount.id.as_deref().filter(|id| !id.is_empty()).unwrap_or("default");
    let Some(socket) = at.session.options.ssh.get(id) else {
        if mount.required {
            return Err(BuildError::MissingInput { kind: "ssh", id: id.to_owned() });
        }
        return Ok(());
    };
    let number = spec.mounts.iter().filter(|m| m.target.starts_with("/run/buildkit")).count();
    let target = if mount.target.is_empty() {
        format!("{SSH_SOCKET}.{number}")
    } else {
        plan.target.clone()
    };
    if !spec.process.env.iter().any(|(name, _)| name == "SSH_AUTH_SOCK") {
        spec.process.env.push(("SSH_AUTH_SOCK".into(), target.clone().into()));
    }
    let mut source = socket.clone();
    if mount.uid.is_some() || mount.gid.is_some() || mount.mode.is_some() {
        source = area.path().join(format!("agent.{}", held.len()));
        let owner = (mount.uid.unwrap_or(0), mount.gid.unwrap_or(0));
        let agent = Agent::listen(&source, socket, owner, mount.mode.unwrap_or(AGENT_MODE));
        held.push(Held::Agent(agent.map_err(|error| BuildError::Context {
            verb: "make a socket at",
            path: source.clone(),
            errno: error.raw_os_error().unwrap_or(0),
            source: error,
        })?));
    }
    let kind = Kind::Bind { source };
    spec.mounts.push(Mount { target: target.into(), read_only: false, kind });
    Ok(())
}
