//! Where the disk has data: its pieces in order, merged as far as they are alike.

use std::ops::Range;

use super::super::{ImageBytes, ImageError};
use super::Qcow2;
use super::entry::{Entry, PARTS};

/// A piece of the disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Extent {
    /// In bytes of the disk.
    pub range: Range<u64>,
    /// What is there.
    pub kind: ExtentKind,
}

/// What a piece of the disk holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExtentKind {
    /// Bytes that must be read.
    Data,
    /// Zeros that were written.
    Zero,
    /// Nothing was ever written: it reads as zeros.
    Hole,
}

/// The pieces of a disk from its start to its end, without gaps; neighbors differ in kind. Ends after the first error.
pub struct Extents<'a, B> {
    image: &'a Qcow2<B>,
    at: u64,
    next: Option<Extent>,
}

impl<'a, B: ImageBytes> Extents<'a, B> {
    pub(super) fn new(image: &'a Qcow2<B>) -> Self {
        Self { image, at: 0, next: None }
    }

    fn piece(&mut self) -> Result<Option<Extent>, ImageError> {
        if self.at >= self.image.virtual_size() {
            return Ok(None);
        }
        let (kind, end) = self.image.kind_at(self.at)?;
        let range = self.at..end.min(self.image.virtual_size());
        self.at = range.end;
        Ok(Some(Extent { range, kind }))
    }

    fn merged(&mut self) -> Result<Option<Extent>, ImageError> {
        let first = match self.next.take() {
            Some(extent) => Some(extent),
            None => self.piece()?,
        };
        let Some(mut merged) = first else { return Ok(None) };
        while let Some(extent) = self.piece()? {
            if extent.kind != merged.kind {
                self.next = Some(extent);
                break;
            }
            merged.range.end = extent.range.end;
        }
        Ok(Some(merged))
    }
}

impl<B: ImageBytes> Iterator for Extents<'_, B> {
    type Item = Result<Extent, ImageError>;

    fn next(&mut self) -> Option<Self::Item> {
        let merged = self.merged();
        if merged.is_err() {
            (self.at, self.next) = (u64::MAX, None);
        }
        merged.transpose()
    }
}

impl<B: ImageBytes> Qcow2<B> {
    /// Where data are, in at most so many pieces: where there would be more, the smallest gaps count as data.
    pub fn data(&self, pieces_max: usize) -> Result<Vec<Range<u64>>, ImageError> {
        let mut pieces: Vec<Range<u64>> = Vec::new();
        let mut gap_bytes = 0;
        for extent in self.extents() {
            let Extent { range, kind: ExtentKind::Data } = extent? else { continue };
            match pieces.last_mut() {
                Some(last) if range.start - last.end <= gap_bytes => last.end = range.end,
                _ => pieces.push(range),
            }
            while pieces.len() > pieces_max.max(1) {
                gap_bytes = (gap_bytes * 2).max(self.header.cluster_bytes());
                pieces = joined(pieces, gap_bytes);
            }
        }
        Ok(pieces)
    }

    /// What is at an offset, and up to where that holds.
    fn kind_at(&self, at: u64) -> Result<(ExtentKind, u64), ImageError> {
        let cluster = at >> self.header.cluster_bits;
        let (entry, count) = self.entry(cluster)?;
        let end = (cluster + count) << self.header.cluster_bits;
        Ok(match entry {
            Entry::Hole => (ExtentKind::Hole, end),
            Entry::Zero { .. } => (ExtentKind::Zero, end),
            Entry::Data { .. } | Entry::Packed { .. } => (ExtentKind::Data, end),
            Entry::Parts { data, zero, .. } => {
                let part_bytes = self.header.cluster_bytes() / PARTS;
                let part = at % self.header.cluster_bytes() / part_bytes;
                let kind = |part: u64| part_kind(data, zero, part);
                let last = (part..PARTS).take_while(|next| kind(*next) == kind(part)).last().unwrap_or(part);
                (kind(part), (cluster << self.header.cluster_bits) + (last + 1) * part_bytes)
            }
        })
    }
}

/// What one of the parts of a cluster holds.
pub(super) fn part_kind(data: u32, zero: u32, part: u64) -> ExtentKind {
    match (data >> part & 1, zero >> part & 1) {
        (1, _) => ExtentKind::Data,
        (_, 1) => ExtentKind::Zero,
        _ => ExtentKind::Hole,
    }
}

fn joined(pieces: Vec<Range<u64>>, gap_bytes: u64) -> Vec<Range<u64>> {
    let mut joined: Vec<Range<u64>> = Vec::with_capacity(pieces.len());
    for piece in pieces {
        match joined.last_mut() {
            Some(last) if piece.start - last.end <= gap_bytes => last.end = piece.end,
            _ => joined.push(piece),
        }
    }
    joined
}
