//! What a file says of itself in its small buckets, and its last revision: read before the long walk, because members
//! are asked for their hash at that revision.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::bolt::{Bolt, BoltError, Bucket, Direction, FileBytes};
use super::key_value::{KeyValue, Revision};
use super::model::ClusterId;

/// Buckets that etcd is known to write.
const BUCKETS: [&str; 11] = [
    "alarm",
    "auth",
    "authRoles",
    "authUsers",
    "cluster",
    "key",
    "lease",
    "members",
    "members_removed",
    "meta",
    "test",
];
/// More leases than these are counted, but not compared with the keys that name them.
const LEASES_MAX: usize = 1 << 18;
/// What Kubernetes keeps all its objects below.
const KUBERNETES: &[u8] = b"/registry/";
/// How many of the last keys are looked at.
const LAST_KEYS: usize = 64;
/// More members than any cluster can have.
const MEMBERS_MAX: usize = 1000;

/// What a file says of itself.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Survey {
    /// The last revision.
    pub revision: i64,
    /// The last compacted revision, also of a compaction that goes on.
    pub compact_revision: i64,
    /// The last raft entry.
    pub consistent_index: u64,
    /// Its term; 0 before 3.5.
    pub term: u64,
    /// What the members agreed on.
    pub cluster_version: String,
    /// Revision of users and roles.
    pub auth_revision: u64,
    /// Name by id.
    pub members: BTreeMap<ClusterId, String>,
    /// Number of leases.
    pub leases: u64,
    /// Its last keys lie below `/registry/`.
    pub is_kubernetes: bool,
    /// Buckets that etcd is not known to write.
    pub unknown: Vec<String>,
    /// The leases' ids in order; `None` if there are too many.
    pub(super) lease_ids: Option<Vec<i64>>,
}

/// A value of the bucket `members`.
#[derive(Deserialize)]
struct MemberRecord {
    #[serde(default)]
    name: String,
}

impl Survey {
    /// Reads the small buckets and the end of the great one.
    pub async fn take<F: FileBytes + ?Sized>(bolt: &Bolt<'_, F>) -> Result<Self, BoltError> {
        let (buckets, _) = bolt.buckets().await?;
        let named = |name: &str| buckets.iter().find(|bucket| bucket.name == name.as_bytes());
        let (Some(key), Some(meta)) = (named("key"), named("meta")) else {
            return Err(BoltError::Content("there is no bucket `key` or no bucket `meta`: not a file of etcd".into()));
        };
        let mut survey = Self { lease_ids: Some(Vec::new()), ..Self::default() };
        let is_known = |bucket: &&Bucket| !BUCKETS.iter().any(|name| name.as_bytes() == bucket.name);
        let names = buckets.iter().filter(is_known).map(|bucket| String::from_utf8_lossy(&bucket.name).into_owned());
        survey.unknown = names.collect();
        survey.read_meta(bolt, meta).await?;
        survey.read_end(bolt, key).await?;
        if let Some(bucket) = named("cluster")
            && let Some(version) = value(bolt, bucket, b"clusterVersion").await?
        {
            survey.cluster_version = String::from_utf8_lossy(&version).into_owned();
        }
        if let Some(bucket) = named("auth")
            && let Some(revision) = value(bolt, bucket, b"authRevision").await?
        {
            survey.auth_revision = number(&revision, "authRevision")?;
        }
        if let Some(bucket) = named("members") {
            survey.read_members(bolt, bucket).await?;
        }
        if let Some(bucket) = named("lease") {
            survey.read_leases(bolt, bucket).await?;
        }
        Ok(survey)
    }

