//! The content of a file: whether etcd would have written it, what is in it, and its hash; one walk for all.

use super::bolt::{Bolt, BoltError, Census, Entry, FileBytes, Reached};
use super::key_value::{KeyValue, Revision};
use super::survey::Survey;

/// What a whole walk found.
#[derive(Debug, Default)]
pub struct Content {
    /// Pages.
    pub census: Census,
    /// Those that are not free.
    pub used: Option<Reached>,
    /// Entries that say that a key was deleted.
    pub tombstones: u64,
    /// Entries of the bucket `key`.
    pub revisions: u64,
    /// Entries of all buckets.
    pub entries: u64,
    /// Keys that end with a lease that is not there.
    pub lost_leases: u64,
    /// CRC-32C over the names, keys and values of all buckets.
    pub hash: u32,
    last_main: i64,
}

impl Content {
    /// Walks the whole file.
    pub async fn check<F: FileBytes + ?Sized>(bolt: &Bolt<'_, F>, survey: &Survey) -> Result<Self, BoltError> {
        let mut content = Self::default();
        let (census, used) = bolt.check(|bucket, entry| content.take(survey, bucket, entry)).await?;
        (content.census, content.used) = (census, Some(used));
        Ok(content)
    }

    fn take(&mut self, survey: &Survey, bucket: &[u8], entry: Option<Entry<'_>>) -> Result<(), BoltError> {
        let Some(Entry { key, value, is_bucket }) = entry else {
            self.hash = crc32c::crc32c_append(self.hash, bucket);
            return Ok(());
        };
        if is_bucket {
            return Err(BoltError::Content(format!("a bucket lies in {:?}", String::from_utf8_lossy(bucket))));
        }
        self.entries += 1;
        self.hash = crc32c::crc32c_append(crc32c::crc32c_append(self.hash, key), value);
        if bucket == b"key" { self.take_key(survey, key, value) } else { Ok(()) }
    }

    fn take_key(&mut self, survey: &Survey, key: &[u8], value: &[u8]) -> Result<(), BoltError> {
        let parsed = Revision::parse(key);
        let (revision, is_tombstone) = parsed.ok_or_else(|| BoltError::Content("a key is no revision".into()))?;
        self.revisions += 1;
        self.tombstones += u64::from(is_tombstone);
        // What a restore with a raised revision ends with: a key without a record.
        if !(value.is_empty() && revision.main == survey.revision) {
            let record = KeyValue::parse(value);
            let record =
                record.ok_or_else(|| BoltError::Content(format!("revision {revision}: its record is none")))?;
            record.check(revision, is_tombstone)?;
            let ids = survey.lease_ids.as_ref();
            let is_lost = record.lease != 0 && ids.is_some_and(|ids| ids.binary_search(&record.lease).is_err());
            self.lost_leases += u64::from(is_lost);
        }
        if revision.main < self.last_main {
            return Err(BoltError::Content(format!("revision {revision}: it comes after a later one")));
        }
        self.last_main = revision.main;
        Ok(())
    }
}
