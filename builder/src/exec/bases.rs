//! Base images: from the store when it has them, else from where the caller fetches images.

use super::BuildDeps;
use super::board::{LayerName, StageResult};
use super::together::Together;
use crate::error::BuildError;
use crate::event::Event;
use crate::key::ChainId;
use crate::options::{BuildOptions, LAYOUT_SCHEME, LayoutImage, NamedContext};
use crate::plan::{BaseFacts, Found, ImageKey, ImagePlace};
use lapstrake_layerstore::DiffId;
use lapstrake_layerstore::digest::Digest;
use lapstrake_layerstore::layers::{Layer, Purpose};
use lapstrake_layerstore::oci::ImageConfig;
use lapstrake_layerstore::reference::Reference;
use lapstrake_layerstore::source::{LayoutSource, Seen};
use lapstrake_layerstore::store::{ImageRecord, Lease};
use lapstrake_layerstore::transfer::TransferError;
use lapstrake_layerstore::view::View;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// A base image that is in the store.
#[derive(Debug, Clone)]
struct BaseImage {
    facts: BaseFacts,
    /// Empty when the image was only looked at.
    layers: Vec<Arc<Layer>>,
    diff_ids: Vec<DiffId>,
    place: ImagePlace,
    config: Option<Digest>,
    manifest: Option<Digest>,
}

/// The images that a build starts from.
#[derive(Debug, Default)]
pub struct BaseTable {
    images: BTreeMap<ImageKey, BaseImage>,
}

impl BaseTable {
    /// What planning has to know of an image.
    pub fn facts(&self, image: &ImageKey) -> Option<&BaseFacts> {
        self.images.get(image).map(|base| &base.facts)
    }

    /// Digest of the image's config.
    pub(crate) fn digest(&self, image: &ImageKey) -> Option<String> {
        self.images.get(image)?.config.as_ref().map(Digest::to_string)
    }

    /// Get the images, all at once; those that programs run over come with their trees, which are made
    /// while they arrive. Where other stores share their results, it may well be that nothing runs.
    pub(crate) fn fetch(
        &mut self,
        wanted: &[ImageKey],
        run_over: &BTreeSet<ImageKey>,
        (options, deps, together): (&BuildOptions, &BuildDeps<'_>, &Together),
    ) -> Result<(), BuildError> {
        let fetch = |image: &ImageKey| {
            let runs = options.cache_from.is_empty() && run_over.contains(image);
            let purpose = if runs { Purpose::Run } else { Purpose::Keep };
            fetch(image, purpose, options, deps, together)
        };
        let fetched: Vec<Result<BaseImage, BuildError>> = match wanted {
            // The usual case is not worth a thread.
            [only] => vec![fetch(only)],
            all => std::thread::scope(|scope| {
                let threads: Vec<_> =
                    all.iter().map(|image| scope.spawn(move || fetch(image))).collect();
                let join = |thread: std::thread::ScopedJoinHandle<'_, _>| {
                    thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
                };
                threads.into_iter().map(join).collect()
            }),
        };
        for (image, base) in wanted.iter().zip(fetched) {
            self.images.insert(image.clone(), base?);
        }
        Ok(())
    }

    /// Where an image is.
    pub(crate) fn place(&self, image: &ImageKey) -> ImagePlace {
        self.images.get(image).map(|base| base.place).unwrap_or_default()
    }

    /// What a plan shows of an image.
    pub(crate) fn found(&self, image: &ImageKey) -> Found {
        let Some(base) = self.images.get(image) else { return Found::default() };
        Found {
            facts: base.facts.clone(),
            place: base.place,
            config: base.config.as_ref().map(Digest::to_string),
            manifest: base.manifest.as_ref().map(Digest::to_string),
        }
    }

