//! The second tables, read slice by slice.

use std::sync::{Arc, PoisonError};

use super::super::{ImageBytes, ImageError, be_u64, wrong};
use super::Qcow2;
use super::entry::Entry;

/// How much of a table is read and kept at once, in bytes: with the usual clusters it tells of 32 MiB.
const SLICE_BYTES: u64 = 4 << 10;
/// How many slices are kept.
const SLICES: usize = 256;
/// How much of a table is read at once when all are looked at, in bytes.
const CHECK_BYTES: u64 = 64 << 10;

/// The slices that were read last, each in the one place that its offset gives it.
#[derive(Default)]
pub(super) struct Slices(Vec<Option<(u64, Arc<[u8]>)>>);

impl<B: ImageBytes> Qcow2<B> {
    /// Where a cluster of the disk is, and of how many from there on this holds.
    pub(super) fn entry(&self, cluster: u64) -> Result<(Entry, u64), ImageError> {
        let in_table = cluster % self.header.table_clusters();
        let table = self.l1.get((cluster / self.header.table_clusters()) as usize).copied().unwrap_or_default();
        if table == 0 {
            return Ok((Entry::Hole, self.header.table_clusters() - in_table));
        }
        let slice_bytes = SLICE_BYTES.min(self.header.cluster_bytes());
        let at = in_table * self.header.entry_bytes();
        let slice = self.slice(table + at / slice_bytes * slice_bytes, slice_bytes)?;
        Ok((self.parse(&slice, (at % slice_bytes) as usize)?, 1))
    }

    /// Shows the first entries of a table, past the cache.
    pub(super) fn each_entry(
        &self,
        table: u64,
        count: u64,
        mut show: impl FnMut(Entry) -> Result<(), ImageError>,
    ) -> Result<(), ImageError> {
        let end = table + count * self.header.entry_bytes();
        let mut buffer = vec![0; CHECK_BYTES as usize];
        let mut at = table;
        while at < end {
            let step = &mut buffer[..(end - at).min(CHECK_BYTES) as usize];
            self.bytes.read_exact_at(at, step)?;
            for entry in (0..step.len()).step_by(self.header.entry_bytes() as usize) {
                show(self.parse(step, entry)?)?;
            }
            at += step.len() as u64;
        }
        Ok(())
    }

    fn parse(&self, slice: &[u8], at: usize) -> Result<Entry, ImageError> {
        let parts = if self.header.has_extended_l2 { be_u64(slice, at + 8) } else { 0 };
        Entry::parse(&self.header, be_u64(slice, at), parts).map_err(wrong)
    }

    fn slice(&self, at: u64, length: u64) -> Result<Arc<[u8]>, ImageError> {
        let place = (at / length) as usize % SLICES;
        let kept = || self.slices.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(Some((offset, slice))) = kept().0.get(place)
            && *offset == at
        {
            return Ok(slice.clone());
        }
        let mut slice = vec![0; length as usize];
        self.bytes.read_exact_at(at, &mut slice)?;
        let slice: Arc<[u8]> = slice.into();
        let mut kept = kept();
        kept.0.resize(SLICES, None);
        kept.0[place] = Some((at, slice.clone()));
        Ok(slice)
    }
}
