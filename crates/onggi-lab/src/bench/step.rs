//! The measured steps, in the order they are done in.

/// One measured step of the life of a repository.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum)]
pub enum Step {
    /// Everything is new.
    First,
    /// Everything is read again, all of it is stored already; the parent is ignored.
    Reread,
    /// Nothing changed since.
    Unchanged,
    /// One byte in a hundred changed.
    Changed,
    /// The newest snapshot comes back into an empty folder.
    Restore,
    /// Structure only.
    Verify,
    /// Every stored byte.
    VerifyData,
    /// One large file, new, into a repository of its own.
    Large,
}

impl Step {
    /// All steps.
    pub const ALL: [Self; 8] = [
        Self::First,
        Self::Reread,
        Self::Unchanged,
        Self::Changed,
        Self::Restore,
        Self::Verify,
        Self::VerifyData,
        Self::Large,
    ];
    /// Those after the set was changed.
    pub(super) const LATER: [Self; 4] = [Self::Changed, Self::Restore, Self::Verify, Self::VerifyData];

    /// How reports call it.
    pub fn title(self) -> &'static str {
        match self {
            Self::First => "first backup",
            Self::Reread => "everything read again, all known",
            Self::Unchanged => "unchanged",
            Self::Changed => "1 % changed",
            Self::Restore => "restore",
            Self::Verify => "verify structure",
            Self::VerifyData => "verify all data",
            Self::Large => "one large file, new",
        }
    }
}
