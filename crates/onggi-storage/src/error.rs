//! What can go wrong at a storage: one variant per decision that the caller can take.

use crate::Handle;

/// The answer of a storage call.
pub type Result<T, E = StorageError> = std::result::Result<T, E>;

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// A failed storage call.
#[derive(Debug, thiserror::Error)]
pub enum StorageError {
    /// The file is not there.
    #[error("{0} does not exist")]
    NotFound(Handle),
    /// The file is there already; nothing was changed.
    #[error("{0} exists already")]
    AlreadyExists(Handle),
    /// The file ends before the requested range does.
    #[error("{0} ends before byte {1}")]
    Short(Handle, u64),
    /// The place itself (folder, bucket, prefix) is not there.
    #[error("storage place {0} does not exist")]
    NoPlace(String),
    /// No space, no inodes or quota reached.
    #[error("storage is full")]
    Full(#[source] BoxError),
    /// Credentials, permissions, a read-only or append-only place.
    #[error("storage refuses access")]
    Denied(#[source] BoxError),
    /// The other side is not who it should be: certificate or host key. Never retried.
    #[error("identity of the storage is not proved")]
    Identity(#[source] BoxError),
    /// A deletion or overwrite is refused because the file is held by an object lock.
    #[error("{0} is locked against deletion")]
    Immutable(Handle),
    /// The service answered that it is overloaded; `Some` is what it asked us to wait, in seconds.
    #[error("storage is busy")]
    Busy(Option<u64>, #[source] BoxError),
    /// The network or the service cannot be reached now.
    #[error("storage cannot be reached")]
    Unreachable(#[source] BoxError),
    /// The disk or the service answered wrongly: I/O error, checksum or size mismatch, malformed answer.
    #[error("storage failed")]
    Faulty(#[source] BoxError),
    /// The address or an option of the storage is not valid.
    #[error("storage address is not valid: {0}")]
    Address(String),
}

/// A cause as a text, with its own.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Cause(String, #[source] Option<Box<Cause>>);

impl Cause {
    fn of(error: &dyn std::error::Error) -> Self {
        Self(error.to_string(), error.source().map(|cause| Box::new(Self::of(cause))))
    }
}

impl StorageError {
    /// The same for somebody else whom it concerns, with the same causes as texts.
    #[must_use]
    pub fn again(&self) -> Self {
        let cause = |error: &BoxError| -> BoxError { Box::new(Cause::of(&**error)) };
        match self {
            Self::NotFound(handle) => Self::NotFound(handle.clone()),
            Self::AlreadyExists(handle) => Self::AlreadyExists(handle.clone()),
            Self::Short(handle, byte) => Self::Short(handle.clone(), *byte),
            Self::NoPlace(place) => Self::NoPlace(place.clone()),
            Self::Full(error) => Self::Full(cause(error)),
            Self::Denied(error) => Self::Denied(cause(error)),
            Self::Identity(error) => Self::Identity(cause(error)),
            Self::Immutable(handle) => Self::Immutable(handle.clone()),
            Self::Busy(pause, error) => Self::Busy(*pause, cause(error)),
            Self::Unreachable(error) => Self::Unreachable(cause(error)),
            Self::Faulty(error) => Self::Faulty(cause(error)),
            Self::Address(text) => Self::Address(text.clone()),
        }
    }

    /// Whether the same call may succeed later: the retry decorator asks this and nothing else.
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Busy(..) | Self::Unreachable(_) | Self::Faulty(_))
    }

    /// Whether the file or place is simply not there.
    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::NotFound(_) | Self::NoPlace(_))
    }
}
