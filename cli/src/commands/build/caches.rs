//! `--cache-from` and `--cache-to`: results of steps that several machines share.
//!
//! What a flag says wrong is an error before anything is built; what is wrong with a cache is a warning.

use super::outputs::Codec;
use crate::error::{CommandError, printable};
use crate::session::Session;
use crate::ui::terminal::note;
use crate::values::{self, Field};
use lapstrake_builder::exec::BuildOutcome;
use lapstrake_builder::share::{self, DirectoryCache, ShareError, SharedCache};
use lapstrake_layerstore::compress::{self, Compression};
use std::path::PathBuf;
use std::sync::Arc;

/// One `--cache-to`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct To {
    dest: PathBuf,
    /// All steps, not only those whose layers are the image's.
    max: bool,
    codec: Codec,
    level: Option<u32>,
}

/// The caches to look into; one that is not there is a warning.
pub(super) fn sources(given: &[String]) -> Result<Vec<Arc<dyn SharedCache>>, CommandError> {
    let mut all: Vec<Arc<dyn SharedCache>> = Vec::new();
    for text in given {
        match DirectoryCache::open(&source(text)?) {
            Ok(cache) => all.push(Arc::new(cache)),
            Err(error) => warn("--cache-from", &error),
        }
    }
    Ok(all)
}

fn source(text: &str) -> Result<PathBuf, CommandError> {
    let (flag, mut src) = ("--cache-from", None);
    for field in fields(flag, text)? {
        match (field.key.as_str(), field.value) {
            ("src", Some(path)) if !path.is_empty() => src = Some(path.into()),
            (key, _) => return Err(unknown(flag, text, key, "type and src")),
        }
    }
    src.ok_or_else(|| CommandError::usage(format!("{flag} {text}: it needs src=DIRECTORY")))
}

/// The caches to write.
pub(super) fn targets(given: &[String]) -> Result<Vec<To>, CommandError> {
    given.iter().map(|text| target(text)).collect()
}

fn target(text: &str) -> Result<To, CommandError> {
    let flag = "--cache-to";
    let bad = |why: &str| CommandError::usage(format!("{flag} {text}: {why}"));
    let (mut dest, mut max, mut codec, mut level) = (None, false, Codec::Zstd, None);
    for field in fields(flag, text)? {
        let value = field.value.clone().unwrap_or_default();
        match field.key.as_str() {
            "dest" if !value.is_empty() => dest = Some(value.into()),
            "mode" => {
                max = match value.as_str() {
                    "max" => true,
                    "min" => false,
                    _ => return Err(bad("mode is min or max")),
                }
            }
            "compression" => {
                codec = super::outputs::codec(&value).map_err(|why| bad(&why))?;
            }
            "compression-level" => {
                level = Some(value.parse().map_err(|_| bad("the level is no number"))?);
            }
            // A fault never fails a build.
            "ignore-error" => drop(values::boolean(flag, &field)?),
            key => {
                let known = "type, dest, mode, compression, compression-level and ignore-error";
                return Err(unknown(flag, text, key, known));
            }
        }
    }
    let dest = dest.ok_or_else(|| bad("it needs dest=DIRECTORY"))?;
    Ok(To { dest, max, codec, level })
}

/// The fields but for the type, which must be `local`.
fn fields(flag: &str, text: &str) -> Result<Vec<Field>, CommandError> {
    let (types, rest): (Vec<_>, Vec<_>) =
        values::fields(flag, text)?.into_iter().partition(|field| field.key == "type");
    match types.as_slice() {
        [Field { value: Some(kind), .. }] if kind == "local" => Ok(rest),
        _ => Err(CommandError::usage(format!(
            "{flag} {text}: there is type=local, and no other yet"
        ))),
    }
}

fn unknown(flag: &str, text: &str, key: &str, known: &str) -> CommandError {
    CommandError::usage(format!("{flag} {text}: `{key}` is not supported; there are {known}"))
}

/// Writes the results of a build that succeeded.
pub(super) fn export(session: &Session, to: &[To], outcomes: &[BuildOutcome]) {
    for to in to {
        let codec = match to.codec {
            Codec::Gzip => compress::Codec::Gzip,
            Codec::Zstd => compress::Codec::Zstd,
            Codec::Uncompressed => compress::Codec::None,
        };
        let compression = Compression { codec, level: to.level, force: false };
        let steps = outcomes.iter().flat_map(|outcome| &outcome.made);
        let steps = steps.filter(|step| to.max || step.in_image);
        let exported = DirectoryCache::create(&to.dest)
            .and_then(|cache| share::export(steps, &session.store, &cache, &compression));
        if let Err(error) = exported {
            warn("--cache-to", &error);
        }
    }
}

fn warn(flag: &str, error: &ShareError) {
    note(&printable(&format!("warning: {flag}: {}", error.in_words())));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_are_parsed() {
        assert_eq!(source("type=local,src=a").unwrap(), PathBuf::from("a"));
        let to = target("type=local,dest=a,mode=max,compression=gzip,compression-level=3").unwrap();
        assert_eq!((to.dest, to.max, to.codec, to.level), ("a".into(), true, Codec::Gzip, Some(3)));
        assert!(!target("type=local,dest=a,ignore-error=true").unwrap().max);
        for bad in
            ["a", "type=registry,ref=a", "type=local", "type=local,src=", "type=local,src=a,x=1"]
        {
            assert!(source(bad).is_err(), "{bad}");
        }
        for bad in
            ["type=local", "type=local,dest=a,mode=some", "type=local,dest=a,compression=lz4"]
        {
            assert!(target(bad).is_err(), "{bad}");
        }
    }
}
