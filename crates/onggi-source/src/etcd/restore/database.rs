//! Writes the database of restored members: what is stored, with other members, a log that begins anew, and the changes
//! of the deltas behind. One pass, in the order of the keys; two if what was overwritten is left out. Where nothing
//! comes behind and little is free, the file is taken as it is, and what changes is written at its end.

use std::collections::{BTreeMap, HashMap};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::io::{Seek, Write};

use super::identity::ClusterIdentity;
use super::proto::Message;
use super::wal::TERM;
use crate::context::Context;
use crate::etcd::bolt::{Bolt, BoltError, BoltWriter, Bucket, Direction, FileBytes};
use crate::etcd::delta::replay::Replay;
use crate::etcd::key_value::{KeyValue, Revision, varint};
use crate::source::{Result, SourceError};

/// Buckets that a member must have.
const NEEDED: [&[u8]; 5] = [b"key", b"lease", b"members", b"members_removed", b"meta"];
/// Keys that are told apart when what was overwritten is left out; each takes about sixty bytes.
const KEYS_MAX: usize = 2 << 20;
/// Of an alarm: the database is full.
const ALARM_NO_SPACE: u64 = 1;

/// What becomes other than it is stored.
pub(super) struct Changes<'a> {
    pub cluster: &'a ClusterIdentity,
    /// Nothing of a later revision.
    pub until: Option<i64>,
    /// By how much revisions are raised; 0: not at all.
    pub bump: i64,
    pub drops_no_space: bool,
    /// What only the newest records of keys are kept of.
    pub newest: Option<Newest>,
}

/// What was written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Written {
    /// The last revision, before it was raised.
    pub revision: i64,
    pub length: u64,
}

/// The records that count at a revision.
pub(super) struct Newest {
    /// Sorted.
    kept: Vec<Revision>,
    last: Revision,
}

impl Newest {
    /// Walks everything once; `None` if there are too many keys.
    pub async fn find<F: FileBytes + ?Sized>(
        cx: &Context,
        bolt: &Bolt<'_, F>,
        replay: &mut Replay<'_>,
        until: Option<i64>,
    ) -> Result<Option<Self>> {
        let mut keys: HashMap<u128, (Revision, bool)> = HashMap::new();
        let mut last = Revision::default();
        let mut take = |revision: Revision, is_tombstone: bool, record: &[u8]| {
            let record = KeyValue::parse(record).ok_or_else(|| SourceError::Damaged(format!("record {revision}")))?;
            keys.insert(identity(record.key), (revision, is_tombstone));
            last = revision;
            Ok::<_, SourceError>(keys.len() <= KEYS_MAX)
        };
        let (buckets, _) = bolt.buckets().await?;
        if let Some(bucket) = buckets.iter().find(|bucket| bucket.name == b"key") {
            let mut cursor = bolt.cursor(bucket, Direction::Forward);
            while let Some(entry) = cursor.next().await? {
                let (revision, is_tombstone) = parse(entry.key)?;
                if until.is_some_and(|until| revision.main > until) {
                    break;
                }
                if !take(revision, is_tombstone, entry.value)? {
                    return Ok(None);
                }
            }
        }
        while let Some(revised) = replay.next(cx).await? {
            for (sub, change) in (0..).zip(&revised.changes) {
                if !take(Revision { main: revised.main, sub }, change.is_tombstone, &change.record)? {
                    return Ok(None);
                }
            }
        }
        let mut kept: Vec<_> = keys.into_values().filter(|(_, is_tombstone)| !is_tombstone).map(|(at, _)| at).collect();
        kept.sort_unstable();
        Ok(Some(Self { kept, last }))
    }

    fn keeps(&self, revision: Revision) -> bool {
        revision == self.last || self.kept.binary_search(&revision).is_ok()
    }
}

/// Keys are told apart by 128 bits.
fn identity(key: &[u8]) -> u128 {
    let half = |salt: u8| {
        let mut hasher = DefaultHasher::new();
        salt.hash(&mut hasher);
        key.hash(&mut hasher);
        u128::from(hasher.finish())
    };
    half(0) << 64 | half(1)
}

