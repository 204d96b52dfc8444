//! Whom to believe: the system's authorities and the files the user names.

use std::path::{Path, PathBuf};

use ureq::tls::{Certificate, PemItem, RootCerts, TlsConfig, parse_pem};

use crate::error::Fault;

/// The trust roots for https, read when the first https request is made: a client that only talks
/// to loopback never pays for parsing a hundred and fifty certificates.
pub(crate) fn config(ca_files: &[PathBuf]) -> Result<TlsConfig, Fault> {
    // A broken certificate among the system's is the system's affair; the rest still counts.
    let system = rustls_native_certs::load_native_certs().certs;
    let mut roots: Vec<Certificate<'static>> =
        system.iter().map(|der| Certificate::from_der(der).to_owned()).collect();
    for path in ca_files {
        roots.extend(read_authorities(path)?);
    }
    Ok(TlsConfig::builder().root_certs(RootCerts::from(roots)).build())
}

/// The certificates of one PEM file; a file without any is an error, since its user meant some.
fn read_authorities(path: &Path) -> Result<Vec<Certificate<'static>>, Fault> {
    let wrong = |source| Fault::Authorities { path: path.display().to_string(), source };
    let pem = std::fs::read(path).map_err(|error| wrong(Box::new(error)))?;
    let mut found = Vec::new();
    for item in parse_pem(&pem) {
        if let PemItem::Certificate(certificate) = item.map_err(|error| wrong(Box::new(error)))? {
            found.push(certificate);
        }
    }
    if found.is_empty() {
        return Err(wrong("there is no PEM certificate in it".into()));
    }
    Ok(found)
}
