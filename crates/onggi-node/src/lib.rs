//! The protocol between onggi and the program that it sends to a node: frames, messages, and what a message must keep to.
//!
//! All of it is pure: bytes in, bytes out. Neither side trusts the other: every length has a maximum before anything is
//! allocated for it, and [`check`] says what an entry, a name or a path may be. The program itself is in `program/`; what
//! it does for a hub reads and never writes a file. What it does for an operator who brings files back is in [`put`].
//!
//! The hub sends [`Request`]s, the node answers with [`Answer`]s, each in a [`frame`] of its own. What belongs together
//! bears the number of a stream, which the hub chooses.

mod answer;
pub mod check;
mod entry;
pub mod frame;
pub mod pattern;
pub mod put;
mod request;
mod wire;

pub use answer::{Answer, Hello, Lost, Stamp};
pub use entry::{Entry, EntryKind, Time};
pub use request::{Greeting, ReadRequest, Request, Walk};
pub use wire::Malformed;

/// The version of the protocol that this build speaks.
pub const PROTOCOL: u32 = 2;
/// What the program's first line begins with; the digest of the program follows.
pub const MAGIC: &str = "ONGGI-NODE 1 ";
/// Most entries that one message carries.
pub const ENTRIES_MAX: usize = 256;
/// Most bytes that one message with content carries.
pub const DATA_BYTES_MAX: usize = 256 << 10;
/// Most bytes that one read may ask for.
pub const READ_BYTES_MAX: u64 = 1 << 20;
/// Most known ranges that one request carries.
pub const RANGES_MAX: usize = 16_384;
/// Most holes that are told of one file; what is behind the last is taken for data.
pub const PIECES_MAX: usize = 4096;
/// Most streams that may be open at once.
pub const STREAMS_MAX: usize = 1024;
/// The longest name of an entry, in bytes.
pub const NAME_BYTES_MAX: usize = 255;
/// The longest path, in bytes.
pub const PATH_BYTES_MAX: usize = 4096;
/// The deepest directory below a root.
pub const DEPTH_MAX: usize = 2048;
/// The longest value of an extended attribute, in bytes.
pub const XATTR_BYTES_MAX: usize = 64 << 10;
/// Names and values of all extended attributes of an item together, in bytes.
pub const XATTRS_BYTES_MAX: usize = 512 << 10;
/// The longest end of what a command said, in bytes.
pub const TAIL_BYTES_MAX: usize = 4096;
