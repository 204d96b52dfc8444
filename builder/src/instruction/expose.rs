//! EXPOSE's words: `80`, `80/udp`, `8000-8010/tcp`, `127.0.0.1:8080:80`.
//!
//! A word is read after expansion. What stands for the host is checked and dropped.

use super::format::push_decimal;
use super::value::lower;
use crate::text::cut;
use std::net::IpAddr;

/// Why a port cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PortError {
    /// Nothing where the port should be.
    #[error("no port specified: {word}<empty>")]
    Empty {
        /// The container's part of the word.
        word: String,
    },
    /// A protocol other than tcp, udp and sctp.
    #[error("invalid proto: {protocol}")]
    Protocol {
        /// The protocol in lower case.
        protocol: String,
    },
    /// An address that is none.
    #[error("invalid IP address: {address}")]
    Address {
        /// The address.
        address: String,
    },
    /// No number, a number over 65535, or a range that runs backwards.
    #[error("invalid containerPort: {port}")]
    Container {
        /// The port or range.
        port: String,
    },
    /// The same for the host's side.
    #[error("invalid hostPort: {port}")]
    Host {
        /// The port or range.
        port: String,
    },
    /// Two ranges of different length.
    #[error("invalid ranges specified for container and host Ports: {container} and {host}")]
    Ranges {
        /// The container's range.
        container: String,
        /// The host's range.
        host: String,
    },
}

/// Reads expanded words as ports, in order, each as `number/protocol`.
pub fn parse_ports<S: AsRef<str>>(words: &[S]) -> Result<Vec<String>, PortError> {
    let mut ports = Vec::new();
    push_ports(&mut ports, words)?;
    Ok(ports)
}

/// [`parse_ports`] onto the end of a list, which after an error holds some of them.
pub(crate) fn push_ports<S: AsRef<str>>(
    ports: &mut Vec<String>,
    words: &[S],
) -> Result<(), PortError> {
    words.iter().try_for_each(|word| parse_port(word.as_ref(), ports))
}

fn parse_port(word: &str, ports: &mut Vec<String>) -> Result<(), PortError> {
    let (mut address, mut host_port, mut container) = ("", "", word);
    if word.as_bytes().contains(&b':') {
        (host_port, container) = word.rsplit_once(':').unwrap_or(("", word));
        (address, host_port) = host_port.rsplit_once(':').unwrap_or(("", host_port));
    }
    let (port, protocol) = cut(container, b'/').unwrap_or((container, ""));
    if port.is_empty() {
        return Err(PortError::Empty { word: container.to_owned() });
    }
    let protocol = match &*lower(protocol) {
        "" | "tcp" => "tcp",
        "udp" => "udp",
        "sctp" => "sctp",
        other => return Err(PortError::Protocol { protocol: other.to_owned() }),
    };
    check_address(address)?;
    let range = port_range(port).ok_or_else(|| PortError::Container { port: port.to_owned() })?;
    if !host_port.is_empty() {
        let host =
            port_range(host_port).ok_or_else(|| PortError::Host { port: host_port.to_owned() })?;
        if range.1 - range.0 != host.1 - host.0 && range.0 != range.1 {
            return Err(PortError::Ranges {
                container: port.to_owned(),
                host: host_port.to_owned(),
            });
        }
    }
    ports.extend((range.0..=range.1).map(|number| {
        let mut port = String::with_capacity("65535/".len() + protocol.len());
        push_decimal(&mut port, number.into());
        port.push('/');
        port.push_str(protocol);
        port
    }));
    Ok(())
}

fn check_address(address: &str) -> Result<(), PortError> {
    if address.is_empty() {
        return Ok(());
    }
    let bare = match address.strip_prefix('[') {
        Some(rest) => rest.strip_suffix(']').unwrap_or(address),
        None => address,
    };
    if bare.parse::<IpAddr>().is_ok() {
        return Ok(());
    }
    Err(PortError::Address { address: bare.to_owned() })
}

/// First and last port of `80` or `80-90`.
fn port_range(text: &str) -> Option<(u16, u16)> {
    let (first, last) = cut(text, b'-').unwrap_or((text, text));
    let (first, last) = (port_number(first)?, port_number(last)?);
    (first <= last).then_some((first, last))
}

fn port_number(text: &str) -> Option<u16> {
    // Rust reads a leading `+`, Go does not.
    if text.starts_with('+') { None } else { text.parse().ok() }
}
