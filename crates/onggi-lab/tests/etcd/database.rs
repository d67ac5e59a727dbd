//! What lies in a member's database, read page by page.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use futures::executor::block_on;
use onggi_source::etcd::bolt::{Bolt, Entry};
use onggi_source::etcd::hashkv::HashKv;
use onggi_source::etcd::key_value::{KeyValue, Revision};
use onggi_source::etcd::survey::Survey;

/// The entries of a bucket.
pub type Entries = BTreeMap<Vec<u8>, Vec<u8>>;

/// Reads a bucket of a database, or of a snapshot with its trailer.
pub fn bucket(file: &Path, wanted: &str) -> Entries {
    let bytes = fs::read(file).unwrap();
    let bytes = &bytes[..bytes.len() - bytes.len() % 512];
    let mut found = Entries::new();
    let take = |bucket: &[u8], entry: Option<Entry<'_>>| {
        let entry = entry.filter(|_| bucket == wanted.as_bytes());
        found.extend(entry.map(|entry| (entry.key.to_vec(), entry.value.to_vec())));
        Ok(())
    };
    block_on(async { Bolt::open(bytes, bytes.len() as u64).await.unwrap().check(take).await.unwrap() });
    found
}

/// The hash of all keys, as a member computes it of a database that is compacted as far as this one.
pub fn hash(file: &Path) -> u32 {
    let bytes = fs::read(file).unwrap();
    block_on(async {
        let bolt = Bolt::open(bytes.as_slice(), bytes.len() as u64).await.unwrap();
        let compacted = Survey::take(&bolt).await.unwrap().compact_revision;
        HashKv::compute(&bolt, &[compacted]).await.unwrap().unwrap().at(compacted).unwrap()
    })
}

/// The records that a reader sees at the end of a bucket `key`, by their keys.
pub fn visible(entries: &Entries) -> BTreeMap<&[u8], KeyValue<'_>> {
    let mut visible = BTreeMap::new();
    for (revision, record) in entries {
        let record = KeyValue::parse(record).unwrap();
        let (_, is_tombstone) = Revision::parse(revision).unwrap();
        if is_tombstone {
            visible.remove(record.key);
        } else {
            visible.insert(record.key, record);
        }
    }
    visible
}
