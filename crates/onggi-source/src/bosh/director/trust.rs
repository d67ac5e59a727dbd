//! Whom a Director and its UAA must be vouched for by.
//!
//! Operators often hand over the Director's own certificate as the authority, and such a certificate may say that it is
//! one. Webpki refuses an authority as a server; here it passes if it is, byte for byte, one that was handed over, and its
//! name and dates are right.

use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};

use super::{DirectorError, Result};

/// Whose certificates count.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Authorities {
    /// Those that this machine trusts.
    System,
    /// These, in PEM.
    Given(Vec<u8>),
}

/// What TLS connections are made with.
pub(super) fn configuration(authorities: &Authorities) -> Result<ClientConfig> {
    let provider = Arc::new(ring::default_provider());
    let verifier = Verifier::new(authorities, &provider)?;
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let builder = builder.map_err(|error| DirectorError::Configuration(error.to_string()))?;
    Ok(builder.dangerous().with_custom_certificate_verifier(Arc::new(verifier)).with_no_client_auth())
}

#[derive(Debug)]
struct Verifier {
    webpki: Arc<WebPkiServerVerifier>,
    given: Vec<CertificateDer<'static>>,
}

impl Verifier {
    fn new(authorities: &Authorities, provider: &Arc<CryptoProvider>) -> Result<Self> {
        let unusable = |text: String| DirectorError::Configuration(format!("certificates of authorities: {text}"));
        let mut roots = RootCertStore::empty();
        let given = match authorities {
            Authorities::System => {
                let found = rustls_native_certs::load_native_certs();
                roots.add_parsable_certificates(found.certs);
                Vec::new()
            }
            Authorities::Given(pem) => {
                let read: std::result::Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
                let given = read.map_err(|error| unusable(error.to_string()))?;
                for certificate in &given {
                    roots.add(certificate.clone()).map_err(|error| unusable(error.to_string()))?;
                }
                given
            }
        };
        if roots.is_empty() {
            return Err(unusable("there are none".to_owned()));
        }
        let built = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider.clone()).build();
        let webpki = built.map_err(|error| unusable(error.to_string()))?;
        Ok(Self { webpki, given })
    }
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        shown: &CertificateDer<'_>,
        between: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        match self.webpki.verify_server_cert(shown, between, name, ocsp, now) {
            Err(error) if is_authority_as_server(&error) && self.given.iter().any(|given| given == shown) => {
                rustls::client::verify_server_name(&ParsedCertificate::try_from(shown)?, name)?;
                Ok(ServerCertVerified::assertion())
            }
            verdict => verdict,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.webpki.verify_tls12_signature(message, certificate, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.webpki.verify_tls13_signature(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.webpki.supported_verify_schemes()
    }
}

/// Webpki looks at the dates before it looks at this, so that a certificate that is over never gets here.
fn is_authority_as_server(error: &Error) -> bool {
    let Error::InvalidCertificate(CertificateError::Other(other)) = error else { return false };
    matches!(other.0.downcast_ref::<webpki::Error>(), Some(webpki::Error::CaUsedAsEndEntity))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// For 127.0.0.1, signed by itself and an authority; from 2026-11-26 to 2036-11-23.
    const OWN: &str = "-----BEGIN CERTIFICATE-----
MIIBazCCARGgAwIBAgIUCsGflq/c0p8hZg+0eUCtsLxChgkwCgYIKoZIzj0EAwIw
EzERMA8GA1UEAwwIZGlyZWN0b3IwHhcNMjYxMTI2MTAzMzExWhcNMzYxMTIzMTAz
MzExWjATMREwDwYDVQQDDAhkaXJlY3RvcjBZMBMGByqGSM49AgEGCCqGSM49AwEH
A0IABNXWWdunSGahqJs4mL6KGkgMT52I7X9Ly+my6mn796XsOVuKnzEFeFNM4El0
gIZ/uXg2NqD9YGcBfZkgW2BQM1+jQzBBMA8GA1UdEwEB/wQFMAMBAf8wDwYDVR0R
BAgwBocEfwAAATAdBgNVHQ4EFgQU8KthQTMbQF7VPhjB2sE1PXTwTkowCgYIKoZI
zj0EAwIDSAAwRQIgZ22o/Q+Z1m/jpulWh7RTyZ3Yj8IfEF5/wO50sXmjim8CIQDf
VKfj0/RUTG9y0ywgyTSwZUMcTHLluJKB67Od4AwWhw==
-----END CERTIFICATE-----
";

    #[track_caller]
    fn check(year: u64, name: &'static str, expected: bool) {
        let provider = Arc::new(ring::default_provider());
        let verifier = Verifier::new(&Authorities::Given(OWN.into()), &provider).unwrap();
        let now = UnixTime::since_unix_epoch(Duration::from_secs((year - 1970) * 31_557_600));
        let name = ServerName::try_from(name).unwrap();
        let verdict = verifier.verify_server_cert(&verifier.given[0], &[], &name, &[], now);
        assert_eq!(verdict.is_ok(), expected, "{year} {name:?}: {verdict:?}");
    }

    #[test]
    fn an_authority_as_server_is_held_to_its_name_and_dates() {
        check(2030, "127.0.0.1", true);
        check(2030, "127.0.0.2", false);
        check(2030, "director", false);
        check(2026, "127.0.0.1", false);
        check(2037, "127.0.0.1", false);
    }
}
