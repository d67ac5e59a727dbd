//! Where content may be cut: every position at which the Rabin fingerprint of the last 64 bytes ends in zeros. These
//! candidates depend on nothing before those bytes, so one buffer is scanned as several independent streams at once,
//! which hides the latency of the table look-ups, and any ranges of a file may be scanned in parallel.

use crate::format::Polynomial;

/// Bytes that the fingerprint covers.
pub const WINDOW: usize = 64;
/// Streams inside one buffer: as many as the processor overlaps, as few as its registers hold.
const STREAMS: usize = 6;

/// Consecutive candidates, both ends included. In zeros every position is one, so runs keep the result short.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Run {
    /// The first.
    pub first: u64,
    /// The last.
    pub last: u64,
}

impl Run {
    /// The same run counted from `by` bytes earlier.
    #[must_use]
    pub fn shifted(self, by: u64) -> Self {
        Self { first: self.first + by, last: self.last + by }
    }
}

/// The tables of one polynomial.
#[derive(Debug, Clone)]
pub struct Scanner {
    /// For the byte above the degree: how it folds back, and that byte itself, to be cleared.
    fold: Box<[u64; 256]>,
    /// For the byte that leaves the window, one step after its highest place.
    leave: Box<[u64; 256]>,
    mask: u64,
}

impl Scanner {
    /// Tables for candidates of which there is one in `mean` positions; `mean` is a power of two.
    pub fn new(polynomial: Polynomial, mean: u32) -> Self {
        assert!(mean.is_power_of_two(), "chunk sizes were checked");
        let table = |entry: &dyn Fn(u64) -> u64| {
            let mut table = Box::new([0; 256]);
            for (byte, slot) in (0..).zip(table.iter_mut()) {
                *slot = entry(byte);
            }
            table
        };
        Self {
            fold: table(&|byte| polynomial.shift(byte, Polynomial::DEGREE) | byte << Polynomial::DEGREE),
            leave: table(&|byte| polynomial.shift(byte, 8 * WINDOW as u32)),
            mask: u64::from(mean) - 1,
        }
    }

    /// Appends to `found`, ascending, each `p` in `WINDOW..=bytes.len()` for which `bytes[..p]` may end a chunk.
    pub fn scan(&self, bytes: &[u8], found: &mut Vec<Run>) {
        if bytes.len() < WINDOW {
            return;
        }
        let segment = (bytes.len() - WINDOW) / STREAMS;
        if segment == 0 {
            return self.scan_one(bytes, 0, found);
        }
        let mut hits: [Vec<Run>; STREAMS] = Default::default();
        self.scan_streams(bytes, segment, &mut hits);
        for hits in &hits {
            found.extend_from_slice(hits);
        }
        self.scan_one(bytes, segment * STREAMS, found);
    }

    /// Scans `STREAMS` stretches of `segment` positions each; what is left at the end is not scanned.
    fn scan_streams(&self, bytes: &[u8], segment: usize, hits: &mut [Vec<Run>; STREAMS]) {
        let stretch: [&[u8]; STREAMS] =
            std::array::from_fn(|stream| &bytes[stream * segment..(stream + 1) * segment + WINDOW]);
        let mut state: [u64; STREAMS] = std::array::from_fn(|stream| self.prime(stretch[stream]));
        // The first position of each other stream is the last of the one before.
        if state[0] & self.mask == 0 {
            push(&mut hits[0], WINDOW);
        }
        let (fold, leave, mask) = (&*self.fold, &*self.leave, self.mask);
        let leaving = stretch.map(|stretch| &stretch[..segment]);
        let entering = stretch.map(|stretch| &stretch[WINDOW..][..segment]);
        for step in 0..segment {
            let mut is_any = false;
            for stream in 0..STREAMS {
                state[stream] = next(fold, leave, state[stream], leaving[stream][step], entering[stream][step]);
                is_any |= state[stream] & mask == 0;
            }
            if is_any {
                for stream in (0..STREAMS).filter(|&stream| state[stream] & mask == 0) {
                    push(&mut hits[stream], stream * segment + WINDOW + step + 1);
                }
            }
        }
    }

    /// Scans everything after `start + WINDOW`, and from the very start that position too, as a single stream.
    fn scan_one(&self, bytes: &[u8], start: usize, found: &mut Vec<Run>) {
        let bytes = &bytes[start..];
        let mut state = self.prime(bytes);
        if start == 0 && state & self.mask == 0 {
            push(found, WINDOW);
        }
        for (at, (&leaving, &entering)) in bytes.iter().zip(&bytes[WINDOW..]).enumerate() {
            state = self.step(state, leaving, entering);
            if state & self.mask == 0 {
                push(found, start + WINDOW + at + 1);
            }
        }
    }

    /// The fingerprint of the first `WINDOW` bytes.
    fn prime(&self, bytes: &[u8]) -> u64 {
        bytes[..WINDOW].iter().fold(0, |state, &byte| self.step(state, 0, byte))
    }

    fn step(&self, state: u64, leaving: u8, entering: u8) -> u64 {
        next(&self.fold, &self.leave, state, leaving, entering)
    }
}

/// The fingerprint one byte on.
#[inline]
fn next(fold: &[u64; 256], leave: &[u64; 256], state: u64, leaving: u8, entering: u8) -> u64 {
    let top = (state >> (Polynomial::DEGREE - 8)) as u8;
    (state << 8 | u64::from(entering)) ^ fold[usize::from(top)] ^ leave[usize::from(leaving)]
}

fn push(runs: &mut Vec<Run>, position: usize) {
    let position = position as u64;
    match runs.last_mut() {
        Some(run) if run.last + 1 == position => run.last = position,
        _ => runs.push(Run { first: position, last: position }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The definition, bit by bit: the sum of all bytes of the window times their power of x, modulo the polynomial.
    fn fingerprint(polynomial: Polynomial, window: &[u8]) -> u64 {
        window.iter().fold(0, |state, &byte| polynomial.shift(state, 8) ^ polynomial.shift(byte.into(), 0))
    }

    #[track_caller]
    fn check(bytes: &[u8], mean: u32) {
        let polynomial = "3cbfb22b6022a9".parse().unwrap();
        let expected: Vec<_> = (WINDOW..=bytes.len())
            .filter(|&p| fingerprint(polynomial, &bytes[p - WINDOW..p]) & u64::from(mean - 1) == 0)
            .collect();
        let mut found = Vec::new();
        Scanner::new(polynomial, mean).scan(bytes, &mut found);
        let positions: Vec<_> = found.iter().flat_map(|run| run.first as usize..=run.last as usize).collect();
        assert_eq!(positions, expected);
    }

    #[test]
    fn zeros_are_candidates_everywhere() {
        check(&[0; 70], 1 << 20);
        check(&[0; 1000], 1 << 20);
    }

    #[test]
    fn too_little_for_a_window_has_none() {
        check(&[0; 63], 4);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(40))]
        #[test]
        fn streams_find_what_the_definition_says(bytes in proptest::collection::vec(any::<u8>(), 60..1200), bits in 1..7) {
            check(&bytes, 1_u32 << bits);
        }
    }
}
