//! The client as one of the places that images come from.

use lapstrake_layerstore::layers::Purpose;
use lapstrake_layerstore::oci::Platform;
use lapstrake_layerstore::reference::Reference;
use lapstrake_layerstore::source::{ImageSource, Seen, SourceError};
use lapstrake_layerstore::store::{ImageRecord, Lease, Store};

use crate::client::Client;
use crate::error::RegistryError;
use crate::progress::Progress;

/// A client whose pulls are observed.
#[derive(Clone, Copy)]
pub struct ObservedClient<'a> {
    client: &'a Client,
    progress: &'a dyn Progress,
}

impl std::fmt::Debug for ObservedClient<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ObservedClient").field("client", self.client).finish_non_exhaustive()
    }
}

impl Client {
    /// The same client, as a source of images that tells what it does.
    pub fn observed<'a>(&'a self, progress: &'a dyn Progress) -> ObservedClient<'a> {
        ObservedClient { client: self, progress }
    }
}

/// That there is no such image is an answer and no failure.
fn answer<T>(
    reference: &Reference,
    result: Result<T, RegistryError>,
) -> Result<Option<T>, SourceError> {
    match result {
        Ok(found) => Ok(Some(found)),
        Err(error) if error.is_not_found() => Ok(None),
        Err(error) => Err(error.of_image(reference)),
    }
}

impl RegistryError {
    /// The error as a source of images tells it.
    pub fn of_image(self, reference: &Reference) -> SourceError {
        SourceError::Fetch { reference: Box::new(reference.clone()), source: Box::new(self) }
    }
}

impl ImageSource for ObservedClient<'_> {
    fn fetch(
        &self,
        reference: &Reference,
        platform: &Platform,
        store: &Store,
        lease: &Lease,
        purpose: Purpose,
    ) -> Result<Option<ImageRecord>, SourceError> {
        let within = (store, lease);
        let pulled = self.client.pull_for(reference, platform, within, purpose, self.progress);
        answer(reference, pulled)
    }

    fn look(
        &self,
        reference: &Reference,
        platform: &Platform,
    ) -> Result<Option<Seen>, SourceError> {
        answer(reference, self.client.look(reference, platform))
    }
}
