//! The hash that members compute of their keys, computed from a file.
//!
//! At revision R, with everything up to C compacted: of what is older than C, only the newest record of each key up to
//! R counts, and only if the key still exists then. So the file is first walked backwards, which tells for each record
//! whether a newer one of its key was seen.

use std::collections::HashSet;
use std::hash::{DefaultHasher, Hash, Hasher};

use super::bolt::{Bolt, BoltError, Direction, FileBytes};
use super::key_value::{KeyValue, Revision};

/// Keys that are told apart at most; each takes about ten bytes.
const KEYS_MAX: usize = 7 << 18;
/// Superseded records below the compaction that are remembered at most; one takes sixteen bytes.
const SUPERSEDED_MAX: usize = 1 << 20;

/// What the walk backwards found.
#[derive(Debug, Default)]
pub struct Newest {
    /// Keys that exist at the last revision.
    pub live: u64,
    /// Records that do not count, of those up to the compaction; the oldest last.
    superseded: Vec<Revision>,
}

impl Newest {
    /// Walks backwards; `compacted` is the greatest revision up to which anybody has compacted. `None` if there are too
    /// many keys.
    pub async fn find<F: FileBytes + ?Sized>(bolt: &Bolt<'_, F>, compacted: i64) -> Result<Option<Self>, BoltError> {
        let (buckets, _) = bolt.buckets().await?;
        let Some(bucket) = buckets.iter().find(|bucket| bucket.name == b"key") else { return Ok(None) };
        let (mut newest, mut seen) = (Self::default(), HashSet::new());
        let mut cursor = bolt.cursor(bucket, Direction::Backward);
        while let Some(entry) = cursor.next().await? {
            let record = KeyValue::parse(entry.value);
            let (Some((revision, is_tombstone)), Some(record)) = (Revision::parse(entry.key), record) else {
                return Err(BoltError::Content("an entry of the bucket `key` is none".into()));
            };
            let counts = seen.insert(hash(record.key)) && !is_tombstone;
            if counts {
                newest.live += 1;
            } else if revision.main <= compacted {
                newest.superseded.push(revision);
            }
            if seen.len() > KEYS_MAX || newest.superseded.len() > SUPERSEDED_MAX {
                return Ok(None);
            }
        }
        Ok(Some(newest))
    }

    /// Whether a record is among the superseded; asked for each in order, the oldest first.
    fn is_superseded(&mut self, revision: Revision) -> bool {
        self.superseded.pop_if(|oldest| *oldest == revision).is_some()
    }
}

/// Keys are told apart by 64 bits: a collision, which makes one hash differ, is rarer than a flipped bit.
fn hash(key: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    key.hash(&mut hasher);
    hasher.finish()
}

/// Hashes at the file's last revision, one for each revision that somebody has compacted up to.
#[derive(Debug)]
pub struct HashKv {
    newest: Newest,
    running: Vec<(i64, u32)>,
}

impl HashKv {
    /// Begins, with the compacted revisions that are wanted.
    pub fn new(newest: Newest, compacted: impl IntoIterator<Item = i64>) -> Self {
        let start = crc32c::crc32c(b"key");
        Self { newest, running: compacted.into_iter().map(|compacted| (compacted, start)).collect() }
    }

    /// Takes the next entry of the bucket `key`, in order.
    pub fn add(&mut self, revision: Revision, is_tombstone: bool, key: &[u8], value: &[u8]) {
        let is_superseded = self.newest.is_superseded(revision);
        for (compacted, hash) in &mut self.running {
            let is_old = revision.main <= *compacted && self.newest.live > 0;
            let is_skipped = (is_old && is_superseded) || (is_tombstone && revision.main == *compacted);
            if !is_skipped {
                *hash = crc32c::crc32c_append(crc32c::crc32c_append(*hash, key), value);
            }
        }
    }

    /// The hash for this compacted revision, once all entries were taken.
    pub fn at(&self, compacted: i64) -> Option<u32> {
        self.running.iter().find(|(at, _)| *at == compacted).map(|(_, hash)| *hash)
    }

    /// Keys that exist at the last revision.
    pub fn live(&self) -> u64 {
        self.newest.live
    }
}
