//! Which clusters of the file something has taken: what is taken twice is refused.

use super::super::{ImageError, wrong};
use super::header::Header;

/// The most clusters that a file may have: 16 TiB of the usual size, and two sets of 32 MiB.
const CLUSTERS_MAX: u64 = 1 << 28;

/// The clusters of a file by what has them.
pub(super) struct Reached {
    cluster_bits: u32,
    file_bytes: u64,
    /// Headers, tables and clusters of the disk: each has its own.
    whole: Bits,
    /// Packed clusters share theirs with each other, never with something else.
    shared: Bits,
}

struct Bits(Vec<u64>);

impl Bits {
    fn has(&self, index: u64) -> bool {
        self.0.get((index / 64) as usize).is_some_and(|word| word >> (index % 64) & 1 == 1)
    }

    fn put(&mut self, index: u64) {
        if let Some(word) = self.0.get_mut((index / 64) as usize) {
            *word |= 1 << (index % 64);
        }
    }
}

impl Reached {
    pub fn new(header: &Header, file_bytes: u64) -> Result<Self, ImageError> {
        let clusters = file_bytes.div_ceil(header.cluster_bytes());
        if clusters > CLUSTERS_MAX {
            return Err(wrong(format!("it has {clusters} clusters, more than {CLUSTERS_MAX}")));
        }
        let bits = || Bits(vec![0; clusters.div_ceil(64) as usize]);
        Ok(Self { cluster_bits: header.cluster_bits, file_bytes, whole: bits(), shared: bits() })
    }

    /// A table, all of which must be there.
    pub fn table(&mut self, at: u64, length: u64) -> Result<(), ImageError> {
        let end = at.checked_add(length).filter(|end| *end <= self.file_bytes);
        let Some(end) = end else { return Err(wrong(format!("a table at {at} lies beyond its end"))) };
        if at & ((1 << self.cluster_bits) - 1) != 0 {
            return Err(wrong(format!("the table at {at} is not aligned")));
        }
        for cluster in at >> self.cluster_bits..end.div_ceil(1 << self.cluster_bits) {
            self.take(cluster)?;
        }
        Ok(())
    }

    /// A cluster of the disk, which must begin in the file.
    pub fn data(&mut self, host: u64) -> Result<(), ImageError> {
        self.begins(host)?;
        self.take(host >> self.cluster_bits)
    }

    /// A cluster that is kept for data and not read: it may lie behind the end.
    pub fn reserved(&mut self, host: Option<u64>) -> Result<(), ImageError> {
        match host.filter(|host| *host < self.file_bytes) {
            Some(host) => self.take(host >> self.cluster_bits),
            None => Ok(()),
        }
    }

    /// A packed cluster, which must begin in the file.
    pub fn packed(&mut self, at: u64, length: u64) -> Result<(), ImageError> {
        self.begins(at)?;
        let last = at.saturating_add(length - 1).min(self.file_bytes - 1);
        for cluster in at >> self.cluster_bits..=last >> self.cluster_bits {
            if self.whole.has(cluster) {
                return Err(taken(cluster));
            }
            self.shared.put(cluster);
        }
        Ok(())
    }

    fn begins(&self, at: u64) -> Result<(), ImageError> {
        if at < self.file_bytes { Ok(()) } else { Err(wrong(format!("a cluster at {at} lies beyond its end"))) }
    }

    fn take(&mut self, cluster: u64) -> Result<(), ImageError> {
        if self.whole.has(cluster) || self.shared.has(cluster) {
            return Err(taken(cluster));
        }
        self.whole.put(cluster);
        Ok(())
    }
}

fn taken(cluster: u64) -> ImageError {
    wrong(format!("cluster {cluster} of the file is taken twice"))
}
