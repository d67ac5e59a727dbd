//! Faults by chance, in two steps: a seed first decides which sites can fail in this run, then whether one does on each
//! pass. So a run has few kinds of faults and each of them often, which finds more than many kinds seldom.

use super::{Failure, Fault, ListFault};
use crate::recording::Call;
use rand_chacha::{
    ChaCha8Rng,
    rand_core::{RngCore, SeedableRng},
};

/// Seeded faults: the same seed and the same order of calls give the same faults.
#[derive(Debug, Clone)]
pub struct Chance {
    seed: u64,
    random: ChaCha8Rng,
    faults: Vec<Fault>,
    site_percent: u64,
    pass_percent: u64,
}

impl Chance {
    /// The faults that must be tolerated: errors that pass, answers that get lost, broken lists, and short bodies where
    /// the caller said how much it wants.
    pub fn tolerable(seed: u64) -> Self {
        let faults = vec![
            // Twice: "error, but it happened" is the one that finds most.
            Fault::ErrorButDone(Failure::Unreachable),
            Fault::ErrorButDone(Failure::Faulty),
            Fault::Error(Failure::Unreachable),
            Fault::Error(Failure::Busy(Some(3))),
            Fault::ShortBody,
            Fault::List(ListFault::BreaksOff(2)),
            Fault::List(ListFault::Duplicated),
            Fault::List(ListFault::Reversed),
        ];
        Self::of(seed, faults)
    }

    /// These faults; those before others are drawn first.
    pub fn of(seed: u64, faults: Vec<Fault>) -> Self {
        Self { seed, random: ChaCha8Rng::seed_from_u64(seed), faults, site_percent: 25, pass_percent: 25 }
    }

    /// Sets both probabilities.
    #[must_use]
    pub fn percent(mut self, site: u64, pass: u64) -> Self {
        (self.site_percent, self.pass_percent) = (site, pass);
        self
    }

    pub(super) fn draw(&mut self, call: &Call) -> Option<Fault> {
        let (seed, site_percent, pass_percent) = (self.seed, self.site_percent, self.pass_percent);
        let on = |fault: &&Fault| {
            let site = format!("{:?} {:?} {fault:?}", call.kind(), call.file_type());
            let unnoticed = **fault == Fault::ShortBody && matches!(call, Call::Read(_, None));
            fault.fits(call.kind())
                && !unnoticed
                && ChaCha8Rng::seed_from_u64(seed ^ hash(&site)).next_u64() % 100 < site_percent
        };
        let random = &mut self.random;
        self.faults.iter().filter(on).find(|_| random.next_u64() % 100 < pass_percent).cloned()
    }
}

/// FNV-1a, so that a site's number does not depend on the order of calls or on the compiler.
fn hash(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}
