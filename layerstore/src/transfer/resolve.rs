//! From the files of an archive or directory to the images in it, before anything is stored.

use std::sync::Arc;

use serde::Deserialize;

use super::{IMAGE_NAME, LoadOptions, REF_NAME, TransferError, members::BLOBS, members::Members};
use crate::{
    DiffId, Digest,
    limits::{CONFIG_BYTES_MAX, IMAGE_LAYERS_MAX, INDEX_DEPTH_MAX, MANIFEST_BYTES_MAX},
    oci::{Descriptor, DocumentError, ImageConfig, Index, Manifest, Platform, media_type},
    reference::Reference,
};

/// An image that is to be taken.
#[derive(Debug)]
pub(super) struct Planned {
    pub name: Option<Reference>,
    /// With which others it shares its name.
    pub family: Option<Family>,
    /// The manifest as it came; docker archives have none.
    pub manifest: Option<(Descriptor, Vec<u8>)>,
    pub config: Vec<u8>,
    pub layers: Vec<PlannedLayer>,
}

/// What joins the images of several platforms that are taken under one name.
#[derive(Debug, Clone)]
pub(super) struct Family {
    /// Which of the archive's names it is.
    pub number: usize,
    /// The index that they stand in, as it came.
    pub index: Option<Arc<WholeIndex>>,
}

/// An index as it came.
#[derive(Debug)]
pub(super) struct WholeIndex {
    pub descriptor: Descriptor,
    pub bytes: Vec<u8>,
}

/// A layer that is to be taken.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct PlannedLayer {
    /// The file.
    pub file: String,
    pub diff_id: DiffId,
    /// What the manifest says of its size.
    pub size: Option<u64>,
}

/// One name in an index, with everything that it may mean.
#[derive(Debug)]
struct Group {
    name: Option<Reference>,
    tag: Option<String>,
    /// What stands in the index itself.
    tops: Vec<Descriptor>,
    leaves: Vec<Descriptor>,
}

/// The images that the options ask for.
pub(super) fn plan(
    members: &dyn Members,
    options: &LoadOptions,
) -> Result<Vec<Planned>, TransferError> {
    let docker = members.bytes("manifest.json", MANIFEST_BYTES_MAX)?;
    let docker = docker.map(|bytes| docker_entries(&bytes)).transpose()?;
    let Some(index) = members.bytes("index.json", MANIFEST_BYTES_MAX)? else {
        let entries = docker.ok_or(TransferError::NotAnImage)?;
        return select(plan_docker(members, &entries)?, options);
    };
    let mut images = plan_oci(members, &index, options)?;
    if let Some(entries) = docker {
        name_by_docker(&mut images, members, &entries)?;
    }
    Ok(images)
}

/// Of a docker archive, which knows no platforms: by name.
fn select(mut images: Vec<Planned>, options: &LoadOptions) -> Result<Vec<Planned>, TransferError> {
    if let Some(wanted) = &options.select {
        images.retain(|image| image.name.as_ref() == Some(wanted));
        if images.is_empty() {
            return Err(TransferError::NotSelected { wanted: Box::new(wanted.clone()) });
        }
    }
    Ok(images)
}

fn blob_name(digest: &Digest) -> String {
    format!("{BLOBS}{}", digest.hex())
}

fn document(name: &str) -> impl FnOnce(DocumentError) -> TransferError {
    let name = name.to_owned();
    move |source| TransferError::Document { name, source }
}

// --- OCI layouts ---

fn plan_oci(
    members: &dyn Members,
    index: &[u8],
    options: &LoadOptions,
) -> Result<Vec<Planned>, TransferError> {
    let index = Index::parse(index).map_err(document("index.json"))?;
    let mut groups = groups(members, &index)?;
    if let Some(wanted) = &options.select {
        groups.retain(|group| is_wanted(group, wanted));
        if groups.is_empty() {
            return Err(TransferError::NotSelected { wanted: Box::new(wanted.clone()) });
        }
    }
    if let Some(chosen) = &options.choose {
        choose(&mut groups, chosen)?;
    }
    let mut images = Vec::new();
    for (number, group) in groups.iter().enumerate() {
        let leaves = pick(members, &group.leaves, options)?;
        let family = match leaves.len() {
            1 => None,
            _ => Some(Family { number, index: whole_index(members, group)? }),
        };
        for leaf in leaves {
            let planned = plan_manifest(members, group.name.clone(), leaf)?;
            images.push(Planned { family: family.clone(), ..planned });
        }
    }
    if images.is_empty() {
        return Err(TransferError::NoneNamed);
    }
    Ok(images)
}

