//! What goes wrong over SFTP, and the decision it means for the caller.

use super::known_hosts::{Place, Verdict, host_name};
use crate::{Handle, StorageError};
use russh::keys::{HashAlg, PublicKey};
use russh_sftp::{client::error::Error as SftpError, protocol::StatusCode};
use std::path::PathBuf;

/// Why the other side is not trusted. Waiting does not cure it.
#[derive(Debug, thiserror::Error)]
pub(super) enum HostError {
    /// Nobody has said that this key is the host's.
    #[error(
        "host key of {host} is not known: {fingerprint}. Compare it with `ssh-keygen -lf` of the key file on that \
         host; if it is the same, add this line (as ssh-keyscan prints it) to {file}: {line}"
    )]
    Unknown { host: String, fingerprint: String, file: String, line: String },
    /// It is known by another key.
    #[error(
        "host key of {host} has changed: it now shows {fingerprint}, which differs from {}:{}. Somebody may be \
         in between; if the host was set up anew, replace that line", .place.file.display(), .place.line
    )]
    Changed { host: String, fingerprint: String, place: Place },
    /// The key is on the list of those that are not to be trusted.
    #[error("host key of {host} is revoked: {fingerprint}, by {}:{}", .place.file.display(), .place.line)]
    Revoked { host: String, fingerprint: String, place: Place },
    /// A certificate would be needed.
    #[error(
        "{host} is only vouched for by the authority of {}:{}, and certificates of hosts are not supported. Its \
         plain key is {fingerprint}; after comparing it, add this line: {line}", .place.file.display(), .place.line
    )]
    Authority { host: String, fingerprint: String, place: Place, line: String },
    /// The configuration demands another key.
    #[error("host key of {host} is {fingerprint}, but the configuration pins {pinned}")]
    Pinned { host: String, fingerprint: String, pinned: String },
    /// The two have no safe method in common, or the other side speaks no SSH.
    #[error("no safe connection can be agreed on")]
    NoAgreement(#[source] russh::Error),
}

impl HostError {
    /// The reason to refuse a key, if the files' verdict is one.
    pub(super) fn of(verdict: Verdict, host: &str, port: u16, key: &PublicKey, files: &[PathBuf]) -> Option<Self> {
        let line = format!("{} {}", host_name(host, port), key_text(key));
        let fingerprint = fingerprint(key);
        let host = host_name(host, port);
        Some(match verdict {
            Verdict::Known => return None,
            Verdict::Unknown => {
                let file = files.first().map_or_else(|| "known_hosts".into(), |file| file.display().to_string());
                Self::Unknown { host, fingerprint, file, line }
            }
            Verdict::Changed(place) => Self::Changed { host, fingerprint, place },
            Verdict::Revoked(place) => Self::Revoked { host, fingerprint, place },
            Verdict::Authority(place) => Self::Authority { host, fingerprint, place, line },
        })
    }
}

/// `ED25519 SHA256:…`, as ssh shows it.
pub(super) fn fingerprint(key: &PublicKey) -> String {
    format!("{} {}", key.algorithm(), key.fingerprint(HashAlg::Sha256))
}

fn key_text(key: &PublicKey) -> String {
    // Without a comment; a key that was read can be written.
    PublicKey::from(key.key_data().clone()).to_openssh().unwrap_or_default()
}

/// Nobody of those that were tried let us in.
#[derive(Debug, thiserror::Error)]
#[error("{user}@{host} accepts none of what was offered: {offered}")]
pub(super) struct LoginError {
    pub(super) user: String,
    pub(super) host: String,
    pub(super) offered: String,
}

/// A request failed.
#[derive(Debug, thiserror::Error)]
#[error("{act} {path}")]
pub(super) struct RequestError {
    pub(super) act: &'static str,
    pub(super) path: String,
    #[source]
    pub(super) cause: SftpError,
}

impl RequestError {
    pub(super) fn code(&self) -> Option<StatusCode> {
        match &self.cause {
            SftpError::Status(status) => Some(status.status_code),
            _ => None,
        }
    }

    pub(super) fn is_not_found(&self) -> bool {
        self.code() == Some(StatusCode::NoSuchFile)
    }

    /// The file or folder has no more.
    pub(super) fn is_end(&self) -> bool {
        self.code() == Some(StatusCode::Eof)
    }

    /// The general "no" of the protocol's version 3, which stands for "exists", "no space" and all else.
    pub(super) fn is_failure(&self) -> bool {
        self.code() == Some(StatusCode::Failure)
    }

    /// Whether the connection is of no more use.
    pub(super) fn is_lost(&self) -> bool {
        match &self.cause {
            SftpError::Status(status) => {
                matches!(status.status_code, StatusCode::NoConnection | StatusCode::ConnectionLost)
            }
            SftpError::Limited(_) => false,
            _ => true,
        }
    }

    pub(super) fn into_storage(self, handle: &Handle) -> StorageError {
        match self.code() {
            _ if self.is_lost() => StorageError::Unreachable(self.into()),
            Some(StatusCode::NoSuchFile) => StorageError::NotFound(handle.clone()),
            // What a server does not know, it will not learn.
            Some(StatusCode::PermissionDenied | StatusCode::OpUnsupported) => StorageError::Denied(self.into()),
            _ => StorageError::Faulty(self.into()),
        }
    }
}
