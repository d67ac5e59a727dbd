//! Snapshots: when, what, by whom, and the root tree. Keys of other programs survive a rewrite.

use super::{
    fault::{FormatError, Result},
    id::{BlobId, SnapshotId},
    json::{Object, Unknown, write_string},
    time::Time,
};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;

const WHAT: &str = "snapshot";

/// The content of a snapshot file.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Snapshot {
    /// Start of the capture.
    pub time: Time,
    /// The snapshot it was compared with.
    #[serde(default)]
    pub parent: Option<SnapshotId>,
    /// The root tree.
    pub tree: BlobId,
    /// What was captured: absolute paths or virtual roots.
    #[serde(default, deserialize_with = "or_default")]
    pub paths: Vec<String>,
    /// The unit's name.
    #[serde(default, deserialize_with = "or_default")]
    pub hostname: String,
    /// Who ran the backup.
    #[serde(default, deserialize_with = "or_default")]
    pub username: String,
    /// Numeric user.
    #[serde(default)]
    pub uid: u32,
    /// Numeric group.
    #[serde(default)]
    pub gid: u32,
    /// Patterns left out.
    #[serde(default, deserialize_with = "or_default")]
    pub excludes: Vec<String>,
    /// Labels.
    #[serde(default, deserialize_with = "or_default")]
    pub tags: Vec<String>,
    /// The first snapshot this one was rewritten from.
    #[serde(default)]
    pub original: Option<SnapshotId>,
    /// Which program wrote it.
    #[serde(default, deserialize_with = "or_default")]
    pub program_version: String,
    /// Figures of the run.
    #[serde(default)]
    pub summary: Option<Summary>,
    /// Keys of other programs: rustic's `label`, `delete`, `parents`...
    #[serde(flatten)]
    pub unknown: Unknown,
}

/// When a run was, and its figures, as restic records them.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Summary {
    /// When the run began.
    pub backup_start: Time,
    /// When it ended.
    pub backup_end: Time,
    /// What it did.
    #[serde(flatten)]
    pub figures: Figures,
    /// Further counters of other programs.
    #[serde(flatten)]
    pub unknown: Unknown,
}

/// Figures of a run, in restic's words.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Figures {
    /// Files that the parent did not have.
    pub files_new: u64,
    /// Files with other content than in the parent.
    pub files_changed: u64,
    /// Files taken over from the parent.
    pub files_unmodified: u64,
    /// Directories that the parent did not have.
    pub dirs_new: u64,
    /// Directories with other content than in the parent.
    pub dirs_changed: u64,
    /// Directories equal to the parent's.
    pub dirs_unmodified: u64,
    /// Data blobs that were not stored before.
    pub data_blobs: u64,
    /// Tree blobs that were not stored before.
    pub tree_blobs: u64,
    /// Plaintext bytes of these blobs.
    pub data_added: u64,
    /// What they take in the storage, in bytes.
    pub data_added_packed: u64,
    /// Files seen.
    pub total_files_processed: u64,
    /// Bytes of content seen, those taken over included.
    pub total_bytes_processed: u64,
}

impl Summary {
    /// All counters at zero.
    pub fn new(backup_start: Time, backup_end: Time) -> Self {
        Self { backup_start, backup_end, figures: Figures::default(), unknown: Unknown::new() }
    }

    fn print(&self, out: &mut Vec<u8>) {
        let mut object = Object::open(out);
        object.plain("backup_start", self.backup_start);
        object.plain("backup_end", self.backup_end);
        let figures = &self.figures;
        object.number("files_new", figures.files_new);
        object.number("files_changed", figures.files_changed);
        object.number("files_unmodified", figures.files_unmodified);
        object.number("dirs_new", figures.dirs_new);
        object.number("dirs_changed", figures.dirs_changed);
        object.number("dirs_unmodified", figures.dirs_unmodified);
        object.number("data_blobs", figures.data_blobs);
        object.number("tree_blobs", figures.tree_blobs);
        object.number("data_added", figures.data_added);
        object.number("data_added_packed", figures.data_added_packed);
        object.number("total_files_processed", figures.total_files_processed);
        object.number("total_bytes_processed", figures.total_bytes_processed);
        object.unknown(&self.unknown);
        object.close();
    }
}

/// rustic's rule for the deletion of one snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DeleteRule {
    /// Never.
    Never,
    /// Not before this time, and then at once.
    After(Time),
}

impl Snapshot {
    /// A snapshot of a tree; everything else is empty.
    pub fn new(time: Time, tree: BlobId) -> Self {
        Self {
            time,
            parent: None,
            tree,
            paths: Vec::new(),
            hostname: String::new(),
            username: String::new(),
            uid: 0,
            gid: 0,
            excludes: Vec::new(),
            tags: Vec::new(),
            original: None,
            program_version: String::new(),
            summary: None,
            unknown: Unknown::new(),
        }
    }

    /// Reads the JSON of a snapshot.
    pub fn parse(json: &[u8]) -> Result<Self> {
        serde_json::from_slice(json).map_err(|fault| FormatError::json(WHAT, &fault))
    }

