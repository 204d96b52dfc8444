//! `lap build`: from a Dockerfile to an image in the store, and from there to wherever it shall go.
//!
//! ```text
//! args ▶ inputs, outputs (checked before anything happens) ▶ build ▶ tag ▶ outputs ▶ push
//! ```

mod annotations;
mod args;
mod caches;
mod deferred;
mod export;
mod foreign;
mod inputs;
mod locate;
mod outputs;
mod plan;
mod platforms;
mod report;
mod surroundings;
mod verify;

pub(crate) use args::Args;
pub(crate) use export::to_file;
pub(crate) use inputs::{
    DOCKERFILE_BYTES_MAX, Given, build_args, context_ignore_file, default_dockerfile,
    read as read_inputs, read_bounded,
};
pub(crate) use outputs::Dest;

use crate::error::CommandError;
use crate::exit::Exit;
use crate::session::Session;
use crate::settings::Settings;
use crate::signals::Interrupts;
use crate::storage::Keeper;
use crate::ui::terminal::note;
use crate::wiring;
use deferred::Deferred;
use lapstrake_builder::BuildOptions;
use lapstrake_builder::exec::{BuildOutcome, Fetcher};
use lapstrake_builder::plan::epoch as epoch_of;
use lapstrake_layerstore::compress::Compression;
use lapstrake_layerstore::oci::Platform;
use lapstrake_layerstore::reference::Reference;
use lapstrake_layerstore::store::{
    Annotated, Annotation, Annotations, ImageRecord, Lease, ManifestOptions,
};
use outputs::{Form, Output};
use std::time::Instant;
use surroundings::World;

/// Builds, tags, exports, pushes.
pub(crate) fn run(args: &Args, settings: Settings) -> Result<Exit, CommandError> {
    let begun = Instant::now();
    foreign::check(&args.foreign)?;
    let wanted = Wanted::parse(args)?;
    let (mut options, deferred) = options(args, &settings, &wanted)?;
    wanted.check(options.epoch)?;
    if let (Some(format), None) = (args.foreign.wants_check(), &deferred) {
        return crate::commands::check::run_for_build(&options, format);
    }
    let session = Session::open(settings)?;
    let interrupts = Interrupts::watch()?;
    if let (Some(format), None) = (args.plan, &deferred) {
        let world = World::new(&session, args, &interrupts, &lapstrake_registry::Silent);
        return plan::show(&world, &mut options, &wanted.platforms, format);
    }
    let _keeper = Keeper::start(&session, args.keep_storage)?;
    let reporter = report::Reporter::new(args, &session.settings, begun)?;
    let done =
        reported(&session, args, &wanted, (options, deferred), (&interrupts, &reporter), begun);
    done.map_err(|error| reporter.failed(error))
}

/// Does what was asked for, from the moment on when someone hears of it.
fn reported(
    session: &Session,
    args: &Args,
    wanted: &Wanted,
    (mut options, deferred): (BuildOptions, Option<Deferred>),
    (interrupts, reporter): (&Interrupts, &report::Reporter),
    begun: Instant,
) -> Result<Exit, CommandError> {
    let world = World::new(session, args, interrupts, reporter);
    let _lease = match deferred {
        None => None,
        Some(deferred) => Some(fetch(session, (&mut options, deferred), reporter, &world)?),
    };
    if let Some(format) = args.foreign.wants_check() {
        return crate::commands::check::run_for_build(&options, format);
    }
    if let Some(format) = args.plan {
        return plan::show(&world, &mut options, &wanted.platforms, format);
    }
    let built = platforms::build(args, &options, &wanted.platforms, (reporter, &world));
    let delivered = built.and_then(|outcomes| {
        let image = deliver(session, args, wanted, &outcomes, reporter, options.epoch)?;
        reporter.finish(session, &outcomes, &image, wanted, begun.elapsed())
    });
    let written = reporter.write_timeline(&format!("lap build {}", args.context));
    delivered.and(written)?;
    Ok(Exit::OK)
}

