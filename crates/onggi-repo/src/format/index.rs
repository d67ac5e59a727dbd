//! Index files: which blobs lie in which pack. Reading is one pass without an intermediate tree, since a repository of
//! 100 million blobs has 15 GB of this JSON. Unknown keys of the file and of a pack survive a rewrite.

use super::{
    fault::{FormatError, Result},
    id::{BlobId, BlobKind, PackId},
    json::{Object, Unknown},
    pack::{self, PackEntry},
    time::Time,
};
use serde::{Deserialize, Deserializer, de};
use std::fmt;

const WHAT: &str = "index";

/// The content of an index file.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct IndexFile {
    /// Packs in use.
    pub packs: Vec<IndexPack>,
    /// Packs found unneeded: present for readers, absent for writers, deleted after a grace time.
    pub packs_to_delete: Vec<IndexPack>,
    /// Keys of other programs.
    pub unknown: Unknown,
}

/// One pack and all its blobs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IndexPack {
    /// The pack.
    pub id: PackId,
    /// Its blobs.
    pub blobs: Vec<PackEntry>,
    /// In `packs_to_delete`: when it was found unneeded, by the storage's clock.
    pub time: Option<Time>,
    /// Its length in bytes, where the writer recorded it.
    pub size: Option<u64>,
    /// Keys of other programs.
    pub unknown: Unknown,
}

impl IndexPack {
    /// A pack in use.
    pub fn new(id: PackId, blobs: Vec<PackEntry>) -> Self {
        Self { id, blobs, time: None, size: None, unknown: Unknown::new() }
    }

    /// Length in bytes that the file must have.
    pub fn length(&self) -> u64 {
        pack::pack_length(&self.blobs)
    }
}

impl IndexFile {
    /// Reads the JSON of an index. An empty file is an empty index.
    pub fn parse(json: &[u8]) -> Result<Self> {
        if json.is_empty() {
            return Ok(Self::default());
        }
        if json.starts_with(b"[") {
            // The format of the first year: a bare list of packs.
            let packs = serde_json::from_slice(json).map_err(|fault| FormatError::json(WHAT, &fault))?;
            return Ok(Self { packs, ..Self::default() });
        }
        serde_json::from_slice(json).map_err(|fault| FormatError::json(WHAT, &fault))
    }

    /// Its JSON.
    pub fn print(&self) -> Vec<u8> {
        let blobs: usize = self.packs.iter().chain(&self.packs_to_delete).map(|pack| pack.blobs.len()).sum();
        let mut out = Vec::with_capacity(160 * blobs + 64);
        let mut object = Object::open(&mut out);
        object.list("packs", &self.packs, print_pack);
        if !self.packs_to_delete.is_empty() {
            object.list("packs_to_delete", &self.packs_to_delete, print_pack);
        }
        object.unknown(&self.unknown);
        object.close();
        out
    }
}

fn print_pack(out: &mut Vec<u8>, pack: &IndexPack) {
    let mut object = Object::open(out);
    object.plain("id", pack.id);
    object.list("blobs", &pack.blobs, print_entry);
    if let Some(time) = pack.time {
        object.plain("time", time);
    }
    if let Some(size) = pack.size {
        object.number("size", size);
    }
    object.unknown(&pack.unknown);
    object.close();
}

fn print_entry(out: &mut Vec<u8>, entry: &PackEntry) {
    let mut object = Object::open(out);
    object.plain("id", entry.id);
    object.plain("type", entry.kind);
    object.number("offset", entry.offset.into());
    object.number("length", entry.length.into());
    object.number_if_any("uncompressed_length", entry.uncompressed_length.unwrap_or(0).into());
    object.close();
}

impl<'de> Deserialize<'de> for IndexFile {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl<'de> de::Visitor<'de> for Visitor {
            type Value = IndexFile;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an index")
            }

            fn visit_map<A: de::MapAccess<'de>>(self, mut map: A) -> Result<IndexFile, A::Error> {
                let mut index = IndexFile::default();
                while let Some(key) = map.next_key::<String>()? {
                    match key.as_str() {
                        "packs" => index.packs = map.next_value::<Option<_>>()?.unwrap_or_default(),
                        "packs_to_delete" => index.packs_to_delete = map.next_value::<Option<_>>()?.unwrap_or_default(),
                        // Named replaced indexes in old versions; ignored, and never written.
                        "supersedes" => drop(map.next_value::<de::IgnoredAny>()?),
                        _ => drop(index.unknown.insert(key, map.next_value()?)),
                    }
                }
                Ok(index)
            }
        }
        deserializer.deserialize_map(Visitor)
    }
}