/// Makes a copy of the file that is stored the database of restored members. There must be nothing to replay.
pub(super) async fn amend<F: FileBytes + ?Sized, W: Write + Seek + Send>(
    bolt: &Bolt<'_, F>,
    changes: &Changes<'_>,
    out: W,
) -> Result<Written> {
    let mut writer = BoltWriter::amend(out, bolt.meta()).map_err(unwritten)?;
    let mut written = Written::default();
    for (name, bucket) in &buckets(bolt).await? {
        let (name, bucket) = (name.as_slice(), bucket.as_ref());
        match (name, bucket) {
            (b"key", Some(bucket)) => {
                written.revision = last_revision(bolt, bucket).await?;
                if changes.bump == 0 {
                    writer.keep(bucket).map_err(unwritten)?;
                } else {
                    let key = key_of(Revision { main: raised(written.revision, changes.bump)?, sub: 0 }, false);
                    writer.extend(bolt, bucket, (&key, &[])).await?;
                }
            }
            (b"members" | b"members_removed" | b"meta", _) | (_, None) => {
                writer.bucket(name, bucket.map_or(0, |bucket| bucket.sequence)).map_err(unwritten)?;
                let mut put = |key: &[u8], value: &[u8]| writer.put(key, value).map_err(unwritten);
                match name {
                    b"members" => put_members(changes, &mut put)?,
                    b"meta" => write_meta(bolt, bucket, changes, written.revision, &mut put).await?,
                    _ => {}
                }
            }
            (_, Some(bucket)) => writer.keep(bucket).map_err(unwritten)?,
        }
    }
    let (mut out, length) = writer.finish().map_err(unwritten)?;
    out.flush().map_err(unwritten)?;
    written.length = length;
    Ok(written)
}

/// The buckets of the file, and the names of those that a database must have beside them, in order.
async fn buckets<F: FileBytes + ?Sized>(bolt: &Bolt<'_, F>) -> Result<BTreeMap<Vec<u8>, Option<Bucket>>> {
    let (found, _) = bolt.buckets().await?;
    let needed = NEEDED.into_iter().map(|name| (name.to_vec(), None));
    Ok(needed.chain(found.into_iter().map(|bucket| (bucket.name.clone(), Some(bucket)))).collect())
}

async fn last_revision<F: FileBytes + ?Sized>(bolt: &Bolt<'_, F>, bucket: &Bucket) -> Result<i64> {
    match bolt.cursor(bucket, Direction::Backward).next().await? {
        Some(entry) => Ok(parse(entry.key)?.0.main),
        None => Ok(0),
    }
}

fn put_members(changes: &Changes<'_>, put: &mut Put<'_>) -> Result<()> {
    let members = changes.cluster.members.iter().map(|member| (member.key(), member.json()));
    members.collect::<BTreeMap<_, _>>().iter().try_for_each(|(key, value)| put(key.as_bytes(), value))
}

/// Writes all buckets into an empty file.
pub(super) async fn write<F: FileBytes + ?Sized, W: Write + Seek + Send>(
    cx: &Context,
    bolt: &Bolt<'_, F>,
    replay: &mut Replay<'_>,
    changes: &Changes<'_>,
    out: W,
) -> Result<Written> {
    let mut writer = BoltWriter::new(out, bolt.meta().page_bytes as usize).map_err(unwritten)?;
    let mut written = Written::default();
    for (name, bucket) in &buckets(bolt).await? {
        let (name, bucket) = (name.as_slice(), bucket.as_ref());
        writer.bucket(name, bucket.map_or(0, |bucket| bucket.sequence)).map_err(unwritten)?;
        let mut put = |key: &[u8], value: &[u8]| writer.put(key, value).map_err(unwritten);
        match name {
            b"members_removed" => {}
            b"members" => put_members(changes, &mut put)?,
            b"key" => written.revision = write_keys(cx, bolt, bucket, replay, changes, &mut put).await?,
            b"meta" => write_meta(bolt, bucket, changes, written.revision, &mut put).await?,
            b"lease" => write_leases(bolt, bucket, replay, &mut put).await?,
            _ => {
                let drops = |key: &[u8]| changes.drops_no_space && name == b"alarm" && is_no_space(key);
                copy(bolt, bucket, &mut |key, value| if drops(key) { Ok(()) } else { put(key, value) }).await?;
            }
        }
    }
    let (mut out, length) = writer.finish().map_err(unwritten)?;
    out.flush().map_err(unwritten)?;
    written.length = length;
    Ok(written)
}

type Put<'a> = dyn FnMut(&[u8], &[u8]) -> Result<()> + Send + 'a;

async fn copy<F: FileBytes + ?Sized>(bolt: &Bolt<'_, F>, bucket: Option<&Bucket>, put: &mut Put<'_>) -> Result<()> {
    let Some(bucket) = bucket else { return Ok(()) };
    let mut cursor = bolt.cursor(bucket, Direction::Forward);
    while let Some(entry) = cursor.next().await? {
        put(entry.key, entry.value)?;
    }
    Ok(())
}

