//! The bytes of a repository: pure functions between bytes and values. No clock, file, socket or randomness here;
//! nonces, salts and times are arguments. Every decoder takes arbitrary bytes and answers with an error, never a panic.

mod fault;
pub mod id;
pub mod seal;

pub use fault::{FormatError, Reason, Result};
pub use id::{BlobId, BlobKind, IndexId, KeyId, LockId, PackId, SnapshotId};
pub use seal::MasterKey;
