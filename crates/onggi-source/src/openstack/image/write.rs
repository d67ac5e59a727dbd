//! A qcow2 file in one pass: where the disk has data is known first, so header, refcounts and tables can stand before
//! the data and the whole file's length is known before its first byte. Pure; memory is the list of ranges.

use std::iter::once;
use std::ops::Range;

use super::qcow2::L1_BYTES_MAX;
use super::{ImageError, wrong};

/// What QEMU makes unless told otherwise.
const CLUSTER_BITS: u32 = 16;
const CLUSTER_BYTES: u64 = 1 << CLUSTER_BITS;
/// Entries of all tables in a cluster.
const ENTRIES: u64 = CLUSTER_BYTES / 8;
/// Refcounts of 16 bits in a cluster.
const REFCOUNTS: u64 = CLUSTER_BYTES / 2;
const REFCOUNT_ORDER: u32 = 4;
const HEADER_BYTES: u32 = 104;
/// Says of a table or a cluster that nothing else has it.
const COPIED: u64 = 1 << 63;
/// The disk is counted in these.
const SECTOR_BYTES: u64 = 512;

/// What comes next in the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Piece {
    /// These bytes.
    Bytes(Vec<u8>),
    /// The bytes of the disk in this range.
    Disk(Range<u64>),
    /// So many zeros.
    Zeros(u64),
}

/// A file of version 3 that is going to be written: clusters of 64 KiB, none packed.
#[derive(Debug, Clone)]
pub struct Qcow2Plan {
    virtual_size: u64,
    /// Clusters of the disk that have data, and how many such come before.
    runs: Vec<(Range<u64>, u64)>,
    /// Numbers of the second tables that there are.
    tables: Vec<u64>,
    /// In clusters of the file, in their order; the header is before.
    refcount_tables: u64,
    refcount_blocks: u64,
    l1_clusters: u64,
    data_clusters: u64,
}

impl Qcow2Plan {
    /// Plans a file for a disk that has data in these ranges, sorted and disjoint, and zeros elsewhere.
    pub fn new(virtual_size: u64, data: impl IntoIterator<Item = Range<u64>>) -> Result<Self, ImageError> {
        let l1_entries = virtual_size.div_ceil(CLUSTER_BYTES).div_ceil(ENTRIES);
        if l1_entries > L1_BYTES_MAX / 8 {
            return Err(ImageError::Refused("its disk is too long for qcow2".to_owned()));
        }
        let runs = runs(virtual_size, data)?;
        let mut tables: Vec<u64> = Vec::new();
        for (run, _) in &runs {
            let first = run.start / ENTRIES;
            let known = tables.last().copied();
            tables.extend((first..=(run.end - 1) / ENTRIES).filter(|table| known.is_none_or(|known| *table > known)));
        }
        let data_clusters = runs.last().map_or(0, |(run, before)| before + run.end - run.start);
        let l1_clusters = l1_entries.div_ceil(ENTRIES);
        let counted = 1 + l1_clusters + tables.len() as u64 + data_clusters;
        let (refcount_tables, refcount_blocks) = refcounts(counted);
        Ok(Self { virtual_size, runs, tables, refcount_tables, refcount_blocks, l1_clusters, data_clusters })
    }

    /// Length of the whole file in bytes.
    pub fn length(&self) -> u64 {
        (self.data_at() + self.data_clusters) << CLUSTER_BITS
    }