/// The index that the whole group stands in, if it is a single one.
fn whole_index(
    members: &dyn Members,
    group: &Group,
) -> Result<Option<Arc<WholeIndex>>, TransferError> {
    let [top] = group.tops.as_slice() else { return Ok(None) };
    if !media_type::is_index(&top.media_type) {
        return Ok(None);
    }
    let bytes = required(members, &blob_name(&top.digest), MANIFEST_BYTES_MAX, "index.json")?;
    let descriptor = Descriptor::new(top.media_type.clone(), top.digest, bytes.len() as u64);
    Ok(Some(Arc::new(WholeIndex { descriptor, bytes })))
}

fn is_wanted(group: &Group, wanted: &Reference) -> bool {
    match &group.name {
        Some(name) => name == wanted,
        None => group.tag.is_some() && group.tag.as_deref() == wanted.tag(),
    }
}

/// Leaves the group with this tag, or the one with this digest in it; with neither, the only one, else
/// `latest`.
fn choose(groups: &mut Vec<Group>, chosen: &str) -> Result<(), TransferError> {
    if let Ok(digest) = chosen.parse::<Digest>() {
        let at_top = |group: &Group| group.tops.iter().any(|top| top.digest == digest);
        groups
            .retain(|group| at_top(group) || group.leaves.iter().any(|leaf| leaf.digest == digest));
        for group in groups.iter_mut().filter(|group| !at_top(group)) {
            group.leaves.retain(|leaf| leaf.digest == digest);
        }
    } else if !(chosen.is_empty() && groups.len() == 1) {
        let wanted = if chosen.is_empty() { "latest" } else { chosen };
        let tag = |group: &Group| {
            let named = group.name.as_ref().and_then(|name| name.tag().map(str::to_owned));
            group.tag.clone().or(named)
        };
        groups.retain(|group| tag(group).as_deref() == Some(wanted));
    }
    groups.truncate(1);
    if groups.is_empty() {
        return Err(TransferError::NotChosen { wanted: chosen.to_owned() });
    }
    Ok(())
}

/// The top of the index, by name: what shares a name is one image for several platforms.
fn groups(members: &dyn Members, index: &Index) -> Result<Vec<Group>, TransferError> {
    let mut groups: Vec<Group> = Vec::new();
    let has_image = index.manifests.iter().any(|top| !is_beside(members, top));
    for top in &index.manifests {
        // What belongs to an image lies beside it; alone, it is said to be no image.
        if top.is_attestation() || (has_image && is_beside(members, top)) {
            continue;
        }
        let (name, tag) = name_of(top);
        let mut leaves = Vec::new();
        collect_leaves(members, top, 1, &mut leaves)?;
        let named = name.is_some() || tag.is_some();
        let known = groups.iter_mut().find(|group| {
            (named || top.platform.is_some()) && group.name == name && group.tag == tag
        });
        match known {
            Some(group) => {
                group.tops.push(top.clone());
                group.leaves.extend(leaves);
            }
            None => groups.push(Group { name, tag, tops: vec![top.clone()], leaves }),
        }
    }
    Ok(groups)
}

/// Is it a signature, a list of contents or another artifact, which tools store beside the image that
/// they are about?
fn is_beside(members: &dyn Members, top: &Descriptor) -> bool {
    top.is_attestation()
        || !media_type::is_index(&top.media_type)
            && read_manifest(members, top).is_err_and(|error| is_no_image(&error))
}

fn is_no_image(error: &TransferError) -> bool {
    matches!(error, TransferError::Document { source: DocumentError::NoImage { .. }, .. })
}

/// The full name, or only a tag.
fn name_of(top: &Descriptor) -> (Option<Reference>, Option<String>) {
    let full = top.annotations.get(IMAGE_NAME).and_then(|text| Reference::parse(text).ok());
    let short = top.annotations.get(REF_NAME);
    let from_short = || {
        let text = short.filter(|text| text.contains(['/', ':', '@']))?;
        Reference::parse(text).ok()
    };
    let name = full.or_else(from_short);
    let tag = if name.is_some() { None } else { short.cloned() };
    (name, tag)
}

