//! How a run ends, as a number: the only table of exit codes. restic's meaning is kept where it has one.

use onggi_repo::RepoError;
use onggi_source::{SourceError, Stop};
use onggi_storage::StorageError;
use serde::{Serialize, ser::SerializeStruct};

/// What a process ends with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Exit {
    /// Done, complete, read back.
    Done,
    /// Failed; nothing usable was produced.
    Failed,
    /// The command line or configuration is wrong; nothing was touched.
    Usage,
    /// A usable result with listed problems, or something is out of policy.
    Partial,
    /// Damage was found in the repository.
    Damaged,
    /// A guard refused: retention, listing, clock, immutability.
    Refused,
    /// A source could not be frozen or thawed, or a hook failed.
    Freeze,
    /// Storage, spool or destination is full, or a quota is reached.
    Full,
    /// The time window ended; the run can be resumed.
    TimeEnded,
    /// There is no repository.
    NoRepository,
    /// The repository is locked by others, or another run is at work on what is to be backed up.
    Locked,
    /// No key opens with this password.
    WrongKey,
    /// Access or identity was refused.
    Denied,
    /// Storage or source could not be reached.
    Unreachable,
    /// Made by a newer program, or an unknown feature.
    Newer,
    /// A defect.
    Panic,
    /// Interrupted by SIGINT, state saved.
    Interrupted,
    /// Interrupted by SIGTERM, state saved.
    Terminated,
}

impl Exit {
    /// All, the one that prevails first: where several apply, the earliest wins.
    pub const PRECEDENCE: [Self; 18] = [
        Self::Panic,
        Self::Usage,
        Self::WrongKey,
        Self::NoRepository,
        Self::Locked,
        Self::Newer,
        Self::Damaged,
        Self::Freeze,
        Self::Interrupted,
        Self::Terminated,
        Self::Refused,
        Self::Full,
        Self::Denied,
        Self::Unreachable,
        Self::Failed,
        Self::TimeEnded,
        Self::Partial,
        Self::Done,
    ];

    /// The number.
    pub fn code(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::Failed => 1,
            Self::Usage => 2,
            Self::Partial => 3,
            Self::Damaged => 4,
            Self::Refused => 5,
            Self::Freeze => 6,
            Self::Full => 7,
            Self::TimeEnded => 8,
            Self::NoRepository => 10,
            Self::Locked => 11,
            Self::WrongKey => 12,
            Self::Denied => 13,
            Self::Unreachable => 14,
            Self::Newer => 15,
            Self::Panic => 101,
            Self::Interrupted => 130,
            Self::Terminated => 143,
        }
    }

    /// The word for machines.
    pub fn kind(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Failed => "failed",
            Self::Usage => "usage",
            Self::Partial => "partial",
            Self::Damaged => "damaged",
            Self::Refused => "refused",
            Self::Freeze => "freeze",
            Self::Full => "full",
            Self::TimeEnded => "time-ended",
            Self::NoRepository => "no-repository",
            Self::Locked => "locked",
            Self::WrongKey => "wrong-key",
            Self::Denied => "denied",
            Self::Unreachable => "unreachable",
            Self::Newer => "newer",
            Self::Panic => "panic",
            Self::Interrupted => "interrupted",
            Self::Terminated => "terminated",
        }
    }

    /// The one that prevails.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        if self.rank() <= other.rank() { self } else { other }
    }

    /// Of a run over several units: what is one unit's own failure weighs no more than *partial* once another unit was
    /// stored.
    pub fn of_units(units: impl IntoIterator<Item = Self>) -> Self {
        let units: Vec<Self> = units.into_iter().collect();
        let is_any_stored = units.iter().any(|exit| matches!(exit, Self::Done | Self::Partial));
        let weigh = |exit: Self| match exit {
            Self::Failed | Self::Denied | Self::Unreachable | Self::Locked if is_any_stored => Self::Partial,
            exit => exit,
        };
        units.into_iter().map(weigh).fold(Self::Done, Self::and)
    }

    fn rank(self) -> usize {
        Self::PRECEDENCE.iter().position(|exit| *exit == self).unwrap_or(0)
    }
}

impl Serialize for Exit {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut object = serializer.serialize_struct("Exit", 2)?;
        object.serialize_field("code", &self.code())?;
        object.serialize_field("kind", self.kind())?;
        object.end()
    }
}