impl<'de> Deserialize<'de> for IndexPack {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl<'de> de::Visitor<'de> for Visitor {
            type Value = IndexPack;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a pack of an index")
            }

            fn visit_map<A: de::MapAccess<'de>>(self, mut map: A) -> Result<IndexPack, A::Error> {
                let (mut id, mut pack) = (None, IndexPack::new(PackId([0; 32]), Vec::new()));
                while let Some(key) = map.next_key::<String>()? {
                    match key.as_str() {
                        "id" => id = Some(map.next_value()?),
                        "blobs" => pack.blobs = map.next_value::<Option<_>>()?.unwrap_or_default(),
                        "time" => pack.time = map.next_value()?,
                        "size" => pack.size = map.next_value()?,
                        _ => drop(pack.unknown.insert(key, map.next_value()?)),
                    }
                }
                pack.id = id.ok_or_else(|| de::Error::missing_field("id"))?;
                Ok(pack)
            }
        }
        deserializer.deserialize_map(Visitor)
    }
}

/// An entry as it lies in the JSON; unknown keys of entries are not kept.
#[derive(Deserialize)]
struct RawEntry {
    id: BlobId,
    #[serde(rename = "type")]
    kind: RawKind,
    offset: u32,
    length: u32,
    /// rustic writes `null` for a blob that is not compressed.
    uncompressed_length: Option<u32>,
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum RawKind {
    Data,
    Tree,
}

impl<'de> Deserialize<'de> for PackEntry {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let raw = RawEntry::deserialize(deserializer)?;
        let kind = match raw.kind {
            RawKind::Data => BlobKind::Data,
            RawKind::Tree => BlobKind::Tree,
        };
        let uncompressed_length = raw.uncompressed_length.filter(|length| *length != 0);
        let entry = Self { kind, id: raw.id, offset: raw.offset, length: raw.length, uncompressed_length };
        pack::check_lengths(&entry).map_err(de::Error::custom)?;
        Ok(entry)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn sample() -> String {
        let (pack, blob) = ("ab".repeat(32), "cd".repeat(32));
        format!(
            r#"{{"packs":[{{"id":"{pack}","blobs":[{{"id":"{blob}","type":"data","offset":0,"length":46,"uncompressed_length":5}},{{"id":"{blob}","type":"tree","offset":46,"length":42}}],"mine":1}}],"packs_to_delete":[{{"id":"{pack}","blobs":[],"time":"2026-11-20T11:26:36+01:00","size":77}}],"other":{{"a":[]}}}}"#
        )
    }

    #[test]
    fn an_index_is_written_as_it_was_read() {
        let index = IndexFile::parse(sample().as_bytes()).unwrap();
        assert_eq!(index.packs[0].blobs[1].kind, BlobKind::Tree);
        assert_eq!(index.packs[0].blobs[0].plaintext_length(), 5);
        assert_eq!(index.packs[0].blobs[1].plaintext_length(), 10);
        assert_eq!(String::from_utf8(index.print()).unwrap(), sample());
    }

    #[test]
    fn old_forms_are_read() {
        let supersedes = sample().replace("\"other\":{\"a\":[]}", "\"supersedes\":[\"x\"]");
        assert!(IndexFile::parse(supersedes.as_bytes()).unwrap().unknown.is_empty());
        assert_eq!(IndexFile::parse(b"").unwrap(), IndexFile::default());
        assert_eq!(IndexFile::parse(b"[]").unwrap(), IndexFile::default());
        assert_eq!(IndexFile::parse(b"{\"packs\":null}").unwrap(), IndexFile::default());
    }

    #[test]
    fn impossible_numbers_are_damage() {
        for (from, to) in [
            ("\"length\":46", "\"length\":0"),
            ("\"length\":46", "\"length\":31"),
            ("\"length\":46", "\"length\":9223372036854775808"),
            ("\"length\":46", "\"length\":-1"),
            ("\"length\":46", "\"length\":4294967296"),
            ("\"offset\":46", "\"offset\":4294967290"),
            ("\"offset\":46", "\"offset\":9223372036854775808"),
            ("\"type\":\"tree\"", "\"type\":\"wood\""),
            ("\"id\":\"cd", "\"id\":\"CD"),
        ] {
            assert!(IndexFile::parse(sample().replace(from, to).as_bytes()).is_err(), "{to}");
        }
    }

    proptest! {
        #[test]
        fn a_changed_byte_never_panics(at in any::<proptest::sample::Index>(), byte in any::<u8>()) {
            let mut bytes = sample().into_bytes();
            let at = at.index(bytes.len());
            bytes[at] = byte;
            let _ = IndexFile::parse(&bytes);
            let _ = IndexFile::parse(&bytes[..at]);
        }
    }
}
