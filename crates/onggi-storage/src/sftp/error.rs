//! What goes wrong over SFTP, and the decision it means for the caller.

use crate::{Handle, StorageError};
use onggi_ssh::SshError;
use russh_sftp::{client::error::Error as SftpError, protocol::StatusCode};

/// What a failed login means for a storage.
pub(super) fn of_login(error: SshError) -> StorageError {
    match error {
        SshError::Unreachable(cause) => StorageError::Unreachable(cause),
        SshError::Identity(cause) => StorageError::Identity(cause),
        SshError::Denied(cause) => StorageError::Denied(cause),
    }
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