    /// Its JSON, without a final newline.
    pub fn print(&self) -> Vec<u8> {
        let mut out = Vec::new();
        let mut object = Object::open(&mut out);
        object.plain("time", self.time);
        if let Some(parent) = self.parent {
            object.plain("parent", parent);
        }
        object.plain("tree", self.tree);
        object.list("paths", &self.paths, print_string);
        object.string_if_any("hostname", &self.hostname);
        object.string_if_any("username", &self.username);
        object.number_if_any("uid", self.uid.into());
        object.number_if_any("gid", self.gid.into());
        for (key, list) in [("excludes", &self.excludes), ("tags", &self.tags)] {
            if !list.is_empty() {
                object.list(key, list, print_string);
            }
        }
        if let Some(original) = self.original {
            object.plain("original", original);
        }
        object.string_if_any("program_version", &self.program_version);
        if let Some(summary) = &self.summary {
            summary.print(object.key("summary"));
        }
        object.unknown(&self.unknown);
        object.close();
        out
    }

    /// Whether it bears a tag.
    pub fn has_tag(&self, tag: &str) -> bool {
        self.tags.iter().any(|own| own == tag)
    }

    /// The value of a tag `key:value`, percent-decoded.
    pub fn tag_value(&self, key: &str) -> Option<String> {
        let value = self.tags.iter().find_map(|tag| tag.strip_prefix(key)?.strip_prefix(':'))?;
        Some(value.replace("%2C", ",").replace("%2c", ",").replace("%25", "%"))
    }

    /// rustic's rule for its deletion, if there is one.
    pub fn delete_rule(&self) -> Option<DeleteRule> {
        match self.unknown.get("delete")? {
            Value::String(word) if word == "Never" => Some(DeleteRule::Never),
            value => value.get("After")?.as_str()?.parse().ok().map(DeleteRule::After),
        }
    }
}

/// A tag `key:value` with the characters encoded at which restic splits.
pub fn tag(key: &str, value: &str) -> String {
    format!("{key}:{}", value.replace('%', "%25").replace(',', "%2C"))
}

fn print_string(out: &mut Vec<u8>, text: &String) {
    write_string(out, text.as_bytes());
}

/// Takes `null` for the empty value, as Go writes empty lists.
fn or_default<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(deserializer: D) -> Result<T, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn sample() -> String {
        let (tree, parent) = ("ab".repeat(32), "cd".repeat(32));
        format!(
            r#"{{"time":"2026-11-20T11:26:36.4+01:00","parent":"{parent}","tree":"{tree}","paths":["/etc","/a\u0026b"],"hostname":"h","username":"u","uid":1000,"gid":100,"excludes":["*.o"],"tags":["x"],"original":"{parent}","program_version":"restic 0.19.1","summary":{{"backup_start":"2026-11-20T11:26:36Z","backup_end":"2026-11-20T11:26:37Z","files_new":1,"files_changed":2,"files_unmodified":3,"dirs_new":4,"dirs_changed":5,"dirs_unmodified":6,"data_blobs":7,"tree_blobs":8,"data_added":9,"data_added_packed":10,"total_files_processed":11,"total_bytes_processed":12,"command":"rustic"}},"label":"l","delete":{{"After":"2027-01-01T00:00:00Z"}}}}"#
        )
    }

    #[test]
    fn a_snapshot_is_written_as_it_was_read() {
        let snapshot = Snapshot::parse(sample().as_bytes()).unwrap();
        assert_eq!(String::from_utf8(snapshot.print()).unwrap(), sample());
        assert_eq!(snapshot.delete_rule(), Some(DeleteRule::After("2027-01-01T00:00:00Z".parse().unwrap())));
    }

    #[test]
    fn empty_fields_are_left_out() {
        let snapshot = Snapshot::new("2026-11-20T11:26:36Z".parse().unwrap(), BlobId([0xab; 32]));
        let expected = format!(r#"{{"time":"2026-11-20T11:26:36Z","tree":"{}","paths":[]}}"#, "ab".repeat(32));
        assert_eq!(String::from_utf8(snapshot.print()).unwrap(), expected);
    }

    #[test]
    fn null_lists_are_empty_but_a_tree_is_needed() {
        let text =
            format!(r#"{{"time":"0000-01-01T00:00:00Z","tree":"{}","paths":null,"tags":null}}"#, "ab".repeat(32));
        assert!(Snapshot::parse(text.as_bytes()).unwrap().paths.is_empty());
        assert!(Snapshot::parse(br#"{"time":"2026-11-20T11:26:36Z","tree":null,"paths":[]}"#).is_err());
    }

    #[test]
    fn tag_values_may_hold_commas() {
        let mut snapshot = Snapshot::parse(sample().as_bytes()).unwrap();
        snapshot.tags = vec![tag("unit", "a,b%2C"), "units:x".into()];
        assert_eq!(snapshot.tags[0], "unit:a%2Cb%252C");
        assert_eq!(snapshot.tag_value("unit").unwrap(), "a,b%2C");
        assert_eq!(snapshot.tag_value("run"), None);
        assert!(snapshot.has_tag("units:x") && !snapshot.has_tag("units"));
    }

    proptest! {
        #[test]
        fn a_changed_byte_never_panics(at in any::<proptest::sample::Index>(), byte in any::<u8>()) {
            let mut bytes = sample().into_bytes();
            let at = at.index(bytes.len());
            bytes[at] = byte;
            let _ = Snapshot::parse(&bytes).map(|snapshot| snapshot.delete_rule());
            let _ = Snapshot::parse(&bytes[..at]);
        }
    }
}
