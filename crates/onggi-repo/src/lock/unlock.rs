//! Removing locks: those whose holder is surely gone, or on demand all.

use super::{Holder, STALE_AFTER, age::StorageTime};
use crate::{Repository, Result, error::Act, format::LockFile};
use rustix::{io::Errno, process};

/// Which locks to remove.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unlock {
    /// Those older than 30 minutes, and those of processes of this machine that are gone.
    Stale,
    /// Every lock, whoever holds it. Its holder stops at its next check.
    All,
}

impl Repository {
    /// Removes locks and returns those it removed.
    pub async fn unlock(&self, which: Unlock) -> Result<Vec<Holder>> {
        let mut holders = self.locks().await?;
        if which == Unlock::Stale && !holders.is_empty() {
            let time = self.storage_time().await?;
            holders.retain(|holder| self.is_stale(holder, &time));
        }
        for holder in &holders {
            let handle = holder.id.handle();
            match self.storage().remove(handle.clone()).await {
                Err(error) if error.is_not_found() => {}
                answer => answer.act(|| format!("remove {handle}"))?,
            }
        }
        Ok(holders)
    }

    /// Whether the holder of a lock is surely gone. What an unreadable lock says is unknown, but not when it came.
    pub fn is_stale(&self, holder: &Holder, time: &StorageTime) -> bool {
        let age = match &holder.file {
            Some(file) if self.is_of_dead_process(file) => return true,
            Some(file) => time.age(holder.modified_at, file.time),
            None => match (time.storage, holder.modified_at) {
                (Some(now), Some(modified)) => now.duration_since(modified),
                _ => return false,
            },
        };
        age.unsigned_abs() > STALE_AFTER && age.is_positive()
    }

    fn is_of_dead_process(&self, lock: &LockFile) -> bool {
        let host = &self.env().host;
        let pid = i32::try_from(lock.pid).ok().and_then(process::Pid::from_raw);
        let is_gone = |pid| process::test_kill_process(pid) == Err(Errno::SRCH);
        !host.hostname.is_empty() && lock.hostname == host.hostname && lock.pid != host.pid && pid.is_none_or(is_gone)
    }
}
