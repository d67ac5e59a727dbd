//! Mending the spare copies of config and keys, and from them their originals.

use super::{check_alone, quarantine};
use crate::{
    Lock, Repository, Result, control,
    copies::{CopyFault, FaultyCopy},
    error::Act,
};
use onggi_storage::Handle;
use std::fmt;

/// What would be done; to be shown, then carried out.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CopyRepair {
    /// Each copy that is not as it should be.
    pub copies: Vec<FaultyCopy>,
}

impl CopyRepair {
    /// How many copies have this fault.
    pub fn count(&self, fault: CopyFault) -> usize {
        self.copies.iter().filter(|copy| copy.fault == fault).count()
    }
}

impl fmt::Display for CopyRepair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{:>8} copies: write anew, they differ", self.count(CopyFault::Differs))?;
        writeln!(f, "{:>8} originals: write anew from their copies", self.count(CopyFault::OriginalLost))?;
        writeln!(f, "{:>8} copies: remove, their keys are gone", self.count(CopyFault::Orphan))?;
        write!(f, "{:>8} copies: quarantine, they are damaged", self.count(CopyFault::Worthless))
    }
}

impl Repository {
    /// Compares the copies with their originals. Nothing is changed.
    pub async fn plan_repair_copies(&self, lock: &Lock) -> Result<CopyRepair> {
        lock.check()?;
        Ok(CopyRepair { copies: self.faulty_copies().await? })
    }

    /// Carries the plan out.
    pub async fn repair_copies(&self, lock: &Lock, plan: &CopyRepair) -> Result<()> {
        check_alone(self, lock)?;
        for FaultyCopy { handle, original, fault, what } in &plan.copies {
            lock.check()?;
            let storage = &**self.storage();
            let content =
                async |from: &Handle| self.fresh().read(from.clone(), None).await.act(|| format!("read {from}"));
            match fault {
                CopyFault::Differs => control::replace(storage, what, content(original).await?).await?,
                CopyFault::OriginalLost => {
                    let content = content(handle).await?;
                    quarantine(self, original.clone()).await?;
                    storage.create(original.clone(), content).await.act(|| format!("create {original}"))?;
                }
                // In the quarantine it would still open with its password, if somebody put it back.
                CopyFault::Orphan => control::remove(storage, what).await?,
                CopyFault::Worthless => quarantine(self, handle.clone()).await?,
            }
        }
        Ok(())
    }
}