    /// Look at the images where they are: nothing is fetched. Of an image that nobody knows, nothing is
    /// known, which is no error.
    pub(crate) fn look(
        &mut self,
        wanted: &[ImageKey],
        options: &BuildOptions,
        deps: &BuildDeps<'_>,
        lease: &Lease,
    ) -> Result<(), BuildError> {
        for image in wanted {
            let base = look(image, options, deps, lease)?;
            self.images.insert(image.clone(), base);
        }
        Ok(())
    }

    /// An image as the start of a stage.
    pub(crate) fn start(&self, image: &ImageKey) -> Result<StageResult, BuildError> {
        let base = self.image(image)?;
        Ok(StageResult {
            layers: base.layers.clone(),
            names: base.diff_ids.iter().copied().map(LayerName::Known).collect(),
            times: Vec::new(),
            chain: ChainId::base(&base.diff_ids),
        })
    }

    /// An image's files.
    pub(crate) fn view(&self, image: &ImageKey) -> Result<View, BuildError> {
        Ok(View::new(self.image(image)?.layers.clone())?)
    }

    fn image(&self, image: &ImageKey) -> Result<&BaseImage, BuildError> {
        let missing = || BuildError::BaseNotFound { reference: image.reference.clone() };
        self.images.get(image).ok_or_else(missing)
    }
}

fn fetch(
    image: &ImageKey,
    purpose: Purpose,
    options: &BuildOptions,
    deps: &BuildDeps<'_>,
    together: &Together,
) -> Result<BaseImage, BuildError> {
    let shown = image.reference.as_str();
    deps.observer.event(Event::BaseStarted { reference: shown });
    let (lease, mut from_store) = (&together.lease, true);
    // Whoever waits for another build to fetch it finds it in the store.
    let name = format!("{} {shown}", image.platform);
    let record = together.bases.get_or_try(&name, || {
        let local = if options.pull { None } else { local(image, deps)? };
        from_store = local.is_some();
        match (local, layout(image, options)) {
            (Some(record), _) => Ok(record),
            (None, Some(layout)) => from_layout(image, layout, purpose, deps, lease),
            (None, None) => from_source(image, purpose, deps, lease),
        }
    })?;
    deps.observer.event(Event::BaseResolved {
        reference: shown,
        config_digest: record.config.to_string(),
        local: from_store,
    });
    from_record(&record, deps, lease)
}

/// An image of the store.
fn from_record(
    record: &ImageRecord,
    deps: &BuildDeps<'_>,
    lease: &Lease,
) -> Result<BaseImage, BuildError> {
    let layers = deps.store.image_layers(record)?;
    for layer in &layers {
        lease.hold(layer.short())?;
    }
    let config = deps.store.image_config(record)?;
    Ok(BaseImage {
        layers,
        place: ImagePlace::Store,
        config: Some(record.config),
        manifest: record.manifest.as_ref().map(|manifest| manifest.digest),
        ..from_config(config)
    })
}

/// What the config says, and nothing else.
fn from_config(config: ImageConfig) -> BaseImage {
    let platform = Some(config.platform());
    let (config, rootfs, history, author) =
        (config.config, config.rootfs, config.history, config.author);
    BaseImage {
        facts: BaseFacts { config, history, author, platform },
        layers: Vec::new(),
        diff_ids: rootfs.diff_ids,
        place: ImagePlace::Registry,
        config: None,
        manifest: None,
    }
}

fn look(
    image: &ImageKey,
    options: &BuildOptions,
    deps: &BuildDeps<'_>,
    lease: &Lease,
) -> Result<BaseImage, BuildError> {
    let shown = image.reference.as_str();
    let local = local(image, deps)?;
    if let (Some(record), false) = (&local, options.pull) {
        return from_record(record, deps, lease);
    }
    let unknown = BaseImage {
        facts: BaseFacts::default(),
        place: ImagePlace::Unknown,
        ..from_config(ImageConfig::default())
    };
    let seen = seen(image, options, deps)?;
    match (seen, local) {
        (None, Some(record)) => from_record(&record, deps, lease),
        (None, None) => Ok(unknown),
        (Some(seen), Some(record)) if record.config == seen.config => {
            from_record(&record, deps, lease)
        }
        (Some(seen), _) => {
            let config = ImageConfig::parse(&seen.config_bytes).map_err(|source| {
                BuildError::plan(format!("the config of {shown} cannot be read: {source}"))
            })?;
            let (config_digest, manifest) = (Some(seen.config), Some(seen.manifest));
            Ok(BaseImage { config: config_digest, manifest, ..from_config(config) })
        }
    }
}

