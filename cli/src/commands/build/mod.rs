//! `lap build`: from a Dockerfile to an image in the store, and from there to wherever it shall go.
//!
//! ```text
//! args ▶ inputs, outputs (checked before anything happens) ▶ build ▶ tag ▶ outputs ▶ push
//! ```

mod args;
mod deferred;
mod export;
mod foreign;
mod inputs;
mod locate;
mod outputs;
mod plan;
mod report;
mod surroundings;

pub(crate) use args::Args;
pub(crate) use export::to_file;
pub(crate) use inputs::{
    DOCKERFILE_BYTES_MAX, Given, build_args, context_ignore_file, default_dockerfile,
    read as read_inputs, read_bounded,
};
pub(crate) use outputs::Dest;

use crate::error::{CommandError, Kind};
use crate::exit::Exit;
use crate::session::Session;
use crate::settings::Settings;
use crate::signals::Interrupts;
use crate::wiring;
use deferred::Deferred;
use lapstrake_builder::BuildOptions;
use lapstrake_builder::exec::{BuildDeps, BuildOutcome, Fetcher};
use lapstrake_layerstore::compress::Compression;
use lapstrake_layerstore::oci::Platform;
use lapstrake_layerstore::reference::Reference;
use lapstrake_layerstore::store::Lease;
use outputs::Output;
use std::time::Instant;

/// Builds, tags, exports, pushes.
pub(crate) fn run(args: &Args, settings: Settings) -> Result<Exit, CommandError> {
    let begun = Instant::now();
    foreign::check(&args.foreign)?;
    let wanted = Wanted::parse(args)?;
    let (mut options, deferred) = options(args, &settings, &wanted)?;
    if let (Some(format), None) = (args.foreign.wants_check(), &deferred) {
        return crate::commands::check::run_for_build(&options, format);
    }
    let session = Session::open(settings)?;
    if let (Some(format), None) = (args.plan, &deferred) {
        return plan::show(&session, args, &options, format);
    }
    let interrupts = Interrupts::watch()?;
    let reporter = report::Reporter::new(args, &session.settings)?;
    let _lease = match deferred {
        None => None,
        Some(deferred) => {
            Some(fetch(&session, args, (&mut options, deferred), &reporter, &interrupts)?)
        }
    };
    if let Some(format) = args.foreign.wants_check() {
        return crate::commands::check::run_for_build(&options, format);
    }
    if let Some(format) = args.plan {
        return plan::show(&session, args, &options, format);
    }
    let outcome = build(&session, args, &options, &reporter, &interrupts);
    if let Some(format) = args.explain {
        reporter.explain(format, session.settings.now)?;
    }
    let outcome = outcome?;
    reporter.warnings(&outcome);
    let mut image = outcome.image.clone();
    for name in &wanted.tags {
        session.store.tag(name, &image)?;
    }
    for output in &wanted.outputs {
        export::write(&session, &mut image, output, &wanted, options.epoch)?;
    }
    if wanted.push {
        export::push(&session, &args.registry, &mut image, &wanted)?;
    }
    reporter.finish(&session, &outcome, &image, &wanted, begun.elapsed())?;
    Ok(Exit::OK)
}

/// What is to be done with the image.
#[derive(Debug)]
struct Wanted {
    tags: Vec<Reference>,
    outputs: Vec<Output>,
    push: bool,
}

impl Wanted {
    fn parse(args: &Args) -> Result<Self, CommandError> {
        let mut tags =
            args.tag.iter().map(|tag| Reference::parse(tag)).collect::<Result<Vec<_>, _>>()?;
        let outputs =
            args.output.iter().map(|text| outputs::parse(text)).collect::<Result<Vec<_>, _>>()?;
        let mut push = args.push;
        for output in &outputs {
            if let Output::Image { names, push: wanted, .. } = output {
                tags.extend(names.iter().cloned());
                push |= wanted;
            }
        }
        tags.dedup();
        if let Some(pinned) = tags.iter().find(|tag| tag.digest().is_some()) {
            return Err(CommandError::usage(format!(
                "{pinned}: an image cannot be given a digest as its name"
            )));
        }
        if push && tags.is_empty() {
            return Err(CommandError::usage("there is nothing to push: the image has no name")
                .hint("name it with -t"));
        }
        let to_stdout = outputs.iter().filter(|output| output.is_stdout()).count();
        let texts = usize::from(args.quiet) + usize::from(args.explain.is_some());
        if to_stdout + texts > 1 {
            return Err(CommandError::usage("only one thing can go to standard output"));
        }
        Ok(Self { tags, outputs, push })
    }
}

impl Wanted {
    /// How the first output that compresses layers wants them; pushes take gzip where nothing is
    /// said.
    fn compression(&self) -> Option<Compression> {
        let chosen = self.outputs.iter().find_map(|output| match output {
            Output::OciArchive { compression, .. }
            | Output::OciDirectory { compression, .. }
            | Output::Image { compression, push: true, .. } => Some(*compression),
            _ => None,
        });
        chosen.or(self.push.then(Default::default)).map(export::codec)
    }
}

