//! From an image and flags to what the runner is asked for.

use super::{Args, overlaid};
use crate::error::CommandError;
use crate::session::{NamedImage, Session};
use crate::settings::named_variable;
use crate::wiring;
use lapstrake_layerstore::Lease;
use lapstrake_layerstore::layers::Layer;
use lapstrake_layerstore::oci::ContainerConfig;
use lapstrake_layerstore::store::WorkArea;
use lapstrake_layerstore::view::View;
use lapstrake_runner::{
    Identity, Mount, MountKind, Network, Output, Process, Root, Security, Spec, Stdin,
};
use std::ffi::OsString;
use std::io::IsTerminal;
use std::path::PathBuf;
use std::sync::Arc;

/// Where programs are looked for when the image does not say; docker's own default.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Everything that has to live as long as the program.
#[derive(Debug)]
pub(super) struct Prepared {
    pub(super) spec: Spec,
    _lease: Lease,
    _scratch: WorkArea,
}

/// Makes the layers' trees, a place for changes, and the specification.
pub(super) fn prepare(
    session: &Session,
    image: &NamedImage,
    args: &Args,
    network: Network,
) -> Result<Prepared, CommandError> {
    let lease = session.store.lease()?;
    let layers = session.store.image_layers(&image.record)?;
    lease.hold_layers(&layers)?;
    let scratch = session.store.work_dir()?;
    let config = session.store.image_config(&image.record)?.config;
    let argv = argv(args, &config, &image.typed)?;
    let (identity, home) =
        identity(session, &layers, args.user.as_deref().unwrap_or(&config.user))?;
    let mut spec = Spec::new(root(session, &layers, &scratch)?, argv);
    spec.mounts = mounts(args);
    spec.process =
        Process { env: environment(args, &config, home), cwd: cwd(args, &config), ..spec.process };
    spec.identity = identity;
    spec.network = network;
    spec.hostname.clone_from(&args.hostname);
    spec.security = if args.privileged { Security::Insecure } else { Security::Sandbox };
    spec.ulimits.clone_from(&args.ulimit);
    spec.shm_size = args.shm_size.unwrap_or(spec.shm_size);
    spec.stdin = Stdin::Inherit;
    spec.output = Output::Inherit;
    Ok(Prepared { spec, _lease: lease, _scratch: scratch })
}

fn root(
    session: &Session,
    layers: &[Arc<Layer>],
    scratch: &WorkArea,
) -> Result<Root, CommandError> {
    let mut lowers = Vec::new();
    for layer in session.store.layers().stack(layers)?.iter().rev() {
        if !layer.toc()?.is_empty() {
            lowers.push(session.store.layers().tree(layer)?);
        }
    }
    let directory = |name: &str| {
        let path = scratch.path().join(name);
        let made = std::fs::create_dir(&path).map(|()| path);
        made.map_err(|error| {
            CommandError::io(crate::error::Kind::Host, "cannot make room for changes", &error)
        })
    };
    Ok(Root::Overlay { lowers, upper: directory("upper")?, work: directory("work")? })
}

/// ENTRYPOINT and CMD as the image has them, or as the flags say. A new entry point does not get
/// the image's CMD, which was meant for the old one.
fn argv(args: &Args, config: &ContainerConfig, image: &str) -> Result<Vec<OsString>, CommandError> {
    let mut argv: Vec<String> = match args.entrypoint.as_deref() {
        None => config.entrypoint.clone(),
        Some("") => Vec::new(),
        Some(program) => vec![program.to_owned()],
    };
    match (args.command.is_empty(), &args.entrypoint) {
        (false, _) => argv.extend(args.command.iter().cloned()),
        (true, None) => argv.extend(config.cmd.iter().cloned()),
        (true, Some(_)) => {}
    }
    if argv.is_empty() {
        return Err(CommandError::usage(format!("{image} does not say what to run"))
            .hint("it has neither ENTRYPOINT nor CMD; name a program after the image"));
    }
    Ok(argv.into_iter().map(OsString::from).collect())
}

/// Whom the program runs as, and their home directory.
fn identity(
    session: &Session,
    layers: &[Arc<Layer>],
    user: &str,
) -> Result<(Identity, String), CommandError> {
    let view = View::new(layers.to_vec())?;
    let accounts = lapstrake_builder::exec::accounts(session.store.layers(), view)?;
    let found = accounts.step(user)?;
    Ok((Identity { uid: found.uid, gid: found.gid, groups: found.groups }, found.home))
}

fn environment(args: &Args, config: &ContainerConfig, home: String) -> Vec<(OsString, OsString)> {
    let mut env = overlaid(&config.env, &args.env);
    let defaults =
        [("PATH", DEFAULT_PATH.to_owned()), ("HOSTNAME", args.hostname.clone()), ("HOME", home)];
    // Programs draw on the terminal that they are given as its kind demands.
    let terminal = std::io::stdout().is_terminal().then(|| named_variable("TERM")).flatten();
    let terminal = terminal.map(|term| ("TERM", term.to_string_lossy().into_owned()));
    for (name, value) in defaults.into_iter().chain(terminal) {
        if !env.iter().any(|(known, _)| known == name) {
            env.push((name.to_owned(), value));
        }
    }
    env.into_iter().map(|(name, value)| (name.into(), value.into())).collect()
}

fn cwd(args: &Args, config: &ContainerConfig) -> PathBuf {
    let own = PathBuf::from(if config.working_dir.is_empty() { "/" } else { &config.working_dir });
    // A relative one starts at the image's own.
    args.workdir.as_ref().map_or_else(|| own.clone(), |dir| own.join(dir))
}

fn mounts(args: &Args) -> Vec<Mount> {
    let file = |target: &str, content: Vec<u8>| Mount {
        target: target.into(),
        read_only: false,
        kind: MountKind::File { content, mode: 0o644, uid: 0, gid: 0 },
    };
    let mut mounts = vec![
        file("/etc/hosts", hosts(&args.hostname, &args.add_host)),
        file("/etc/resolv.conf", wiring::resolv_conf()),
    ];
    mounts.extend(args.volume.iter().map(|volume| Mount {
        target: volume.target.clone(),
        read_only: volume.read_only,
        kind: MountKind::Bind {
            source: std::path::absolute(&volume.source).unwrap_or_else(|_| volume.source.clone()),
        },
    }));
    mounts
}

/// `/etc/hosts` as build steps have it (S-95).
fn hosts(hostname: &str, extra: &[(String, String)]) -> Vec<u8> {
    let mut text =
        format!("127.0.0.1\tlocalhost {hostname}\n::1\tlocalhost ip6-localhost ip6-loopback\n");
    text.extend(extra.iter().map(|(name, address)| format!("{address}\t{name}\n")));
    text.into_bytes()
}
