//! The files of a repository on disk, S3, SFTP or in memory.
//!
//! Everything above this crate sees one trait, [`Storage`]; protocols stand behind it and decorators around it. It knows
//! nothing of encryption, blobs or snapshots.
//!
//! # Storages
//!
//! | type | keeps files | what makes `create` atomic and durable |
//! |---|---|---|
//! | [`local::Local`] | in a folder | temporary, fsync, exclusive rename, fsync of the folder |
//! | `s3::S3` (feature `s3`) | in a bucket | conditional PUT with a checksum that must come back |
//! | `sftp::Sftp` (feature `sftp`) | in a folder of another machine | temporary, fsync and exclusive rename where the server has them |
//! | [`memory::Memory`] | in memory | a lock |
//!
//! # Decorators, from the outside in
//!
//! | type | does | why it stands there |
//! |---|---|---|
//! | [`cache::Cache`] | keeps snapshots, indexes and packs of trees near by | a hit costs neither retry nor rate |
//! | [`retry::Retry`] | repeats what may pass; takes lists whole; compares after a lost answer | waiting between attempts holds no permit |
//! | [`limit::Limit`] | bytes per second by time of day, calls at once | repeated bytes count; waiting for a turn is no stall |
//! | [`stall::Stall`] | ends calls that get no answer | measures the connection alone |
//! | `recording::Recording` (feature `testing`) | writes calls down | anywhere; what it sees is what the layer above asks |
//! | `faulty::Faulty` (feature `testing`) | fails, lies and crashes, by script or seed | directly around the storage |
//!
//! [`stack::Stack`] opens a [`location::Location`] and puts them together in this order.
//!
//! # Concurrency
//!
//! All calls may run at the same time, from any number of tasks, processes and machines. What two of them see of each
//! other for the same file:
//!
//! | | `create` | `read`, `stat` | `list` | `remove` |
//! |---|---|---|---|---|
//! | `create` | one wins, or all do if their content is equal | the whole file or `NotFound` | listed whole or not at all; listed if `create` had returned | either order |
//! | `remove` | either order | the whole file or `NotFound` | listed or not | one succeeds, the others get `NotFound` |
//!
//! Time and randomness come from [`Clock`] only, so that tests decide both.

mod blocking;
pub mod cache;
pub mod clock;
#[cfg(any(test, feature = "testing"))]
pub mod conformance;
mod error;
#[cfg(any(test, feature = "testing"))]
pub mod faulty;
mod handle;
pub mod limit;
pub mod local;
pub mod location;
pub mod memory;
#[cfg(any(test, feature = "testing"))]
pub mod recording;
pub mod retry;
#[cfg(feature = "s3")]
pub mod s3;
#[doc(hidden)]
pub mod sabotage;
#[cfg(feature = "sftp")]
pub mod sftp;
pub mod stack;
pub mod stall;
mod storage;

pub use clock::Clock;
pub use error::{Result, StorageError};
pub use handle::{FileId, FileType, Handle, OwnFolder, OwnName};
pub use storage::{Advice, FileInfo, Properties, Storage};
