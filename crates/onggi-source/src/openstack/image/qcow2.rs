//! The disk inside a qcow2 file: where its data are, and its bytes.
//!
//! When a file is opened every entry of its tables is looked at once. A table or a cluster that is not aligned, lies
//! beyond the file's end, or takes what something else has, is [`Structure`](super::ImageError::Structure), so that no
//! table leads to itself. Memory is the first table, one bit for each cluster while that is checked, and small caches.
//!
//! Read are versions 2 and 3, packed clusters, zero clusters and extended tables. Snapshots inside a file are passed
//! over: what is read is the disk as it is. A cluster that begins in the file and ends behind it is filled with zeros,
//! as QEMU does, since it does not always write the last cluster to its end.

mod cluster;
mod entry;
mod extents;
mod header;
mod reached;
mod table;

use std::sync::{Arc, Mutex};

use super::{ImageBytes, ImageError, be_u32, be_u64, wrong};
use cluster::Unpacked;
use entry::Entry;
use header::CLUSTER_BITS_MAX;
use reached::Reached;
use table::Slices;

pub(super) use header::L1_BYTES_MAX;

pub use cluster::Place;
pub use extents::{Extent, ExtentKind, Extents};
pub use header::{Compression, Header};

/// How much of the first table is read at once, in bytes.
const L1_STEP_BYTES: u64 = 64 << 10;
/// How much of the file's start is read before the length of its first cluster is known, in bytes: one of the usual size.
const START_BYTES: u64 = 64 << 10;

/// A file whose tables are in order.
pub struct Qcow2<B> {
    bytes: B,
    file_bytes: u64,
    header: Header,
    /// Where the second tables are; 0 where there is none.
    l1: Vec<u64>,
    slices: Mutex<Slices>,
    /// The packed cluster that was read last: reads rarely end where one does.
    unpacked: Mutex<Option<Arc<Unpacked>>>,
}

impl<B: ImageBytes> Qcow2<B> {
    /// Opens a file of this length and checks all of its tables.
    pub fn open(bytes: B, file_bytes: u64) -> Result<Self, ImageError> {
        let mut first = vec![0; file_bytes.min(START_BYTES) as usize];
        bytes.read_exact_at(0, &mut first)?;
        let cluster_bytes = 1 << be_u32(&first, 20).min(CLUSTER_BITS_MAX);
        if cluster_bytes > START_BYTES {
            first.resize(file_bytes.min(cluster_bytes) as usize, 0);
            bytes.read_exact_at(0, &mut first)?;
        }
        let header = Header::parse(&first)?;
        drop(first);
        let mut reached = Reached::new(&header, file_bytes)?;
        reached.table(0, header.cluster_bytes())?;
        reached.table(header.refcount_offset, u64::from(header.refcount_clusters) << header.cluster_bits)?;
        let l1 = read_l1(&bytes, &header, &mut reached)?;
        let (slices, unpacked) = (Mutex::default(), Mutex::default());
        let image = Self { bytes, file_bytes, header, l1, slices, unpacked };
        image.check(&mut reached)?;
        Ok(image)
    }

    /// What the file says of itself.
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// Length of the disk in bytes.
    pub fn virtual_size(&self) -> u64 {
        self.header.virtual_size
    }

    /// The whole disk in order, in pieces that are data, zeros or holes.
    pub fn extents(&self) -> Extents<'_, B> {
        Extents::new(self)
    }

    /// Looks at every second table and all that it leads to: first the tables, so that no data may take their place.
    fn check(&self, reached: &mut Reached) -> Result<(), ImageError> {
        for table in self.l1.iter().filter(|table| **table != 0) {
            reached.table(*table, self.header.cluster_bytes())?;
        }
        let mut rest = self.header.clusters();
        for table in &self.l1 {
            let count = rest.min(self.header.table_clusters());
            rest -= count;
            if *table != 0 {
                self.each_entry(*table, count, |entry| match entry {
                    Entry::Zero { host } | Entry::Parts { host, data: 0, .. } => reached.reserved(host),
                    Entry::Data { host } | Entry::Parts { host: Some(host), .. } => reached.data(host),
                    Entry::Hole | Entry::Parts { host: None, .. } => Ok(()),
                    Entry::Packed { at, length } => reached.packed(at, length),
                })?;
            }
        }
        Ok(())
    }
}

/// The first table, as far as it tells of the disk.
fn read_l1(bytes: &impl ImageBytes, header: &Header, reached: &mut Reached) -> Result<Vec<u64>, ImageError> {
    let length = header.l1_entries() * 8;
    if length == 0 {
        return Ok(Vec::new());
    }
    reached.table(header.l1_offset, length)?;
    let mut table = Vec::with_capacity(header.l1_entries() as usize);
    let mut step = vec![0; length.min(L1_STEP_BYTES) as usize];
    for at in (0..length).step_by(L1_STEP_BYTES as usize) {
        let step = &mut step[..(length - at).min(L1_STEP_BYTES) as usize];
        bytes.read_exact_at(header.l1_offset + at, step)?;
        for entry in step.chunks_exact(8) {
            let second = entry::table(header, be_u64(entry, 0)).map_err(wrong)?;
            table.push(second.unwrap_or_default());
        }
    }
    Ok(table)
}
