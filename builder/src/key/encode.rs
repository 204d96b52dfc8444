//! Fields into a key, and into the readable record beside it.

use super::{ChainId, KEY_FORMAT};
use lapstrake_layerstore::oci::Platform;
use lapstrake_layerstore::store::CacheKey;
use serde_json::{Map, Value};

/// A key with what went into it.
#[derive(Debug, Clone)]
pub struct StepKey {
    /// The key.
    pub key: CacheKey,
    /// Field names and values in readable form.
    pub inputs: Value,
}

/// Collects fields; each is written as tag length, tag, value length, value.
#[derive(Debug)]
pub struct KeyEncoder {
    hasher: blake3::Hasher,
    inputs: Map<String, Value>,
}

impl KeyEncoder {
    /// Start the key of a step of this kind.
    pub fn new(kind: &str, platform: &Platform) -> Self {
        let mut this = Self { hasher: blake3::Hasher::new(), inputs: Map::new() };
        this.field("format", KEY_FORMAT.to_string().as_bytes());
        this.text("step", kind);
        this.text("platform", &platform.to_string());
        this
    }

    /// The stack of layers below.
    pub fn parent(&mut self, chain: &ChainId) {
        self.text("parent", &chain.to_string());
    }

    /// A field of text.
    pub fn text(&mut self, tag: &str, value: &str) {
        self.field(tag, value.as_bytes());
        self.note(tag, Value::from(value));
    }

    /// A field that is there or not, which is not the same as empty.
    pub fn optional(&mut self, tag: &str, value: Option<&str>) {
        match value {
            Some(value) => self.text(tag, value),
            None => self.field(&format!("no {tag}"), b""),
        }
    }

    /// A list of texts in order.
    pub fn list<'t>(&mut self, tag: &str, values: impl IntoIterator<Item = &'t str>) {
        let values = self.hash_list(tag, values);
        self.note(tag, Value::from(values));
    }

    /// As [`Self::list`], for a list that may come several times: the record shows each as one text.
    pub fn items<'t>(&mut self, tag: &str, values: impl IntoIterator<Item = &'t str>) {
        let values = self.hash_list(tag, values);
        self.note(tag, Value::from(values.join(" ").trim_end()));
    }

    /// Bytes that are no text; the record shows their hash.
    pub fn bytes(&mut self, tag: &str, value: &[u8]) {
        self.field(tag, value);
        self.note(tag, Value::from(blake3::hash(value).to_hex().as_str()));
    }

    /// The key.
    pub fn finish(self) -> StepKey {
        let key = CacheKey(*self.hasher.finalize().as_bytes());
        StepKey { key, inputs: Value::Object(self.inputs) }
    }

    fn hash_list<'t>(
        &mut self,
        tag: &str,
        values: impl IntoIterator<Item = &'t str>,
    ) -> Vec<&'t str> {
        let values: Vec<&str> = values.into_iter().collect();
        self.field(tag, values.len().to_string().as_bytes());
        for value in &values {
            self.field("item", value.as_bytes());
        }
        values
    }

    fn field(&mut self, tag: &str, value: &[u8]) {
        for part in [tag.as_bytes(), value] {
            self.hasher.update(&(part.len() as u64).to_le_bytes());
            self.hasher.update(part);
        }
    }

    fn note(&mut self, tag: &str, value: Value) {
        match self.inputs.get_mut(tag) {
            Some(Value::Array(all)) if !value.is_array() => all.push(value),
            Some(other) if !value.is_array() => {
                let first = other.take();
                *other = Value::Array(vec![first, value]);
            }
            _ => {
                self.inputs.insert(tag.to_owned(), value);
            }
        }
    }
}
