//! The configuration: one YAML file and what it includes, read in two stages. The raw types mirror the file; the
//! resolved ones are what the engine uses. Everything wrong is reported at once, with file, line, column, key and
//! remedy; nothing runs before all of it is mended.
//!
//! What this build knows and does not do is said, not hidden: a source of a kind without an adapter is a fault of that
//! source alone ([`Reach::Source`]), and sections without effect are notices.

mod fault;
mod load;
mod raw;
mod reserved;
mod resolve;
mod resolved;
mod shape;
mod show;
mod tree;
pub mod value;

pub use fault::{Fault, Place, Reach};
pub use load::{Files, Found, Loaded, load};
pub use resolved::{Chunker, Config, RepositoryConfig, S3Place, SftpPlace, SourceConfig, StorageConfig, StoragePlace};
pub use shape::schema;
pub use show::{Origin, Shown};
