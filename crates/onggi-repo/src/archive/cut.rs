//! One content on its way to chunks: the segments that were written and not yet cut away, and the choice of cuts.
//!
//! Segments are scanned for candidates by anyone in any order; cuts are chosen in order, by whoever completes the
//! candidates that the next cut needs. No bytes are touched here.

use super::{chunk::Chunk, window::Window};
use crate::{
    format::Chunker,
    kernel::scan::{Run, WINDOW},
};
use std::{collections::VecDeque, sync::Arc};

/// By which rule a content is cut.
#[derive(Debug, Clone)]
pub(super) enum Rule {
    /// By content.
    Rabin(Chunker),
    /// At multiples of a size.
    Fixed(u32),
    /// After each write.
    Given,
}

/// The bytes of a segment.
#[derive(Debug, Clone)]
pub(super) enum Body {
    Window(Arc<Window>),
    Zeros,
}

/// Where chunks may end in one segment, ascending.
pub(super) type Candidates = Vec<Run>;

struct Segment {
    start: u64,
    end: u64,
    body: Body,
    /// `None` while not scanned.
    candidates: Option<Candidates>,
}

/// The part of a content that is not cut yet.
pub(super) struct Stream {
    rule: Rule,
    segments: VecDeque<Segment>,
    /// How many segments were cut away: the number of the first one that is left.
    first: usize,
    /// Where the open chunk starts.
    open: u64,
    /// Bytes written.
    end: u64,
    /// The content ends here, or a cut is forced here.
    is_closed: bool,
    /// The last bytes written, which begin the windows of the next segment.
    tail: Vec<u8>,
}

/// A segment to be scanned.
pub(super) struct Scan {
    pub segment: usize,
    pub window: Arc<Window>,
    pub start: u64,
    pub tail: Vec<u8>,
}

const TAIL: usize = WINDOW - 1;

impl Stream {
    pub fn new(rule: Rule) -> Self {
        Self { rule, segments: VecDeque::new(), first: 0, open: 0, end: 0, is_closed: false, tail: Vec::new() }
    }

    /// Bytes written so far.
    pub fn len(&self) -> u64 {
        self.end
    }

    /// Where the open chunk starts.
    pub fn open(&self) -> u64 {
        self.open
    }

    /// Whether everything that was written is in a chunk.
    pub fn is_all_cut(&self) -> bool {
        self.open == self.end
    }

    /// Whether every segment's candidates are known.
    pub fn is_all_scanned(&self) -> bool {
        self.segments.iter().all(|segment| segment.candidates.is_some())
    }

    /// Takes a window. `Some`: it must be scanned, and `scanned` called.
    pub fn write(&mut self, window: Window) -> Option<Scan> {
        if window.is_empty() {
            return None;
        }
        let (start, window) = (self.end, Arc::new(window));
        self.end += window.len() as u64;
        let candidates = match &self.rule {
            Rule::Rabin(chunker) if self.end >= self.open + u64::from(chunker.sizes().min) => None,
            Rule::Rabin(_) | Rule::Fixed(_) => Some(Vec::new()),
            Rule::Given => Some(vec![point(self.end)]),
        };
        let scan = candidates.is_none().then(|| Scan {
            segment: self.first + self.segments.len(),
            window: Arc::clone(&window),
            start,
            tail: self.tail.clone(),
        });
        self.keep_tail(&window);
        self.segments.push_back(Segment { start, end: self.end, body: Body::Window(window), candidates });
        scan
    }

    /// Takes a hole without touching its bytes.
    pub fn zeros(&mut self, length: u64) {
        let start = self.end;
        self.end += length;
        let candidates = match &self.rule {
            Rule::Rabin(chunker) => self.candidates_of_zeros(chunker, start, length),
            Rule::Fixed(_) => Vec::new(),
            Rule::Given => vec![point(self.end)],
        };
        self.keep_tail(&[0; TAIL][..TAIL.min(length as usize)]);
        self.segments.push_back(Segment { start, end: self.end, body: Body::Zeros, candidates: Some(candidates) });
    }

    /// In the first window's worth of zeros the bytes before still count; after that every position is a candidate.
    fn candidates_of_zeros(&self, chunker: &Chunker, start: u64, length: u64) -> Candidates {
        let mut joint = self.tail.clone();
        joint.resize(self.tail.len() + (length as usize).min(TAIL), 0);
        let mut found = Vec::new();
        chunker.candidates(&joint, &mut found);
        let base = start - self.tail.len() as u64;
        let mut candidates: Candidates = found.into_iter().map(|run: Run| run.shifted(base)).collect();
        if length > TAIL as u64 {
            candidates.push(Run { first: start + WINDOW as u64, last: start + length });
        }
        candidates
    }

    fn keep_tail(&mut self, bytes: &[u8]) {
        let kept = &bytes[bytes.len().saturating_sub(TAIL)..];
        let surplus = (self.tail.len() + kept.len()).saturating_sub(TAIL);
        self.tail.drain(..surplus);
        self.tail.extend_from_slice(kept);
    }

