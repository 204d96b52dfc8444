//! Image references, parsed once: `[registry/]repository[:tag][@digest]`.
//!
//! The grammar is docker's. A name without a registry means `docker.io`, one without a namespace
//! means `docker.io/library`, and one without tag and digest has the tag `latest`. The canonical
//! form (`Display`) has all of them; the familiar form leaves the defaults out.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::digest::Digest;

/// The registry that a bare name means.
pub const DEFAULT_REGISTRY: &str = "docker.io";
/// The namespace that a bare name on the default registry means.
const DEFAULT_NAMESPACE: &str = "library";
/// The tag that a name without tag and digest means.
pub const DEFAULT_TAG: &str = "latest";
/// Docker's own limit of a repository name, registry included.
const NAME_LIMIT: usize = 255;
/// The limit of a tag in the distribution specification.
const TAG_LIMIT: usize = 128;
/// No reference within the limits of its parts is longer.
const REFERENCE_LIMIT: usize = NAME_LIMIT + TAG_LIMIT + 2 + 80;

/// The full name of an image.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Reference {
    registry: String,
    repository: String,
    tag: Option<String>,
    digest: Option<Digest>,
}

/// Why a text is not a reference.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not an image reference: {why}")]
pub struct ReferenceError {
    /// What was given.
    pub text: String,
    /// The rule that it breaks.
    pub why: &'static str,
}

impl Reference {
    /// Parses what a person typed, or what an annotation says.
    pub fn parse(text: &str) -> Result<Self, ReferenceError> {
        parse(text).map_err(|why| ReferenceError { text: text.to_owned(), why })
    }

    /// The registry's `host[:port]`, or `docker.io`.
    pub fn registry(&self) -> &str {
        &self.registry
    }

    /// The repository on the registry, `library/alpine`.
    pub fn repository(&self) -> &str {
        &self.repository
    }

    /// The tag; none only when there is a digest.
    pub fn tag(&self) -> Option<&str> {
        self.tag.as_deref()
    }

    /// The digest, if the name pins one.
    pub fn digest(&self) -> Option<&Digest> {
        self.digest.as_ref()
    }

    /// Registry and repository in canonical form, without tag and digest.
    pub fn name(&self) -> String {
        format!("{}/{}", self.registry, self.repository)
    }

    /// The same repository under another tag, no digest.
    pub fn with_tag(&self, tag: &str) -> Result<Self, ReferenceError> {
        check_tag(tag).map_err(|why| ReferenceError { text: tag.to_owned(), why })?;
        Ok(Self { tag: Some(tag.to_owned()), digest: None, ..self.clone() })
    }

    /// The same name, pinned to a digest.
    #[must_use]
    pub fn with_digest(&self, digest: Digest) -> Self {
        Self { digest: Some(digest), ..self.clone() }
    }

    /// The short form that people type: the default registry and namespace are left out.
    pub fn familiar(&self) -> String {
        let mut text = self.familiar_name();
        self.push_tail(&mut text);
        text
    }

    /// The familiar form without tag and digest.
    pub fn familiar_name(&self) -> String {
        if self.registry != DEFAULT_REGISTRY {
            return self.name();
        }
        match self.repository.split_once('/') {
            Some((DEFAULT_NAMESPACE, rest)) if !rest.contains('/') => rest.to_owned(),
            _ => self.repository.clone(),
        }
    }

    fn push_tail(&self, text: &mut String) {
        if let Some(tag) = &self.tag {
            text.push(':');
            text.push_str(tag);
        }
        if let Some(digest) = &self.digest {
            text.push('@');
            text.push_str(&digest.to_string());
        }
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = self.name();
        self.push_tail(&mut text);
        formatter.write_str(&text)
    }
}

impl FromStr for Reference {
    type Err = ReferenceError;

    fn from_str(text: &str) -> Result<Self, ReferenceError> {
        Self::parse(text)
    }
}

impl Serialize for Reference {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Reference {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text).map_err(serde::de::Error::custom)
    }
}