    async fn read_meta<F: FileBytes + ?Sized>(&mut self, bolt: &Bolt<'_, F>, meta: &Bucket) -> Result<(), BoltError> {
        let mut cursor = bolt.cursor(meta, Direction::Forward);
        let mut has_index = false;
        while let Some(entry) = cursor.next().await? {
            match entry.key {
                b"consistent_index" => {
                    self.consistent_index = number(entry.value, "consistent_index")?;
                    has_index = true;
                }
                b"term" => self.term = number(entry.value, "term")?,
                b"finishedCompactRev" | b"scheduledCompactRev" => {
                    let revision = Revision::parse(entry.value).map(|(revision, _)| revision.main);
                    let main = revision.ok_or_else(|| BoltError::Content("a compaction is no revision".into()))?;
                    self.compact_revision = self.compact_revision.max(main);
                    self.revision = self.revision.max(main);
                }
                _ => {}
            }
        }
        if has_index { Ok(()) } else { Err(BoltError::Content("there is no consistent index".into())) }
    }

    /// The last revision, and what it and those before are of.
    async fn read_end<F: FileBytes + ?Sized>(&mut self, bolt: &Bolt<'_, F>, key: &Bucket) -> Result<(), BoltError> {
        let mut cursor = bolt.cursor(key, Direction::Backward);
        for number in 0..LAST_KEYS {
            let Some(entry) = cursor.next().await? else { break };
            if number == 0 {
                let last = Revision::parse(entry.key);
                let (revision, _) = last.ok_or_else(|| BoltError::Content("the last key is no revision".into()))?;
                self.revision = self.revision.max(revision.main);
            }
            let record = KeyValue::parse(entry.value);
            self.is_kubernetes |= record.is_some_and(|record| record.key.starts_with(KUBERNETES));
        }
        Ok(())
    }

    async fn read_members<F: FileBytes + ?Sized>(
        &mut self,
        bolt: &Bolt<'_, F>,
        bucket: &Bucket,
    ) -> Result<(), BoltError> {
        let mut cursor = bolt.cursor(bucket, Direction::Forward);
        while let Some(entry) = cursor.next().await? {
            let id = std::str::from_utf8(entry.key).ok().and_then(|id| u64::from_str_radix(id, 16).ok());
            let record = serde_json::from_slice::<MemberRecord>(entry.value).ok();
            let (Some(id), Some(record)) = (id, record) else {
                return Err(BoltError::Content("the record of a member is none".into()));
            };
            if self.members.len() == MEMBERS_MAX {
                return Err(BoltError::Content(format!("more than {MEMBERS_MAX} members")));
            }
            self.members.insert(ClusterId(id), record.name);
        }
        Ok(())
    }

    async fn read_leases<F: FileBytes + ?Sized>(
        &mut self,
        bolt: &Bolt<'_, F>,
        bucket: &Bucket,
    ) -> Result<(), BoltError> {
        let mut cursor = bolt.cursor(bucket, Direction::Forward);
        while let Some(entry) = cursor.next().await? {
            let id = number(entry.key, "a lease's id")?.cast_signed();
            self.leases += 1;
            self.lease_ids = self.lease_ids.take().filter(|ids| ids.len() < LEASES_MAX);
            if let Some(ids) = &mut self.lease_ids {
                ids.push(id);
            }
        }
        if let Some(ids) = &mut self.lease_ids {
            ids.sort_unstable();
        }
        Ok(())
    }
}

/// The value of one key. The whole bucket is walked, so that all its pages are seen.
async fn value<F: FileBytes + ?Sized>(
    bolt: &Bolt<'_, F>,
    bucket: &Bucket,
    key: &[u8],
) -> Result<Option<Vec<u8>>, BoltError> {
    let mut cursor = bolt.cursor(bucket, Direction::Forward);
    let mut found = None;
    while let Some(entry) = cursor.next().await? {
        if entry.key == key {
            found = Some(entry.value.to_vec());
        }
    }
    Ok(found)
}

fn number(bytes: &[u8], what: &str) -> Result<u64, BoltError> {
    let number = bytes.try_into().map(u64::from_be_bytes);
    number.map_err(|_| BoltError::Content(format!("{what} is no number")))
}
