//! `--change`: lines of a Dockerfile applied to an image.
//!
//! They are built like any Dockerfile, `FROM` the image, so they mean exactly what they mean there.

use crate::error::CommandError;
use crate::session::Session;
use crate::wiring;
use lapstrake_builder::BuildOptions;
use lapstrake_builder::event::Silent;
use lapstrake_builder::exec::BuildDeps;
use lapstrake_builder::options::{ContextSource, NetworkMode};
use lapstrake_builder::remote::NoRemotes;
use lapstrake_layerstore::layers::Purpose;
use lapstrake_layerstore::oci::Platform;
use lapstrake_layerstore::reference::Reference;
use lapstrake_layerstore::source::{ImageSource, SourceError};
use lapstrake_layerstore::store::{ImageRecord, Lease, Store};
use lapstrake_runner::{Cancel, Sandbox};

/// What may be changed; nothing here runs a program or reads a file.
const INSTRUCTIONS: [&str; 11] = [
    "CMD",
    "ENTRYPOINT",
    "ENV",
    "EXPOSE",
    "HEALTHCHECK",
    "LABEL",
    "SHELL",
    "STOPSIGNAL",
    "USER",
    "VOLUME",
    "WORKDIR",
];
/// The name by which the Dockerfile made here knows the image; the domain exists nowhere (RFC
/// 2606).
const BASE: &str = "lap.invalid/imported:base";

/// Refuses what is no configuration, before anything is read.
pub(super) fn check(changes: &[String]) -> Result<(), CommandError> {
    for change in changes {
        let word = change.split_whitespace().next().unwrap_or_default().to_ascii_uppercase();
        if !INSTRUCTIONS.contains(&word.as_str()) {
            return Err(CommandError::usage(format!(
                "--change {change}: `{word}` does not configure an image"
            ))
            .hint(format!("there are {}", INSTRUCTIONS.join(", "))));
        }
        if change.contains('\n') {
            return Err(CommandError::usage("--change takes one line; give it several times"));
        }
    }
    Ok(())
}

/// The image with the changes.
pub(super) fn apply(
    session: &Session,
    lease: &Lease,
    image: ImageRecord,
    changes: &[String],
) -> Result<ImageRecord, CommandError> {
    let options = options(&image, changes, session.settings.now);
    let deps = BuildDeps {
        store: &session.store,
        runner: &Sandbox::new(),
        images: &Imported { image },
        remotes: &NoRemotes,
        observer: &Silent,
        cancel: &Cancel::new(),
    };
    let outcome = lapstrake_builder::build(&options, &deps)?;
    let layers = session.store.image_layers(&outcome.image)?;
    lease.hold_layers(&layers)?;
    lease.hold_blob(&outcome.image.config)?;
    Ok(outcome.image)
}

fn options(image: &ImageRecord, changes: &[String], now: i64) -> BuildOptions {
    let dockerfile = format!("FROM {BASE}\n{}\n", changes.join("\n"));
    let platform = image.platform.clone();
    BuildOptions {
        build_platform: Platform::host(),
        network: NetworkMode::None,
        now,
        jobs: wiring::steps_at_once(),
        ..BuildOptions::new(dockerfile, "--change", ContextSource::Empty, platform)
    }
}

/// Knows one image, whatever it is asked for.
#[derive(Debug)]
struct Imported {
    image: ImageRecord,
}

impl ImageSource for Imported {
    fn fetch(
        &self,
        _: &Reference,
        _: &Platform,
        _: &Store,
        _: &Lease,
        _: Purpose,
    ) -> Result<Option<ImageRecord>, SourceError> {
        Ok(Some(self.image.clone()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_configuration_is_changed() {
        check(&["env A=1".to_owned(), "CMD [\"sh\"]".into()]).unwrap();
        for bad in ["RUN x", "COPY a b", "", "ENV A=1\nRUN x"] {
            assert!(check(&[bad.to_owned()]).is_err(), "{bad}");
        }
    }
}
