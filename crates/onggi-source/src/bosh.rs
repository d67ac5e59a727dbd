//! Kind `bosh`: platforms whose jobs bring scripts for their own backup, as `bbr` calls them.
//!
//! What the scripts may rely on is the contract of backup and restore scripts of BOSH releases: which names are found
//! where, in which order they are locked, what stands in their environment. Whatever was tried to lock is unlocked, after
//! success, failure and cancelling alike; data are carried away only after that.
//!
//! The way of a backup: [`Platform::find`], then the phases in [`backup`], top to bottom. [`restore`] is the way home,
//! [`cleanup`] settles what a dead run left.

pub mod artifact;
pub mod backup;
pub mod cleanup;
mod command;
pub mod deployment;
pub mod director;
mod drain;
mod entrance;
mod fault;
mod instance;
mod metadata;
pub mod native;
mod order;
mod phase;
mod platform;
mod progress;
mod record;
mod remote;
pub mod restore;
mod script;
mod tar;
mod upload;

pub use self::artifact::{Artifact, Directory};
pub use self::entrance::Entrance;
pub use self::fault::{Cause, Fault, Faults};
pub use self::instance::{Instance, Job, Target, Witness};
pub use self::platform::{Doors, Finding, Level, Mode, Owed, Platform, Releases, Talk};
pub use self::record::Record;
pub use self::remote::{Ended, Remote, Trouble};
pub use self::script::Script;

/// The version that scripts are told, which some of them look at: the last of the program whose contract they follow.
pub const VERSION: &str = "1.9.81";
/// Where scripts put what they back up, one folder for each artifact. Its presence at the start means that another run
/// is under way or died.
pub const STORE: &str = "/var/vcap/store/bbr-backup";
/// How much is done at once where the contract allows it.
pub const WIDTH: usize = 10;