fn parse(text: &str) -> Result<Reference, &'static str> {
    if text.is_empty() {
        return Err("it is empty");
    }
    if text.len() > REFERENCE_LIMIT {
        return Err("it is too long");
    }
    if text.len() == 64 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')) {
        return Err("64 hexadecimal digits are an image id, not a name");
    }
    let (rest, digest) = match text.split_once('@') {
        Some((rest, digest)) => {
            let digest = digest.parse().map_err(|_| "what follows `@` is not a sha256 digest")?;
            (rest, Some(digest))
        }
        None => (text, None),
    };
    let (name, tag) = split_tag(rest);
    if let Some(tag) = tag {
        check_tag(tag)?;
    }
    let (registry, repository) = split_registry(name);
    check_registry(registry)?;
    check_repository(repository)?;
    let mut repository = repository.to_owned();
    let registry = if registry == "index.docker.io" { DEFAULT_REGISTRY } else { registry };
    if registry == DEFAULT_REGISTRY && !repository.contains('/') {
        repository = format!("{DEFAULT_NAMESPACE}/{repository}");
    }
    if registry.len() + 1 + repository.len() > NAME_LIMIT {
        return Err("its name is longer than 255 characters");
    }
    let tag = match (tag, &digest) {
        (Some(tag), _) => Some(tag.to_owned()),
        (None, None) => Some(DEFAULT_TAG.to_owned()),
        (None, Some(_)) => None,
    };
    Ok(Reference { registry: registry.to_owned(), repository, tag, digest })
}

/// A colon after the last slash begins the tag; one before it is a port.
fn split_tag(text: &str) -> (&str, Option<&str>) {
    match text.rsplit_once(':') {
        Some((name, tag)) if !tag.contains('/') => (name, Some(tag)),
        _ => (text, None),
    }
}

/// The first part is a registry if it looks like a host: a dot, a port, upper case, or `localhost`.
fn split_registry(name: &str) -> (&str, &str) {
    match name.split_once('/') {
        Some((first, rest))
            if first.contains(['.', ':'])
                || first == "localhost"
                || first.bytes().any(|b| b.is_ascii_uppercase()) =>
        {
            (first, rest)
        }
        _ => (DEFAULT_REGISTRY, name),
    }
}

fn check_tag(tag: &str) -> Result<(), &'static str> {
    let word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    let mut bytes = tag.bytes();
    if !bytes.next().is_some_and(word) {
        return Err("a tag begins with a letter, a digit or `_`");
    }
    if !bytes.all(|b| word(b) || matches!(b, b'.' | b'-')) {
        return Err("a tag is of letters, digits, `_`, `.` and `-`");
    }
    if tag.len() > TAG_LIMIT {
        return Err("its tag is longer than 128 characters");
    }
    Ok(())
}

fn check_registry(registry: &str) -> Result<(), &'static str> {
    const HOST: &str = "its registry is not a host name";
    let (host, port) = match registry.strip_prefix('[') {
        Some(rest) => {
            let (address, port) = rest.split_once(']').ok_or(HOST)?;
            if address.is_empty() || !address.bytes().all(|b| b.is_ascii_hexdigit() || b == b':') {
                return Err(HOST);
            }
            ("", (!port.is_empty()).then_some(port.strip_prefix(':').ok_or(HOST)?))
        }
        None => match registry.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (registry, None),
        },
    };
    let label = |label: &str| {
        !label.is_empty()
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
    };
    if !(registry.starts_with('[') || host.split('.').all(label)) {
        return Err(HOST);
    }
    match port {
        Some(port) if port.parse::<u16>().is_err() || port.starts_with('+') => {
            Err("the port of its registry is not a number below 65536")
        }
        _ => Ok(()),
    }
}

fn check_repository(repository: &str) -> Result<(), &'static str> {
    if repository.bytes().any(|b| b.is_ascii_uppercase()) {
        return Err("a repository name must be lower case");
    }
    for component in repository.split('/') {
        if component.is_empty() {
            return Err("a part of its name is empty");
        }
        if !is_component(component) {
            return Err(
                "each part of a name is of lower case letters and digits, separated by one `.`, one or two `_`, or `-`",
            );
        }
    }
    Ok(())
}

/// `[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*`
fn is_component(component: &str) -> bool {
    let alphanumeric = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    let mut rest = component;
    loop {
        let word = rest.trim_start_matches(alphanumeric);
        if word.len() == rest.len() {
            return false;
        }
        if word.is_empty() {
            return true;
        }
        let after = word.trim_start_matches(['.', '_', '-']);
        let separator = &word[..word.len() - after.len()];
        let dashes = !separator.is_empty() && separator.bytes().all(|b| b == b'-');
        if !(dashes || matches!(separator, "." | "_" | "__")) {
            return false;
        }
        rest = after;
    }
}

#[cfg(test)]
mod tests;
