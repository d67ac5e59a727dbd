//! Cutting content into chunks. Candidates come from the scan kernel; choosing the cuts among them is a few steps per
//! megabyte and the only sequential part. Cuts never depend on how the content was divided into reads.

use super::{config::ChunkSizes, polynomial::Polynomial};
use crate::kernel::scan::{Run, Scanner, WINDOW};
use std::sync::Arc;

/// How to cut one repository's content: immutable, shared by all files and threads.
#[derive(Debug, Clone)]
pub struct Chunker {
    scanner: Arc<Scanner>,
    sizes: ChunkSizes,
}

impl Chunker {
    /// Builds the tables; about 4 KiB.
    pub fn new(polynomial: Polynomial, sizes: ChunkSizes) -> Self {
        Self { scanner: Arc::new(Scanner::new(polynomial, sizes.mean)), sizes }
    }

    /// The bounds it cuts by.
    pub fn sizes(&self) -> ChunkSizes {
        self.sizes
    }

    /// Starts a file, a stream, or the re-chunking at an earlier cut.
    pub fn cutter(&self) -> Cutter {
        Cutter {
            chunker: self.clone(),
            tail: Vec::with_capacity(2 * WINDOW),
            candidates: Vec::new(),
            position: 0,
            start: 0,
        }
    }

    /// Candidate ends in a buffer, ascending, as lengths from its start; those in its first 63 bytes are not seen.
    /// For scanning the ranges of one file in parallel: let each range begin 63 bytes early.
    pub fn candidates(&self, bytes: &[u8], found: &mut Vec<Run>) {
        self.scanner.scan(bytes, found);
    }

    /// The cuts among candidates: all of them ascending, in the same count of bytes as `start`, the last cut, and `end`,
    /// up to where candidates are known. Hands each cut out and returns the start of the open chunk.
    pub fn select(&self, candidates: &[Run], mut start: u64, end: u64, mut cut: impl FnMut(u64)) -> u64 {
        let (min, max) = (u64::from(self.sizes.min), u64::from(self.sizes.max));
        let mut rest = candidates;
        loop {
            rest = &rest[rest.partition_point(|run| run.last < start + min)..];
            let candidate = rest.first().map(|run| run.first.max(start + min));
            start = match candidate {
                Some(candidate) if candidate <= (start + max).min(end) => candidate,
                _ if start + max <= end => start + max,
                _ => return start,
            };
            cut(start);
        }
    }
}

/// The cuts of one content, fed piece by piece.
#[derive(Debug, Clone)]
pub struct Cutter {
    chunker: Chunker,
    /// The last 63 bytes seen, which begin the windows of the next piece.
    tail: Vec<u8>,
    candidates: Vec<Run>,
    position: u64,
    start: u64,
}

impl Cutter {
    /// Takes the next bytes and appends to `cuts` the chunk ends found in them, as offsets from the start of the content.
    pub fn feed(&mut self, bytes: &[u8], cuts: &mut Vec<u64>) {
        if is_zero(bytes) {
            self.feed_zeros(bytes.len() as u64, cuts);
        } else {
            self.take(bytes, cuts);
        }
    }

    fn take(&mut self, bytes: &[u8], cuts: &mut Vec<u64>) {
        // A candidate that is known and far enough from the last cut is a cut at once: none is left for the next call.
        self.candidates.clear();
        // Nothing before the shortest chunk can be a cut, so the scan starts one window before it.
        let first = (self.start + u64::from(self.chunker.sizes.min)).saturating_sub(self.position + WINDOW as u64);
        let skipped = usize::try_from(first).map_or(bytes.len(), |first| first.min(bytes.len()));
        self.scan(bytes, skipped);
        self.position += bytes.len() as u64;
        self.start = self.chunker.select(&self.candidates, self.start, self.position, |cut| cuts.push(cut));
        self.keep_tail(bytes);
    }