/// What can be seen of an image without fetching it; that it cannot be seen is a warning.
fn seen(
    image: &ImageKey,
    options: &BuildOptions,
    deps: &BuildDeps<'_>,
) -> Result<Option<Seen>, BuildError> {
    if let Some(layout) = layout(image, options) {
        let source = LayoutSource::new(&layout.directory);
        return source
            .look_named(&layout.image, &image.platform)
            .map_err(|source| layout_failed(image, source));
    }
    match deps.images.look(&parsed(image)?, &image.platform) {
        Ok(seen) => Ok(seen),
        Err(error) => {
            let cause = std::error::Error::source(&error).map(|e| format!(": {e}"));
            let message =
                format!("{error}{}; the plan is made without it", cause.unwrap_or_default());
            deps.observer.event(Event::Warning { message });
            Ok(None)
        }
    }
}

fn parsed(image: &ImageKey) -> Result<Reference, BuildError> {
    let shown = image.reference.as_str();
    Reference::parse(shown)
        .map_err(|e| BuildError::plan(format!("invalid reference format: {shown}: {e}")))
}

fn layout_failed(image: &ImageKey, source: TransferError) -> BuildError {
    BuildError::Layout { reference: image.reference.clone(), source: Box::new(source) }
}

/// The image from where the caller fetches images.
fn from_source(
    image: &ImageKey,
    purpose: Purpose,
    deps: &BuildDeps<'_>,
    lease: &Lease,
) -> Result<ImageRecord, BuildError> {
    let shown = image.reference.as_str();
    let reference = parsed(image)?;
    let failed = |source| {
        let (reference, source) = (shown.to_owned(), Box::new(source));
        BuildError::Base { reference, source }
    };
    let fetched = deps.images.fetch(&reference, &image.platform, deps.store, lease, purpose);
    fetched.map_err(failed)?.ok_or_else(|| BuildError::BaseNotFound { reference: shown.to_owned() })
}

/// The directory that holds the image, if a named context says that one does.
fn layout<'o>(image: &ImageKey, options: &'o BuildOptions) -> Option<&'o LayoutImage> {
    let mut contexts = options.named_contexts.values();
    contexts.find_map(|context| match context {
        NamedContext::Layout(layout) if layout.name() == image.reference => Some(layout),
        _ => None,
    })
}

/// The image from a directory in OCI layout.
fn from_layout(
    image: &ImageKey,
    layout: &LayoutImage,
    purpose: Purpose,
    deps: &BuildDeps<'_>,
    lease: &Lease,
) -> Result<ImageRecord, BuildError> {
    let source = LayoutSource::new(&layout.directory);
    let found = source.fetch_named(&layout.image, &image.platform, deps.store, lease, purpose);
    found
        .map_err(|source| layout_failed(image, source))?
        .ok_or_else(|| BuildError::BaseNotFound { reference: image.reference.clone() })
}

/// The image as the store has it, when it is for the wanted platform.
fn local(image: &ImageKey, deps: &BuildDeps<'_>) -> Result<Option<ImageRecord>, BuildError> {
    if image.reference.starts_with(LAYOUT_SCHEME) {
        return Ok(None);
    }
    let Some((_, record)) = deps.store.resolve(&image.reference)? else { return Ok(None) };
    Ok(record.for_platform(&image.platform))
}
