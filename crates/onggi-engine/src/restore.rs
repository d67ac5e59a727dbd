//! The way home: a snapshot, or a chain of them, as one tree with random access, and a plain directory to restore it
//! into. A restore is planned, shown and then applied.

mod attributes;
mod batch;
mod compare;
mod destination;
pub mod directory;
mod filling;
mod open;
mod select;
mod tree;

pub use attributes::{LeftOut, Privilege};
pub use directory::{Damaged, DirectoryRestore, Plan, Policy, Report, Request, RestoreError};
pub use select::{Selection, locate};
pub use tree::{SnapshotTree, TreeEntry};
