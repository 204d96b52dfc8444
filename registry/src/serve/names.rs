//! Which image of the store a repository name on our server means.
//!
//! A server's repository names have no registry; the store's references do. A name is looked up
//! first under the address the client used (`localhost:5000/app` tagged here is what
//! `docker pull localhost:5000/app` wants), then as a person would type it: `app` is
//! `docker.io/library/app`, `quay.example/team/app` is itself. What is pushed to us is tagged in
//! the second form, so that it does not depend on the port the server happened to have.

use lapstrake_layerstore::reference::{DEFAULT_REGISTRY, Reference};

/// The references that `name` and `tag` may stand for, best first; empty if they are not well
/// formed.
pub(super) fn candidates(host: Option<&str>, name: &str, tag: &str) -> Vec<Reference> {
    let hosted = host.map(|host| format!("{host}/{name}:{tag}"));
    let texts = hosted.into_iter().chain([format!("{name}:{tag}")]);
    texts.filter_map(|text| parse(&text)).collect()
}

/// The reference under which a push of `name` and `tag` is kept.
pub(super) fn pushed(name: &str, tag: &str) -> Option<Reference> {
    parse(&format!("{name}:{tag}"))
}

/// The repository name under which a reference is offered to a client that calls us `host`;
/// `None` for references to other registries on a port, which no name can spell.
pub(super) fn offered(host: Option<&str>, reference: &Reference) -> Option<String> {
    let registry = reference.registry();
    if host == Some(registry) {
        return Some(reference.repository().to_owned());
    }
    if registry == DEFAULT_REGISTRY {
        return Some(reference.familiar_name());
    }
    (!registry.contains(':')).then(|| reference.name())
}

/// A reference with exactly a tag.
fn parse(text: &str) -> Option<Reference> {
    Reference::parse(text).ok().filter(|found| found.digest().is_none() && found.tag().is_some())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_found_both_ways() {
        let found = |host, name, tag| -> Vec<String> {
            candidates(host, name, tag).iter().map(ToString::to_string).collect()
        };
        assert_eq!(
            found(Some("localhost:5000"), "app", "1"),
            ["localhost:5000/app:1", "docker.io/library/app:1"]
        );
        assert_eq!(found(None, "quay.example/a/b", "1"), ["quay.example/a/b:1"]);
        assert_eq!(found(Some("evil host"), "app", "1"), ["docker.io/library/app:1"]);
        assert!(found(None, "App", "1").is_empty());
        assert!(found(None, "app", "-").is_empty());
        assert!(found(None, "app", "1@sha256:00").is_empty());
    }

    #[test]
    fn offered_names_lead_back() {
        for text in ["app:1", "team/app:1", "quay.example/team/app:1", "localhost:5000/x:1"] {
            let reference = Reference::parse(text).unwrap();
            let host = Some("localhost:5000");
            let name = offered(host, &reference).unwrap();
            assert!(candidates(host, &name, "1").contains(&reference), "{text}");
        }
        assert_eq!(offered(None, &Reference::parse("localhost:5000/x:1").unwrap()), None);
    }
}