fn build(
    session: &Session,
    args: &Args,
    options: &BuildOptions,
    reporter: &report::Reporter,
    interrupts: &Interrupts,
) -> Result<BuildOutcome, CommandError> {
    let images = wiring::LazyClient::new(&session.settings, &args.registry);
    let remotes = wiring::Remotes::new(&session.settings, &args.registry);
    let runner = surroundings::runner(session);
    let deps = BuildDeps {
        store: &session.store,
        runner: &*runner,
        images: &images,
        remotes: &remotes,
        observer: reporter,
        cancel: interrupts.cancel(),
    };
    lapstrake_builder::build(options, &deps)
        .map_err(|error| interrupts.error().unwrap_or_else(|| locate::explain(error, options)))
}

/// Fetches what the input still lacks into the store, where the lease keeps it.
fn fetch(
    session: &Session,
    args: &Args,
    (options, deferred): (&mut BuildOptions, Deferred),
    reporter: &report::Reporter,
    interrupts: &Interrupts,
) -> Result<Lease, CommandError> {
    let lease = session.store.lease()?;
    let images = wiring::LazyClient::new(&session.settings, &args.registry);
    let remotes = wiring::Remotes::new(&session.settings, &args.registry);
    let runner = surroundings::runner(session);
    let deps = BuildDeps {
        store: &session.store,
        runner: &*runner,
        images: &images,
        remotes: &remotes,
        observer: reporter,
        cancel: interrupts.cancel(),
    };
    let fetcher = Fetcher::new(options, &deps, &lease);
    let fetched = deferred.fetch(&fetcher, &session.store, options.context.clone());
    let inputs = fetched.map_err(|error| interrupts.error().unwrap_or(error))?;
    options.dockerfile = inputs.dockerfile;
    options.dockerfile_name = inputs.name;
    options.context = inputs.context;
    options.ignore_file = inputs.ignore_file;
    Ok(lease)
}

fn options(
    args: &Args,
    settings: &Settings,
    wanted: &Wanted,
) -> Result<(BuildOptions, Option<Deferred>), CommandError> {
    let (inputs, deferred) = match inputs::read(&args.context, args.file.as_deref())? {
        Given::Ready(inputs) => (inputs, None),
        Given::Deferred(deferred, context) => {
            let (dockerfile, name, ignore_file) = (Vec::new(), "Dockerfile".to_owned(), None);
            (inputs::Inputs { dockerfile, name, path: None, context, ignore_file }, Some(deferred))
        }
    };
    let over_ssh = args.context.starts_with("git@") || args.context.starts_with("ssh://");
    let mut ssh = inputs::ssh_sockets(&args.ssh, settings)?;
    if let (true, true, Some(agent)) = (over_ssh, ssh.is_empty(), &settings.ssh_auth_sock) {
        // As docker has it: who names such a context means the keys that open it.
        ssh.insert("default".to_owned(), agent.clone());
    }
    let build_args = build_args(&args.build_arg)?;
    let epoch = surroundings::epoch(&build_args, settings)?;
    let (allow_host_network, allow_insecure) = surroundings::rights(&args.steps.allow)?;
    if args.steps.jobs == Some(0) {
        return Err(CommandError::usage("--jobs must be at least 1"));
    }
    let options = BuildOptions {
        dockerfile: inputs.dockerfile,
        dockerfile_name: inputs.name,
        context: inputs.context,
        ignore_file: inputs.ignore_file,
        named_contexts: inputs::named_contexts(&args.build_context)?,
        build_args,
        labels: args.label.clone(),
        target: args.target.clone().filter(|target| !target.is_empty()),
        platform: platform(&args.platform)?,
        build_platform: Platform::host(),
        no_cache: args.no_cache,
        no_cache_filter: args.no_cache_filter.clone(),
        pull: args.pull,
        secrets: inputs::secrets(&args.secret)?,
        ssh,
        network: surroundings::network(&args.steps.network)?,
        allow_host_network,
        allow_insecure,
        extra_hosts: args.steps.add_host.clone(),
        ulimits: args.steps.ulimit.clone(),
        shm_size_bytes: args.steps.shm_size.unwrap_or(lapstrake_runner::SHM_SIZE_DEFAULT_BYTES),
        resolv_conf: wiring::resolv_conf(),
        epoch,
        now: settings.now,
        jobs: args.steps.jobs.unwrap_or_else(wiring::steps_at_once),
        compression: wanted.compression(),
    };
    Ok((options, deferred))
}

fn platform(given: &[String]) -> Result<Platform, CommandError> {
    match given {
        [] => Ok(Platform::host()),
        [one] if one == "local" => Ok(Platform::host()),
        [one] => one.parse().map_err(|error| CommandError::chain(Kind::Usage, &error)),
        _ => {
            Err(CommandError::usage("building for several platforms at once is not supported yet")
                .hint("build each platform on its own"))
        }
    }
}
