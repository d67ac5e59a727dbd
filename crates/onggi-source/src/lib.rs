//! What is backed up: the contract between the engine and all kinds of sources, and the adapters of each kind.
//!
//! Start at [`Source`]: its documentation says who calls what, how often and in which order. A source pushes items into
//! a sink ([`Items`]) and reads what is stored as a tree ([`Stored`]); it never sees a repository.
//!
//! The kinds are [`paths`], [`command`], [`etcd`], [`device`], [`hosts`], [`database`], [`bosh`] and [`openstack`]; [`SourceConfig`] is
//! what the configuration file says of one. With feature
//! `testing` there is what tests need: a fake system and a careless adapter, a world, a repository in memory, scripted
//! faults at every call, and the suite that every adapter passes.

mod chain;
mod context;
mod item;
mod path;
mod source;

pub mod bosh;
pub mod carrier;
pub mod command;
mod config;
pub mod database;
pub mod days;
pub mod device;
pub mod disk;
pub mod etcd;
pub mod hex;
mod hook;
pub mod hosts;
mod marks;
pub mod openstack;
pub mod paths;
mod percent;
pub mod quantity;
mod sabotage;
pub mod secret;
pub mod spool;

#[cfg(any(test, feature = "testing"))]
pub mod bench;
#[cfg(any(test, feature = "testing"))]
pub mod careless;
#[cfg(any(test, feature = "testing"))]
pub mod conformance;
#[cfg(any(test, feature = "testing"))]
pub mod fake;
#[cfg(any(test, feature = "testing"))]
pub mod faults;
#[cfg(any(test, feature = "testing"))]
pub mod recorder;

pub use config::{ConfigFault, KINDS, KINDS_WITHOUT_ADAPTER, Outline, SourceConfig, Surroundings};
pub use context::{
    Context, Destination, Monitor, Problem, Progress, Purpose, RunId, SnapshotId, Spool, Stop, UnitId, World, each,
    spool_all,
};
pub use hook::Hook;
pub use item::{Chunking, Content, Item, Kind, Layout, Metadata, Secrecy, Version, Xattr};
pub use path::{BadComponent, TreePath};
pub use source::{
    Base, ByteStream, Capabilities, Capture, Entry, Facts, Image, Items, Known, KnownRange, Outcome, Proof, Pushed,
    ReadAt, ReadError, Remnant, Restore, RestorePlan, RestoreRequest, Result, Source, SourceError, Step, Stored, Unit,
};

/// An instant on the wall clock.
pub use jiff::Timestamp;
