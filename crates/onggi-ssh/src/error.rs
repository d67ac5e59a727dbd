//! Why a connection does not come about, and the decision it means for the caller.

use crate::known_hosts::{CertificateFault, Place, Verdict};
use crate::login::host_name;
use russh::keys::{HashAlg, PublicKey};
use std::path::PathBuf;

/// Anything that explains itself.
pub type Cause = Box<dyn std::error::Error + Send + Sync>;

/// A connection does not come about. One variant per decision of the caller.
#[derive(Debug, thiserror::Error)]
pub enum SshError {
    /// Again later.
    #[error("host cannot be reached")]
    Unreachable(#[source] Cause),
    /// The host does not prove who it is; waiting does not cure it.
    #[error("host is not trusted")]
    Identity(#[source] Box<HostError>),
    /// We are not let in.
    #[error("access is denied")]
    Denied(#[source] Cause),
}

/// Why the other side is not trusted. Waiting does not cure it.
#[derive(Debug, thiserror::Error)]
pub enum HostError {
    /// Nobody has said that this key is the host's.
    #[error(
        "host key of {host} is not known: {}. Compare it with `ssh-keygen -lf` of the key file on that \
         host; if it is the same, add this line (as ssh-keyscan prints it) to {file}: {host} {}", fingerprint(.key), text(.key)
    )]
    Unknown {
        /// As a line names it.
        host: String,
        /// What it shows.
        key: Box<PublicKey>,
        /// Where it would be said.
        file: String,
    },
    /// It is known by another key.
    #[error(
        "host key of {host} has changed: it now shows {fingerprint}, which differs from {}:{}. Somebody may be \
         in between; if the host was set up anew, replace that line", .place.file.display(), .place.line
    )]
    Changed {
        /// As a line names it.
        host: String,
        /// Of what it shows.
        fingerprint: String,
        /// The line that says otherwise.
        place: Place,
    },
    /// The key is on the list of those that are not to be trusted.
    #[error("host key of {host} is revoked: {fingerprint}, by {}:{}", .place.file.display(), .place.line)]
    Revoked {
        /// As a line names it.
        host: String,
        /// Of what it shows.
        fingerprint: String,
        /// The line that says so.
        place: Place,
    },
    /// A certificate would be needed.
    #[error(
        "{host} is only vouched for by the authority of {}:{}, and showed no certificate of it. Its \
         plain key is {}; after comparing it, add this line: {host} {}",
        .place.file.display(), .place.line, fingerprint(.key), text(.key)
    )]
    Authority {
        /// As a line names it.
        host: String,
        /// What it shows.
        key: Box<PublicKey>,
        /// The line of the authority.
        place: Place,
    },
    /// There is a certificate, and it is not good.
    #[error("certificate of {host}, by the authority of {}:{}, is refused: {fault}", .place.file.display(), .place.line)]
    Certificate {
        /// As a line names it.
        host: String,
        /// The line of the authority.
        place: Place,
        /// What is wrong.
        fault: CertificateFault,
    },
    /// The configuration demands another key.
    #[error("host key of {host} is {fingerprint}, but the configuration pins {pinned}")]
    Pinned {
        /// As a line names it.
        host: String,
        /// Of what it shows.
        fingerprint: String,
        /// What was demanded.
        pinned: String,
    },
    /// The two have no safe method in common, or the other side speaks no SSH.
    #[error("no safe connection can be agreed on")]
    NoAgreement(#[source] russh::Error),
}

impl HostError {
    /// The reason to refuse a key, if the files' verdict is one.
    pub(crate) fn of(verdict: Verdict, host: &str, port: u16, key: &PublicKey, files: &[PathBuf]) -> Option<Self> {
        let host = host_name(host, port);
        Some(match verdict {
            Verdict::Known => return None,
            Verdict::Unknown => {
                let file = files.first().map_or_else(|| "known_hosts".into(), |file| file.display().to_string());
                Self::Unknown { host, key: Box::new(key.clone()), file }
            }
            Verdict::Changed(place) => Self::Changed { host, fingerprint: fingerprint(key), place },
            Verdict::Revoked(place) => Self::Revoked { host, fingerprint: fingerprint(key), place },
            Verdict::Authority(place) => Self::Authority { host, key: Box::new(key.clone()), place },
            Verdict::Certificate(place, fault) => Self::Certificate { host, place, fault },
        })
    }

    /// The stable name of the class of problem.
    pub fn class(&self) -> &'static str {
        match self {
            Self::Unknown { .. } | Self::Authority { .. } => "host-key-unknown",
            Self::Changed { .. } | Self::Pinned { .. } | Self::Certificate { .. } => "host-key-changed",
            Self::Revoked { .. } => "host-key-revoked",
            Self::NoAgreement(_) => "protocol",
        }
    }
}

/// `ED25519 SHA256:…`, as ssh shows it.
pub fn fingerprint(key: &PublicKey) -> String {
    format!("{} {}", key.algorithm(), key.fingerprint(HashAlg::Sha256))
}

/// Without a comment; a key that was read can be written.
pub fn text(key: &PublicKey) -> String {
    PublicKey::from(key.key_data().clone()).to_openssh().unwrap_or_default()
}

/// Nobody of those that were tried let us in.
#[derive(Debug, thiserror::Error)]
#[error("{user}@{host} accepts none of what was offered: {offered}")]
pub struct LoginError {
    /// Who wanted in.
    pub user: String,
    /// Where.
    pub host: String,
    /// What was shown, in order.
    pub offered: String,
}
