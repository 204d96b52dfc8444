//! The image config: what to run and which layers it has.
//!
//! Written compact, the top-level keys sorted (BuildKit passes it through a Go map), the rest in
//! the field order of docker's structs, empty fields left out.

use std::collections::{BTreeMap, BTreeSet};

use serde::de::IgnoredAny;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;

use super::{DocumentError, Platform, StringMap, is_false, is_zero, null_default};
use crate::digest::DiffId;
use crate::limits;

/// A set in Go's clothes, `map[string]struct{}`: in JSON, an object of empty objects.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StringSet(pub BTreeSet<String>);

impl StringSet {
    /// Whether it has no member.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Adds a member.
    pub fn insert(&mut self, member: impl Into<String>) {
        self.0.insert(member.into());
    }

    /// The members, sorted.
    pub fn iter(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(String::as_str)
    }
}

impl Serialize for StringSet {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|member| (member, Empty {})))
    }
}

impl<'de> Deserialize<'de> for StringSet {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let members = BTreeMap::<String, IgnoredAny>::deserialize(deserializer)?;
        Ok(Self(members.into_keys().collect()))
    }
}

/// The value of every member of a [`StringSet`].
#[derive(Serialize)]
struct Empty {}

/// A whole image config.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct ImageConfig {
    /// CPU architecture.
    pub architecture: String,
    /// Who made it.
    #[serde(deserialize_with = "null_default")]
    pub author: String,
    /// How to run it.
    #[serde(deserialize_with = "null_default")]
    pub config: ContainerConfig,
    /// When it was made, RFC 3339.
    pub created: Option<String>,
    /// How it was made, oldest first.
    #[serde(deserialize_with = "null_default")]
    pub history: Vec<History>,
    /// Operating system.
    pub os: String,
    /// Needed features of the operating system.
    #[serde(rename = "os.features", deserialize_with = "null_default")]
    pub os_features: Vec<String>,
    /// Version of the operating system.
    #[serde(rename = "os.version", deserialize_with = "null_default")]
    pub os_version: String,
    /// The layers.
    pub rootfs: RootFs,
    /// Variant of the CPU.
    #[serde(deserialize_with = "null_default")]
    pub variant: String,
    /// Keys that are not known here.
    #[serde(flatten)]
    pub extra: BTreeMap<String, Value>,
}

/// How to run the image, in the field order of docker's struct.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct ContainerConfig {
    /// `user[:group]`, names or numbers.
    #[serde(deserialize_with = "null_default", skip_serializing_if = "String::is_empty")]
    pub user: String,
    /// `80/tcp`, …
    #[serde(deserialize_with = "null_default", skip_serializing_if = "StringSet::is_empty")]
    pub exposed_ports: StringSet,
    /// `NAME=value`, in order.
    #[serde(deserialize_with = "null_default", skip_serializing_if = "Vec::is_empty")]
    pub env: Vec<String>,
    /// What always runs.
    #[serde(deserialize_with = "null_default", skip_serializing_if = "Vec::is_empty")]
    pub entrypoint: Vec<String>,
    /// What runs, or the arguments of the entry point.
    #[serde(deserialize_with = "null_default", skip_serializing_if = "Vec::is_empty")]
    pub cmd: Vec<String>,
    /// Directories whose contents are not part of the image.
    #[serde(deserialize_with = "null_default", skip_serializing_if = "StringSet::is_empty")]
    pub volumes: StringSet,
    /// Where it runs.
    #[serde(deserialize_with = "null_default", skip_serializing_if = "String::is_empty")]
    pub working_dir: String,
    /// Labels.
    #[serde(deserialize_with = "null_default", skip_serializing_if = "StringMap::is_empty")]
    pub labels: StringMap,
    /// The signal that asks it to stop.
    #[serde(deserialize_with = "null_default", skip_serializing_if = "String::is_empty")]
    pub stop_signal: String,
    /// Windows only.
    #[serde(deserialize_with = "null_default", skip_serializing_if = "is_false")]
    pub args_escaped: bool,
    /// How to see whether it is well.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub healthcheck: Option<Healthcheck>,
    /// Instructions for whoever builds on it.
    #[serde(deserialize_with = "null_default", skip_serializing_if = "Vec::is_empty")]
    pub on_build: Vec<String>,
    /// Seconds to wait after the stop signal.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stop_timeout: Option<i64>,
    /// The shell of shell-form instructions.
    #[serde(deserialize_with = "null_default", skip_serializing_if = "Vec::is_empty")]
    pub shell: Vec<String>,
    /// Keys that are not known here.
    #[serde(flatten)]
    pub extra: BTreeMap<String, Value>,
}

