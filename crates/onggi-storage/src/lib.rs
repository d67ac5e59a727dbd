//! The files of a repository on disk, S3, SFTP or in memory.
//!
//! Everything above this crate sees one trait, [`Storage`]; protocols stand behind it and decorators
//! (retry, limit, cache, faults) around it. It knows nothing of encryption, packs or snapshots.

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
mod sabotage;
#[cfg(feature = "sftp")]
pub mod sftp;
pub mod stack;
pub mod stall;
mod storage;

pub use clock::Clock;
pub use error::{Result, StorageError};
pub use handle::{FileId, FileType, Handle, OwnFolder, OwnName};
pub use storage::{Advice, FileInfo, Properties, Storage};
