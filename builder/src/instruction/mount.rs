//! RUN `--mount=type=…,…`: five types, all options.
//!
//! The value is one line of comma-separated values; keys are matched in any case. Values are
//! expanded one by one when the step's scope is known ([`MountFlag::resolve`]), all but `from`,
//! which must be known before anything is expanded: the stage graph hangs on it.
//!
//! Options are taken in order, so `size` and `required` must come after the `type` they belong to.

use super::value::{csv_fields, lower, number, parse_bool, parse_size};
use crate::expand::ExpandError;
use crate::source::Span;
use crate::suggest;
use crate::text::{Text, cut};
use std::borrow::Cow;

/// All keys, for suggestions.
const KEYS: [&str; 19] = [
    "type",
    "from",
    "source",
    "target",
    "readonly",
    "id",
    "sharing",
    "required",
    "size",
    "mode",
    "uid",
    "gid",
    "src",
    "dst",
    "destination",
    "ro",
    "rw",
    "readwrite",
    "env",
];

/// Expands the value of an option.
pub type Expander<'e> = &'e mut dyn for<'w> FnMut(&'w str) -> Result<Cow<'w, str>, ExpandError>;

/// A `--mount` flag before expansion.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MountFlag {
    /// The value of the flag, unquoted.
    pub text: Text,
    /// Where the flag stands.
    pub span: Span,
    /// The value of `from`, if any.
    pub from: Option<String>,
}

/// A mount, understood.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Mount {
    /// What is mounted.
    pub kind: MountKind,
    /// The stage, named context or image that the files come from.
    pub from: Option<String>,
    /// The path in there; for secrets another word for the id.
    pub source: Option<String>,
    /// Where to; empty if not given.
    pub target: String,
    /// Whether writing is refused.
    pub read_only: bool,
    /// Size limit of a tmpfs in bytes.
    pub size: Option<u64>,
    /// The id of a cache, secret or ssh agent.
    pub id: Option<String>,
    /// How a cache is shared; `None` is shared.
    pub sharing: Option<Sharing>,
    /// Whether a secret or agent must be there.
    pub required: bool,
    /// Permissions of the file or new directory.
    pub mode: Option<u32>,
    /// Owner of the file or new directory.
    pub uid: Option<u32>,
    /// Group of the file or new directory.
    pub gid: Option<u32>,
    /// The environment variable that holds a secret.
    pub env: Option<String>,
}

/// The type of a mount.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MountKind {
    /// Files of the context, a stage or an image.
    #[default]
    Bind,
    /// A directory that stays from build to build.
    Cache,
    /// An empty file system in memory.
    Tmpfs,
    /// A secret, as a file or in the environment.
    Secret,
    /// An ssh agent's socket.
    Ssh,
}

/// What happens when two steps want one cache.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Sharing {
    /// Both use it.
    #[default]
    Shared,
    /// The second gets another one.
    Private,
    /// The second waits.
    Locked,
}

impl MountKind {
    const ALL: [Self; 5] = [Self::Bind, Self::Cache, Self::Tmpfs, Self::Secret, Self::Ssh];

    /// The type's name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Bind => "bind",
            Self::Cache => "cache",
            Self::Tmpfs => "tmpfs",
            Self::Secret => "secret",
            Self::Ssh => "ssh",
        }
    }
}

impl Sharing {
    const ALL: [Self; 3] = [Self::Shared, Self::Private, Self::Locked];

    /// The mode's name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Shared => "shared",
            Self::Private => "private",
            Self::Locked => "locked",
        }
    }
}

