//! What the native source needs of a platform: to enter it, to hold its jobs, to read and write their artifacts. All that
//! reaches a machine goes through here, so that a platform in memory can stand for a real one.

use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use tokio::sync::mpsc;

use super::listing::Listed;
use crate::bosh::Artifact;
use crate::bosh::tar::Checksums;
use crate::context::Context;
use crate::source::{Result, Unit};

/// The way to platforms.
#[async_trait]
pub(crate) trait Gate: Send + Sync {
    /// What there is now.
    async fn units(&self, cx: &Context) -> Result<Vec<Unit>>;
    /// What somebody else is doing to the unit just now, in words.
    async fn under_way(&self, cx: &Context, unit: &Unit) -> Result<Vec<String>>;
    /// Enters all machines of a unit as a user of this name, where users are made for it.
    async fn enter(&self, cx: &Context, unit: &Unit, user: &str) -> Result<Box<dyn Site>>;
    /// Removes a user by name from all machines; one that is not there is no fault.
    async fn expel(&self, cx: &Context, unit: &Unit, user: &str) -> Result<()>;
}

/// A unit that was entered.
#[async_trait]
pub(crate) trait Site: Send + Sync {
    /// Machines whose jobs have scripts, by name.
    fn places(&self) -> Vec<String>;
    /// What backup scripts make, and what restore scripts read.
    fn artifacts(&self, of: Of) -> Vec<Made>;
    /// What is known of scripts and their order, to be stored.
    fn scripts(&self) -> serde_json::Value;
    /// The Director's manifest, if it is wanted.
    fn manifest(&self) -> Option<&str>;

    /// Looks at a machine before a backup. `took` is what the last one's artifacts took there, in bytes.
    async fn examine(&self, cx: &Context, place: usize, took: u64) -> Result<Examined>;
    /// What lies where scripts write.
    async fn look(&self, cx: &Context, place: usize) -> Result<Found>;
    /// Writes the mark of this run there, instead of an earlier one.
    async fn mark(&self, cx: &Context, place: usize, name: &str, text: &str) -> Result<()>;
    /// Removes all of it.
    async fn clear(&self, cx: &Context, place: usize) -> Result<()>;

    /// Leaves a dead-man on each machine with unlock scripts, which runs them when no sign of life came for so long.
    async fn watch(&self, cx: &Context, of: Of, after: Duration) -> Result<()>;
    /// Gives a sign of life; how the worst lease is. Waits for dead-men that unlock.
    async fn renew(&self, cx: &Context) -> Result<Lease>;
    /// Sends dead-men home.
    async fn dismiss(&self, cx: &Context) -> Result<()>;

    /// Runs the lock scripts, in their order.
    async fn lock(&self, cx: &Context, of: Of) -> Result<()>;
    /// Runs the backup scripts, or the restore scripts that read these artifacts.
    async fn work(&self, cx: &Context, of: Of, wanted: &[Made]) -> Result<()>;
    /// Runs all unlock scripts, whatever was locked. `is_success`: what was held for is done.
    async fn unlock(&self, cx: &Context, of: Of, is_success: bool) -> Result<()>;

    /// What an artifact holds.
    async fn list(&self, cx: &Context, made: &Made) -> Result<Vec<Listed>>;
    /// SHA-256 of these files, by name.
    async fn sums(&self, cx: &Context, made: &Made, names: &[Vec<u8>]) -> Result<Checksums>;
    /// Writes an archive of these files. Ends well only if it is whole.
    async fn pack(&self, cx: &Context, made: &Made, names: &[Vec<u8>], to: mpsc::Sender<Bytes>) -> Result<()>;
    /// Makes an artifact out of an archive.
    async fn unpack(&self, cx: &Context, made: &Made, from: mpsc::Receiver<Bytes>) -> Result<()>;

    /// Goes away, with the user that was made.
    async fn leave(&self, cx: &Context) -> Result<()>;
}

/// Which of the two ways a script belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Of {
    Backup,
    Restore,
}

/// What became of the lease that a dead-man watches.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Lease {
    /// There is none.
    #[default]
    None,
    Held,
    /// The dead-man has unlocked.
    Lapsed,
}

/// An artifact on a machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Made {
    /// Number in [`Site::places`].
    pub(crate) place: usize,
    pub(crate) artifact: Artifact,
}

/// What a look at a machine says.
#[derive(Debug, Default)]
pub(crate) struct Examined {
    /// What is to be mended.
    pub(crate) faults: Vec<String>,
    /// Jobs whose backup does not stand alone.
    pub(crate) pointing: Vec<String>,
    /// What will be in a backup, and what will not.
    pub(crate) scope: Vec<String>,
}

/// What lies where scripts write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Found {
    Nothing,
    /// Without a mark of ours.
    Foreign,
    /// The text of the mark.
    Marked(String),
}