    /// Takes a hole: as `feed` of so many zero bytes, without touching them. Every position in zeros is a candidate.
    pub fn feed_zeros(&mut self, mut length: u64, cuts: &mut Vec<u64>) {
        const ZEROS: [u8; WINDOW] = [0; WINDOW];
        let (min, entry) = (u64::from(self.chunker.sizes.min), length.min(WINDOW as u64));
        self.take(&ZEROS[..entry as usize], cuts);
        length -= entry;
        let end = self.position + length;
        let is_zero_window = self.tail.len() == WINDOW - 1 && self.tail.iter().all(|&byte| byte == 0);
        if length == 0 || !is_zero_window {
            return;
        }
        let next = (self.start + min).max(self.position + 1);
        if next <= end {
            cuts.push(next);
            self.start = next;
            let whole = (end - next) / min;
            cuts.extend((1..=whole).map(|count| next + count * min));
            self.start += whole * min;
        }
        self.position = end;
    }

    /// The offset after the last byte fed.
    pub fn position(&self) -> u64 {
        self.position
    }

    /// Where the open chunk starts. At the end of the content it is the last one, unless it is empty.
    pub fn open_start(&self) -> u64 {
        self.start
    }

    /// Finds the candidates that end in `bytes[skipped..]`.
    fn scan(&mut self, bytes: &[u8], skipped: usize) {
        let mut found = Vec::new();
        if skipped < WINDOW && !self.tail.is_empty() {
            // Windows that begin in an earlier piece.
            let mut joint = self.tail.clone();
            joint.extend_from_slice(&bytes[..bytes.len().min(WINDOW - 1)]);
            self.chunker.scanner.scan(&joint, &mut found);
            let joint_start = self.position - self.tail.len() as u64;
            self.candidates.extend(found.drain(..).map(|run| run.shifted(joint_start)));
        }
        self.chunker.scanner.scan(&bytes[skipped..], &mut found);
        let scan_start = self.position + skipped as u64;
        self.candidates.extend(found.into_iter().map(|run| run.shifted(scan_start)));
    }

    fn keep_tail(&mut self, bytes: &[u8]) {
        let kept = &bytes[bytes.len().saturating_sub(WINDOW - 1)..];
        let surplus = (self.tail.len() + kept.len()).saturating_sub(WINDOW - 1);
        self.tail.drain(..surplus);
        self.tail.extend_from_slice(kept);
    }
}

/// Whether there are only zeros; other content is left at the first page that holds something.
fn is_zero(bytes: &[u8]) -> bool {
    bytes.chunks(4096).all(|page| page.iter().fold(0, |any, byte| any | byte) == 0)
}

