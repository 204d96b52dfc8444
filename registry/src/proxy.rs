//! Which requests go through a proxy: the `no_proxy` list, read as Go's tools read it.
//!
//! | entry | means |
//! |---|---|
//! | `*` | everything |
//! | `example.com`, `.example.com`, `*.example.com` | that domain (without a dot first: itself, too) and all below it |
//! | `10.0.0.7`, `10.0.0.0/8`, `fd00::/8` | that address, that network |
//! | any of these with `:port` | on that port only |
//!
//! This machine itself is never asked for through a proxy.

use std::net::IpAddr;

use ureq::Proxy;

use crate::error::Fault;
use crate::url::{Url, is_loopback};

/// The hosts that are asked directly.
#[derive(Debug, Clone, Default)]
pub(crate) struct Exceptions(Vec<Exception>);

#[derive(Debug, Clone, PartialEq, Eq)]
struct Exception {
    hosts: Hosts,
    port: Option<u16>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Hosts {
    All,
    Domain { name: String, itself: bool },
    Network { address: IpAddr, bits: u32 },
}

impl Exceptions {
    /// Reads the entries; those that make no sense match nothing.
    pub(crate) fn new(entries: &[String]) -> Self {
        Self(entries.iter().filter_map(|entry| Exception::parse(entry.trim())).collect())
    }

    /// Whether a request goes there directly.
    pub(crate) fn apply_to(&self, url: &Url) -> bool {
        let (host, port) = (url.host().to_ascii_lowercase(), url.port());
        is_loopback(&host) || self.0.iter().any(|exception| exception.matches(&host, port))
    }
}

impl Exception {
    fn parse(entry: &str) -> Option<Self> {
        if let Some(hosts) = Hosts::parse(entry) {
            return Some(Self { hosts, port: None });
        }
        let (host, port) = entry.rsplit_once(':')?;
        let host = host.strip_prefix('[').and_then(|h| h.strip_suffix(']')).unwrap_or(host);
        Some(Self { hosts: Hosts::parse(host)?, port: Some(port.parse().ok()?) })
    }

    fn matches(&self, host: &str, port: u16) -> bool {
        let same_host = match &self.hosts {
            Hosts::All => true,
            Hosts::Domain { name, itself } => {
                let below = host.strip_suffix(name).is_some_and(|rest| rest.ends_with('.'));
                below || (*itself && host == name)
            }
            Hosts::Network { address, bits } => {
                host.parse().is_ok_and(|host| in_network(host, *address, *bits))
            }
        };
        same_host && self.port.is_none_or(|wanted| wanted == port)
    }
}

impl Hosts {
    fn parse(text: &str) -> Option<Self> {
        if text == "*" {
            return Some(Self::All);
        }
        if let Some((address, bits)) = text.split_once('/') {
            let (address, bits): (IpAddr, u32) = (address.parse().ok()?, bits.parse().ok()?);
            let most = if address.is_ipv4() { 32 } else { 128 };
            return (bits <= most).then_some(Self::Network { address, bits });
        }
        if let Ok(address) = text.parse::<IpAddr>() {
            let bits = if address.is_ipv4() { 32 } else { 128 };
            return Some(Self::Network { address, bits });
        }
        let below = text.strip_prefix("*.").or_else(|| text.strip_prefix('.'));
        let name = below.unwrap_or(text).to_ascii_lowercase();
        let is_name = !name.is_empty() && !name.contains([':', '*', '/']);
        is_name.then_some(Self::Domain { name, itself: below.is_none() })
    }
}

/// Whether an address lies in a network of the same family.
fn in_network(host: IpAddr, network: IpAddr, bits: u32) -> bool {
    match (host, network) {
        (IpAddr::V4(host), IpAddr::V4(network)) => {
            let apart = host.to_bits() ^ network.to_bits();
            apart.checked_shr(32 - bits).unwrap_or(0) == 0
        }
        (IpAddr::V6(host), IpAddr::V6(network)) => {
            let apart = host.to_bits() ^ network.to_bits();
            apart.checked_shr(128 - bits).unwrap_or(0) == 0
        }
        _ => false,
    }
}

/// Reads a proxy's address.
pub(crate) fn parse(address: Option<&str>) -> Result<Option<Proxy>, Fault> {
    let Some(address) = address.filter(|address| !address.is_empty()) else {
        return Ok(None);
    };
    // The address may hold a password, so only what follows it is shown.
    let wrong = |_| Fault::Proxy(address.rsplit('@').next().unwrap_or_default().to_owned());
    Proxy::new(address).map(Some).map_err(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(entries: &str, direct: &[&str], proxied: &[&str]) {
        let entries: Vec<String> = entries.split(',').map(str::to_owned).collect();
        let exceptions = Exceptions::new(&entries);
        let applies = |url: &&str| exceptions.apply_to(&Url::parse(url).unwrap());
        assert_eq!(direct.iter().find(|url| !applies(url)), None, "{entries:?}");
        assert_eq!(proxied.iter().find(|url| applies(url)), None, "{entries:?}");
    }

    #[test]
    fn entries() {
        check(
            "",
            &["http://127.0.0.9:5000/", "http://localhost/", "http://[::1]/"],
            &["http://a.b/"],
        );
        check("*", &["https://anything.example/"], &[]);
        let inside = &["https://e.example/", "https://A.E.example/"];
        check(" e.example ", inside, &["https://ee.example/", "https://example/"]);
        check(".e.example", &["https://a.e.example/"], &["https://e.example/"]);
        check("*.e.example", &["https://a.e.example/"], &["https://e.example/"]);
        check("10.0.0.0/8", &["http://10.255.0.1/"], &["http://11.0.0.1/", "http://ten.example/"]);
        check("10.1.2.3,0.0.0.0/0:81", &["http://10.1.2.3/"], &["http://10.1.2.4/"]);
        check("fd00::/8", &["http://[fdab::1]/"], &["http://[fc00::1]/"]);
        check("e.example:5000", &["https://e.example:5000/"], &["https://e.example/"]);
        check("e.example:443", &["https://e.example/"], &["http://e.example/"]);
        check("10.0.0.0/99,a:b:c,:,/", &[], &["http://10.0.0.1/"]);
    }

    #[test]
    fn passwords_are_not_shown() {
        let fault = parse(Some("gopher://user:secret@proxy:1")).unwrap_err();
        assert!(!format!("{fault} {fault:?}").contains("secret"), "{fault:?}");
        assert!(parse(Some("")).unwrap().is_none());
    }
}
