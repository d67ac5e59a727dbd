//! The bytes of a repository: pure functions between bytes and values. No clock, file, socket or randomness here;
//! nonces, salts and times are arguments. Every decoder takes arbitrary bytes and answers with an error, never a panic.

pub mod blob;
mod compression;
pub mod config;
mod fault;
pub mod id;
pub mod index;
mod json;
pub mod key_file;
mod lock_file;
pub mod node;
pub mod pack;
mod polynomial;
mod quote;
pub mod seal;
mod snapshot;
mod time;
mod tree;
pub mod unpacked;

pub use blob::{SealedBlob, decode_blob, encode_blob};
pub use compression::Compression;
pub use config::{ChunkSizes, Chunking, Config};
pub use fault::{FormatError, Reason, Result};
pub use id::{BadId, BlobId, BlobKind, IndexId, KeyId, LockId, PackId, RepositoryId, SnapshotId};
pub use index::{IndexFile, IndexPack};
pub use json::Unknown;
pub use key_file::{KdfCost, KeyError, KeyFile, NewKeyFile};
pub use lock_file::LockFile;
pub use node::{Node, NodeKind, Xattr};
pub use pack::PackEntry;
pub use polynomial::{BadPolynomial, Polynomial};
pub use seal::MasterKey;
pub use snapshot::{DeleteRule, Snapshot, Summary, tag};
pub use time::{BadTime, Time};
pub use tree::Tree;