/// Gives the image its names and brings it to where it shall go.
fn deliver(
    session: &Session,
    args: &Args,
    wanted: &Wanted,
    outcomes: &[BuildOutcome],
    reporter: &report::Reporter,
    epoch: Option<i64>,
) -> Result<ImageRecord, CommandError> {
    let mut image = match outcomes {
        [only] => only.image.clone(),
        all => ImageRecord::joined(all.iter().map(|outcome| outcome.image.clone()).collect()),
    };
    for name in &wanted.tags {
        session.store.tag(name, &image)?;
    }
    if wanted.needs_manifest(args) {
        let form = wanted.forms().next().cloned().unwrap_or_default();
        export::record(session, &mut image, &wanted.manifests(&form), wanted)?;
    }
    for output in &wanted.outputs {
        let write = || export::write(session, &mut image, output, wanted, epoch);
        reporter.timed(output.kind(), write)?;
    }
    if !wanted.pushes.is_empty() {
        let push = || export::push(session, &args.registry, &mut image, wanted, reporter);
        reporter.timed("push", push)?;
    }
    caches::export(session, &wanted.cache_to, outcomes);
    Ok(image)
}

/// What is to be done with the image.
#[derive(Debug)]
struct Wanted {
    tags: Vec<Reference>,
    platforms: Vec<Platform>,
    annotations: Vec<Annotation>,
    outputs: Vec<Output>,
    rewrites: Vec<bool>,
    cache_to: Vec<caches::To>,
    /// What is pushed, and in which form.
    pushes: Vec<(Reference, Form)>,
}

impl Wanted {
    fn parse(args: &Args) -> Result<Self, CommandError> {
        let mut tags =
            args.tag.iter().map(|tag| Reference::parse(tag)).collect::<Result<Vec<_>, _>>()?;
        let asked =
            args.output.iter().map(|text| outputs::parse(text)).collect::<Result<Vec<_>, _>>()?;
        let rewrites = asked.iter().filter_map(|asked| asked.rewrite_timestamp).collect();
        let outputs: Vec<Output> = asked.into_iter().map(|asked| asked.output).collect();
        let platforms = platforms::wanted(&args.platform)?;
        let annotations = annotations(&args.annotation)?;
        let cache_to = caches::targets(&args.cache_to)?;
        let pushed = pushes(args.push, &tags, &outputs)?;
        for output in &outputs {
            if let Output::Image { names, .. } = output {
                tags.extend(names.iter().cloned());
            }
        }
        tags.dedup();
        if let Some(pinned) = tags.iter().find(|tag| tag.digest().is_some()) {
            return Err(CommandError::usage(format!(
                "{pinned}: an image cannot be given a digest as its name"
            )));
        }
        let to_stdout = outputs.iter().filter(|output| output.is_stdout()).count();
        let texts = usize::from(args.quiet) + usize::from(args.explain.is_some());
        if to_stdout + texts > 1 {
            return Err(CommandError::usage("only one thing can go to standard output"));
        }
        Ok(Self { tags, platforms, annotations, outputs, rewrites, cache_to, pushes: pushed })
    }

    /// Refuses what cannot be had together.
    fn check(&self, epoch: Option<i64>) -> Result<(), CommandError> {
        let several = self.platforms.len() > 1;
        let one_only =
            |output: &&Output| matches!(output, Output::DockerArchive { .. } | Output::Tar { .. });
        if several && self.outputs.iter().any(|output| one_only(&output)) {
            return Err(CommandError::usage(
                "a docker archive and a tar of files hold one platform",
            )
            .hint("use type=oci or type=local, or build each platform on its own"));
        }
        let every = self.forms().flat_map(|form| &form.annotations).chain(&self.annotations);
        let of_index =
            |it: &Annotation| matches!(it.about, Annotated::Index | Annotated::IndexDescriptor);
        if !several && every.into_iter().any(of_index) {
            return Err(CommandError::usage(
                "an image for one platform has no index that could be annotated",
            ));
        }
        if epoch.is_some() && self.rewrites.contains(&false) {
            return Err(CommandError::usage(
                "rewrite-timestamp=false: with SOURCE_DATE_EPOCH layers have its times in any case",
            ));
        }
        if epoch.is_none() && self.rewrites.contains(&true) {
            note("warning: rewrite-timestamp has no effect without SOURCE_DATE_EPOCH");
        }
        Ok(())
    }

    /// How the outputs that have layers want them.
    fn forms(&self) -> impl Iterator<Item = &Form> {
        self.outputs.iter().filter_map(|output| match output {
            Output::OciArchive { form, .. }
            | Output::OciDirectory { form, .. }
            | Output::Image { form, .. } => Some(form),
            _ => None,
        })
    }

    /// Manifests of this form, with the annotations that all outputs have and its own.
    fn manifests(&self, form: &Form) -> ManifestOptions {
        let all = self.annotations.iter().chain(&form.annotations).cloned().collect();
        ManifestOptions {
            docker_types: form.docker_types,
            annotations: Annotations(all),
            ..ManifestOptions::new(export::compression(form))
        }
    }

