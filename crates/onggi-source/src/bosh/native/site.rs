//! What the native source needs of a platform: to enter it, to hold its jobs, to read and write their artifacts. All that
//! reaches a machine goes through here, so that a platform in memory can stand for a real one.

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

    /// What is to be mended on a machine before a backup.
    async fn examine(&self, cx: &Context, place: usize) -> Result<Vec<String>>;
    /// What lies where scripts write.
    async fn look(&self, cx: &Context, place: usize) -> Result<Found>;
    /// Writes the mark of this run there, instead of an earlier one.
    async fn mark(&self, cx: &Context, place: usize, name: &str, text: &str) -> Result<()>;
    /// Removes all of it.
    async fn clear(&self, cx: &Context, place: usize) -> Result<()>;

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

/// An artifact on a machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Made {
    /// Number in [`Site::places`].
    pub(crate) place: usize,
    pub(crate) artifact: Artifact,
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
