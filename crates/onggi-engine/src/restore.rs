//! The way home: a snapshot, or a chain of them, or a disk image in one, as one tree with random access, and a plain
//! directory to restore it into. A restore is planned, shown and then applied.

mod attributes;
mod batch;
mod chain;
mod compare;
mod confine;
mod destination;
pub mod directory;
mod disk;
mod filling;
mod open;
mod origin;
mod select;
mod source;
mod tree;

pub use attributes::{LeftOut, Privilege};
pub use chain::{ChainError, chain};
pub use directory::{Damaged, DirectoryRestore, Plan, Policy, Report, Request, RestoreError};
pub use disk::{DiskPart, DiskTree, journal_note};
pub use origin::{Entries, Guard, Origin};
pub use select::{Selection, locate};
pub use source::carry_out;
pub use tree::{SnapshotTree, TreeEntry};
