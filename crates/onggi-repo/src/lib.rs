//! The repository: an encrypted, deduplicated store of snapshots in the restic format, version 2.

pub mod format;
pub mod kernel;