/// Why a `--mount` cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MountError {
    /// The fields are no comma-separated values.
    #[error("failed to parse csv mounts: {reason}")]
    Csv {
        /// What is wrong with them.
        reason: &'static str,
    },
    /// A variable in `from`.
    #[error("'from' doesn't support variable expansion, define alias stage instead")]
    FromVariable,
    /// A field that is no `key=value`.
    #[error("invalid field '{field}' must be a key=value pair")]
    NoValue {
        /// The field.
        field: String,
    },
    /// A key that does not exist.
    #[error("unexpected key '{key}' in '{field}'{}", did_you_mean(*.nearest))]
    Key {
        /// The key.
        key: String,
        /// The whole field.
        field: String,
        /// The key that was probably meant.
        nearest: Option<&'static str>,
    },
    /// A key that this type of mount does not have.
    #[error("unexpected key '{key}' for mount type '{kind}'")]
    KeyForType {
        /// The key.
        key: String,
        /// The mount's type.
        kind: &'static str,
    },
    /// A type that does not exist.
    #[error("unsupported mount type \"{value}\"{}", did_you_mean(*.nearest))]
    Type {
        /// The type.
        value: String,
        /// The type that was probably meant.
        nearest: Option<&'static str>,
    },
    /// A way of sharing that does not exist.
    #[error("unsupported sharing value \"{value}\"{}", did_you_mean(*.nearest))]
    Sharing {
        /// The value.
        value: String,
        /// The value that was probably meant.
        nearest: Option<&'static str>,
    },
    /// A value that the key cannot have.
    #[error("invalid value for {key}: {value}")]
    Value {
        /// The key.
        key: String,
        /// The value.
        value: String,
    },
    /// An option that this type of mount does not have.
    #[error("{key} not allowed for \"{kind}\" type mounts")]
    NotAllowed {
        /// The option.
        key: &'static str,
        /// The mount's type.
        kind: &'static str,
    },
    /// A secret with `from`.
    #[error("secret mount should not have a from")]
    SecretFrom,
    /// A secret with `sharing`.
    #[error("secret mount should not define sharing")]
    SecretSharing,
    /// A secret without id, source and target.
    #[error("invalid secret mount. one of source, target required")]
    SecretUnnamed,
    /// A secret with both id and source.
    #[error("both source and id can't be set")]
    SecretTwice,
    /// `sharing` for something other than a cache.
    #[error("invalid cache sharing set for {kind} mount")]
    NotACache {
        /// The mount's type.
        kind: &'static str,
    },
    /// A target that is missing or the root.
    #[error("invalid mount target \"{target}\"")]
    Target {
        /// The target in the image.
        target: String,
    },
    /// A value that cannot be expanded.
    #[error(transparent)]
    Expand(#[from] ExpandError),
}

fn did_you_mean(nearest: Option<&'static str>) -> String {
    nearest.map(|word| format!(" (did you mean {word}?)")).unwrap_or_default()
}

impl MountFlag {
    /// Reads what must be known before expansion: that the fields can be told apart, and `from`.
    pub(super) fn new(text: &Text, span: Span) -> Result<Self, MountError> {
        let (mut from, mut has_variable) = (None, false);
        // Fields without quotes can be told apart, and without an `f` none of them is `from`.
        let matters = |byte| matches!(byte, b'"' | b'f' | b'F');
        if !text.is_empty() && !text.bytes().any(matters) {
            return Ok(Self { text: text.clone(), span, from });
        }
        for field in csv_fields(text) {
            let field = field.map_err(|reason| MountError::Csv { reason })?;
            let Some((key, value)) = cut(&field, b'=') else { continue };
            if key.eq_ignore_ascii_case("from") {
                has_variable |= cut(value, b'$').is_some_and(|(_, name)| !name.is_empty());
                from = Some(value.to_owned()).filter(|from| !from.is_empty());
            }
        }
        if has_variable {
            return Err(MountError::FromVariable);
        }
        Ok(Self { text: text.clone(), span, from })
    }

    /// Reads all options, each value expanded with `expand`.
    pub fn resolve(&self, expand: Expander<'_>) -> Result<Mount, MountError> {
        parse(&self.text, expand)
    }
}

/// Reads the value of a `--mount` flag, each option's value expanded with `expand`.
pub fn parse(text: &str, expand: Expander<'_>) -> Result<Mount, MountError> {
    let mut mount = Mount::default();
    let mut read_only = None;
    let read = mount.fields(text, &mut read_only, expand).and_then(|()| mount.check());
    // That the fields cannot be told apart comes before what is wrong in one of them.
    read.map_err(|error| match csv_fields(text).find_map(Result::err) {
        Some(reason) => MountError::Csv { reason },
        None => error,
    })?;
    let writable = matches!(mount.kind, MountKind::Cache | MountKind::Tmpfs);
    mount.read_only = read_only.unwrap_or(!writable);
    Ok(mount)
}

impl Mount {
    fn fields(
        &mut self,
        text: &str,
        read_only: &mut Option<bool>,
        expand: Expander<'_>,
    ) -> Result<(), MountError> {
        for field in csv_fields(text) {
            let field = field.map_err(|reason| MountError::Csv { reason })?;
            match cut(&field, b'=') {
                Some((key, value)) => {
                    let value = expand(value)?;
                    self.option(&field, &lower(key), &value, read_only)?;
                }
                None => self.switch(&field, read_only)?,
            }
        }
        Ok(())
    }

    /// A field without `=`.
    fn switch(&mut self, field: &str, read_only: &mut Option<bool>) -> Result<(), MountError> {
        match &*lower(field) {
            "readonly" | "ro" => *read_only = Some(true),
            "readwrite" | "rw" => *read_only = Some(false),
            key @ "required" => {
                self.only_for(key, &[MountKind::Secret, MountKind::Ssh])?;
                self.required = true;
            }
            _ => return Err(MountError::NoValue { field: field.to_owned() }),
        }
        Ok(())
    }

