//! The repository: an encrypted, deduplicated store of snapshots in the restic format, version 2.

pub mod archive;
mod budget;
mod compute;
mod control;
pub mod copy;
pub mod diff;
mod environment;
mod error;
mod fence;
mod file;
pub mod forget;
pub mod format;
pub mod index;
pub mod kernel;
mod key;
mod load;
pub mod lock;
mod pack_writer;
pub mod prune;
mod read;
mod read_back;
mod reindex;
pub mod repair;
mod repository;
pub mod rewrite;
mod scratch;
mod snapshot;
pub mod stats;
mod snapshot_query;
mod task;
pub mod verify;
mod walk;

pub use archive::{
    Archive, ArchiveOptions, ArchiveStats, Committed, ContentWriter, Cutting, Finished, SnapshotDraft, ZERO_ID, ZERO_LENGTH,
};
pub use budget::WriteBudget;
pub use compute::Compute;
pub use environment::{Environment, Host};
pub use error::{Problem, RepoError, Result};
pub use key::{KeyInfo, Keys, RemoveKey};
pub use load::Loaded;
pub use lock::{Holder, Lock, LockKind, StorageTime, Unlock};
pub use onggi_storage::Clock;
pub use read::ContentReader;
pub use read::fetch::{Fetch, FetchOptions, FetchSink};
pub use repository::{NewRepository, OpenOptions, Repository};
pub use snapshot::Snapshots;
pub use snapshot_query::{BadQuery, SnapshotFilter, SnapshotQuery, Which};