impl From<&RepoError> for Exit {
    fn from(error: &RepoError) -> Self {
        match error {
            RepoError::NoRepository(_) => Self::NoRepository,
            RepoError::Locked(_) => Self::Locked,
            RepoError::WrongPassword => Self::WrongKey,
            RepoError::Damaged { .. } | RepoError::Missing(_) => Self::Damaged,
            RepoError::Newer { .. } => Self::Newer,
            RepoError::Refused { .. } => Self::Refused,
            RepoError::Unverified(_) => Self::Partial,
            RepoError::Storage(_, error) => Self::from(error),
            RepoError::Local(_, error) if error.kind() == std::io::ErrorKind::StorageFull => Self::Full,
            RepoError::AlreadyExists(_)
            | RepoError::LockLost(_)
            | RepoError::Ambiguous(_)
            | RepoError::Torn(_)
            | RepoError::Local(..) => Self::Failed,
        }
    }
}

impl From<&StorageError> for Exit {
    fn from(error: &StorageError) -> Self {
        match error {
            StorageError::NotFound(_) | StorageError::Short(..) => Self::Damaged,
            StorageError::NoPlace(_) => Self::NoRepository,
            StorageError::AlreadyExists(_) => Self::Failed,
            StorageError::Full(_) => Self::Full,
            StorageError::Denied(_) | StorageError::Identity(_) => Self::Denied,
            StorageError::Immutable(_) => Self::Refused,
            StorageError::Busy(..) | StorageError::Unreachable(_) | StorageError::Faulty(_) => Self::Unreachable,
            StorageError::Address(_) => Self::Usage,
        }
    }
}

impl From<&SourceError> for Exit {
    fn from(error: &SourceError) -> Self {
        match error {
            SourceError::Unreachable(_) | SourceError::Busy(_) => Self::Unreachable,
            SourceError::Denied(_) => Self::Denied,
            SourceError::Configuration(_) => Self::Usage,
            SourceError::Refused(_) => Self::Refused,
            SourceError::Full(_) => Self::Full,
            SourceError::Damaged(_) => Self::Damaged,
            SourceError::Stopped(stop) => Self::from(*stop),
            SourceError::Unchanged => Self::Done,
            SourceError::Gone | SourceError::BaseLost(_) | SourceError::Incomplete(_) | SourceError::Unsupported(_) => {
                Self::Failed
            }
        }
    }
}

impl From<Stop> for Exit {
    fn from(stop: Stop) -> Self {
        match stop {
            Stop::Cancelled => Self::Interrupted,
            Stop::TimeLimit => Self::TimeEnded,
            Stop::FreezeLimit => Self::Freeze,
            Stop::Group => Self::Failed,
            Stop::Repository => Self::Full,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(units: &[Exit], expected: Exit) {
        assert_eq!(Exit::of_units(units.iter().copied()), expected);
    }

    #[test]
    fn the_strongest_prevails() {
        check(&[], Exit::Done);
        check(&[Exit::Done, Exit::Partial], Exit::Partial);
        check(&[Exit::Partial, Exit::TimeEnded], Exit::TimeEnded);
        check(&[Exit::Freeze, Exit::Full, Exit::Done], Exit::Freeze);
        check(&[Exit::Failed, Exit::Unreachable], Exit::Unreachable);
    }

    #[test]
    fn one_units_failure_beside_a_stored_one_is_partial() {
        check(&[Exit::Done, Exit::Failed], Exit::Partial);
        check(&[Exit::Partial, Exit::Denied, Exit::Unreachable], Exit::Partial);
        check(&[Exit::TimeEnded, Exit::Denied], Exit::Denied);
    }

    #[test]
    fn codes_and_words_are_unique_and_ranked() {
        let mut codes: Vec<_> = Exit::PRECEDENCE.iter().map(|exit| exit.code()).collect();
        let mut words: Vec<_> = Exit::PRECEDENCE.iter().map(|exit| exit.kind()).collect();
        codes.sort_unstable();
        words.sort_unstable();
        codes.dedup();
        words.dedup();
        assert_eq!((codes.len(), words.len()), (18, 18));
        assert_eq!(serde_json::to_string(&Exit::TimeEnded).unwrap(), r#"{"code":8,"kind":"time-ended"}"#);
    }
}