    /// The file from its start to its end.
    pub fn pieces(&self) -> impl Iterator<Item = Piece> + Send + '_ {
        let before = (0..self.data_at()).map(|cluster| Piece::Bytes(self.cluster(cluster)));
        let data = self.runs.iter().flat_map(|(run, _)| {
            let (start, end) = (run.start << CLUSTER_BITS, run.end << CLUSTER_BITS);
            let there = end.min(self.virtual_size);
            once(Piece::Disk(start..there)).chain((end > there).then(|| Piece::Zeros(end - there)))
        });
        before.chain(data)
    }

    fn refcount_blocks_at(&self) -> u64 {
        1 + self.refcount_tables
    }

    fn l1_at(&self) -> u64 {
        self.refcount_blocks_at() + self.refcount_blocks
    }

    fn tables_at(&self) -> u64 {
        self.l1_at() + self.l1_clusters
    }

    fn data_at(&self) -> u64 {
        self.tables_at() + self.tables.len() as u64
    }

    /// A cluster before the data.
    fn cluster(&self, cluster: u64) -> Vec<u8> {
        if cluster == 0 {
            self.header()
        } else if cluster < self.refcount_blocks_at() {
            let first = (cluster - 1) * ENTRIES;
            let place = |block: u64| (block < self.refcount_blocks).then(|| self.refcount_blocks_at() + block);
            numbers(ENTRIES, |entry| place(first + entry).map_or(0, |at| at << CLUSTER_BITS).to_be_bytes())
        } else if cluster < self.l1_at() {
            let first = (cluster - self.refcount_blocks_at()) * REFCOUNTS;
            let clusters = self.length() >> CLUSTER_BITS;
            numbers(REFCOUNTS, |entry| u16::from(first + entry < clusters).to_be_bytes())
        } else if cluster < self.tables_at() {
            self.l1(cluster - self.l1_at())
        } else {
            let table = usize::try_from(cluster - self.tables_at()).ok().and_then(|index| self.tables.get(index));
            table.map_or_else(Vec::new, |table| self.table(*table))
        }
    }

    fn header(&self) -> Vec<u8> {
        let mut header = Vec::with_capacity(CLUSTER_BYTES as usize);
        header.extend_from_slice(b"QFI\xfb\0\0\0\x03");
        header.extend_from_slice(&[0; 12]); // no backing file
        header.extend_from_slice(&CLUSTER_BITS.to_be_bytes());
        header.extend_from_slice(&self.virtual_size.next_multiple_of(SECTOR_BYTES).to_be_bytes());
        header.extend_from_slice(&[0; 4]); // not encrypted
        let l1_entries = self.virtual_size.div_ceil(CLUSTER_BYTES).div_ceil(ENTRIES);
        header.extend_from_slice(&(l1_entries as u32).to_be_bytes());
        header.extend_from_slice(&(self.l1_at() << CLUSTER_BITS).to_be_bytes());
        header.extend_from_slice(&CLUSTER_BYTES.to_be_bytes()); // the refcount table comes first
        header.extend_from_slice(&(self.refcount_tables as u32).to_be_bytes());
        header.extend_from_slice(&[0; 36]); // no snapshots, no features
        header.extend_from_slice(&REFCOUNT_ORDER.to_be_bytes());
        header.extend_from_slice(&HEADER_BYTES.to_be_bytes());
        header.resize(CLUSTER_BYTES as usize, 0);
        header
    }

    fn l1(&self, index: u64) -> Vec<u8> {
        numbers(ENTRIES, |entry| {
            let place = self.tables.binary_search(&(index * ENTRIES + entry)).ok();
            place.map_or(0, |place| ((self.tables_at() + place as u64) << CLUSTER_BITS) | COPIED).to_be_bytes()
        })
    }

    fn table(&self, table: u64) -> Vec<u8> {
        numbers(ENTRIES, |entry| {
            let cluster = table * ENTRIES + entry;
            let run = self.runs.get(self.runs.partition_point(|(run, _)| run.end <= cluster));
            let place = run.filter(|(run, _)| run.contains(&cluster)).map(|(run, before)| before + cluster - run.start);
            place.map_or(0, |place| ((self.data_at() + place) << CLUSTER_BITS) | COPIED).to_be_bytes()
        })
    }
}

fn numbers<const N: usize>(count: u64, number: impl Fn(u64) -> [u8; N]) -> Vec<u8> {
    (0..count).flat_map(number).collect()
}