fn collect_leaves(
    members: &dyn Members,
    descriptor: &Descriptor,
    depth: usize,
    leaves: &mut Vec<Descriptor>,
) -> Result<(), TransferError> {
    if !media_type::is_index(&descriptor.media_type) {
        leaves.push(descriptor.clone());
        return Ok(());
    }
    let name = blob_name(&descriptor.digest);
    if depth >= INDEX_DEPTH_MAX {
        return Err(TransferError::Nested { name, limit: INDEX_DEPTH_MAX });
    }
    let bytes = required(members, &name, MANIFEST_BYTES_MAX, "index.json")?;
    let index = Index::parse(&bytes).map_err(document(&name))?;
    for inner in index.manifests.iter().filter(|inner| !inner.is_attestation()) {
        collect_leaves(members, inner, depth + 1, leaves)?;
    }
    Ok(())
}

/// The manifests of one name that are to be taken: the best, or all in their order.
fn pick<'a>(
    members: &dyn Members,
    leaves: &'a [Descriptor],
    options: &LoadOptions,
) -> Result<Vec<&'a Descriptor>, TransferError> {
    let (mut there, mut other) = (Vec::new(), None);
    for leaf in leaves {
        if members.size(&blob_name(&leaf.digest))?.is_none() {
            continue;
        }
        match platform_of(members, leaf) {
            Ok(platform) => there.push((leaf, platform)),
            Err(error) if is_no_image(&error) => other = Some(error),
            Err(error) => return Err(error),
        }
    }
    if let (true, Some(error)) = (there.is_empty(), other) {
        return Err(error);
    }
    let platforms: Vec<Platform> = there.iter().map(|(_, platform)| platform.clone()).collect();
    let host = Platform::host();
    let wanted = options.platform.as_ref().unwrap_or(&host);
    let best = wanted.choose(&platforms);
    if options.all_platforms && !there.is_empty() {
        return Ok(there.into_iter().map(|(leaf, _)| leaf).collect());
    }
    match (best, there.as_slice()) {
        (Some(best), _) => Ok(vec![there[best].0]),
        // An archive of one image is taken as it is, unless a platform was asked for.
        (None, [(only, _)]) if options.platform.is_none() => Ok(vec![only]),
        (None, _) => Err(absent(leaves, &platforms, options)),
    }
}

fn absent(leaves: &[Descriptor], there: &[Platform], options: &LoadOptions) -> TransferError {
    if let (true, Some(leaf)) = (there.is_empty(), leaves.first()) {
        return TransferError::Missing { name: blob_name(&leaf.digest), by: "index.json".into() };
    }
    let mut offered: Vec<String> = there.iter().map(ToString::to_string).collect();
    offered.sort();
    offered.dedup();
    let offered = if offered.is_empty() { "none".into() } else { offered.join(", ") };
    TransferError::Platform { wanted: options.platform.clone().map(Box::new), offered }
}

/// What the index says, else what the config says.
fn platform_of(members: &dyn Members, leaf: &Descriptor) -> Result<Platform, TransferError> {
    if let Some(platform) = &leaf.platform {
        return Ok(platform.clone());
    }
    let (_, manifest) = read_manifest(members, leaf)?;
    let name = blob_name(&manifest.config.digest);
    let Some(bytes) = members.bytes(&name, CONFIG_BYTES_MAX)? else {
        return Ok(Platform::default());
    };
    Ok(ImageConfig::parse(&bytes).map_err(document(&name))?.platform())
}

fn required(
    members: &dyn Members,
    name: &str,
    limit: u64,
    by: &str,
) -> Result<Vec<u8>, TransferError> {
    let missing = || TransferError::Missing { name: name.to_owned(), by: by.to_owned() };
    members.bytes(name, limit)?.ok_or_else(missing)
}

fn read_manifest(
    members: &dyn Members,
    leaf: &Descriptor,
) -> Result<(Vec<u8>, Manifest), TransferError> {
    let name = blob_name(&leaf.digest);
    let bytes = required(members, &name, MANIFEST_BYTES_MAX, "index.json")?;
    check_size(&name, "index.json", leaf.size, bytes.len() as u64)?;
    let manifest = Manifest::parse(&bytes).map_err(document(&name))?;
    if !manifest.is_image() {
        let config = manifest.config.media_type;
        return Err(document(&name)(DocumentError::NoImage { config }));
    }
    Ok((bytes, manifest))
}

