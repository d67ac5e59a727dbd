//! Which parts of a changed content must be read again, given its earlier cuts and the changed extents. The result
//! equals full chunking: a cut depends only on bytes before it, and chunking that meets an old cut past the last change
//! goes on as it did before. Pure: the caller reads and chunks the ranges it is told to.

use std::ops::Range;

/// One step of a plan being carried out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Take over the old chunks with these numbers.
    Keep(Range<usize>),
    /// Chunk from this offset with a fresh state, feeding [`Planner::cut`], until told to stop.
    Chunk(u64),
    /// Everything is covered.
    Done,
}

/// Walks through an old chunk list and sorted changes.
#[derive(Debug, Clone)]
pub struct Planner {
    /// Ends of the old chunks.
    ends: Vec<u64>,
    changes: Vec<Range<u64>>,
    length: u64,
    /// The last old cut was forced by the end of data and tells nothing.
    is_last_forced: bool,
    /// How far the result is settled.
    position: u64,
    next_change: usize,
}

impl Planner {
    /// A plan for content that now has `length` bytes. `ends` are the ends of the old chunks, ascending, the last being the
    /// old length; `changes` may overlap and come in any order.
    pub fn new(ends: Vec<u64>, mut changes: Vec<Range<u64>>, length: u64) -> Self {
        let old_length = ends.last().copied().unwrap_or(0);
        if old_length != length {
            changes.push(old_length.min(length)..length.max(old_length.min(length) + 1));
        }
        changes.retain(|change| change.start < change.end);
        changes.sort_unstable_by_key(|change| change.start);
        Self { ends, changes, length, is_last_forced: old_length != length, position: 0, next_change: 0 }
    }

    /// What to do next, after a step was carried out.
    pub fn step(&mut self) -> Step {
        while self.changes.get(self.next_change).is_some_and(|change| change.end <= self.position) {
            self.next_change += 1;
        }
        if self.position >= self.length {
            return Step::Done;
        }
        let first_kept = self.ends.partition_point(|&end| end <= self.position);
        let stop = match self.changes.get(self.next_change) {
            None => self.ends.len(),
            Some(change) => self.usable().partition_point(|&end| end <= change.start),
        };
        if stop > first_kept {
            self.position = self.ends[stop - 1];
            Step::Keep(first_kept..stop)
        } else {
            Step::Chunk(self.position)
        }
    }

    /// Takes a new cut; `true` means that chunking stops here and [`Planner::step`] tells how to go on.
    pub fn cut(&mut self, cut: u64) -> bool {
        self.position = cut;
        let pending = self.changes[self.next_change..].iter().take_while(|change| change.start < cut);
        let is_clear = pending.clone().all(|change| change.end <= cut);
        is_clear && self.usable().binary_search(&cut).is_ok()
    }

    /// Bytes that will be read at most, if every stretch meets an old cut two chunks after its change: for deciding
    /// whether a full read is as cheap.
    pub fn planned_reads(&self) -> u64 {
        let (mut covered, mut total) = (0, 0);
        for change in &self.changes {
            let start = self.usable().partition_point(|&end| end <= change.start);
            let from = start.checked_sub(1).map_or(0, |at| self.ends[at]).max(covered);
            let after = self.usable().partition_point(|&end| end < change.end) + 1;
            let to = self.usable().get(after).copied().unwrap_or(self.length).min(self.length);
            total += to.saturating_sub(from);
            covered = covered.max(to);
        }
        total
    }

    /// Old cuts at which chunking may start or stop.
    fn usable(&self) -> &[u64] {
        &self.ends[..self.ends.len() - usize::from(self.is_last_forced && !self.ends.is_empty())]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::{ChunkSizes, Chunker};
    use proptest::prelude::*;

    fn chunker(min: u32) -> Chunker {
        Chunker::new("3cbfb22b6022a9".parse().unwrap(), ChunkSizes { min, mean: 256, max: min * 8 })
    }

    /// Cuts of `bytes` from `start` on, including the end.
    fn cuts(chunker: &Chunker, bytes: &[u8], start: u64) -> Vec<u64> {
        let (mut cutter, mut cuts) = (chunker.cutter(), Vec::new());
        cutter.feed(&bytes[start as usize..], &mut cuts);
        if cutter.open_start() < cutter.position() {
            cuts.push(cutter.position());
        }
        cuts.iter().map(|cut| cut + start).collect()
    }

    /// Carries a plan out; gives the ends of the new chunks and the bytes read.
    fn run(chunker: &Chunker, old_ends: &[u64], changes: Vec<Range<u64>>, new: &[u8]) -> (Vec<u64>, u64) {
        let mut planner = Planner::new(old_ends.to_vec(), changes, new.len() as u64);
        let (mut ends, mut read) = (Vec::new(), 0);
        loop {
            match planner.step() {
                Step::Keep(chunks) => ends.extend_from_slice(&old_ends[chunks]),
                Step::Chunk(start) => {
                    for cut in cuts(chunker, new, start) {
                        ends.push(cut);
                        if planner.cut(cut) {
                            break;
                        }
                    }
                    read += ends.last().unwrap() - start;
                }
                Step::Done => return (ends, read),
            }
        }
    }

    #[test]
    fn nothing_changed_reads_nothing() {
        let bytes = vec![7; 3000];
        let old = cuts(&chunker(128), &bytes, 0);
        assert_eq!(run(&chunker(128), &old, vec![], &bytes), (old, 0));
    }

    #[test]
    fn a_small_change_reads_a_few_chunks() {
        let mut bytes: Vec<u8> = (0..100_000_u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 16) as u8).collect();
        let old = cuts(&chunker(128), &bytes, 0);
        bytes[50_000] ^= 1;
        let (ends, read) = run(&chunker(128), &old, vec![50_000..50_001], &bytes);
        assert_eq!(ends, cuts(&chunker(128), &bytes, 0));
        assert!(read < 5000, "{read}");
        let planned = Planner::new(old, vec![50_000..50_001], 100_000).planned_reads();
        assert!(planned < 5000, "{planned}");
    }

    fn change() -> impl Strategy<Value = (usize, usize, u8)> {
        (0..9000_usize, 1..900_usize, any::<u8>())
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(1000))]
        #[test]
        fn the_result_equals_full_chunking(
            seed in proptest::collection::vec(any::<u8>(), 1..400), old_length in 0..8000_usize, new_length in 0..9000_usize,
            zeros in 0..4000_usize, same_length in any::<bool>(), changes in proptest::collection::vec(change(), 0..6), min in 64..300_u32,
        ) {
            let chunker = chunker(min);
            let mut old: Vec<u8> = seed.iter().copied().cycle().enumerate().take(old_length)
                .map(|(at, byte)| byte.wrapping_mul((at / seed.len() + 1) as u8) ^ (at >> 3) as u8).collect();
            let middle = old_length / 3;
            old.iter_mut().skip(middle).take(zeros).for_each(|byte| *byte = 0);
            let old_ends = cuts(&chunker, &old, 0);
            let mut new = old;
            if !same_length {
                new.resize(new_length, 3);
            }
            let mut extents = Vec::new();
            for (start, length, value) in changes {
                let end = (start + length).min(new.len());
                if start < end {
                    new[start..end].iter_mut().for_each(|byte| *byte = byte.wrapping_add(value));
                    extents.push(start as u64..end as u64);
                }
            }
            let (ends, read) = run(&chunker, &old_ends, extents, &new);
            prop_assert_eq!(ends, cuts(&chunker, &new, 0));
            prop_assert!(read <= new.len() as u64);
        }
    }
}