/// Clusters that have data, neighbors joined.
fn runs(virtual_size: u64, data: impl IntoIterator<Item = Range<u64>>) -> Result<Vec<(Range<u64>, u64)>, ImageError> {
    let mut runs: Vec<(Range<u64>, u64)> = Vec::new();
    let mut at = 0;
    for range in data {
        if range.start < at || range.end < range.start || range.end > virtual_size {
            return Err(wrong("ranges of data that are not in order"));
        }
        at = range.end;
        let clusters = range.start / CLUSTER_BYTES..range.end.div_ceil(CLUSTER_BYTES);
        match runs.last_mut() {
            _ if range.is_empty() => {}
            Some((last, _)) if clusters.start <= last.end => last.end = clusters.end,
            last => {
                let before = last.map_or(0, |(last, before)| *before + last.end - last.start);
                runs.push((clusters, before));
            }
        }
    }
    Ok(runs)
}

/// Clusters of the refcount table and of its blocks, which count themselves too.
fn refcounts(counted: u64) -> (u64, u64) {
    let (mut tables, mut blocks) = (1, 1);
    loop {
        let needed = (counted + tables + blocks).div_ceil(REFCOUNTS);
        if needed <= blocks && blocks <= tables * ENTRIES {
            return (tables, blocks);
        }
        blocks = needed.max(blocks);
        tables = blocks.div_ceil(ENTRIES);
    }
}

#[cfg(test)]
mod tests {
    use super::super::{ExtentKind, Qcow2};
    use super::*;

    /// The file's bytes, for a disk whose bytes are its cluster's number.
    fn written(plan: &Qcow2Plan) -> Vec<u8> {
        let mut file = Vec::new();
        for piece in plan.pieces() {
            match piece {
                Piece::Bytes(bytes) => file.extend(bytes),
                Piece::Zeros(count) => file.resize(file.len() + count as usize, 0),
                Piece::Disk(range) => file.extend(range.map(|at| (at >> CLUSTER_BITS) as u8)),
            }
        }
        file
    }

    /// Ranges of data in units of clusters, and what the reader finds.
    #[track_caller]
    fn check(virtual_size: u64, data: &[Range<u64>], expected: &[Range<u64>]) {
        let plan = Qcow2Plan::new(virtual_size, data.iter().cloned()).unwrap();
        let file = written(&plan);
        assert_eq!(file.len() as u64, plan.length());
        let image = Qcow2::open(file.as_slice(), file.len() as u64).unwrap();
        let found = image.data(usize::MAX).unwrap();
        assert_eq!(found, expected);
        assert!(image.extents().all(|extent| extent.unwrap().kind != ExtentKind::Zero));
        for range in found {
            let mut bytes = vec![0; (range.end - range.start) as usize];
            image.read_exact_at(range.start, &mut bytes).unwrap();
            let wanted = (range.start..range.end.min(virtual_size)).map(|at| (at >> CLUSTER_BITS) as u8);
            assert!(bytes.into_iter().zip(wanted).all(|(byte, wanted)| byte == wanted));
        }
    }

    #[test]
    fn what_is_written_is_read_back() {
        check(0, &[], &[]);
        check(1 << 30, &[], &[]);
        check(1 << 20, &[0..1 << 20], &[0..1 << 20]);
        check(1 << 40, &[1..2, 70_000..70_001, (1 << 39)..(1 << 39) + 1], &[0..131_072, 1 << 39..(1 << 39) + 65_536]);
        check(70_000, &[66_000..70_000], &[65_536..70_144]);
        check((1 << 29) + 65_536, &[(1 << 29) - 1..(1 << 29) + 1], &[(1 << 29) - 65_536..(1 << 29) + 65_536]);
    }

    #[test]
    fn refcounts_count_themselves() {
        for counted in [1, REFCOUNTS - 3, REFCOUNTS - 2, REFCOUNTS - 1, 1 << 30, REFCOUNTS * ENTRIES] {
            let (tables, blocks) = refcounts(counted);
            assert!(blocks * REFCOUNTS >= counted + tables + blocks && tables * ENTRIES >= blocks, "{counted}");
            assert!((blocks - 1) * REFCOUNTS < counted + tables + blocks);
        }
    }

    #[test]
    fn ranges_out_of_order_or_behind_the_end_are_refused() {
        for data in [vec![5..9, 3..4], vec![0..101], vec![60..70, 65..80]] {
            assert!(Qcow2Plan::new(100, data).is_err());
        }
        assert!(Qcow2Plan::new(u64::MAX, []).is_err());
    }
}
