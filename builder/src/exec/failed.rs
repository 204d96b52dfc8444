//! What becomes of a RUN that failed, where that was asked for: a shell in its root, and its files as an
//! image.
//!
//! Both are for people who look for the reason; that one of them cannot be had is a warning, and the
//! step's own error stays.

use super::board::{LayerName, lock};
use super::run::Overlay;
use super::stage::StepContext;
use crate::error::BuildError;
use crate::event::Event;
use crate::plan::RunStep;
use lapstrake_layerstore::layers::UpperOptions;
use lapstrake_layerstore::oci::{ContainerConfig, History, ImageConfig, RootFs};
use lapstrake_layerstore::reference::Reference;
use lapstrake_layerstore::view::View;
use lapstrake_runner::{Output, Root, Spec, Stdin};
use std::path::{Path, PathBuf};

/// What a shell in a failed step is.
const SHELL: &str = "/bin/sh";
/// The repository whose tags are kept steps.
const KEPT: &str = "failed-step";
/// With less than this a file system counts as full: what did not fit may have been larger than the rest, and
/// the shell's last words and the store's own records take some of it.
const ROOM_BYTES_MIN: u64 = 1 << 20;
/// Characters of an image's id that make its tag.
const KEPT_ID_CHARS: usize = 12;

/// Does for a failed step what the options ask, and says in its error where its files are.
pub(crate) fn look_into(
    at: &StepContext<'_>,
    step: &RunStep,
    spec: &Spec,
    (overlay, view): (&Overlay, &View),
    error: BuildError,
) -> BuildError {
    let BuildError::Step { command, exit, .. } = error else { return error };
    // Asked before anything else: what the step wrote goes when its work area does.
    let full = is_full(at.session.deps.store.root());
    let options = at.session.options;
    let warn = |what: &str, error: &dyn std::fmt::Display| {
        let message = format!("{what}: {error}");
        at.session.deps.observer.event(Event::Warning { message });
    };
    if options.debug_shell {
        let cannot = |error| warn("no shell in the failed step", &error);
        shell(at, spec, overlay).unwrap_or_else(cannot);
    }
    let kept = options.keep_failed.then(|| keep(at, step, overlay, view));
    let kept = kept.and_then(|kept| {
        kept.map_err(|error| warn("the failed step's files cannot be kept", &error)).ok()
    });
    BuildError::Step { command, exit, kept, full }
}

/// The directory, if nothing more can be written there. That it cannot be asked says nothing.
fn is_full(root: &Path) -> Option<PathBuf> {
    let stat = rustix::fs::statvfs(root).ok()?;
    // File systems that make inodes as they need them have none to count.
    let no_names = stat.f_files > 0 && stat.f_ffree == 0;
    let no_room = stat.f_bavail.saturating_mul(stat.f_frsize) < ROOM_BYTES_MIN;
    (no_room || no_names).then(|| root.to_owned())
}

/// A shell on the terminal with the step's files, environment, user and mounts. One at a time.
fn shell(at: &StepContext<'_>, spec: &Spec, overlay: &Overlay) -> Result<(), BuildError> {
    let deps = at.session.deps;
    let _terminal = lock(&at.session.together.terminal);
    // Overlays that are not synced want a work directory that no mount had before.
    let work = overlay.work.with_extension("shell");
    std::fs::create_dir(&work).map_err(|source| BuildError::Context {
        verb: "create",
        path: work.clone(),
        errno: source.raw_os_error().unwrap_or(0),
        source,
    })?;
    let mut spec = spec.clone();
    spec.root =
        Root::Overlay { lowers: overlay.lowers.clone(), upper: overlay.upper.clone(), work };
    spec.process.argv = vec![SHELL.into()];
    (spec.stdin, spec.output) = (Stdin::Inherit, Output::Inherit);
    let message = format!("{SHELL} in the root of the failed step; the build ends when it does");
    deps.observer.event(Event::Warning { message });
    deps.runner.run(&spec, &mut |_, _| {}, deps.cancel).map(drop).map_err(BuildError::Run)
}

/// The step's files as the top layer of an image that starts a shell; the image's name.
fn keep(
    at: &StepContext<'_>,
    step: &RunStep,
    overlay: &Overlay,
    view: &View,
) -> Result<String, BuildError> {
    let (session, store) = (at.session, at.session.deps.store);
    let upper: &Path = &overlay.upper;
    let layer = store.layers().create_from_upper(upper, view, &UpperOptions::default())?;
    session.lease.hold(layer.short())?;
    let mut stage = at.below.clone();
    stage.layers.push(layer);
    stage.names.push(LayerName::At(None));
    let diff_ids = session.digests.all(&stage, session.deps.observer)?;
    let below = diff_ids.len() - 1;
    let mut history = vec![History { created_by: "FROM".into(), ..History::default() }; below];
    let created_by = format!("RUN {} # failed", step.argv.join(" "));
    history.push(History { created_by, ..History::default() });
    let mut config = ImageConfig {
        config: ContainerConfig {
            user: step.user.to_string(),
            env: step.env.iter().map(|(name, value)| format!("{name}={value}")).collect(),
            cmd: vec![SHELL.to_owned()],
            working_dir: step.cwd.to_string(),
            ..ContainerConfig::default()
        },
        history,
        rootfs: RootFs { diff_ids, ..RootFs::default() },
        ..ImageConfig::default()
    };
    config.set_platform(at.platform());
    let image = store.put_image(&config.to_json(), &stage.layers)?;
    let name = format!("{KEPT}:{}", &image.config.hex()[..KEPT_ID_CHARS]);
    let reference = Reference::parse(&name).expect("because the name is a plain one");
    store.tag(&reference, &image)?;
    Ok(name)
}
