//! What a command needs of this machine: the user namespace it entered, and its open store.
//!
//! Opening a session must be the first thing a command does: a user namespace can be entered only
//! while the process has a single thread.

use crate::args::PlatformArgs;
use crate::error::CommandError;
use crate::settings::Settings;
use lapstrake_builder::embed::open_options;
use lapstrake_layerstore::layers::OverlayXattr;
use lapstrake_layerstore::reference::Reference;
use lapstrake_layerstore::store::check::Problem;
use lapstrake_layerstore::store::{ImageRecord, OpenOptions, Store};
use lapstrake_runner::{EnterOptions, Entered};
use std::sync::Arc;

/// An open store and how this process stands to it.
#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) settings: Settings,
    pub(crate) store: Arc<Store>,
    entered: Option<Entered>,
}

/// An image in the store that a command was asked about.
#[derive(Debug, Clone)]
pub(crate) struct NamedImage {
    /// What the user typed.
    pub(crate) typed: String,
    /// The name it is known by, unless an id was typed.
    pub(crate) reference: Option<Reference>,
    pub(crate) record: ImageRecord,
}

impl Drop for Session {
    /// A command is done with the store when it ends; digests of a build that failed need not be waited for.
    fn drop(&mut self) {
        self.store.close();
    }
}

impl Session {
    /// Enters the user namespace if one is needed, and opens the store, which is made if it is
    /// missing.
    pub(crate) fn open(settings: Settings) -> Result<Self, CommandError> {
        let entered = lapstrake_runner::enter(&EnterOptions::default())?;
        let options = open_options(&entered);
        Self::open_store(settings, &options, Some(entered))
    }

    /// As [`Session::open`], and what of the store is so damaged that it cannot be opened is made anew:
    /// those problems come back.
    pub(crate) fn open_repaired(settings: Settings) -> Result<(Self, Vec<Problem>), CommandError> {
        let entered = lapstrake_runner::enter(&EnterOptions::default())?;
        let (store, problems) = Store::open_repaired(settings.root()?, &open_options(&entered))?;
        Ok((Self { settings, store: Arc::new(store), entered: Some(entered) }, problems))
    }

    /// Opens the store for a command that reads names and tables of contents and never touches
    /// files of images: no user namespace is needed.
    pub(crate) fn open_records(settings: Settings) -> Result<Self, CommandError> {
        let options =
            OpenOptions { create: true, overlay_xattr: OverlayXattr::User, owner_map: None };
        Self::open_store(settings, &options, None)
    }

    fn open_store(
        settings: Settings,
        options: &OpenOptions,
        entered: Option<Entered>,
    ) -> Result<Self, CommandError> {
        let store = Arc::new(Store::open(settings.root()?, options)?);
        Ok(Self { settings, store, entered })
    }

    /// Why programs cannot be run here, if they cannot.
    pub(crate) fn run_refusal(&self) -> Option<String> {
        match &self.entered {
            Some(Entered::None(refusal)) => Some(refusal.to_string()),
            _ => None,
        }
    }

    /// The image that `name` names: a full or short name, an id, or the beginning of one.
    pub(crate) fn image(&self, name: &str) -> Result<NamedImage, CommandError> {
        match self.store.resolve(name)? {
            Some((reference, record)) => {
                // An id finds an image through one of its names, which nobody meant then.
                let by_name = |reference: &Reference| {
                    Reference::parse(name)
                        .is_ok_and(|typed| typed.digest().is_some() || typed == *reference)
                };
                let reference = reference.filter(by_name);
                Ok(NamedImage { typed: name.to_owned(), reference, record })
            }
            None => Err(self.no_image(name)),
        }
    }

    /// The image that `name` names, of the platform that was asked for.
    pub(crate) fn image_for(
        &self,
        name: &str,
        asked: &PlatformArgs,
    ) -> Result<NamedImage, CommandError> {
        let image = self.image(name)?;
        let Some(platform) = &asked.platform else { return Ok(image) };
        if let Some(record) = image.record.for_platform(platform) {
            return Ok(NamedImage { record, ..image });
        }
        let there: Vec<_> =
            image.record.every().iter().map(|one| one.platform.to_string()).collect();
        Err(CommandError::input(format!("`{name}` has no image for {platform}"))
            .hint(format!("it is there for {}", there.join(", "))))
    }

    fn no_image(&self, name: &str) -> CommandError {
        let missing = CommandError::input(format!("there is no image `{name}` in the store"));
        let tags = self.store.tags().unwrap_or_default();
        let familiar: Vec<String> = tags.iter().map(|(tag, _)| tag.familiar()).collect();
        match lapstrake_builder::suggest::nearest(name, familiar.iter().map(String::as_str)) {
            Some(near) => missing.hint(format!("did you mean `{near}`?")),
            None => {
                missing.hint("`lap images` lists what is there; `lap pull` fetches from a registry")
            }
        }
    }
}
