//! Proving a repository: that everything a snapshot needs is announced and there (structure), and that the bytes are what
//! their names promise (data). Nothing is written; nothing that is found ends it early.

mod copies;
mod data;
mod structure;
mod subset;

pub(crate) use copies::SPARE_COPY;
pub use subset::{BadSubset, ReadData};

use crate::{Lock, Problem, Repository, Result};
use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

/// Problems kept with their text; beyond, they are only counted.
const KEPT_MAX: usize = 10_000;

/// Live figures, for showing progress.
#[derive(Debug, Default)]
pub struct VerifyCounters {
    /// Trees read.
    pub trees: AtomicU64,
    /// Packs read.
    pub packs: AtomicU64,
    /// Packs that will be read.
    pub packs_total: AtomicU64,
    /// Bytes of packs read.
    pub bytes: AtomicU64,
    /// Bytes of packs that will be read.
    pub bytes_total: AtomicU64,
}

/// What was found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct VerifyReport {
    /// Damage: something a snapshot needs, or a file of the repository, is lost or wrong.
    pub problems: Vec<Problem>,
    /// Damage beyond those.
    pub more_problems: usize,
    /// What is odd but harms nothing: unneeded packs, duplicates.
    pub hints: Vec<Problem>,
    /// Snapshots read.
    pub snapshots: usize,
    /// Packs announced.
    pub packs: usize,
    /// Records of blobs.
    pub blobs: usize,
    /// Blobs that no snapshot needs.
    pub unused_blobs: usize,
    /// Packs read completely.
    pub packs_read: u64,
    /// Their bytes.
    pub bytes_read: u64,
}

impl VerifyReport {
    /// Whether there is damage.
    pub fn is_damaged(&self) -> bool {
        !self.problems.is_empty()
    }

    fn add(&mut self, found: impl IntoIterator<Item = Problem>) {
        for problem in found {
            if self.problems.len() < KEPT_MAX {
                self.problems.push(problem);
            } else {
                self.more_problems += 1;
            }
        }
    }

    fn hint(&mut self, class: &'static str, what: impl Into<String>, text: impl Into<String>) {
        self.hints.push(Problem { class, what: what.into(), text: text.into() });
    }
}

impl Repository {
    /// Checks the structure, then as much data as asked for. The lock keeps others from removing what is being read.
    pub async fn verify(&self, lock: &Lock, data: ReadData, counters: &Arc<VerifyCounters>) -> Result<VerifyReport> {
        let mut report = VerifyReport::default();
        copies::verify(self, &mut report).await?;
        let present = structure::verify(self, lock, counters, &mut report).await?;
        let chosen = subset::choose(self, data, present);
        counters.packs_total.store(chosen.len() as u64, Ordering::Relaxed);
        counters.bytes_total.store(chosen.iter().map(|(_, size)| size).sum(), Ordering::Relaxed);
        data::verify(self, lock, chosen, counters, &mut report).await?;
        report.packs_read = counters.packs.load(Ordering::Relaxed);
        report.bytes_read = counters.bytes.load(Ordering::Relaxed);
        Ok(report)
    }
}