/// How to see whether a container is well; durations in nanoseconds.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct Healthcheck {
    /// `["NONE"]`, `["CMD", …]` or `["CMD-SHELL", "…"]`.
    #[serde(deserialize_with = "null_default", skip_serializing_if = "Vec::is_empty")]
    pub test: Vec<String>,
    /// Time between two checks.
    #[serde(skip_serializing_if = "is_zero")]
    pub interval: i64,
    /// Time that one check may take.
    #[serde(skip_serializing_if = "is_zero")]
    pub timeout: i64,
    /// Time in which failures do not count.
    #[serde(skip_serializing_if = "is_zero")]
    pub start_period: i64,
    /// Time between two checks in the start period.
    #[serde(skip_serializing_if = "is_zero")]
    pub start_interval: i64,
    /// Failures in a row that make it unwell.
    #[serde(skip_serializing_if = "is_zero")]
    pub retries: i64,
}

/// The layers of an image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RootFs {
    /// Always `layers`.
    #[serde(rename = "type", default)]
    pub kind: String,
    /// The digests of the uncompressed layers, bottom first.
    #[serde(default, deserialize_with = "null_default")]
    pub diff_ids: Vec<DiffId>,
}

impl Default for RootFs {
    fn default() -> Self {
        Self { kind: "layers".into(), diff_ids: Vec::new() }
    }
}

/// One step of how an image was made.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct History {
    /// When, RFC 3339.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub created: Option<String>,
    /// The instruction.
    #[serde(deserialize_with = "null_default", skip_serializing_if = "String::is_empty")]
    pub created_by: String,
    /// Who.
    #[serde(deserialize_with = "null_default", skip_serializing_if = "String::is_empty")]
    pub author: String,
    /// A remark.
    #[serde(deserialize_with = "null_default", skip_serializing_if = "String::is_empty")]
    pub comment: String,
    /// Whether this step made no layer.
    #[serde(deserialize_with = "null_default", skip_serializing_if = "is_false")]
    pub empty_layer: bool,
}

impl ImageConfig {
    /// Parses the config of an image; bounded.
    pub fn parse(bytes: &[u8]) -> Result<Self, DocumentError> {
        const WHAT: &str = "image config";
        let config: Self = super::parse(WHAT, bytes, limits::CONFIG_BYTES_MAX)?;
        let invalid = |why| Err(DocumentError::Invalid { what: WHAT, why });
        if config.rootfs.kind != "layers" {
            return invalid(format!("its rootfs type is `{}`, not `layers`", config.rootfs.kind));
        }
        if config.rootfs.diff_ids.len() > limits::IMAGE_LAYERS_MAX {
            let (count, limit) = (config.rootfs.diff_ids.len(), limits::IMAGE_LAYERS_MAX);
            return invalid(format!("it has {count} layers, more than the limit of {limit}"));
        }
        Ok(config)
    }

    /// The bytes that lap writes.
    pub fn to_json(&self) -> Vec<u8> {
        super::json::compact(self)
    }

    /// What it runs on.
    pub fn platform(&self) -> Platform {
        Platform {
            architecture: self.architecture.clone(),
            os: self.os.clone(),
            os_version: self.os_version.clone(),
            os_features: self.os_features.clone(),
            variant: self.variant.clone(),
        }
    }

    /// Writes the fields of the platform.
    pub fn set_platform(&mut self, platform: &Platform) {
        self.architecture.clone_from(&platform.architecture);
        self.os.clone_from(&platform.os);
        self.os_version.clone_from(&platform.os_version);
        self.os_features.clone_from(&platform.os_features);
        self.variant.clone_from(&platform.variant);
    }
}

impl Serialize for ImageConfig {
    /// The keys are sorted, known and unknown ones together.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut keys: BTreeMap<&str, Value> = BTreeMap::new();
        for (key, value) in &self.extra {
            keys.insert(key, value.clone());
        }
        let value =
            |result: Result<Value, serde_json::Error>| result.map_err(serde::ser::Error::custom);
        keys.insert("architecture", Value::from(self.architecture.as_str()));
        keys.insert("config", value(serde_json::to_value(&self.config))?);
        keys.insert("os", Value::from(self.os.as_str()));
        keys.insert("rootfs", value(serde_json::to_value(&self.rootfs))?);
        if let Some(created) = &self.created {
            keys.insert("created", Value::from(created.as_str()));
        }
        if !self.history.is_empty() {
            keys.insert("history", value(serde_json::to_value(&self.history))?);
        }
        if !self.os_features.is_empty() {
            keys.insert("os.features", value(serde_json::to_value(&self.os_features))?);
        }
        let texts = [
            ("author", &self.author),
            ("os.version", &self.os_version),
            ("variant", &self.variant),
        ];
        for (key, text) in texts {
            if !text.is_empty() {
                keys.insert(key, Value::from(text.as_str()));
            }
        }
        keys.serialize(serializer)
    }
}
