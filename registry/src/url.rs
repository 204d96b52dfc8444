//! Addresses of requests: an origin and a path, and how a `Location` changes them.
//!
//! Invariants: the scheme is http or https; the authority holds a host and perhaps a port, never
//! user information (a registry could otherwise plant credentials); no fragment.

use std::fmt;
use std::net::IpAddr;

use ureq::http::Uri;

/// How a request travels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Scheme {
    /// In the clear: loopback and hosts the user named only.
    Http,
    /// Over TLS.
    Https,
}

impl Scheme {
    /// The scheme as addresses spell it.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
        }
    }
}

/// An absolute address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Url {
    scheme: Scheme,
    authority: String,
    path: String,
}

/// An address that cannot be used, with the text as it came.
#[derive(Debug, thiserror::Error)]
#[error("not a usable address: {0:?}")]
pub(crate) struct BadUrl(pub(crate) String);

impl Url {
    /// An address on a registry: `path` begins with a slash.
    pub(crate) fn new(scheme: Scheme, authority: &str, path: &str) -> Result<Self, BadUrl> {
        Self::parse(&format!("{}://{authority}{path}", scheme.as_str()))
    }

    /// Reads an absolute address.
    pub(crate) fn parse(text: &str) -> Result<Self, BadUrl> {
        let bad = || BadUrl(text.chars().take(200).collect());
        let uri: Uri = text.parse().map_err(|_| bad())?;
        let scheme = match uri.scheme_str() {
            Some("http") => Scheme::Http,
            Some("https") => Scheme::Https,
            _ => return Err(bad()),
        };
        let authority = uri.authority().ok_or_else(bad)?.as_str();
        if authority.contains('@') || authority.starts_with(':') || authority.is_empty() {
            return Err(bad());
        }
        let path = uri.path_and_query().map_or("/", |path| path.as_str());
        let path = if path.starts_with('/') { path.to_owned() } else { format!("/{path}") };
        Ok(Self { scheme, authority: authority.to_owned(), path })
    }

    /// The address that a `Location` header of an answer from here means (RFC 3986 §5.2, without
    /// dot segments: registries do not send them, and none are invented here).
    pub(crate) fn join(&self, location: &str) -> Result<Self, BadUrl> {
        let origin = format!("{}://{}", self.scheme.as_str(), self.authority);
        if location.starts_with("//") {
            return Self::parse(&format!("{}:{location}", self.scheme.as_str()));
        }
        if location.starts_with('/') {
            return Self::parse(&format!("{origin}{location}"));
        }
        let first_segment = location.split(['/', '?', '#']).next().unwrap_or("");
        if first_segment.ends_with(':') {
            return Self::parse(location);
        }
        let path = self.path.split('?').next().unwrap_or("/");
        if location.starts_with('?') {
            return Self::parse(&format!("{origin}{path}{location}"));
        }
        let folder = path.rsplit_once('/').map_or("", |(folder, _)| folder);
        Self::parse(&format!("{origin}{folder}/{location}"))
    }

    /// The same address with one more query parameter; the value is encoded.
    pub(crate) fn with_query(&self, name: &str, value: &str) -> Self {
        let separator = if self.path.contains('?') { '&' } else { '?' };
        let path = format!("{}{separator}{name}={}", self.path, encode(value));
        Self { path, ..self.clone() }
    }

    /// How it travels.
    pub(crate) fn scheme(&self) -> Scheme {
        self.scheme
    }

    /// Host and port as written.
    pub(crate) fn authority(&self) -> &str {
        &self.authority
    }

    /// The host alone, without the brackets of an IPv6 address.
    pub(crate) fn host(&self) -> &str {
        host_of(&self.authority)
    }

    /// The port, stated or the scheme's own.
    pub(crate) fn port(&self) -> u16 {
        port_of(&self.authority).unwrap_or(match self.scheme {
            Scheme::Http => 80,
            Scheme::Https => 443,
        })
    }