    /// Whether someone sees a manifest before anything is exported: annotations stand in it, and the id
    /// of an image for several platforms is the digest of its index.
    fn needs_manifest(&self, args: &Args) -> bool {
        let several = self.platforms.len() > 1;
        let named = args.quiet || args.iidfile.is_some() || args.metadata_file.is_some();
        !self.annotations.is_empty() || (several && named)
    }
}

impl Wanted {
    /// How the first output that compresses layers wants them; pushes take gzip where nothing is
    /// said.
    fn compression(&self) -> Option<Compression> {
        let chosen = self.outputs.iter().find_map(|output| match output {
            Output::OciArchive { form, .. }
            | Output::OciDirectory { form, .. }
            | Output::Image { form, push: true, .. } => Some(form.clone()),
            _ => None,
        });
        chosen
            .or((!self.pushes.is_empty()).then(Default::default))
            .map(|form| export::compression(&form))
    }
}

/// What is pushed: each `-t` name, in the form of the first output that pushes and has no name of its
/// own, and the names of each output that pushes, in its form.
fn pushes(
    all: bool,
    tags: &[Reference],
    outputs: &[Output],
) -> Result<Vec<(Reference, Form)>, CommandError> {
    let pushing: Vec<(&[Reference], &Form)> = outputs
        .iter()
        .filter_map(|output| match output {
            Output::Image { names, push, form } if all || *push => Some((names.as_slice(), form)),
            _ => None,
        })
        .collect();
    if !all && pushing.is_empty() {
        return Ok(Vec::new());
    }
    let nameless = pushing.iter().find(|(names, _)| names.is_empty()).or(pushing.first());
    let form = nameless.map(|(_, form)| (*form).clone()).unwrap_or_default();
    let own =
        pushing.iter().flat_map(|(names, form)| names.iter().map(|name| (name, (*form).clone())));
    let every: Vec<_> = tags
        .iter()
        .map(|name| (name, form.clone()))
        .chain(own)
        .map(|(name, form)| (name.clone(), form))
        .collect();
    if every.is_empty() {
        return Err(CommandError::usage("there is nothing to push: the image has no name")
            .hint("name it with -t"));
    }
    Ok(every)
}

/// Fetches what the input still lacks into the store, where the lease keeps it.
fn fetch(
    session: &Session,
    (options, deferred): (&mut BuildOptions, Deferred),
    reporter: &report::Reporter,
    world: &World<'_>,
) -> Result<Lease, CommandError> {
    let lease = session.store.lease()?;
    let deps = world.deps(reporter);
    let fetcher = Fetcher::new(options, &deps, &lease);
    let fetched = deferred.fetch(&fetcher, &session.store, options.context.clone());
    let inputs = fetched.map_err(|error| world.error(|| error))?;
    options.dockerfile = inputs.dockerfile;
    options.dockerfile_name = inputs.name;
    options.context = inputs.context;
    options.ignore_file = inputs.ignore_file;
    options.epoch = epoch_of(options);
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
    let mut build_args = build_args(&args.build_arg)?;
    let epoch = surroundings::epoch(&mut build_args, settings)?;
    let (allow_host_network, allow_insecure) = surroundings::rights(&args.steps.allow)?;
    if args.steps.jobs == Some(0) {
        return Err(CommandError::usage("--jobs must be at least 1"));
    }
    let mut options = BuildOptions {
        dockerfile: inputs.dockerfile,
        dockerfile_name: inputs.name,
        context: inputs.context,
        ignore_file: inputs.ignore_file,
        named_contexts: inputs::named_contexts(&args.build_context)?,
        build_args,
        labels: args.label.clone(),
        target: args.target.clone().filter(|target| !target.is_empty()),
        platform: wanted.platforms[0].clone(),
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
        cache_from: caches::sources(&args.cache_from)?,
        keep_failed: args.steps.keep_failed,
        rehearsal: false,
        debug_shell: args.steps.debug_shell && surroundings::has_terminal(),
    };
    options.epoch = epoch_of(&options);
    Ok((options, deferred))
}

fn annotations(given: &[String]) -> Result<Vec<Annotation>, CommandError> {
    let wrong = |text: &str, why| CommandError::usage(format!("--annotation {text}: {why}"));
    let parsed = given.iter().map(|text| annotations::parse(text).map_err(|why| wrong(text, why)));
    Ok(parsed.collect::<Result<Vec<_>, _>>()?.concat())
}