/// Cuts every so many bytes: the lengths of the chunks of a content.
pub fn fixed_lengths(length: u64, size: u32) -> impl Iterator<Item = u32> {
    let size = u64::from(size.max(1));
    (0..length.div_ceil(size)).map(move |chunk| (length - chunk * size).min(size) as u32)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::BlobId;
    use proptest::prelude::*;

    fn noise(length: usize) -> Vec<u8> {
        const STEP: u64 = 0x9E37_79B9_7F4A_7C15;
        let mut x = STEP;
        let mut out = Vec::with_capacity(length + 8);
        while out.len() < length {
            x = x.wrapping_add(STEP);
            let z = (x ^ (x >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
            let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
            out.extend_from_slice(&(z ^ (z >> 31)).to_le_bytes());
        }
        out.truncate(length);
        out
    }

    fn lengths(chunker: &Chunker, pieces: &[&[u8]]) -> Vec<u64> {
        let (mut cutter, mut cuts) = (chunker.cutter(), vec![0]);
        pieces.iter().for_each(|piece| cutter.feed(piece, &mut cuts));
        if cutter.position() > cutter.open_start() {
            cuts.push(cutter.position());
        }
        cuts.windows(2).map(|pair| pair[1] - pair[0]).collect()
    }

    #[track_caller]
    fn check(polynomial: &str, bytes: &[u8], expected: &[u64]) {
        let chunker = Chunker::new(polynomial.parse().unwrap(), ChunkSizes::DEFAULT);
        assert_eq!(lengths(&chunker, &[bytes]), expected);
        let pieces: Vec<_> = bytes.chunks(2 << 20).collect();
        assert_eq!(lengths(&chunker, &pieces), expected);
    }

    #[test]
    fn the_known_stream_is_cut_where_go_cuts_it() {
        let bytes = noise(16 << 20);
        assert_eq!(bytes[..8], [0xf4, 0x65, 0xb9, 0xa1, 0x6a, 0x9e, 0x78, 0x6e]);
        let id = BlobId::of(&bytes[..1 << 20]).to_string();
        assert_eq!(id, "bb0d396c1d83e12ea6d66bcb3223478b3028c6dc74f12303232c8e0a96b0c6dd");
        #[rustfmt::skip]
        check("3da3358b4dc173", &bytes, &[1285833, 609147, 536277, 939814, 759094, 1146182, 2257240, 1210894, 631848, 864506, 3818237, 2152464, 565680]);
        #[rustfmt::skip]
        check("3cbfb22b6022a9", &bytes, &[1211327, 629536, 952046, 524558, 1413558, 2961023, 815462, 1330203, 771581, 847407, 958657, 1110390, 1832080, 1419388]);
    }

    #[test]
    fn a_short_tail_is_one_chunk_and_nothing_is_none() {
        let bytes = noise(524_289);
        for length in [0, 1, 524_287, 524_288, 524_289_u64] {
            let expected: &[u64] = if length == 0 { &[] } else { &[length] };
            check("3cbfb22b6022a9", &bytes[..length as usize], expected);
        }
    }

    #[test]
    fn zeros_are_cut_into_shortest_chunks() {
        check("3cbfb22b6022a9", &vec![0; 3 << 20], &[524_288; 6]);
    }

    #[test]
    fn fixed_chunks_have_one_length_but_the_last() {
        assert_eq!(fixed_lengths(10, 4).collect::<Vec<_>>(), [4, 4, 2]);
        assert_eq!(fixed_lengths(8, 4).count(), 2);
        assert_eq!(fixed_lengths(0, 4).count(), 0);
    }

    fn small() -> Chunker {
        Chunker::new("3cbfb22b6022a9".parse().unwrap(), ChunkSizes { min: 128, mean: 256, max: 1024 })
    }

    proptest! {
        #[test]
        fn cuts_do_not_depend_on_the_reads(
            bytes in proptest::collection::vec(any::<u8>(), 0..6000), sizes in proptest::collection::vec(1..700_usize, 1..20),
        ) {
            let (mut pieces, mut rest) = (Vec::new(), &bytes[..]);
            for size in sizes.iter().cycle() {
                if rest.is_empty() { break; }
                let (piece, after) = rest.split_at(rest.len().min(*size));
                pieces.push(piece);
                rest = after;
            }
            let expected = lengths(&small(), &[&bytes]);
            prop_assert_eq!(expected.iter().sum::<u64>(), bytes.len() as u64);
            let count = expected.len();
            let are_bounded = expected.iter().enumerate().all(|(at, &length)| length <= 1024 && (length >= 128 || at + 1 == count));
            prop_assert!(are_bounded);
            prop_assert_eq!(lengths(&small(), &pieces), expected);
        }

        #[test]
        fn a_hole_is_cut_as_its_zeros_are(before in 0..700_usize, hole in 0..5000_usize, after in 0..700_usize, noise_before in any::<bool>()) {
            let chunker = small();
            let fill = |length: usize| if noise_before { noise(length) } else { vec![0; length] };
            let (before, after) = (fill(before), noise(after));
            let (mut with_hole, mut cuts) = (chunker.cutter(), Vec::new());
            with_hole.feed(&before, &mut cuts);
            with_hole.feed_zeros(hole as u64, &mut cuts);
            with_hole.feed(&after, &mut cuts);
            let (mut dense, mut expected) = (chunker.cutter(), Vec::new());
            dense.feed(&[&before[..], &vec![0; hole], &after].concat(), &mut expected);
            prop_assert_eq!(cuts, expected);
            prop_assert_eq!(with_hole.open_start(), dense.open_start());
        }
    }
}
