//! The client as one of the places that images come from.

use lapstrake_layerstore::layers::Purpose;
use lapstrake_layerstore::oci::Platform;
use lapstrake_layerstore::reference::Reference;
use lapstrake_layerstore::source::{ImageSource, Seen, SourceError};
use lapstrake_layerstore::store::{ImageRecord, Lease, Store};

use crate::client::Client;
use crate::error::RegistryError;
use crate::progress::{Progress, Silent};

/// A client whose pulls are observed.
#[derive(Clone, Copy)]
pub struct ObservedClient<'a> {
    client: &'a Client,
    progress: &'a (dyn Progress + Send),
}

impl std::fmt::Debug for ObservedClient<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ObservedClient").field("client", self.client).finish_non_exhaustive()
    }
}

impl Client {
    /// The same client, as a source of images that tells what it does.
    pub fn observed<'a>(&'a self, progress: &'a (dyn Progress + Send)) -> ObservedClient<'a> {
        ObservedClient { client: self, progress }
    }
}

/// That there is no such image is an answer and no failure.
fn found(pulled: Result<ImageRecord, RegistryError>) -> Result<Option<ImageRecord>, RegistryError> {
    match pulled {
        Err(error) if error.is_not_found() => Ok(None),
        other => other.map(Some),
    }
}

impl ImageSource for Client {
    fn fetch(
        &self,
        reference: &Reference,
        platform: &Platform,
        store: &Store,
        lease: &Lease,
        purpose: Purpose,
    ) -> Result<Option<ImageRecord>, SourceError> {
        self.observed(&Silent).fetch(reference, platform, store, lease, purpose)
    }

    fn look(
        &self,
        reference: &Reference,
        platform: &Platform,
    ) -> Result<Option<Seen>, SourceError> {
        match Self::look(self, reference, platform) {
            Ok(seen) => Ok(Some(seen)),
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) => Err(SourceError::Fetch {
                reference: Box::new(reference.clone()),
                source: Box::new(error),
            }),
        }
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
        found(self.client.pull_for(reference, platform, (store, lease), purpose, self.progress))
            .map_err(|error| SourceError::Fetch {
                reference: Box::new(reference.clone()),
                source: Box::new(error),
            })
    }
}
