//! The bytes of the disk: what lies together in the file is read together, packed clusters are unpacked one by one.

use std::io;
use std::ops::Range;
use std::sync::{Arc, PoisonError};

use miniz_oxide::inflate::core::{DecompressorOxide, decompress, inflate_flags};
use zstd::stream::raw::{DParameter, Decoder, InBuffer, Operation as _, OutBuffer};

use super::super::{ImageBytes, ImageError, wrong};
use super::Qcow2;
use super::entry::{Entry, PARTS};
use super::extents::{ExtentKind, part_kind};
use super::header::Compression;

/// The largest window of a zstd frame, as a power of two: 8 MiB, which the format's description asks every reader to
/// take. A frame of one cluster needs 2 MiB at most.
const WINDOW_LOG_MAX: u32 = 23;

/// A cluster of the disk that lay packed in the file.
pub(super) struct Unpacked {
    cluster: u64,
    bytes: Vec<u8>,
}

/// Bytes of the disk that lie together in the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// Of the disk.
    pub disk: Range<u64>,
    /// Where they begin in the file; `None`: they are zeros.
    pub host: Option<u64>,
}

/// Where a stretch of the disk comes from.
enum Origin {
    Zeros,
    /// From this offset of the file on.
    File(u64),
    Packed {
        at: u64,
        length: u64,
    },
}

impl<B: ImageBytes> Qcow2<B> {
    /// Fills the buffer with the disk's bytes from this offset on; past the disk's end there are none.
    pub fn read_exact_at(&self, offset: u64, buffer: &mut [u8]) -> Result<(), ImageError> {
        let end = offset.checked_add(buffer.len() as u64).filter(|end| *end <= self.virtual_size());
        let end = end.ok_or_else(|| ImageError::Read(io::ErrorKind::UnexpectedEof.into()))?;
        let mut at = offset;
        // A stretch of the file that is not read yet: where it begins there and in the buffer.
        let mut waiting: Option<(u64, usize)> = None;
        while at < end {
            let (origin, length) = self.origin(at, end - at)?;
            let done = (at - offset) as usize;
            if let (Some((host, from)), Origin::File(next)) = (waiting, &origin)
                && host + (done - from) as u64 == *next
            {
                at += length;
                continue;
            }
            if let Some((host, from)) = waiting.take() {
                self.read_host(host, &mut buffer[from..done])?;
            }
            let stretch = &mut buffer[done..done + length as usize];
            match origin {
                Origin::Zeros => stretch.fill(0),
                Origin::File(host) => waiting = Some((host, done)),
                Origin::Packed { at: packed, length } => self.unpack(at, packed, length, stretch)?,
            }
            at += length;
        }
        match waiting {
            Some((host, from)) => self.read_host(host, &mut buffer[from..]),
            None => Ok(()),
        }
    }

    /// Up to where the file must be there, so that these bytes of the disk can be read.
    pub fn reach(&self, disk: Range<u64>) -> Result<u64, ImageError> {
        let mut reach = 0;
        self.each_origin(disk, |_, origin, length| {
            reach = reach.max(match origin {
                Origin::Zeros => 0,
                Origin::File(host) => host + length,
                Origin::Packed { at, length } => at + length,
            });
        })?;
        // Behind its end there are zeros.
        Ok(reach.min(self.file_bytes))
    }

    /// Where bytes of the disk lie in the file, or that they are zeros: in order, without gaps, neighbors joined. `None`:
    /// they do not lie there as they are.
    pub fn places(&self, disk: Range<u64>) -> Result<Option<Vec<Place>>, ImageError> {
        let (mut places, mut is_plain): (Vec<Place>, _) = (Vec::new(), true);
        self.each_origin(disk, |at, origin, length| {
            let host = match origin {
                Origin::Zeros => None,
                Origin::File(host) if host + length <= self.file_bytes => Some(host),
                Origin::File(_) | Origin::Packed { .. } => return is_plain = false,
            };
            match places.last_mut() {
                Some(last) if last.host.map(|host| host + (at - last.disk.start)) == host => last.disk.end += length,
                _ => places.push(Place { disk: at..at + length, host }),
            }
        })?;
        Ok(is_plain.then_some(places))
    }

