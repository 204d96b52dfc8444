//! The user's configuration: `lapstrake/config.json` in `$XDG_CONFIG_HOME`, else in `~/.config`; for
//! root `/etc/lapstrake/config.json`.
//!
//! ```json
//! {"keep-storage": "20g"}
//! ```
//! A name that is not known is an error: it would be a setting that does nothing.

use crate::error::{CommandError, Kind};
use crate::settings::Settings;
use serde::Deserialize;
use std::fs::File;
use std::io::{self, Read};

/// A configuration larger than this is none.
const CONFIG_BYTES_MAX: u64 = 1 << 20;

/// What the file says.
#[derive(Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub(crate) struct Config {
    /// The largest size of the store.
    pub(crate) keep_storage: Option<String>,
}

impl Config {
    /// Reads the file; without one, nothing is configured.
    pub(crate) fn read(settings: &Settings) -> Result<Self, CommandError> {
        let Some(path) = &settings.config_file else { return Ok(Self::default()) };
        let shown = path.display();
        let cannot = |error: &io::Error| {
            CommandError::io(Kind::Input, format!("cannot read the configuration {shown}"), error)
        };
        let mut text = String::new();
        match File::open(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Self::default()),
            Err(error) => return Err(cannot(&error)),
            Ok(file) => {
                let mut file = file.take(CONFIG_BYTES_MAX);
                file.read_to_string(&mut text).map_err(|error| cannot(&error))?;
            }
        }
        serde_json::from_str(&text).map_err(|error| {
            CommandError::input(format!("the configuration {shown} cannot be used: {error}"))
        })
    }
}
