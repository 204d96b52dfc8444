//! URLs and repositories as this user can reach them: the registry client's connections, and git.

use super::git;
use crate::args::RegistryArgs;
use crate::settings::Settings;
use lapstrake_builder::remote::{
    CheckedOut, Checkout, GitRef, HttpAnswer, HttpRequest, RemoteError, RemoteSource, Repository,
};
use lapstrake_registry::{FetchRequest, Fetched, Fetcher, Secret};
use std::sync::OnceLock;

/// The ways to the outside; nothing is opened or read before one is needed.
#[derive(Debug)]
pub(crate) struct Remotes {
    settings: Settings,
    args: RegistryArgs,
    fetcher: OnceLock<Fetcher>,
}

impl Remotes {
    /// Remembers how connections are to be made.
    pub(crate) fn new(settings: &Settings, args: &RegistryArgs) -> Self {
        Self { settings: settings.clone(), args: args.clone(), fetcher: OnceLock::new() }
    }
}

impl RemoteSource for Remotes {
    fn get(&self, request: &HttpRequest<'_>) -> Result<HttpAnswer, RemoteError> {
        let url = || request.url.to_owned();
        let failed = |fault| RemoteError::Http { url: url(), source: Box::new(fault) };
        if self.fetcher.get().is_none() {
            let options = super::client_options(&self.settings, &self.args);
            // Two stages may get here at once; one of the clients is used then.
            drop(self.fetcher.set(Fetcher::new(options).map_err(failed)?));
        }
        let fetcher = self.fetcher.get().expect("because it was just set, here or elsewhere");
        let authorization = request.authorization.map(|value| Secret::new(value.expose()));
        let wanted = FetchRequest {
            url: request.url,
            authorization: authorization.as_ref(),
            etag: request.etag,
        };
        match fetcher.get(&wanted, &|| false).map_err(failed)? {
            Fetched::NotModified => Ok(HttpAnswer::NotModified),
            Fetched::Content { body, etag, last_modified } => {
                Ok(HttpAnswer::Content { body, etag, last_modified })
            }
            Fetched::Refused { status } => Err(RemoteError::Status { url: url(), status }),
        }
    }

    fn resolve(
        &self,
        repository: &Repository<'_>,
        reference: Option<&str>,
    ) -> Result<GitRef, RemoteError> {
        git::Git::new(&self.settings, &self.args, repository)?.resolve(reference)
    }

    fn check_out(
        &self,
        repository: &Repository<'_>,
        checkout: &Checkout<'_>,
    ) -> Result<CheckedOut, RemoteError> {
        git::Git::new(&self.settings, &self.args, repository)?.check_out(checkout)
    }
}
