//! RUN `--device=name[,required]`.

use std::borrow::Cow;

use super::value::{csv_fields, parse_bool};

/// A device that a step asks for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Device {
    /// The device's CDI name.
    pub name: String,
    /// Whether the build fails without it.
    pub required: bool,
}

/// Why a `--device` cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DeviceError {
    /// The fields are no comma-separated values.
    #[error("failed to parse csv devices: {reason}")]
    Csv {
        /// What is wrong with them.
        reason: &'static str,
    },
    /// The name is given twice.
    #[error("device name already set to {name}")]
    NameTwice {
        /// The first name.
        name: String,
    },
    /// A field that is no `key=value`.
    #[error("invalid field '{field}' must be a key=value pair")]
    NoValue {
        /// The field.
        field: String,
    },
    /// A value that the key cannot have.
    #[error("invalid value for {key}: {value}")]
    Value {
        /// The key.
        key: String,
        /// The value.
        value: String,
    },
    /// A key that does not exist.
    #[error("unexpected key '{key}' in '{field}'")]
    Key {
        /// The key.
        key: String,
        /// The whole field.
        field: String,
    },
}

impl Device {
    /// Reads the value of a `--device` flag.
    pub fn parse(text: &str) -> Result<Self, DeviceError> {
        let fields = csv_fields(text)
            .collect::<Result<Vec<_>, _>>()
            .map_err(|reason| DeviceError::Csv { reason })?;
        let mut device = Self::default();
        for field in fields.into_iter().map(Cow::into_owned) {
            let (key, value) = match field.split_once('=') {
                Some((key, value)) => (key.to_lowercase(), Some(value)),
                None => (field.to_lowercase(), None),
            };
            match (key.as_str(), value) {
                ("required", None) => device.required = true,
                ("required", Some(value)) => {
                    device.required = parse_bool(value)
                        .ok_or_else(|| DeviceError::Value { key, value: value.to_owned() })?;
                }
                ("name", Some(_)) if !device.name.is_empty() => {
                    return Err(DeviceError::NameTwice { name: device.name });
                }
                ("name", Some(value)) => value.clone_into(&mut device.name),
                _ if device.name.is_empty() => device.name = field,
                (_, None) => return Err(DeviceError::NoValue { field }),
                (_, Some(_)) => return Err(DeviceError::Key { key, field }),
            }
        }
        Ok(device)
    }
}