    fn each_origin(&self, disk: Range<u64>, mut show: impl FnMut(u64, Origin, u64)) -> Result<(), ImageError> {
        let mut at = disk.start;
        while at < disk.end {
            let (origin, length) = self.origin(at, disk.end - at)?;
            show(at, origin, length);
            at += length;
        }
        Ok(())
    }

    /// Where the bytes at an offset come from, and how many of them, at most as many as are wanted.
    fn origin(&self, at: u64, wanted: u64) -> Result<(Origin, u64), ImageError> {
        let (cluster, within) = (at >> self.header.cluster_bits, at % self.header.cluster_bytes());
        let (entry, count) = self.entry(cluster)?;
        let length = wanted.min((count << self.header.cluster_bits) - within);
        Ok(match entry {
            Entry::Hole | Entry::Zero { .. } => (Origin::Zeros, length),
            Entry::Data { host } => (Origin::File(host + within), length),
            Entry::Packed { at, length: packed } => (Origin::Packed { at, length: packed }, length),
            Entry::Parts { host, data, zero } => {
                let part_bytes = self.header.cluster_bytes() / PARTS;
                let length = wanted.min(part_bytes - within % part_bytes);
                match host.filter(|_| part_kind(data, zero, within / part_bytes) == ExtentKind::Data) {
                    Some(host) => (Origin::File(host + within), length),
                    None => (Origin::Zeros, length),
                }
            }
        })
    }

    /// Reads from the file; behind its end there are zeros.
    fn read_host(&self, host: u64, buffer: &mut [u8]) -> Result<(), ImageError> {
        let there = self.file_bytes.saturating_sub(host).min(buffer.len() as u64) as usize;
        let (inside, behind) = buffer.split_at_mut(there);
        self.bytes.read_exact_at(host, inside)?;
        behind.fill(0);
        Ok(())
    }

    fn unpack(&self, at: u64, packed: u64, length: u64, stretch: &mut [u8]) -> Result<(), ImageError> {
        let (cluster, within) = (at >> self.header.cluster_bits, (at % self.header.cluster_bytes()) as usize);
        let kept = || self.unpacked.lock().unwrap_or_else(PoisonError::into_inner);
        let last = kept().clone().filter(|last| last.cluster == cluster);
        let unpacked = match last {
            Some(last) => last,
            None => Arc::new(Unpacked { cluster, bytes: self.unpacked(packed, length)? }),
        };
        stretch.copy_from_slice(&unpacked.bytes[within..within + stretch.len()]);
        *kept() = Some(unpacked);
        Ok(())
    }

    /// The whole cluster that lies packed in at most so many bytes: the last sector has more than the cluster's own.
    fn unpacked(&self, at: u64, length: u64) -> Result<Vec<u8>, ImageError> {
        let mut packed = vec![0; length.min(self.file_bytes.saturating_sub(at)) as usize];
        self.bytes.read_exact_at(at, &mut packed)?;
        let mut bytes = vec![0; self.header.cluster_bytes() as usize];
        let is_full = match self.header.compression {
            Compression::Deflate => inflate(&packed, &mut bytes),
            Compression::Zstd => unzstd(&packed, &mut bytes)?,
        };
        if is_full { Ok(bytes) } else { Err(wrong(format!("the packed cluster at {at} cannot be unpacked"))) }
    }
}

/// Whether this filled the buffer. A stream that would go on is taken as QEMU takes it.
fn inflate(packed: &[u8], bytes: &mut [u8]) -> bool {
    let flags = inflate_flags::TINFL_FLAG_USING_NON_WRAPPING_OUTPUT_BUF;
    let (_, _, written) = decompress(&mut DecompressorOxide::new(), packed, bytes, 0, flags);
    written == bytes.len()
}

fn unzstd(packed: &[u8], bytes: &mut [u8]) -> io::Result<bool> {
    let mut decoder = Decoder::new()?;
    decoder.set_parameter(DParameter::WindowLogMax(WINDOW_LOG_MAX))?;
    let (mut input, mut output) = (InBuffer::around(packed), OutBuffer::around(bytes));
    loop {
        let before = (input.pos(), output.pos());
        if decoder.run(&mut input, &mut output).is_err() {
            return Ok(false);
        }
        if output.pos() == output.capacity() {
            return Ok(true);
        }
        if before == (input.pos(), output.pos()) {
            return Ok(false);
        }
    }
}
