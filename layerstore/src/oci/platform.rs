//! Platforms: `os/architecture[/variant]`, normalised as containerd does.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::null_default;

/// What an image runs on, in the field order of the Go struct. The default value is empty, and
/// matches nothing; [`Platform::host`] is the platform of this machine.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Platform {
    /// The CPU architecture in Go's words: `amd64`, `arm64`, …
    #[serde(default)]
    pub architecture: String,
    /// The operating system in Go's words.
    #[serde(default)]
    pub os: String,
    /// The version of the operating system (Windows only).
    #[serde(rename = "os.version", default, skip_serializing_if = "String::is_empty")]
    pub os_version: String,
    /// Needed features of the operating system (Windows only).
    #[serde(
        rename = "os.features",
        default,
        deserialize_with = "null_default",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub os_features: Vec<String>,
    /// The variant of the CPU: `v7`, `v8`, …
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub variant: String,
}

/// Why a text does not name a platform.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not a platform: {why}")]
pub struct PlatformError {
    /// What was given.
    pub text: String,
    /// The rule that it breaks.
    pub why: &'static str,
}

/// Operating systems that may stand alone (`--platform linux`).
const SYSTEMS: [&str; 13] = [
    "aix",
    "android",
    "darwin",
    "dragonfly",
    "freebsd",
    "illumos",
    "ios",
    "js",
    "linux",
    "netbsd",
    "openbsd",
    "solaris",
    "windows",
];

/// Architectures that may stand alone (`--platform arm64`), with their other names.
const ARCHITECTURES: [&str; 25] = [
    "386", "amd64", "arm", "arm64", "loong64", "mips", "mipsle", "mips64", "mips64le", "ppc64",
    "ppc64le", "riscv64", "s390x", "wasm", "i386", "i486", "i586", "i686", "x86_64", "x86-64",
    "x64", "aarch64", "armhf", "armel", "sparc64",
];

impl Platform {
    /// A normalised platform.
    pub fn new(os: &str, architecture: &str, variant: &str) -> Self {
        Self {
            os: os.to_ascii_lowercase(),
            architecture: architecture.to_ascii_lowercase(),
            variant: variant.to_ascii_lowercase(),
            ..Self::default()
        }
        .normalised()
    }

    /// The platform that this program was compiled for.
    pub fn host() -> Self {
        Self::new("linux", std::env::consts::ARCH, "")
    }

    /// The same platform in the one spelling that comparisons use.
    #[must_use]
    pub fn normalised(mut self) -> Self {
        let (architecture, variant) = match (self.architecture.as_str(), self.variant.as_str()) {
            ("x86_64" | "x86-64" | "x64" | "amd64", "v1" | "") => ("amd64", ""),
            ("x86_64" | "x86-64" | "x64", variant) => ("amd64", variant),
            ("i386" | "i486" | "i586" | "i686" | "x86" | "386", _) => ("386", ""),
            ("aarch64" | "arm64", "8" | "v8" | "") => ("arm64", ""),
            ("aarch64", variant) => ("arm64", variant),
            ("armhf", _) | ("arm", "" | "7") => ("arm", "v7"),
            ("armel", _) | ("arm", "6") => ("arm", "v6"),
            ("arm", "5") => ("arm", "v5"),
            ("arm", "8") => ("arm", "v8"),
            ("powerpc64le", variant) => ("ppc64le", variant),
            (architecture, variant) => (architecture, variant),
        };
        (self.architecture, self.variant) = (architecture.to_owned(), variant.to_owned());
        if self.os == "macos" {
            "darwin".clone_into(&mut self.os);
        }
        self
    }

    /// Whether an image for `candidate` runs here exactly (no older variant).
    pub fn matches(&self, candidate: &Self) -> bool {
        let (own, other) = (self.clone().normalised(), candidate.clone().normalised());
        own.os == other.os && own.architecture == other.architecture && own.variant == other.variant
    }

    /// The index of the best of the candidates, if any runs here: the same variant, else the
    /// newest one that this CPU still runs.
    pub fn choose(&self, candidates: &[Self]) -> Option<usize> {
        self.runnable()
            .iter()
            .find_map(|wanted| candidates.iter().position(|candidate| wanted.matches(candidate)))
    }

    /// Everything that runs on this platform, best first.
    fn runnable(&self) -> Vec<Self> {
        let own = self.clone().normalised();
        let mut all = vec![own.clone()];
        let older = |architecture: &str, newest: u8, oldest: u8| {
            (oldest..=newest).rev().map(|v| (architecture.to_owned(), format!("v{v}"))).collect()
        };
        let level = own.variant.strip_prefix('v').and_then(|text| text.parse::<u8>().ok());
        let fallbacks: Vec<(String, String)> = match own.architecture.as_str() {
            "amd64" => level.map_or(Vec::new(), |level| older("amd64", level.min(4), 1)),
            "arm" => older("arm", level.unwrap_or(7).min(8).saturating_sub(1), 5),
            "arm64" => {
                let mut all = vec![("arm64".to_owned(), String::new())];
                all.extend(older("arm", 8, 5));
                all
            }
            _ => Vec::new(),
        };
        all.extend(fallbacks.iter().map(|(architecture, v)| Self::new(&own.os, architecture, v)));
        all
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}/{}", self.os, self.architecture)?;
        if !self.variant.is_empty() {
            write!(formatter, "/{}", self.variant)?;
        }
        Ok(())
    }
}

impl FromStr for Platform {
    type Err = PlatformError;

    fn from_str(text: &str) -> Result<Self, PlatformError> {
        let fail = |why| PlatformError { text: text.to_owned(), why };
        let parts: Vec<&str> = text.split('/').collect();
        let valid = |part: &&str| {
            !part.is_empty()
                && part
                    .bytes()
                    .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.'))
        };
        if !parts.iter().all(valid) {
            return Err(fail("each part must be of letters, digits, `_`, `-` and `.`"));
        }
        match parts.as_slice() {
            [one] if SYSTEMS.contains(&one.to_ascii_lowercase().as_str()) => {
                Ok(Self::new(one, &Self::host().architecture, ""))
            }
            [one] if ARCHITECTURES.contains(&one.to_ascii_lowercase().as_str()) => {
                Ok(Self::new("linux", one, ""))
            }
            [_] => {
                Err(fail("it is neither an operating system nor an architecture that lap knows"))
            }
            [os, architecture] => Ok(Self::new(os, architecture, "")),
            [os, architecture, variant] => Ok(Self::new(os, architecture, variant)),
            _ => Err(fail("it has more than three parts")),
        }
    }
}
