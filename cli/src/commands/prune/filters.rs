//! `--filter KEY=VALUE`: docker's words for what a prune is about.
//!
//! Values of one key are alternatives, keys must all agree; labels must all agree, as in docker.

use crate::error::CommandError;
use crate::values;
use lapstrake_layerstore::store::gc::{CacheFilter, CacheKind, ImageFilter, LabelFilter};

/// What filters say.
#[derive(Debug, Default)]
pub(super) struct Filters {
    /// An age in seconds.
    pub(super) until: Option<u64>,
    pub(super) cache: CacheFilter,
    pub(super) images: Option<ImageFilter>,
}

/// Every key, for people.
const KEYS: &str = "there are until, type, id, description, shared, private, inuse, mutable and \
                    immutable (the build cache), and label, label! and dangling (images without a name)";

impl Filters {
    pub(super) fn parse(filters: &[String]) -> Result<Self, CommandError> {
        let mut all = Self::default();
        for filter in filters {
            let no_value = || {
                CommandError::usage(format!("--filter {filter}: write it as KEY=VALUE")).hint(KEYS)
            };
            let (key, value) = filter.split_once('=').ok_or_else(no_value)?;
            all.add(filter, key.trim(), value)?;
        }
        if all.images.is_some() && !all.cache.is_empty() {
            return Err(CommandError::usage(
                "label and dangling are about images, the other filters about the build cache",
            )
            .hint("prune one after the other"));
        }
        Ok(all)
    }

    fn add(&mut self, filter: &str, key: &str, value: &str) -> Result<(), CommandError> {
        let bad = |why: &str| CommandError::usage(format!("--filter {filter}: {why}"));
        let yes = || flag(value).ok_or_else(|| bad("it is true or false"));
        match key {
            "until" | "unused-for" => {
                let age = values::duration_seconds(value).map_err(|why| bad(&why))?;
                self.until = Some(age);
            }
            "type" => self.cache.kinds.push(kind(value).ok_or_else(|| {
                bad("that is no type").hint(
                    "there are regular (results of steps), exec.cachemount, source.http, \
                     source.git.checkout and internal (reports, hashes of files)",
                )
            })?),
            _ if value.is_empty() && !key.starts_with("label") => {
                return Err(bad("it says nothing"));
            }
            "id" => self.cache.ids.push(value.to_owned()),
            "description~" => self.cache.descriptions.push(value.to_owned()),
            "description" => {
                return Err(bad("steps are found by a part of their text: description~=TEXT"));
            }
            "shared" => self.cache.shared = Some(yes()?),
            "private" => self.cache.shared = Some(!yes()?),
            "inuse" => self.cache.in_use = Some(yes()?),
            // What a step may still write into is a cache mount.
            "mutable" => self.cache.kinds.extend(kinds(yes()?)),
            "immutable" => self.cache.kinds.extend(kinds(!yes()?)),
            "label" => self.label(value, true),
            "label!" => self.label(value, false),
            "dangling" if yes()? => drop(self.images.get_or_insert_default()),
            "dangling" => {
                return Err(bad("an image that has a name is never pruned")
                    .hint("`lap rmi` takes names away"));
            }
            _ => return Err(bad(&format!("there is no filter `{key}`")).hint(KEYS)),
        }
        Ok(())
    }

    fn label(&mut self, text: &str, wanted: bool) {
        let (name, value) = match text.split_once('=') {
            Some((name, value)) => (name, Some(value.to_owned())),
            None => (text, None),
        };
        let label = LabelFilter { name: name.to_owned(), value, wanted };
        self.images.get_or_insert_default().labels.push(label);
    }
}

fn kind(name: &str) -> Option<CacheKind> {
    Some(match name {
        "regular" => CacheKind::Step,
        "exec.cachemount" => CacheKind::Mount,
        "source.http" => CacheKind::Http,
        "source.git.checkout" | "source.git" => CacheKind::Git,
        "internal" => CacheKind::Note,
        _ => return None,
    })
}

fn kinds(mutable: bool) -> Vec<CacheKind> {
    if mutable {
        return vec![CacheKind::Mount];
    }
    vec![CacheKind::Step, CacheKind::Http, CacheKind::Git, CacheKind::Note]
}

fn flag(value: &str) -> Option<bool> {
    match value {
        "true" | "1" => Some(true),
        "false" | "0" => Some(false),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(filters: &[&str]) -> Result<Filters, String> {
        let filters: Vec<String> = filters.iter().map(|&text| text.to_owned()).collect();
        Filters::parse(&filters).map_err(|error| error.render())
    }

    #[test]
    fn docker_s_filters_are_understood() {
        let all = parsed(&["until=1h", "type=regular", "type=source.http", "id=3f", "shared=0"]);
        let all = all.unwrap();
        assert_eq!(all.until, Some(3600));
        assert_eq!(all.cache.kinds, [CacheKind::Step, CacheKind::Http]);
        assert_eq!((all.cache.ids, all.cache.shared), (vec!["3f".to_owned()], Some(false)));
        let step = parsed(&["description~=apt-get install", "inuse=false"]).unwrap();
        assert_eq!(step.cache.descriptions, ["apt-get install"]);
        assert_eq!(parsed(&["mutable=1"]).unwrap().cache.kinds, [CacheKind::Mount]);
        assert!(!parsed(&["immutable=true"]).unwrap().cache.kinds.contains(&CacheKind::Mount));
        assert_eq!(parsed(&["private=true"]).unwrap().cache.shared, Some(false));
        let images = parsed(&["label=stage=ci", "label!=keep", "dangling=true"]).unwrap();
        let label = |name: &str, value: Option<&str>, wanted| LabelFilter {
            name: name.to_owned(),
            value: value.map(str::to_owned),
            wanted,
        };
        let expected = [label("stage", Some("ci"), true), label("keep", None, false)];
        assert_eq!(images.images.unwrap().labels, expected);
        assert!(parsed(&["dangling=true"]).unwrap().images.is_some());
    }

    #[test]
    fn what_is_not_understood_is_said() {
        for (filter, words) in [
            ("until", "write it as KEY=VALUE"),
            ("until=soon", "until=soon"),
            ("color=red", "there is no filter `color`"),
            ("color=red", "label! and dangling"),
            ("type=frontend", "exec.cachemount"),
            ("shared=maybe", "true or false"),
            ("dangling=false", "lap rmi"),
            ("description=x", "description~=TEXT"),
            ("id=", "it says nothing"),
        ] {
            let said = parsed(&[filter]).unwrap_err();
            assert!(said.contains(words), "`{words}` is not in {said}");
        }
        assert!(parsed(&["label=a", "type=regular"]).unwrap_err().contains("one after the other"));
    }
}
