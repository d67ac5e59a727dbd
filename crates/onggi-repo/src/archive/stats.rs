//! Figures of an archive, live and final.

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
    bytes_processed,
    /// Bytes of content written into the archive by the caller.
    bytes_read,
    /// Data blobs that were not stored before.
    data_blobs,
    /// Tree blobs that were not stored before.
    tree_blobs,
    /// Plaintext bytes of these blobs.
    bytes_added,
    /// What they take in the storage.
    bytes_stored,
    /// Packs written.
    packs,
    /// Bytes of packs written.
    bytes_uploaded,
}

pub(super) fn add(counter: &AtomicU64, count: u64) {
    counter.fetch_add(count, Relaxed);
}
