//! The ways in which a list lies.

use super::Failure;
use crate::{FileInfo, FileType, Handle, Result};

/// How a list is wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ListFault {
    /// It fails at once.
    Fails,
    /// It fails after so many files.
    BreaksOff(usize),
    /// It ends at once.
    Empty,
    /// It lacks each n-th file.
    LacksEach(usize),
    /// It lacks all files whose id begins with this hex digit, as when a store omits one range of names.
    LacksDigit(u8),
    /// It ends too early, after so many files.
    EndsAfter(usize),
    /// It has each file twice.
    Duplicated,
    /// It has each file twice, the second time with another size.
    TwoSizes,
    /// It lacks the files that were created last, so many.
    LacksNewest(usize),
    /// It still has the files that were removed last, so many.
    HasRemoved(usize),
    /// Its sizes are too small by one.
    WrongSizes,
    /// It comes in reverse order.
    Reversed,
}

impl ListFault {
    /// One of each.
    pub const ALL: [Self; 12] = [
        Self::Fails,
        Self::BreaksOff(1),
        Self::Empty,
        Self::LacksEach(2),
        Self::LacksDigit(0),
        Self::EndsAfter(1),
        Self::Duplicated,
        Self::TwoSizes,
        Self::LacksNewest(1),
        Self::HasRemoved(1),
        Self::WrongSizes,
        Self::Reversed,
    ];

    /// What becomes of a true list.
    pub(super) fn apply(self, files: Vec<FileInfo>, file_type: FileType, past: &History) -> Vec<Result<FileInfo>> {
        let mut files = files;
        match self {
            Self::Fails => return vec![Err(Failure::Unreachable.error())],
            Self::BreaksOff(after) => {
                let begun = files.into_iter().take(after).map(Ok);
                return begun.chain([Err(Failure::Unreachable.error())]).collect();
            }
            Self::Empty => files.clear(),
            Self::LacksEach(nth) => {
                let mut number = 0;
                files.retain(|_| {
                    number += 1;
                    number % nth.max(1) != 0
                });
            }
            Self::LacksDigit(digit) => files.retain(|info| info.handle.id().is_none_or(|id| id.0[0] >> 4 != digit)),
            Self::EndsAfter(length) => files.truncate(length),
            Self::Duplicated => files.extend(files.clone()),
            Self::TwoSizes => {
                let others = files.clone().into_iter().map(|info| FileInfo { size: info.size + 1, ..info });
                files.extend(others);
            }
            Self::LacksNewest(number) => {
                let newest: Vec<_> = past.created.iter().rev().take(number).collect();
                files.retain(|info| !newest.contains(&&info.handle));
            }
            Self::HasRemoved(number) => {
                let removed = past.removed.iter().rev().filter(|info| info.handle.file_type() == file_type);
                files.extend(removed.take(number).cloned());
            }
            Self::WrongSizes => files.iter_mut().for_each(|info| info.size = info.size.saturating_sub(1)),
            Self::Reversed => files.reverse(),
        }
        files.into_iter().map(Ok).collect()
    }
}

/// What was created and removed, oldest first.
#[derive(Debug, Default)]
pub(super) struct History {
    created: Vec<Handle>,
    removed: Vec<FileInfo>,
}

impl History {
    pub(super) fn created(&mut self, handle: Handle) {
        self.removed.retain(|info| info.handle != handle);
        self.created.push(handle);
    }

    pub(super) fn removed(&mut self, info: FileInfo) {
        self.created.retain(|handle| *handle != info.handle);
        self.removed.push(info);
    }
}