    /// A field with `=`.
    fn option(
        &mut self,
        field: &str,
        key: &str,
        value: &str,
        read_only: &mut Option<bool>,
    ) -> Result<(), MountError> {
        let invalid = || MountError::Value { key: key.to_owned(), value: value.to_owned() };
        match key {
            "type" => self.kind = kind(value)?,
            "from" => self.from = not_empty(value),
            "source" | "src" => self.source = not_empty(value),
            "target" | "dst" | "destination" => value.clone_into(&mut self.target),
            "readonly" | "ro" => *read_only = Some(parse_bool(value).ok_or_else(invalid)?),
            "readwrite" | "rw" => *read_only = Some(!parse_bool(value).ok_or_else(invalid)?),
            "required" => {
                self.only_for(key, &[MountKind::Secret, MountKind::Ssh])?;
                self.required = parse_bool(value).ok_or_else(invalid)?;
            }
            "size" => {
                self.only_for(key, &[MountKind::Tmpfs])?;
                self.size = Some(parse_size(value).ok_or_else(invalid)?);
            }
            "id" => self.id = not_empty(value),
            "sharing" => self.sharing = Some(sharing(value)?),
            "mode" => self.mode = Some(number(value, 8).ok_or_else(invalid)?),
            "uid" => self.uid = Some(number(value, 10).ok_or_else(invalid)?),
            "gid" => self.gid = Some(number(value, 10).ok_or_else(invalid)?),
            "env" => self.env = not_empty(value),
            _ => {
                return Err(MountError::Key {
                    key: key.to_owned(),
                    field: field.to_owned(),
                    nearest: suggest::nearest(key, KEYS),
                });
            }
        }
        Ok(())
    }

    fn only_for(&self, key: &str, kinds: &[MountKind]) -> Result<(), MountError> {
        if kinds.contains(&self.kind) {
            return Ok(());
        }
        Err(MountError::KeyForType { key: key.to_owned(), kind: self.kind.name() })
    }

    /// What the options mean together.
    fn check(&self) -> Result<(), MountError> {
        let kind = self.kind.name();
        if matches!(self.kind, MountKind::Bind | MountKind::Tmpfs) {
            let given = [("mode", self.mode), ("uid", self.uid), ("gid", self.gid)];
            if let Some((key, _)) = given.into_iter().find(|(_, value)| value.is_some()) {
                return Err(MountError::NotAllowed { key, kind });
            }
        }
        if self.env.is_some() && self.kind != MountKind::Secret {
            return Err(MountError::NotAllowed { key: "env", kind });
        }
        if self.kind == MountKind::Secret {
            self.check_secret()?;
        }
        if self.sharing.is_some() && self.kind != MountKind::Cache {
            return Err(MountError::NotACache { kind });
        }
        Ok(())
    }

    fn check_secret(&self) -> Result<(), MountError> {
        if self.from.is_some() {
            return Err(MountError::SecretFrom);
        }
        if self.sharing.is_some() {
            return Err(MountError::SecretSharing);
        }
        match (&self.source, &self.id) {
            (None, None) if self.target.is_empty() => Err(MountError::SecretUnnamed),
            (Some(_), Some(_)) => Err(MountError::SecretTwice),
            _ => Ok(()),
        }
    }

    /// The target as an absolute, clean path: a relative one stands below `workdir`. The root is an
    /// error, and so is what names it, such as nothing at all in `/`.
    pub fn absolute_target(&self, workdir: &str) -> Result<String, MountError> {
        let path = if self.target.starts_with('/') {
            self.target.clone()
        } else {
            format!("{workdir}/{}", self.target)
        };
        let target = crate::glob::clean(&format!("/{path}"));
        if target == "/" { Err(MountError::Target { target }) } else { Ok(target) }
    }
}

fn kind(value: &str) -> Result<MountKind, MountError> {
    let lower = lower(value);
    let kind = MountKind::ALL.into_iter().find(|kind| kind.name() == lower);
    kind.ok_or_else(|| MountError::Type {
        value: value.to_owned(),
        nearest: suggest::nearest(value, MountKind::ALL.map(MountKind::name)),
    })
}

fn sharing(value: &str) -> Result<Sharing, MountError> {
    let lower = lower(value);
    let sharing = Sharing::ALL.into_iter().find(|sharing| sharing.name() == lower);
    sharing.ok_or_else(|| MountError::Sharing {
        value: value.to_owned(),
        nearest: suggest::nearest(value, Sharing::ALL.map(Sharing::name)),
    })
}

fn not_empty(value: &str) -> Option<String> {
    (!value.is_empty()).then(|| value.to_owned())
}
