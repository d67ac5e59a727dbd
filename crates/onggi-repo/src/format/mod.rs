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
pub mod pack;
mod polynomial;
pub mod seal;
mod time;
pub mod unpacked;

pub use blob::{SealedBlob, decode_blob, encode_blob};
pub use compression::Compression;
pub use config::{ChunkSizes, Chunking, Config};
pub use fault::{FormatError, Reason, Result};
pub use id::{BadId, BlobId, BlobKind, IndexId, KeyId, LockId, PackId, RepositoryId, SnapshotId};
pub use index::{IndexFile, IndexPack};
pub use json::Unknown;
pub use key_file::{KdfCost, KeyError, KeyFile, NewKeyFile};
pub use pack::PackEntry;
pub use polynomial::{BadPolynomial, Polynomial};
pub use seal::MasterKey;
pub use time::{BadTime, Time};