fn plan_manifest(
    members: &dyn Members,
    name: Option<Reference>,
    leaf: &Descriptor,
) -> Result<Planned, TransferError> {
    let (bytes, manifest) = read_manifest(members, leaf)?;
    let by = blob_name(&leaf.digest);
    let file = blob_name(&manifest.config.digest);
    let config = required(members, &file, CONFIG_BYTES_MAX, &by)?;
    check_size(&file, &by, manifest.config.size, config.len() as u64)?;
    let parsed = ImageConfig::parse(&config).map_err(document(&file))?;
    let diff_ids = parsed.rootfs.diff_ids;
    if diff_ids.len() != manifest.layers.len() {
        return Err(invalid(&by, counts(manifest.layers.len(), diff_ids.len())));
    }
    let mut layers = Vec::with_capacity(diff_ids.len());
    for (layer, diff_id) in manifest.layers.iter().zip(diff_ids) {
        let file = blob_name(&layer.digest);
        if let Some(actual) = members.size(&file)? {
            check_size(&file, &by, layer.size, actual)?;
        }
        layers.push(PlannedLayer { file, diff_id, size: Some(layer.size) });
    }
    let media_type = if manifest.media_type.is_empty() {
        media_type::OCI_MANIFEST.to_owned()
    } else {
        manifest.media_type
    };
    let descriptor = Descriptor::new(media_type, leaf.digest, bytes.len() as u64);
    Ok(Planned { name, family: None, manifest: Some((descriptor, bytes)), config, layers })
}

fn check_size(name: &str, by: &str, expected: u64, actual: u64) -> Result<(), TransferError> {
    if expected == actual {
        return Ok(());
    }
    Err(TransferError::Size { name: name.into(), by: by.into(), expected, actual })
}

fn counts(layers: usize, diff_ids: usize) -> String {
    format!("it names {layers} layers, but its config has {diff_ids} diff_ids")
}

fn invalid(name: &str, why: String) -> TransferError {
    let source = DocumentError::Invalid { what: "image", why };
    TransferError::Document { name: name.to_owned(), source }
}

// --- docker archives ---

/// One image in docker's `manifest.json`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct DockerEntry {
    config: String,
    #[serde(default)]
    repo_tags: Option<Vec<String>>,
    #[serde(default)]
    layers: Option<Vec<String>>,
}

impl DockerEntry {
    fn names(&self) -> Vec<Reference> {
        let tags = self.repo_tags.iter().flatten();
        tags.filter_map(|tag| Reference::parse(tag).ok()).collect()
    }
}

fn docker_entries(bytes: &[u8]) -> Result<Vec<DockerEntry>, TransferError> {
    serde_json::from_slice(bytes).map_err(|source| TransferError::DockerManifest { source })
}

fn plan_docker(
    members: &dyn Members,
    entries: &[DockerEntry],
) -> Result<Vec<Planned>, TransferError> {
    let mut images = Vec::new();
    for entry in entries {
        let config = required(members, &entry.config, CONFIG_BYTES_MAX, "manifest.json")?;
        let parsed = ImageConfig::parse(&config).map_err(document(&entry.config))?;
        let files: Vec<&String> = entry.layers.iter().flatten().collect();
        let diff_ids = parsed.rootfs.diff_ids;
        if files.len() != diff_ids.len() || files.len() > IMAGE_LAYERS_MAX {
            return Err(invalid("manifest.json", counts(files.len(), diff_ids.len())));
        }
        let layers: Vec<PlannedLayer> = files
            .into_iter()
            .zip(diff_ids)
            .map(|(file, diff_id)| PlannedLayer { file: file.clone(), diff_id, size: None })
            .collect();
        let mut names: Vec<_> = entry.names().into_iter().map(Some).collect();
        if names.is_empty() {
            names.push(None);
        }
        for name in names {
            let (config, layers) = (config.clone(), layers.clone());
            images.push(Planned { name, family: None, manifest: None, config, layers });
        }
    }
    if images.is_empty() {
        return Err(TransferError::NotAnImage);
    }
    Ok(images)
}

/// An archive with both indexes: docker's may know names that the other one does not.
fn name_by_docker(
    images: &mut Vec<Planned>,
    members: &dyn Members,
    entries: &[DockerEntry],
) -> Result<(), TransferError> {
    for entry in entries {
        let Some(config) = members.bytes(&entry.config, CONFIG_BYTES_MAX)? else { continue };
        for name in entry.names() {
            let is_known = images.iter().any(|image| image.name.as_ref() == Some(&name));
            let same = images.iter().position(|image| image.config == config);
            let Some(same) = same.filter(|_| !is_known) else { continue };
            if images[same].name.is_none() {
                images[same].name = Some(name);
                continue;
            }
            let copy = Planned {
                family: None,
                name: Some(name),
                manifest: images[same].manifest.clone(),
                config: config.clone(),
                layers: images[same].layers.clone(),
            };
            images.push(copy);
        }
    }
    Ok(())
}
