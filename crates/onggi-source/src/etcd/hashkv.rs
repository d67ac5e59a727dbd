//! The hash that members compute of their keys, computed from a file.
//!
//! At revision R, with everything up to C compacted: of what is older than C, only the newest record of each key up to
//! R counts, and only if the key still exists then. So the file is walked backwards, which tells of each record at once
//! whether a newer one of its key was seen; a checksum can be continued in front as well as behind.

use std::collections::HashSet;
use std::hash::{DefaultHasher, Hash, Hasher};

use super::bolt::{Bolt, BoltError, Direction, FileBytes};
use super::key_value::{KeyValue, Revision};

/// Keys that are told apart at most; each takes about ten bytes.
const KEYS_MAX: usize = 7 << 18;
/// How much is gathered before it is hashed in order, in bytes.
pub(super) const BATCH_BYTES: usize = 256 << 10;

/// Hashes at the file's last revision, one for each revision that somebody has compacted up to.
#[derive(Debug)]
pub struct HashKv {
    live: u64,
    hashes: Vec<(i64, u32)>,
}

/// Which old records count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Old {
    Newest,
    All,
}

impl HashKv {
    /// Walks backwards and hashes for each of the compacted revisions. `None` if there are too many keys.
    pub async fn compute<F: FileBytes + ?Sized>(
        bolt: &Bolt<'_, F>,
        compacted: &[i64],
    ) -> Result<Option<Self>, BoltError> {
        match Self::walk(bolt, compacted, Old::Newest).await? {
            // Where no key is left, members leave out nothing that is old.
            Some(none) if none.live == 0 => Self::walk(bolt, compacted, Old::All).await,
            found => Ok(found),
        }
    }

    async fn walk<F: FileBytes + ?Sized>(
        bolt: &Bolt<'_, F>,
        compacted: &[i64],
        old: Old,
    ) -> Result<Option<Self>, BoltError> {
        let (buckets, _) = bolt.buckets().await?;
        let Some(bucket) = buckets.iter().find(|bucket| bucket.name == b"key") else { return Ok(None) };
        let (mut live, mut seen) = (0, HashSet::new());
        let mut batch = Batch::default();
        let mut tails: Vec<_> = compacted.iter().map(|compacted| Tail::new(*compacted, old)).collect();
        let mut cursor = bolt.cursor(bucket, Direction::Backward);
        while let Some(entry) = cursor.next().await? {
            let record = KeyValue::parse(entry.value);
            let (Some((revision, is_tombstone)), Some(record)) = (Revision::parse(entry.key), record) else {
                return Err(BoltError::Content("an entry of the bucket `key` is none".into()));
            };
            let counts = seen.insert(hash(record.key)) && !is_tombstone;
            live += u64::from(counts);
            if seen.len() > KEYS_MAX {
                return Ok(None);
            }
            batch.push(Taken { end: 0, main: revision.main, is_tombstone, counts }, [entry.key, entry.value]);
            if batch.bytes.len() >= BATCH_BYTES {
                batch.put_before(&mut tails);
            }
        }
        batch.put_before(&mut tails);
        Ok(Some(Self { live, hashes: tails.iter().map(|tail| (tail.compacted, tail.hash())).collect() }))
    }

    /// The hash for this compacted revision, if it was computed.
    pub fn at(&self, compacted: i64) -> Option<u32> {
        self.hashes.iter().find(|(at, _)| *at == compacted).map(|(_, hash)| *hash)
    }

    /// Keys that exist at the last revision.
    pub fn live(&self) -> u64 {
        self.live
    }
}

/// Keys are told apart by 64 bits: a collision, which makes one hash differ, is rarer than a flipped bit.
fn hash(key: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    key.hash(&mut hasher);
    hasher.finish()
}

/// Entries in the order of the walk, which is the reverse of that in which they are hashed.
#[derive(Debug, Default)]
struct Batch {
    bytes: Vec<u8>,
    entries: Vec<Taken>,
}

/// One entry, and where its bytes end in the batch.
#[derive(Debug, Clone, Copy)]
struct Taken {
    end: usize,
    main: i64,
    is_tombstone: bool,
    /// The newest of its key, which exists.
    counts: bool,
}

impl Batch {
    fn push(&mut self, taken: Taken, parts: [&[u8]; 2]) {
        for part in parts {
            self.bytes.extend_from_slice(part);
        }
        self.entries.push(Taken { end: self.bytes.len(), ..taken });
    }

    /// Hashes what was gathered and puts it before what was hashed until now.
    fn put_before(&mut self, tails: &mut [Tail]) {
        for tail in tails {
            let (mut hash, mut length) = (0, 0);
            for (index, taken) in self.entries.iter().enumerate().rev().filter(|(_, taken)| tail.takes(taken)) {
                let start = index.checked_sub(1).map_or(0, |before| self.entries[before].end);
                hash = crc32c::crc32c_append(hash, &self.bytes[start..taken.end]);
                length += taken.end - start;
            }
            tail.crc = crc32c::crc32c_combine(hash, tail.crc, tail.length);
            tail.length += length;
        }
        self.bytes.clear();
        self.entries.clear();
    }
}

/// The checksum of all that comes behind what was walked.
#[derive(Debug)]
struct Tail {
    compacted: i64,
    old: Old,
    crc: u32,
    length: usize,
}

impl Tail {
    fn new(compacted: i64, old: Old) -> Self {
        Self { compacted, old, crc: 0, length: 0 }
    }

    fn takes(&self, taken: &Taken) -> bool {
        let is_superseded = self.old == Old::Newest && taken.main <= self.compacted && !taken.counts;
        let is_compacted = taken.is_tombstone && taken.main == self.compacted;
        !(is_superseded || is_compacted)
    }

    fn hash(&self) -> u32 {
        crc32c::crc32c_combine(crc32c::crc32c(b"key"), self.crc, self.length)
    }
}
