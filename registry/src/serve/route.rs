//! What a request asks for: pure, from method, path and query.
//!
//! ```text
//! /v2/                                    GET HEAD
//! /v2/_catalog                            GET        ?n&last
//! /v2/<name>/tags/list                    GET        ?n&last
//! /v2/<name>/manifests/<tag or digest>    GET HEAD PUT
//! /v2/<name>/blobs/<digest>               GET HEAD
//! /v2/<name>/blobs/uploads/               POST       ?digest, ?mount&from
//! /v2/<name>/blobs/uploads/<id>           GET PATCH PUT DELETE   ?digest
//! /v2/<name>/referrers/<digest>           GET        (404: clients then use the fallback tag)
//! ```

use hyper::Method;
use lapstrake_layerstore::digest::Digest;

/// The name of an upload: hexadecimal digits.
const UPLOAD_ID_CHARS: usize = 32;

/// Something that the server has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Resource {
    /// `/v2/`
    Base,
    /// The list of repositories.
    Catalog,
    /// The tags of a repository.
    Tags(String),
    /// A manifest or index.
    Manifest(String, Target),
    /// A blob.
    Blob(Digest),
    /// The place where uploads begin.
    Uploads(String),
    /// One upload.
    Upload(String, String),
}

/// How a manifest is named.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Target {
    /// By a tag; whether it is well formed is found out where it is looked up.
    Tag(String),
    /// By its digest.
    Digest(Digest),
}

/// Why there is nothing to route to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unroutable {
    /// No such path.
    Path,
    /// A digest that is none.
    Digest,
}

/// Reads a path.
pub(super) fn resource(path: &str) -> Result<Resource, Unroutable> {
    let rest = path.strip_prefix("/v2").ok_or(Unroutable::Path)?;
    if matches!(rest, "" | "/") {
        return Ok(Resource::Base);
    }
    let rest = rest.strip_prefix('/').ok_or(Unroutable::Path)?;
    if rest == "_catalog" {
        return Ok(Resource::Catalog);
    }
    if let Some(name) = rest.strip_suffix("/tags/list") {
        return Ok(Resource::Tags(name.to_owned()));
    }
    if let Some((name, id)) = split(rest, "/blobs/uploads") {
        return match id {
            "" => Ok(Resource::Uploads(name)),
            id if is_upload_id(id) => Ok(Resource::Upload(name, id.to_owned())),
            _ => Err(Unroutable::Path),
        };
    }
    if let Some((_, digest)) = split(rest, "/blobs") {
        return digest.parse().map(Resource::Blob).map_err(|_| Unroutable::Digest);
    }
    let (name, target) = split(rest, "/manifests").ok_or(Unroutable::Path)?;
    match target {
        "" => Err(Unroutable::Path),
        digest if digest.contains(':') => {
            let digest = digest.parse().map_err(|_| Unroutable::Digest)?;
            Ok(Resource::Manifest(name, Target::Digest(digest)))
        }
        tag => Ok(Resource::Manifest(name, Target::Tag(tag.to_owned()))),
    }
}

/// Splits `<name><keyword>[/<last>]`, where the last part has no slash; a name may itself contain
/// the keyword, so the last one counts.
fn split<'a>(path: &'a str, keyword: &str) -> Option<(String, &'a str)> {
    let at = path.rfind(keyword)?;
    let (name, last) = (&path[..at], &path[at + keyword.len()..]);
    let last = match last {
        "" => "",
        last => last.strip_prefix('/')?,
    };
    (!name.is_empty() && !last.contains('/')).then(|| (name.to_owned(), last))
}

fn is_upload_id(text: &str) -> bool {
    text.len() == UPLOAD_ID_CHARS && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// The methods that a resource knows, for `Allow`.
pub(super) fn allowed(resource: &Resource, writable: bool) -> &'static [Method] {
    const READ: &[Method] = &[Method::GET, Method::HEAD];
    match (resource, writable) {
        (Resource::Manifest(..), true) => &[Method::GET, Method::HEAD, Method::PUT],
        (Resource::Uploads(_), true) => &[Method::POST],
        (Resource::Upload(..), true) => &[Method::GET, Method::PATCH, Method::PUT, Method::DELETE],
        (Resource::Uploads(_) | Resource::Upload(..), false) => &[],
        _ => READ,
    }
}

/// The first value of a query parameter, decoded.
pub(super) fn query(query: Option<&str>, name: &str) -> Option<String> {
    let pairs = query?.split('&').filter_map(|pair| pair.split_once('='));
    pairs.filter(|(key, _)| *key == name).find_map(|(_, value)| decode(value))
}

/// Undoes percent encoding; `None` for broken sequences and for what is not UTF-8.
fn decode(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'%' => {
                let digit = |byte: Option<u8>| char::from(byte?).to_digit(16);
                let value = digit(rest.next())? * 16 + digit(rest.next())?;
                u8::try_from(value).expect("because two hexadecimal digits make a byte")
            }
            b'+' => b' ',
            other => other,
        });
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths() {
        let digest = Digest::of(b"x");
        let id = "0123456789abcdef0123456789abcdef";
        let check = |path: &str, expected: Result<Resource, Unroutable>| {
            assert_eq!(resource(path), expected, "{path}");
        };
        check("/v2/", Ok(Resource::Base));
        check("/v2", Ok(Resource::Base));
        check("/v2/_catalog", Ok(Resource::Catalog));
        check("/v2/a/b/tags/list", Ok(Resource::Tags("a/b".into())));
        let tag = Target::Tag("1.0".into());
        check("/v2/a/manifests/1.0", Ok(Resource::Manifest("a".into(), tag.clone())));
        let nested = "a/manifests/blobs/b".to_owned();
        check("/v2/a/manifests/blobs/b/manifests/1.0", Ok(Resource::Manifest(nested, tag)));
        check(
            &format!("/v2/a/manifests/{digest}"),
            Ok(Resource::Manifest("a".into(), Target::Digest(digest))),
        );
        check(&format!("/v2/a/b/blobs/{digest}"), Ok(Resource::Blob(digest)));
        check("/v2/a/blobs/uploads/", Ok(Resource::Uploads("a".into())));
        check("/v2/a/blobs/uploads", Ok(Resource::Uploads("a".into())));
        check(&format!("/v2/a/blobs/uploads/{id}"), Ok(Resource::Upload("a".into(), id.into())));
        check("/v2/a/blobs/sha256:xyz", Err(Unroutable::Digest));
        check("/v2/a/manifests/sha512:00", Err(Unroutable::Digest));
        for wrong in [
            "/",
            "/v1/",
            "/v2x",
            "/v2/a",
            "/v2//manifests/x",
            "/v2/a/manifests/",
            "/v2/a/manifests/b/c",
            "/v2/a/blobs/uploads/../../x",
            "/v2/a/referrers/sha256:0",
        ] {
            check(wrong, Err(Unroutable::Path));
        }
    }

    #[test]
    fn queries() {
        assert_eq!(
            query(Some("a=1&digest=sha256%3Aab&n=x+y"), "digest").as_deref(),
            Some("sha256:ab")
        );
        assert_eq!(query(Some("n=x+y"), "n").as_deref(), Some("x y"));
        assert_eq!(query(Some("n=%zz"), "n"), None);
        assert_eq!(query(Some("n=%ff"), "n"), None);
        assert_eq!(query(None, "n"), None);
    }
}
