//! `--annotation` and `annotation.KEY=` of an output: what is said about manifests and indexes.
//!
//! ```text
//! [TYPE[,TYPE…][[PLATFORM]]:]KEY=VALUE     TYPE: manifest, manifest-descriptor, index, index-descriptor
//! ```

use lapstrake_layerstore::oci::Platform;
use lapstrake_layerstore::store::{Annotated, Annotation};

/// Parses what `--annotation` takes; without a type the manifest is meant.
pub(super) fn parse(text: &str) -> Result<Vec<Annotation>, String> {
    let (left, value) = text.split_once('=').ok_or("it has no =VALUE")?;
    // Keys have no colon before their first dot, so what stands before one can only be types.
    let (types, key) = match left.split_once(':') {
        Some((types, key)) => (types, key),
        None => ("manifest", left),
    };
    let (types, platform) = platform(types)?;
    types.split(',').map(|name| annotation(name, platform.clone(), key, value)).collect()
}

/// Parses the key of an output's field: `annotation-TYPE[PLATFORM].KEY`; `None` is another field.
pub(super) fn parse_field(field: &str, value: &str) -> Option<Result<Annotation, String>> {
    let (left, key) = field.strip_prefix("annotation")?.split_once('.')?;
    let types = match left.strip_prefix('-') {
        Some(types) => types.to_owned(),
        None if left.is_empty() || left.starts_with('[') => format!("manifest{left}"),
        None => return None,
    };
    let parsed = platform(&types);
    Some(parsed.and_then(|(name, platform)| annotation(name, platform, key, value)))
}

fn annotation(
    name: &str,
    platform: Option<Platform>,
    key: &str,
    value: &str,
) -> Result<Annotation, String> {
    let about = match name {
        "manifest" => Annotated::Manifest,
        "manifest-descriptor" => Annotated::ManifestDescriptor,
        "index" => Annotated::Index,
        "index-descriptor" => Annotated::IndexDescriptor,
        other => {
            return Err(format!(
                "there is no annotation type `{other}`; there are manifest, manifest-descriptor, \
                 index and index-descriptor"
            ));
        }
    };
    if key.is_empty() {
        return Err("its key is empty".to_owned());
    }
    if platform.is_some() && matches!(about, Annotated::Index | Annotated::IndexDescriptor) {
        return Err("an index is not for one platform".to_owned());
    }
    Ok(Annotation { about, platform, key: key.to_owned(), value: value.to_owned() })
}

/// `types[platform]`
fn platform(text: &str) -> Result<(&str, Option<Platform>), String> {
    let Some((types, rest)) = text.split_once('[') else { return Ok((text, None)) };
    let platform = rest.strip_suffix(']').ok_or("a `[` is not closed")?;
    Ok((types, Some(platform.parse().map_err(|error| format!("{error}"))?)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn annotations_are_parsed() {
        let of = |text: &str| {
            let show = |a: &Annotation| {
                let platform = a.platform.as_ref().map(ToString::to_string).unwrap_or_default();
                format!("{:?} {platform} {}={}", a.about, a.key, a.value)
            };
            parse(text).map(|all| all.iter().map(show).collect::<Vec<_>>())
        };
        assert_eq!(of("a.b=c=d").unwrap(), ["Manifest  a.b=c=d"]);
        assert_eq!(of("index,manifest:A=").unwrap(), ["Index  A=", "Manifest  A="]);
        assert_eq!(
            of("manifest-descriptor[linux/arm/v7]:a=x:y").unwrap(),
            ["ManifestDescriptor linux/arm/v7 a=x:y"]
        );
        for bad in
            ["a", "=b", "manifest:=b", "what:a=b", "manifest[x/y/z/w]:a=b", "index[linux/arm]:a=b"]
        {
            assert!(of(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn fields_of_outputs_are_parsed() {
        let about =
            |field: &str| parse_field(field, "v").map(|parsed| parsed.map(|a| (a.about, a.key)));
        let expected = |about, key: &str| Some(Ok((about, key.to_owned())));
        assert_eq!(about("annotation.A.b"), expected(Annotated::Manifest, "A.b"));
        assert_eq!(about("annotation[linux/arm].a"), expected(Annotated::Manifest, "a"));
        assert_eq!(about("annotation-index.a"), expected(Annotated::Index, "a"));
        assert!(about("annotation-what.a").is_some_and(|parsed| parsed.is_err()));
        assert_eq!(about("annotations.a"), None);
        assert_eq!(about("name"), None);
    }
}
