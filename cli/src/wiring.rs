//! Puts the parts together: registry clients with this user's credentials, and what steps see of
//! the machine.

pub(crate) mod docker_config;
mod git;
mod remote;

pub(crate) use remote::Remotes;

use crate::args::RegistryArgs;
use crate::settings::Settings;
use lapstrake_layerstore::layers::Purpose;
use lapstrake_layerstore::oci::Platform;
use lapstrake_layerstore::reference::Reference;
use lapstrake_layerstore::source::{ImageSource, Seen, SourceError};
use lapstrake_layerstore::store::{ImageRecord, Lease, Store};
use lapstrake_registry::{
    Client, CredentialFiles, ObservedClient, Options, Progress, RegistryError,
};
use std::sync::{Arc, OnceLock};

/// A client of registries for this user.
pub(crate) fn client(settings: &Settings, args: &RegistryArgs) -> Result<Client, RegistryError> {
    let credentials = Arc::new(CredentialFiles::new(settings.auth_files.clone()));
    Client::new(Options { credentials, ..client_options(settings, args) })
}

/// How connections are made, without anyone's credentials.
fn client_options(settings: &Settings, args: &RegistryArgs) -> Options {
    let proxies = &settings.proxies;
    Options {
        insecure: args.insecure.clone(),
        ca_files: args.ca_file.clone(),
        http_proxy: proxies.http.clone(),
        https_proxy: proxies.https.clone(),
        no_proxy: proxies.none.clone(),
        ..Options::default()
    }
}

/// The resolver configuration that steps get. A machine without one has no names to resolve.
pub(crate) fn resolv_conf() -> Vec<u8> {
    std::fs::read("/etc/resolv.conf").unwrap_or_default()
}

/// Steps that may run at once for each processor: steps wait (for the network, for disks, for each other)
/// more than they compute.
const STEPS_PER_PROCESSOR: usize = 4;

/// How many steps may run at once, unless the user says.
pub(crate) fn steps_at_once() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from) * STEPS_PER_PROCESSOR
}

/// A client that is made when the first base image has to be fetched: a build whose images are all
/// in the store reads no certificates and opens no connection.
pub(crate) struct LazyClient<'p> {
    progress: &'p dyn Progress,
    settings: Settings,
    args: RegistryArgs,
    client: OnceLock<Client>,
}

impl<'p> LazyClient<'p> {
    /// Remembers how the client is to be made, and who hears of its transfers.
    pub(crate) fn new(
        settings: &Settings,
        args: &RegistryArgs,
        progress: &'p dyn Progress,
    ) -> Self {
        Self { progress, settings: settings.clone(), args: args.clone(), client: OnceLock::new() }
    }
}

impl std::fmt::Debug for LazyClient<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LazyClient").field("client", &self.client).finish_non_exhaustive()
    }
}

impl LazyClient<'_> {
    fn observed(&self, reference: &Reference) -> Result<ObservedClient<'_>, SourceError> {
        if self.client.get().is_none() {
            let made = client(&self.settings, &self.args).map_err(|e| e.of_image(reference))?;
            // Two stages may get here at once; one of the clients is used then.
            drop(self.client.set(made));
        }
        let made = self.client.get().expect("because it was just set, by this thread or another");
        Ok(made.observed(self.progress))
    }
}

impl ImageSource for LazyClient<'_> {
    fn fetch(
        &self,
        reference: &Reference,
        platform: &Platform,
        store: &Store,
        lease: &Lease,
        purpose: Purpose,
    ) -> Result<Option<ImageRecord>, SourceError> {
        self.observed(reference)?.fetch(reference, platform, store, lease, purpose)
    }

    fn look(
        &self,
        reference: &Reference,
        platform: &Platform,
    ) -> Result<Option<Seen>, SourceError> {
        self.observed(reference)?.look(reference, platform)
    }
}
