//! Figures of an archive, live and final.

use crate::format::Figures;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// Figures of an archive so far.
        #[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
        pub struct ArchiveStats {
            $($(#[$doc])* pub $name: u64,)*
        }

        /// The same, counting.
        #[derive(Debug, Default)]
        pub(super) struct Counters {
            $(pub $name: AtomicU64,)*
        }

        impl Counters {
            pub fn read(&self) -> ArchiveStats {
                ArchiveStats { $($name: self.$name.load(Relaxed),)* }
            }
        }
    };
}

counters! {
    /// Files that no parent had.
    files_new,
    /// Files with other content than in the parent.
    files_changed,
    /// Files taken over from the parent.
    files_unmodified,
    /// Directories that no parent had.
    dirs_new,
    /// Directories with other content than in the parent.
    dirs_changed,
    /// Directories equal to the parent's.
    dirs_unmodified,
    /// Items that are neither files nor directories.
    others,
    /// Bytes of content seen, those taken over included.
    total_bytes_processed,
    /// Bytes of content written into the archive by the caller.
    bytes_read,
    /// Data blobs that were not stored before.
    data_blobs,
    /// Tree blobs that were not stored before.
    tree_blobs,
    /// Plaintext bytes of these blobs.
    data_added,
    /// What they take in the storage.
    data_added_packed,
}

impl ArchiveStats {
    /// Those that a snapshot and a report tell.
    pub fn figures(&self) -> Figures {
        Figures {
            files_new: self.files_new,
            files_changed: self.files_changed,
            files_unmodified: self.files_unmodified,
            dirs_new: self.dirs_new,
            dirs_changed: self.dirs_changed,
            dirs_unmodified: self.dirs_unmodified,
            data_blobs: self.data_blobs,
            tree_blobs: self.tree_blobs,
            data_added: self.data_added,
            data_added_packed: self.data_added_packed,
            total_bytes_processed: self.total_bytes_processed,
            total_files_processed: self.files_new + self.files_changed + self.files_unmodified,
        }
    }
}

pub(super) fn add(counter: &AtomicU64, count: u64) {
    counter.fetch_add(count, Relaxed);
}
