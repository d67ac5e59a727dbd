//! The certificate that a fake Director shows, made by openssl.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use rustls::ServerConfig;
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use crate::peer;

/// Who vouches for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Certificate {
    /// An authority.
    Signed,
    /// It does so itself, and says that it is an authority.
    OwnAuthority,
    /// The same, for another address than the one where it listens.
    OwnAuthorityElsewhere,
}

const CONFIGURATION: &str = "[req]\ndistinguished_name = name\nprompt = no\n[name]\nCN = director\n\
    [authority]\nbasicConstraints = critical, CA:TRUE\nsubjectAltName = IP:127.0.0.1\n\
    [elsewhere]\nbasicConstraints = critical, CA:TRUE\nsubjectAltName = IP:192.0.2.1\n\
    [server]\nbasicConstraints = CA:FALSE\nsubjectAltName = IP:127.0.0.1\n";

/// What the server needs and the authority's certificate; `None` says that the test is skipped.
#[track_caller]
pub(super) fn make(kind: Certificate) -> Option<(Arc<ServerConfig>, Vec<u8>)> {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let at = folder.path();
    fs::write(at.join("c"), CONFIGURATION).expect("write the configuration");
    let new = "-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -sha256 -config c";
    let (own, certificate) = match kind {
        Certificate::Signed => ("authority", "s.crt"),
        Certificate::OwnAuthority => ("authority", "a.crt"),
        Certificate::OwnAuthorityElsewhere => ("elsewhere", "a.crt"),
    };
    if !openssl(at, &format!("req -x509 {new} -days 30 -extensions {own} -keyout a.key -out a.crt")) {
        return None;
    }
    let key = if kind == Certificate::Signed {
        let signed =
            "x509 -req -in s.csr -CA a.crt -CAkey a.key -CAcreateserial -days 30 -extfile c -extensions server";
        openssl(at, &format!("req -new {new} -subj /CN=server -keyout s.key -out s.csr"));
        openssl(at, &format!("{signed} -out s.crt"));
        "s.key"
    } else {
        "a.key"
    };
    let chain = vec![CertificateDer::from_pem_file(at.join(certificate)).expect("openssl wrote it")];
    let key = PrivateKeyDer::from_pem_file(at.join(key)).expect("openssl wrote it");
    let builder = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()));
    let builder = builder.with_safe_default_protocol_versions().expect("ring has them").with_no_client_auth();
    let tls = builder.with_single_cert(chain, key).expect("key and certificate belong together");
    Some((Arc::new(tls), fs::read(at.join("a.crt")).expect("openssl wrote it")))
}

#[track_caller]
fn openssl(folder: &Path, line: &str) -> bool {
    let output = Command::new("openssl").args(line.split(' ')).current_dir(folder).output();
    let output = match output {
        Ok(output) => output,
        Err(error) => {
            peer::skip(&format!("openssl: {error}"));
            return false;
        }
    };
    assert!(output.status.success(), "openssl {line}: {}", String::from_utf8_lossy(&output.stderr));
    true
}