/// The records of the full, those of the deltas behind, and the mark of a raised revision. Returns the last revision.
async fn write_keys<F: FileBytes + ?Sized>(
    cx: &Context,
    bolt: &Bolt<'_, F>,
    bucket: Option<&Bucket>,
    replay: &mut Replay<'_>,
    changes: &Changes<'_>,
    put: &mut Put<'_>,
) -> Result<i64> {
    let keeps = |revision| changes.newest.as_ref().is_none_or(|newest| newest.keeps(revision));
    let mut last = 0;
    if let Some(bucket) = bucket {
        let mut cursor = bolt.cursor(bucket, Direction::Forward);
        while let Some(entry) = cursor.next().await? {
            let (revision, _) = parse(entry.key)?;
            if changes.until.is_some_and(|until| revision.main > until) {
                break;
            }
            last = revision.main;
            if keeps(revision) {
                put(entry.key, entry.value)?;
            }
        }
    }
    while let Some(revised) = replay.next(cx).await? {
        last = revised.main;
        for (sub, change) in (0..).zip(&revised.changes) {
            let revision = Revision { main: revised.main, sub };
            if keeps(revision) {
                put(&key_of(revision, change.is_tombstone), &change.record)?;
            }
        }
    }
    if changes.bump > 0 {
        put(&key_of(Revision { main: raised(last, changes.bump)?, sub: 0 }, false), &[])?;
    }
    Ok(last)
}

/// The log begins anew: the first entries add the members, and what is here counts as applied up to them.
async fn write_meta<F: FileBytes + ?Sized>(
    bolt: &Bolt<'_, F>,
    bucket: Option<&Bucket>,
    changes: &Changes<'_>,
    last: i64,
    put: &mut Put<'_>,
) -> Result<()> {
    let mut meta: BTreeMap<Vec<u8>, Vec<u8>> = BTreeMap::new();
    copy(bolt, bucket, &mut |key, value| {
        meta.insert(key.to_vec(), value.to_vec());
        Ok(())
    })
    .await?;
    meta.insert(b"consistent_index".into(), (changes.cluster.members.len() as u64).to_be_bytes().into());
    meta.insert(b"term".into(), TERM.to_be_bytes().into());
    if let Some(state) = meta.get_mut(b"confState".as_slice()) {
        let voters: Vec<u64> = changes.cluster.ids().collect();
        *state = serde_json::json!({"voters": voters, "auto_leave": false}).to_string().into_bytes();
    }
    if changes.newest.is_some() {
        for name in ["finishedCompactRev", "scheduledCompactRev"] {
            meta.insert(name.into(), key_of(Revision { main: last, sub: 0 }, false));
        }
    }
    if changes.bump > 0 {
        let raised = key_of(Revision { main: raised(last, changes.bump)?, sub: 0 }, false);
        meta.insert(b"scheduledCompactRev".to_vec(), raised);
    }
    meta.iter().try_for_each(|(key, value)| put(key, value))
}

/// The leases of the full, and those that the deltas saw: without them their keys would never end.
async fn write_leases<F: FileBytes + ?Sized>(
    bolt: &Bolt<'_, F>,
    bucket: Option<&Bucket>,
    replay: &Replay<'_>,
    put: &mut Put<'_>,
) -> Result<()> {
    let lease = |(id, ttl): (&i64, &i64)| {
        let message = Message::new().number(1, id.cast_unsigned()).number(2, ttl.cast_unsigned());
        (id.to_be_bytes().to_vec(), message.into_bytes())
    };
    let mut fresh: BTreeMap<Vec<u8>, Vec<u8>> = replay.leases.iter().map(lease).collect();
    copy(bolt, bucket, &mut |key, value| {
        while let Some(first) = fresh.first_entry().filter(|first| first.key().as_slice() <= key) {
            let (id, content) = first.remove_entry();
            if id.as_slice() < key {
                put(&id, &content)?;
            }
        }
        put(key, value)
    })
    .await?;
    fresh.iter().try_for_each(|(key, value)| put(key, value))
}

fn is_no_space(alarm: &[u8]) -> bool {
    let mut rest = alarm;
    while let Some(tag) = varint(&mut rest) {
        let Some(value) = varint(&mut rest) else { return false };
        if tag == 2 << 3 {
            return value == ALARM_NO_SPACE;
        }
    }
    false
}

fn parse(key: &[u8]) -> Result<(Revision, bool)> {
    let damaged = || BoltError::Content("a key is no revision".to_owned()).into();
    Revision::parse(key).ok_or_else(damaged)
}

fn key_of(revision: Revision, is_tombstone: bool) -> Vec<u8> {
    let mark: &[u8] = if is_tombstone { b"t" } else { b"" };
    [&revision.main.to_be_bytes()[..], b"_", &revision.sub.to_be_bytes(), mark].concat()
}

fn raised(last: i64, bump: i64) -> Result<i64> {
    last.checked_add(bump).ok_or_else(|| SourceError::Refused("revisions cannot be raised that far".to_owned()))
}

#[expect(clippy::needless_pass_by_value, reason = "for map_err")]
pub(super) fn unwritten(error: std::io::Error) -> SourceError {
    SourceError::unwritten("write the database", &error)
}
