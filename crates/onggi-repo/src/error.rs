//! What can go wrong with a repository: one variant per decision the caller can take; and problems, which are counted
//! and shown but end nothing.

use crate::format::FormatError;
use crate::lock::Holder;
use onggi_storage::StorageError;
use std::{fmt, io};

/// The answer of an operation on a repository.
pub type Result<T, E = RepoError> = std::result::Result<T, E>;

/// A failed operation.
#[derive(Debug, thiserror::Error)]
pub enum RepoError {
    /// Nothing is at this place that could be opened.
    #[error("no repository at {0}")]
    NoRepository(String),
    /// A new repository would be laid over an older one; the text names what is there.
    #[error("there is a repository already: {0}")]
    AlreadyExists(String),
    /// Others hold a lock that excludes ours.
    #[error("repository is locked by {}", Holders(.0))]
    Locked(Vec<Holder>),
    /// Our lock could not be kept: nothing may be published any more.
    #[error("lock is lost: {0}")]
    LockLost(String),
    /// No key file opens with this password, though at least one is whole.
    #[error("wrong password, or no key of it")]
    WrongPassword,
    /// A file or blob is not what it should be, and no other copy of it is good.
    #[error("{what} is damaged")]
    Damaged {
        /// Which one.
        what: String,
        /// What is wrong with it.
        #[source]
        reason: FormatError,
    },
    /// Written by a newer program.
    #[error("{what} was made by a newer program")]
    Newer {
        /// Which one.
        what: String,
        /// What is not understood.
        #[source]
        reason: FormatError,
    },
    /// A snapshot, key or blob that is not there; the text names it.
    #[error("{0} is not in the repository")]
    Missing(String),
    /// An abbreviated id or a query that fits several.
    #[error("{0} is ambiguous")]
    Ambiguous(String),
    /// A rule that protects data forbids it.
    #[error("refused ({guard}): {reason}")]
    Refused {
        /// The rule.
        guard: &'static str,
        /// Why it applies.
        reason: String,
    },
    /// What was written does not read back; the snapshot was not published.
    #[error("written data does not read back: {}", Problems(.0))]
    Unverified(Vec<Problem>),
    /// This archive failed or was interrupted earlier and can never be committed.
    #[error("archive is torn: {0}")]
    Torn(String),
    /// A file of our own beside the repository (spill file, run journal) failed.
    #[error("local file {0} failed")]
    Local(String, #[source] io::Error),
    /// The storage failed while doing this.
    #[error("{0}")]
    Storage(String, #[source] StorageError),
}

impl RepoError {
    /// Whether the same call may succeed later.
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Storage(_, error) if error.is_transient()) || matches!(self, Self::Locked(_))
    }

    /// Whether the thing asked for is not there.
    pub fn is_not_found(&self) -> bool {
        match self {
            Self::Missing(_) | Self::NoRepository(_) => true,
            Self::Storage(_, error) => error.is_not_found(),
            _ => false,
        }
    }

    /// The same for somebody else whom it concerns, with the same causes as texts.
    pub(crate) fn again(&self) -> Self {
        match self {
            Self::Storage(act, error) => Self::Storage(act.clone(), error.again()),
            Self::Damaged { what, reason } => Self::Damaged { what: what.clone(), reason: reason.clone() },
            other => Self::Torn(chain(other)),
        }
    }

    /// Whether bytes that were read are wrong, so that another copy may help.
    pub fn is_damage(&self) -> bool {
        matches!(self, Self::Damaged { .. } | Self::Newer { .. })
            || matches!(self, Self::Storage(_, StorageError::Short(..)))
    }

    /// Whether the storage has no room left.
    pub fn is_full(&self) -> bool {
        matches!(self, Self::Storage(_, StorageError::Full(_)))
    }

    /// A decoder's complaint about a named thing.
    pub(crate) fn format(what: impl fmt::Display, reason: FormatError) -> Self {
        let what = what.to_string();
        if reason.is_newer() { Self::Newer { what, reason } } else { Self::Damaged { what, reason } }
    }
}

/// Says what was being done when the storage failed.
pub(crate) trait Act<T> {
    /// `act` is in the present tense: `read pack 3f2a…`.
    fn act(self, act: impl FnOnce() -> String) -> Result<T>;
}

impl<T> Act<T> for onggi_storage::Result<T> {
    fn act(self, act: impl FnOnce() -> String) -> Result<T> {
        self.map_err(|error| RepoError::Storage(act(), error))
    }
}

/// The whole chain of an error in one line, for texts of problems.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text = format!("{text}: {cause}");
        next = cause.source();
    }
    text
}

/// A fault that ended nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The kind of fault, stable for machines: `index-damaged`.
    pub class: &'static str,
    /// Which file, blob or path.
    pub what: String,
    /// What happened, for people.
    pub text: String,
}

impl Problem {
    /// A problem from an error and its causes.
    pub(crate) fn of(class: &'static str, what: impl fmt::Display, error: &dyn std::error::Error) -> Self {
        Self { class, what: what.to_string(), text: chain(error) }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.what, self.text)
    }
}

struct Holders<'a>(&'a [Holder]);

impl fmt::Display for Holders<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        list(f, self.0)
    }
}

struct Problems<'a>(&'a [Problem]);

impl fmt::Display for Problems<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        list(f, self.0)
    }
}

/// The first three, and how many more there are.
fn list<T: fmt::Display>(f: &mut fmt::Formatter<'_>, items: &[T]) -> fmt::Result {
    for (index, item) in items.iter().take(3).enumerate() {
        if index > 0 {
            f.write_str("; ")?;
        }
        item.fmt(f)?;
    }
    match items.len().saturating_sub(3) {
        0 => Ok(()),
        more => write!(f, "; and {more} more"),
    }
}
