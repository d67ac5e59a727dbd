//! The repository: an encrypted, deduplicated store of snapshots in the restic format, version 2; version 1 is read.
//!
//! `format` says what the bytes mean and touches nothing; `kernel` holds the loops over every byte. Above them stand the
//! open [`Repository`], its index and locks; then reading, writing ([`archive`]), and what keeps a repository in order:
//! [`verify`], [`forget`], [`prune`], [`repair`], [`copy`]. Whatever removes or replaces is a plan first, which can be shown.
//!
//! # Who may work beside whom
//!
//! A shared lock (S) goes with other shared ones, an exclusive one (X) with none. Programs that take no locks are met by
//! what the second table says.
//!
//! | | backup, copy to | restore, list, verify, copy from | forget, tags | prune | repair, upgrade, key removal |
//! |---|---|---|---|---|---|
//! | backup, copy to (S) | go on; a blob may be stored twice, prune drops one | go on | wait | wait | wait |
//! | restore, list, verify, copy from (S) | go on | go on | wait | wait | wait |
//! | forget, tags (X) | wait | wait | wait | wait | wait |
//! | prune (X) | wait | wait | wait | wait | wait |
//! | repair, upgrade, key removal (X) | wait | wait | wait | wait | wait |
//!
//! | without a lock, or after a long pause | what keeps data whole |
//! |---|---|
//! | a writer whose lock was not renewed publishes late | the publish fence looks at every pack it relies on again |
//! | a writer builds upon a pack while prune marks it | marked packs are no duplicates for writers; removal comes a day later, after a second full look |
//! | a reader uses a pack that prune marks | marked packs stay readable through the grace time |
//! | a plan grows old | prune refuses it when snapshots or indexes changed |
//! | two write the same file | names are hashes of content: both wrote the same bytes |

mod announce;
pub mod archive;
mod budget;
mod compute;
mod control;
mod copies;
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
mod sabotage;
mod scratch;
mod snapshot;
mod snapshot_query;
pub mod stats;
mod task;
pub mod upgrade;
pub mod verify;
mod walk;

pub use archive::{
    Archive, ArchiveOptions, ArchiveStats, Committed, ContentWriter, Cutting, Finished, SnapshotDraft, id_of_zeros,
    length_of_zeros,
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
