//! Base images: from the store when it has them, else from where the caller fetches images.

use super::BuildDeps;
use super::board::{LayerName, StageResult};
use crate::error::BuildError;
use crate::event::Event;
use crate::key::ChainId;
use crate::options::BuildOptions;
use crate::plan::{BaseFacts, ImageKey};
use lapstrake_layerstore::DiffId;
use lapstrake_layerstore::layers::Layer;
use lapstrake_layerstore::reference::Reference;
use lapstrake_layerstore::store::{ImageRecord, Lease};
use lapstrake_layerstore::view::View;
use std::collections::BTreeMap;
use std::sync::Arc;

/// A base image that is in the store.
#[derive(Debug, Clone)]
struct BaseImage {
    facts: BaseFacts,
    config_digest: String,
    layers: Vec<Arc<Layer>>,
    diff_ids: Vec<DiffId>,
}

/// The images that a build starts from.
#[derive(Debug, Default)]
pub struct BaseTable {
    images: BTreeMap<ImageKey, BaseImage>,
}

impl BaseTable {
    /// Whether the image is here.
    pub fn has(&self, image: &ImageKey) -> bool {
        self.images.contains_key(image)
    }

    /// What planning has to know of an image.
    pub fn facts(&self, image: &ImageKey) -> Option<&BaseFacts> {
        self.images.get(image).map(|base| &base.facts)
    }

    /// Digest of the image's config.
    pub(crate) fn digest(&self, image: &ImageKey) -> Option<String> {
        self.images.get(image).map(|base| base.config_digest.clone())
    }

    /// Get the images, all at once.
    pub(crate) fn fetch(
        &mut self,
        wanted: &[ImageKey],
        options: &BuildOptions,
        deps: &BuildDeps<'_>,
        lease: &Lease,
    ) -> Result<(), BuildError> {
        let fetched: Vec<Result<BaseImage, BuildError>> = match wanted {
            // The usual case is not worth a thread.
            [only] => vec![fetch(only, options, deps, lease)],
            all => std::thread::scope(|scope| {
                let threads: Vec<_> = all
                    .iter()
                    .map(|image| scope.spawn(move || fetch(image, options, deps, lease)))
                    .collect();
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
    options: &BuildOptions,
    deps: &BuildDeps<'_>,
    lease: &Lease,
) -> Result<BaseImage, BuildError> {
    let shown = image.reference.as_str();
    deps.observer.event(Event::BaseStarted { reference: shown });
    let reference = Reference::parse(shown)
        .map_err(|e| BuildError::plan(format!("invalid reference format: {shown}: {e}")))?;
    let local = if options.pull { None } else { local(image, deps)? };
    let from_store = local.is_some();
    let record = match local {
        Some(record) => record,
        None => deps
            .images
            .fetch(&reference, &image.platform, deps.store, lease)
            .map_err(|source| BuildError::Base {
                reference: shown.to_owned(),
                source: Box::new(source),
            })?
            .ok_or_else(|| BuildError::BaseNotFound { reference: shown.to_owned() })?,
    };
    let layers = deps.store.image_layers(&record)?;
    for layer in &layers {
        lease.hold(layer.short())?;
    }
    let config = deps.store.image_config(&record)?;
    deps.observer.event(Event::BaseResolved {
        reference: shown,
        config_digest: record.config.to_string(),
        local: from_store,
    });
    let platform = Some(config.platform());
    let (config, rootfs, history, author) =
        (config.config, config.rootfs, config.history, config.author);
    Ok(BaseImage {
        facts: BaseFacts { config, history, author, platform },
        config_digest: record.config.to_string(),
        layers,
        diff_ids: rootfs.diff_ids,
    })
}

/// The image as the store has it, when its platform is the wanted one.
fn local(image: &ImageKey, deps: &BuildDeps<'_>) -> Result<Option<ImageRecord>, BuildError> {
    let Some((_, record)) = deps.store.resolve(&image.reference)? else { return Ok(None) };
    let platform = deps.store.image_config(&record)?.platform();
    Ok(image.platform.matches(&platform).then_some(record))
}
