//! How old a file is, by one clock: the storage's own where it tells times, else this machine's. Two clocks never meet
//! in one decision.

use crate::{Repository, Result, error::Act, format::Time, sabotage};
use bytes::Bytes;
use jiff::{SignedDuration, Timestamp};
use onggi_storage::{Handle, OwnFolder, OwnName};

/// What time it is at the storage and here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StorageTime {
    /// By the storage's clock; `None` if it does not tell when files were written.
    pub storage: Option<Timestamp>,
    /// By this machine's clock.
    pub local: Timestamp,
}

impl StorageTime {
    /// Clocks further apart than this are a problem, and nothing is deleted.
    pub const SKEW_MAX: SignedDuration = SignedDuration::from_mins(5);

    /// How far the local clock is ahead; `None` if the storage does not tell.
    pub fn skew(&self) -> Option<SignedDuration> {
        self.storage.map(|storage| self.local.duration_since(storage))
    }

    /// Whether the clocks are too far apart for deciding by age.
    pub fn is_skewed(&self) -> bool {
        self.skew().is_some_and(|skew| skew.abs() > Self::SKEW_MAX)
    }

    /// The age of a file that the storage received at `modified_at` and that says itself to be of `claimed`.
    pub fn age(&self, modified_at: Option<Timestamp>, claimed: Time) -> SignedDuration {
        let modified_at = modified_at.filter(|_| !sabotage::AGE_BY_LOCAL_CLOCK.is_on());
        match (self.storage, modified_at) {
            (Some(_), Some(modified)) if sabotage::AGE_BY_TWO_CLOCKS.is_on() => self.local.duration_since(modified),
            (Some(now), Some(modified)) => now.duration_since(modified),
            _ => self.local.duration_since(claimed.instant),
        }
    }
}

impl Repository {
    /// Asks the storage for its time by writing a probe file and removing it.
    pub async fn storage_time(&self) -> Result<StorageTime> {
        let name = OwnName::new(format!("probe-{:032x}", u128::from_le_bytes(self.env().random())));
        let handle = Handle::Own(OwnFolder::Runs, name.expect("hex digits and dashes are a name"));
        let storage = self.fresh();
        storage.create(handle.clone(), Bytes::from_static(b"probe")).await.act(|| "create a probe file".into())?;
        let info = storage.stat(handle.clone()).await;
        let local = self.env().clock.now();
        storage.remove(handle).await.act(|| "remove the probe file".into())?;
        Ok(StorageTime { storage: info.act(|| "look at the probe file".into())?.modified_at, local })
    }
}