    /// From where on candidates of this segment matter, as far as that is known: no cut comes before. A segment that was
    /// cut away before its turn, because no cut could be in it, needs none.
    pub fn needed_from(&self, segment: usize) -> u64 {
        let Some(place) = segment.checked_sub(self.first) else { return u64::MAX };
        match &self.rule {
            Rule::Rabin(chunker) if self.segments.iter().take(place).all(|segment| segment.candidates.is_some()) => {
                self.open + u64::from(chunker.sizes().min)
            }
            _ => 0,
        }
    }

    /// Takes a segment's candidates.
    pub fn scanned(&mut self, segment: usize, candidates: Candidates) {
        let place = segment.checked_sub(self.first);
        if let Some(segment) = place.and_then(|place| self.segments.get_mut(place)) {
            segment.candidates = Some(candidates);
        }
    }

    /// Says that the content ends, or that a cut is forced, at the present end.
    pub fn close(&mut self) {
        self.is_closed = true;
    }

    /// Goes on after a forced cut with `skipped` bytes whose chunks are known already. Everything must be cut.
    pub fn skip(&mut self, skipped: u64) {
        debug_assert!(self.is_all_cut(), "skipping starts at a cut");
        self.end += skipped;
        self.open = self.end;
        self.is_closed = false;
        self.tail.clear();
    }

    /// The next chunk, if its end is known.
    pub fn next_chunk(&mut self) -> Option<Chunk> {
        let end = self.next_cut()?;
        let chunk = self.take(end);
        self.open = end;
        Some(chunk)
    }

    fn next_cut(&self) -> Option<u64> {
        if self.open == self.end {
            return None;
        }
        let (min, max) = match &self.rule {
            Rule::Rabin(chunker) => (u64::from(chunker.sizes().min), u64::from(chunker.sizes().max)),
            Rule::Fixed(size) => (u64::from(*size), u64::from(*size)),
            Rule::Given => (1, u64::MAX / 2),
        };
        let (from, limit) = (self.open + min, self.open + max);
        for segment in self.segments.iter().filter(|segment| segment.end >= from) {
            let candidates = segment.candidates.as_ref()?;
            let next = candidates.iter().find(|run| run.last >= from).map(|run| run.first.max(from));
            match next {
                Some(cut) => return Some(cut.min(limit)),
                None if segment.end >= limit => return Some(limit),
                None => {}
            }
        }
        self.is_closed.then_some(self.end)
    }

    /// Takes the bytes up to `end` out, and drops segments that are used up.
    fn take(&mut self, end: u64) -> Chunk {
        let mut chunk = Chunk::default();
        while let Some(segment) = self.segments.front() {
            let (from, to) = (segment.start.max(self.open), segment.end.min(end));
            if from < to {
                let within = (from - segment.start) as usize..(to - segment.start) as usize;
                chunk.push(segment.body.clone(), within);
            }
            if segment.end > end {
                break;
            }
            self.segments.pop_front();
            self.first += 1;
        }
        chunk
    }
}

impl Scan {
    /// Finds the candidates from `needed_from` on.
    pub fn run(&self, chunker: &Chunker, needed_from: u64) -> Candidates {
        let mut found = Finder { chunker, candidates: Vec::new(), hits: Vec::new() };
        let tail_start = self.start - self.tail.len() as u64;
        if needed_from <= self.start + TAIL as u64 {
            let mut joint = self.tail.clone();
            joint.extend_from_slice(&self.window[..self.window.len().min(TAIL)]);
            found.scan(&joint, tail_start);
        }
        let skipped = needed_from.saturating_sub(self.start + WINDOW as u64);
        let mut at = skipped.min(self.window.len() as u64) as usize;
        while self.window.len() - at > TAIL {
            let end = (at + STEP).min(self.window.len());
            found.scan(&self.window[at..end], self.start + at as u64);
            at = end - TAIL;
        }
        found.candidates
    }
}

/// Bytes scanned in one go: few enough that a run of zeros, where every position is a candidate, takes little memory.
const STEP: usize = 128 << 10;

struct Finder<'a> {
    chunker: &'a Chunker,
    candidates: Candidates,
    hits: Vec<Run>,
}

impl Finder<'_> {
    fn scan(&mut self, bytes: &[u8], start: u64) {
        if bytes.len() > TAIL && is_zero(bytes) {
            return self.add(Run { first: WINDOW as u64, last: bytes.len() as u64 }.shifted(start));
        }
        let mut hits = std::mem::take(&mut self.hits);
        hits.clear();
        self.chunker.candidates(bytes, &mut hits);
        for &hit in &hits {
            self.add(hit.shifted(start));
        }
        self.hits = hits;
    }

    fn add(&mut self, run: Run) {
        match self.candidates.last_mut() {
            Some(last) if last.last + 1 == run.first => last.last = run.last,
            _ => self.candidates.push(run),
        }
    }
}

fn point(at: u64) -> Run {
    Run { first: at, last: at }
}

/// Whether all bytes are zero; answers at the first block that has another.
pub(super) fn is_zero(bytes: &[u8]) -> bool {
    let (words, rest) = bytes.as_chunks::<64>();
    words.iter().all(|word| word.iter().fold(0, |any, byte| any | byte) == 0) && rest.iter().all(|&byte| byte == 0)
}
