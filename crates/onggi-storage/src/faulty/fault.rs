//! The faults there are, and the rules that say which call one hits.

use crate::{
    FileType, StorageError,
    recording::{Call, CallKind},
};
use bytes::Bytes;

pub use super::lists::ListFault;

/// What happens in place of a call.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Fault {
    /// It is done as asked; of use with [`Rule::then_stop`].
    Done,
    /// It is not done and fails.
    Error(Failure),
    /// It is done and fails all the same.
    ErrorButDone(Failure),
    /// A `create` writes the first half under the final name, then fails.
    Prefix(Failure),
    /// A `create` writes zeros of the full length under the final name, then fails.
    Zeros(Failure),
    /// It is not done, and nothing is from now on.
    Stop,
    /// It is not done; the next mutating call is done; both fail, and nothing is done from then on. What two unsynced
    /// renames become in a power cut.
    Swapped,
    /// A `create` or `remove` is confirmed and not done.
    Lie,
    /// A `remove` is refused because an object lock holds the file.
    Held,
    /// It never answers.
    Hang,
    /// A `read` or `stat` does not find a file that is there.
    NotThere,
    /// A `read` gives fewer bytes than asked for.
    ShortBody,
    /// A `read` gives one wrong bit.
    FlippedBit,
    /// A `read` gives bytes of the right number from a wrong place.
    Shifted,
    /// A `list` is wrong.
    List(ListFault),
}

/// The error that a fault answers with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Failure {
    /// The network is away.
    Unreachable,
    /// The service is overloaded, and asks to wait so many seconds if it says.
    Busy(Option<u64>),
    /// The disk or service is broken.
    Faulty,
    /// Access is refused.
    Denied,
    /// There is no space.
    Full,
}

/// The cause of an error that was put in.
#[derive(Debug, thiserror::Error)]
#[error("this fault was put in by a test")]
struct PutIn;

impl Failure {
    /// The error.
    pub fn error(self) -> StorageError {
        match self {
            Self::Unreachable => StorageError::Unreachable(PutIn.into()),
            Self::Busy(seconds) => StorageError::Busy(seconds, PutIn.into()),
            Self::Faulty => StorageError::Faulty(PutIn.into()),
            Self::Denied => StorageError::Denied(PutIn.into()),
            Self::Full => StorageError::Full(PutIn.into()),
        }
    }
}

impl Fault {
    /// What the call that a crash hits may have become; each with [`Rule::then_stop`].
    pub const CRASHES: [Self; 6] = [
        Self::Error(Failure::Unreachable),
        Self::Done,
        Self::ErrorButDone(Failure::Unreachable),
        Self::Prefix(Failure::Unreachable),
        Self::Zeros(Failure::Unreachable),
        Self::Swapped,
    ];

    /// The error of a call that is not done.
    pub(super) fn failure(&self) -> Failure {
        match self {
            Self::Error(failure) | Self::ErrorButDone(failure) | Self::Prefix(failure) | Self::Zeros(failure) => {
                *failure
            }
            _ => Failure::Unreachable,
        }
    }

    /// Whether it can hit a call of this kind. Torn content hits other calls than `create` as a plain error.
    pub(super) fn fits(&self, kind: CallKind) -> bool {
        match self {
            Self::Lie => matches!(kind, CallKind::Create | CallKind::Remove),
            Self::Held => kind == CallKind::Remove,
            Self::NotThere => matches!(kind, CallKind::Read | CallKind::Stat),
            Self::ShortBody | Self::FlippedBit | Self::Shifted => kind == CallKind::Read,
            Self::List(_) => kind == CallKind::List,
            _ => true,
        }
    }

    /// What a faulty read makes of the content.
    pub(super) fn spoil(&self, content: &Bytes) -> Bytes {
        let mut spoiled = content.to_vec();
        match self {
            Self::ShortBody => spoiled.truncate(spoiled.len() / 2),
            Self::FlippedBit => {
                let middle = spoiled.len() / 2;
                if let Some(byte) = spoiled.get_mut(middle) {
                    *byte ^= 1;
                }
            }
            Self::Shifted if !spoiled.is_empty() => spoiled.rotate_left(1),
            _ => {}
        }
        spoiled.into()
    }
}

/// Which calls a fault hits: by default the first one that it can hit.
#[derive(Debug, Clone)]
pub struct Rule {
    fault: Fault,
    kind: Option<CallKind>,
    file_type: Option<FileType>,
    mutating: bool,
    skip: usize,
    times: usize,
    then_stop: bool,
}

impl Rule {
    /// Hits the first call that the fault can hit.
    pub fn new(fault: Fault) -> Self {
        Self { fault, kind: None, file_type: None, mutating: false, skip: 0, times: 1, then_stop: false }
    }

    /// Only calls of this kind.
    #[must_use]
    pub fn on(mut self, kind: CallKind) -> Self {
        self.kind = Some(kind);
        self
    }

    /// Only calls about files of this type.
    #[must_use]
    pub fn of(mut self, file_type: FileType) -> Self {
        self.file_type = Some(file_type);
        self
    }

    /// Only calls that change what is stored.
    #[must_use]
    pub fn mutating(mut self) -> Self {
        self.mutating = true;
        self
    }

    /// Lets so many of these calls pass first.
    #[must_use]
    pub fn nth(mut self, skip: usize) -> Self {
        self.skip = skip;
        self
    }

    /// Hits so many of these calls in a row.
    #[must_use]
    pub fn times(mut self, times: usize) -> Self {
        self.times = times;
        self
    }

    /// Hits all of these calls.
    #[must_use]
    pub fn always(self) -> Self {
        self.times(usize::MAX)
    }

    /// Stops everything after the fault.
    #[must_use]
    pub fn then_stop(mut self) -> Self {
        self.then_stop = true;
        self
    }

    /// Asked for every call, in order: the fault, if it hits this one, and whether everything stops then.
    pub(super) fn hit(&mut self, call: &Call) -> Option<(Fault, bool)> {
        let matches = self.fault.fits(call.kind())
            && self.kind.is_none_or(|kind| kind == call.kind())
            && (self.file_type.is_none() || self.file_type == call.file_type())
            && (!self.mutating || call.is_mutating());
        if !matches || self.times == 0 {
            return None;
        }
        if self.skip > 0 {
            self.skip -= 1;
            return None;
        }
        self.times -= usize::from(self.times != usize::MAX);
        Some((self.fault.clone(), self.then_stop))
    }
}
