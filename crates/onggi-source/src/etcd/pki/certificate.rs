//! Certificates and keys in PEM, as far as the checks go: until when, signed by whom, and whether a key belongs to one.

use jiff::Timestamp;
use rustls::crypto::ring::sign::any_supported_type;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, SubjectPublicKeyInfoDer, UnixTime};
use webpki::{ALL_VERIFICATION_ALGS, EndEntityCert, KeyUsage, anchor_from_trusted_cert};
use x509_cert::Certificate;
use x509_cert::der::{Decode as _, Encode as _};
use zeroize::Zeroize as _;

/// More certificates in one file are not looked at; an authority that is replaced has two.
const CERTIFICATES_MAX: usize = 16;

/// The certificates of one file: a leaf and those that it needs to be believed, or an authority and its successors.
pub(super) struct Chain {
    encoded: Vec<CertificateDer<'static>>,
    read: Vec<Certificate>,
}

impl Chain {
    /// Reads a file. What is wrong is said without anything of it.
    pub fn parse(pem: &[u8]) -> Result<Self, &'static str> {
        let found = CertificateDer::pem_slice_iter(pem).take(CERTIFICATES_MAX).collect::<Result<Vec<_>, _>>();
        let encoded = found.map_err(|_| "is no PEM")?;
        let read = encoded.iter().map(|one| Certificate::from_der(one)).collect::<Result<Vec<_>, _>>();
        let read = read.map_err(|_| "is no certificate")?;
        if read.is_empty() { Err("holds no certificate") } else { Ok(Self { encoded, read }) }
    }

    /// When its first certificate ends.
    pub fn ends_at(&self) -> Timestamp {
        self.read.first().map(|own| instant(own.tbs_certificate().validity().not_after)).unwrap_or_default()
    }

    /// Whether a public key is that of the first certificate, or of any for an authority that is being replaced.
    pub fn has(&self, public: &PublicKey) -> bool {
        let encoded = |one: &Certificate| one.tbs_certificate().subject_public_key_info().to_der().ok();
        self.read.iter().filter_map(encoded).any(|own| own == public.0)
    }

    /// Whether an authority signed it, whenever that was: dates are another question.
    pub fn is_signed_by(&self, authority: &Self) -> Result<(), String> {
        let (Some(own), Some((first, between))) = (self.read.first(), self.encoded.split_first()) else {
            return Err("there is no certificate".to_owned());
        };
        let said = |error: webpki::Error| format!("{error}");
        let leaf = EndEntityCert::try_from(first).map_err(said)?;
        let anchors = authority.encoded.iter().map(anchor_from_trusted_cert).collect::<Result<Vec<_>, _>>();
        let anchors = anchors.map_err(said)?;
        let began = instant(own.tbs_certificate().validity().not_before).as_second();
        let at = UnixTime::since_unix_epoch(std::time::Duration::from_secs(began.unsigned_abs()));
        let verify =
            |usage| leaf.verify_for_usage(ALL_VERIFICATION_ALGS, &anchors, between, at, usage, None, None).map(drop);
        verify(KeyUsage::client_auth()).or_else(|_| verify(KeyUsage::server_auth())).map_err(said)
    }
}

/// A public key in the encoding that certificates have.
#[derive(PartialEq, Eq)]
pub(super) struct PublicKey(Vec<u8>);

impl PublicKey {
    /// Of a file that holds one.
    pub fn parse(pem: &[u8]) -> Result<Self, &'static str> {
        let key = SubjectPublicKeyInfoDer::from_pem_slice(pem).map_err(|_| "holds no public key")?;
        Ok(Self(key.to_vec()))
    }

    /// The public half of a private key.
    pub fn of_private(pem: &[u8]) -> Result<Self, &'static str> {
        let mut key = PrivateKeyDer::from_pem_slice(pem).map_err(|_| "holds no private key")?;
        let usable = any_supported_type(&key);
        key.zeroize();
        let usable = usable.map_err(|_| {
            "holds a key that cannot be checked: RSA of 2048 to 4096 bits, P-256, P-384 and \
                                         Ed25519 can"
        })?;
        usable.public_key().map(|key| Self(key.to_vec())).ok_or("holds a key whose public half is not known")
    }
}

fn instant(time: x509_cert::time::Time) -> Timestamp {
    let seconds = i64::try_from(time.to_unix_duration().as_secs()).unwrap_or(i64::MAX);
    Timestamp::from_second(seconds).unwrap_or(Timestamp::MAX)
}
