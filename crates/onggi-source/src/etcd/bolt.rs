//! The file that etcd keeps its data in: bbolt's buckets of sorted keys, in pages of B+ trees.
//!
//! Nothing in a file is believed: a page is used only if it lies where it says, was not reached before, and all its
//! elements lie inside it; keys must ascend within a bucket and agree with the branches above them. What is not so is
//! [`BoltError::Structure`]. Memory is one page of each level.

mod check;
mod cursor;
mod page;
mod read;
mod write;

pub use check::{Census, Reached};
pub use cursor::{Cursor, Direction, Entry};
pub use page::{Meta, PAGE_BYTES_MAX, PAGE_BYTES_MIN};
pub use read::{Bolt, BoltError, Bucket, FileBytes, Slice};
pub use write::BoltWriter;
