//! What all parts of the source share: ids, revisions, and the notes that a snapshot carries.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::RangeInclusive;

use serde::{Deserialize, Serialize};

use super::pki::PkiNotes;

/// Version of [`Notes`].
pub const FORMAT: u32 = 1;
/// Name of the stored stream below `/etcd/<cluster>/`.
pub const SNAPSHOT_FILE: &str = "snapshot.db";

/// The revisions that a snapshot adds to its chain, as its tags say: `rev:50` of a full, `rev:51-80` of a delta.
pub fn revisions(tags: &[String]) -> Option<RangeInclusive<i64>> {
    let text = tags.iter().find_map(|tag| tag.strip_prefix("rev:"))?;
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    Some(first.parse().ok()?..=last.parse().ok()?)
}

/// The id of a cluster or a member, shown in hexadecimal digits as etcd's own tools show it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClusterId(pub u64);

impl fmt::Display for ClusterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl Serialize for ClusterId {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for ClusterId {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        u64::from_str_radix(&text, 16).map(Self).map_err(serde::de::Error::custom)
    }
}

/// What a full knows of itself: the facts' notes, stored in `.onggi/manifest.json`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Notes {
    /// Version of these notes: 1.
    pub format: u32,
    /// The cluster.
    pub cluster_id: ClusterId,
    /// The member that was read.
    pub member_id: ClusterId,
    /// Its name.
    pub member: String,
    /// Where it was reached.
    pub endpoint: String,
    /// Its version.
    pub server_version: String,
    /// The version that the stream names; empty before 3.6.
    pub stream_version: String,
    /// The version that the members agreed on, as the file has it.
    pub cluster_version: String,
    /// The last revision in the file.
    pub revision: i64,
    /// The last compacted one.
    pub compact_revision: i64,
    /// The last raft entry that the file has.
    pub consistent_index: u64,
    /// Its term; 0 before 3.5.
    pub term: u64,
    /// Bytes of the database without the trailer.
    pub db_size: u64,
    /// Bytes of its pages in use.
    pub db_size_in_use: u64,
    /// Length of a page in bytes.
    pub page_size: u32,
    /// Pages that are free.
    pub free_pages: u64,
    /// Keys that are there at the last revision; `None` if they are too many to be told apart.
    pub live_keys: Option<u64>,
    /// Entries that say that a key was deleted.
    pub tombstones: u64,
    /// All entries of the bucket `key`.
    pub revisions: u64,
    /// Leases.
    pub leases: u64,
    /// Records that name a lease which is not there.
    pub lost_leases: u64,
    /// It holds a Kubernetes cluster: its last keys lie below `/registry/`.
    #[serde(default)]
    pub is_kubernetes: bool,
    /// Alarms, as `NOSPACE 8e9e05c52164694d`.
    pub alarms: Vec<String>,
    /// Members, by id.
    pub members: BTreeMap<String, String>,
    /// Revision of users and roles.
    pub auth_revision: u64,
    /// When the stream began, in nanoseconds since 1970.
    pub started_ns: i64,
    /// When it ended.
    pub ended_ns: i64,
    /// SHA-256 of the database as the stream had it, in hexadecimal digits.
    pub db_sha256: String,
    /// CRC-32C over all buckets, as etcdutl prints it.
    pub content_hash: u32,
    /// What each member answered to HashKV at this revision, by its id.
    pub hash_kv: BTreeMap<String, HashKvNote>,
    /// Endpoints that did not answer, and why.
    pub missing: BTreeMap<String, String>,
    /// Certificates and keys that are stored beside the snapshot.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pki: Option<PkiNotes>,
    /// How far this snapshot was verified: `L0` its bytes, `L1` the structure of its file, `L2` its content, `L3` the
    /// hash that its member has.
    pub verified: String,
}

/// A comparison with what one member holds.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct HashKvNote {
    /// The member's hash.
    pub remote: Option<u32>,
    /// The file's hash with the same compact revision.
    pub local: Option<u32>,
    /// The compact revision of both.
    pub compact_revision: i64,
    /// `equal`, `different`, or why nothing could be compared.
    pub verdict: String,
}

impl HashKvNote {
    /// The verdict of equal hashes.
    pub(super) const EQUAL: &str = "equal";
    /// The verdict of hashes that differ.
    pub(super) const DIFFERENT: &str = "different";

    /// Whether both have the same hash.
    pub fn is_equal(&self) -> bool {
        self.verdict == Self::EQUAL
    }

    /// Whether they have not.
    pub fn differs(&self) -> bool {
        self.verdict == Self::DIFFERENT
    }
}