    /// Whether both go to the same place: scheme, host and port.
    pub(crate) fn same_origin(&self, other: &Self) -> bool {
        self.scheme == other.scheme
            && self.host().eq_ignore_ascii_case(other.host())
            && self.port() == other.port()
    }
}

impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}{}", self.scheme.as_str(), self.authority, self.path)
    }
}

/// The host of `host[:port]` or `[v6][:port]`.
pub(crate) fn host_of(authority: &str) -> &str {
    if let Some(rest) = authority.strip_prefix('[') {
        return rest.split(']').next().unwrap_or(rest);
    }
    authority.split(':').next().unwrap_or(authority)
}

/// The port of `host:port`, if there is one.
fn port_of(authority: &str) -> Option<u16> {
    let after = authority.rsplit_once(']').map_or(authority, |(_, after)| after);
    after.rsplit_once(':').and_then(|(_, port)| port.parse().ok())
}

/// Whether a host is this machine and nothing else: 127.0.0.0/8, ::1, localhost.
pub(crate) fn is_loopback(host: &str) -> bool {
    match host.parse::<IpAddr>() {
        Ok(address) => address.is_loopback(),
        Err(_) => host.eq_ignore_ascii_case("localhost"),
    }
}

/// Percent-encodes everything but RFC 3986's unreserved characters.
pub(crate) fn encode(text: &str) -> String {
    use fmt::Write as _;
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            write!(out, "%{byte:02X}").expect("because writing to a String cannot fail");
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check_join(base: &str, location: &str, expected: Option<&str>) {
        let joined = Url::parse(base).unwrap().join(location).ok().map(|url| url.to_string());
        assert_eq!(joined.as_deref(), expected, "{base} + {location}");
    }

    #[test]
    fn locations() {
        let base = "https://r.example:5000/v2/a/blobs/uploads/?x=1";
        check_join(
            base,
            "/v2/a/up/1?_state=a%2Fb",
            Some("https://r.example:5000/v2/a/up/1?_state=a%2Fb"),
        );
        check_join(base, "https://other/up?a=b#frag", Some("https://other/up?a=b"));
        check_join(base, "//other/up", Some("https://other/up"));
        check_join(base, "id-1", Some("https://r.example:5000/v2/a/blobs/uploads/id-1"));
        check_join(base, "?y=2", Some("https://r.example:5000/v2/a/blobs/uploads/?y=2"));
        check_join(base, "ftp://other/up", None);
        check_join(base, "https://user:pw@other/up", None);
        check_join(base, "https:///nohost", None);
        check_join(base, "/with space", None);
    }

    #[test]
    fn queries_are_kept_and_encoded() {
        let url = Url::parse("http://h/up?state=1").unwrap();
        let url = url.with_query("digest", "sha256:ab");
        assert_eq!(url.to_string(), "http://h/up?state=1&digest=sha256%3Aab");
        assert_eq!(
            Url::parse("http://h/up").unwrap().with_query("a", "b c").to_string(),
            "http://h/up?a=b%20c"
        );
    }

    #[test]
    fn origins_and_loopback() {
        let origin = |a: &str, b: &str| Url::parse(a).unwrap().same_origin(&Url::parse(b).unwrap());
        assert!(origin("https://h/a", "https://H:443/b"));
        assert!(!origin("https://h/a", "http://h/a"));
        assert!(!origin("https://h/a", "https://h:444/a"));
        assert!(!origin("https://h/a", "https://h.evil/a"));
        for host in ["127.0.0.1", "127.1.2.3", "::1", "localhost", "LOCALHOST"] {
            assert!(is_loopback(host), "{host}");
        }
        for host in ["10.0.0.1", "localhost.evil.example", "127.0.0.1.nip.example", "0.0.0.0"] {
            assert!(!is_loopback(host), "{host}");
        }
        assert_eq!(Url::parse("http://[::1]:5000/x").unwrap().host(), "::1");
    }
}
