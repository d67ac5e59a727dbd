//! The file of a delta: whole revisions in order, each with its changes as they stand in the database.
//!
//! `OGD1`, the length of a JSON header and the header, then per revision: number, milliseconds since the header's time,
//! number of changes; per change: a byte for its kind, its length, its record. Numbers are varints. The SHA-256 of all
//! that stands at the end. Bytes in, bytes out; what is not whole is refused.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::etcd::model::ClusterId;

const MAGIC: &[u8] = b"OGD1";
const TRAILER_BYTES: usize = 32;
const PUT: u8 = 0;
const DELETE: u8 = 1;
/// Version of the header.
const FORMAT: u32 = 1;

/// What a file says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Header {
    /// Version of this format: 1.
    pub format: u32,
    /// The cluster.
    pub cluster_id: ClusterId,
    /// The first revision, which follows that of the snapshot before.
    pub first: i64,
    /// The last one, which is whole.
    pub last: i64,
    /// Changes.
    pub events: u64,
    /// When the first revision was received, in milliseconds since 1970.
    pub received_ms: i64,
    /// When the last one was.
    pub ended_ms: i64,
    /// Seconds that leases were granted for, by their ids: those that were not known before.
    pub leases: BTreeMap<i64, i64>,
}

/// One revision.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Revised {
    /// Its number.
    pub main: i64,
    /// When it was received, in milliseconds since 1970.
    pub received_ms: i64,
    /// Its changes, in their order.
    pub changes: Vec<Change>,
}

/// One change: the record as it stands in the database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// It says that the key was deleted.
    pub is_tombstone: bool,
    /// The record.
    pub record: Vec<u8>,
}

/// Why a file is none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadSegment {
    /// It is cut or changed.
    #[error("it is cut or changed")]
    Damaged,
    /// A newer program wrote it.
    #[error("it is of format {0}, newer than this program")]
    Newer(u32),
}

/// Writes a file. Revisions ascend; there is at least one.
pub fn encode(cluster_id: ClusterId, leases: BTreeMap<i64, i64>, revisions: &[Revised]) -> Option<(Header, Vec<u8>)> {
    let (first, last) = (revisions.first()?, revisions.last()?);
    let header = Header {
        format: FORMAT,
        cluster_id,
        first: first.main,
        last: last.main,
        events: revisions.iter().map(|revised| revised.changes.len() as u64).sum(),
        received_ms: first.received_ms,
        ended_ms: last.received_ms,
        leases,
    };
    let json = serde_json::to_vec(&header).ok()?;
    let mut bytes = MAGIC.to_vec();
    put_varint(&mut bytes, json.len() as u64);
    bytes.extend_from_slice(&json);
    for revised in revisions {
        put_varint(&mut bytes, revised.main.cast_unsigned());
        put_varint(&mut bytes, (revised.received_ms - header.received_ms).max(0).cast_unsigned());
        put_varint(&mut bytes, revised.changes.len() as u64);
        for change in &revised.changes {
            bytes.push(if change.is_tombstone { DELETE } else { PUT });
            put_varint(&mut bytes, change.record.len() as u64);
            bytes.extend_from_slice(&change.record);
        }
    }
    let trailer = Sha256::digest(&bytes);
    bytes.extend_from_slice(&trailer);
    Some((header, bytes))
}

/// Reads a file.
pub fn decode(bytes: &[u8]) -> Result<(Header, Vec<Revised>), BadSegment> {
    let (body, trailer) =
        bytes.split_at_checked(bytes.len().saturating_sub(TRAILER_BYTES)).ok_or(BadSegment::Damaged)?;
    if Sha256::digest(body).as_slice() != trailer {
        return Err(BadSegment::Damaged);
    }
    let mut rest = body.strip_prefix(MAGIC).ok_or(BadSegment::Damaged)?;
    let header: Header = serde_json::from_slice(part(&mut rest)?).map_err(|_| BadSegment::Damaged)?;
    if header.format > FORMAT {
        return Err(BadSegment::Newer(header.format));
    }
    let mut revisions = Vec::new();
    let mut expected = header.first;
    while !rest.is_empty() {
        let revised = revised(&mut rest, header.received_ms)?;
        if revised.main != expected || revised.changes.is_empty() {
            return Err(BadSegment::Damaged);
        }
        expected = revised.main + 1;
        revisions.push(revised);
    }
    let events: usize = revisions.iter().map(|revised| revised.changes.len()).sum();
    let is_whole = expected == header.last.saturating_add(1) && events as u64 == header.events;
    if is_whole { Ok((header, revisions)) } else { Err(BadSegment::Damaged) }
}

fn revised(rest: &mut &[u8], start_ms: i64) -> Result<Revised, BadSegment> {
    let main = i64::try_from(varint(rest)?).map_err(|_| BadSegment::Damaged)?;
    let received_ms = start_ms.saturating_add(i64::try_from(varint(rest)?).map_err(|_| BadSegment::Damaged)?);
    if main == i64::MAX {
        return Err(BadSegment::Damaged);
    }
    let mut revised = Revised { main, received_ms, changes: Vec::new() };
    for _ in 0..varint(rest)? {
        let (kind, after) = rest.split_first().ok_or(BadSegment::Damaged)?;
        *rest = after;
        let is_tombstone = match *kind {
            PUT => false,
            DELETE => true,
            _ => return Err(BadSegment::Damaged),
        };
        revised.changes.push(Change { is_tombstone, record: part(rest)?.to_vec() });
    }
    Ok(revised)
}

/// Bytes behind their length.
fn part<'a>(rest: &mut &'a [u8]) -> Result<&'a [u8], BadSegment> {
    let length = usize::try_from(varint(rest)?).map_err(|_| BadSegment::Damaged)?;
    let (part, after) = rest.split_at_checked(length).ok_or(BadSegment::Damaged)?;
    *rest = after;
    Ok(part)
}

fn varint(rest: &mut &[u8]) -> Result<u64, BadSegment> {
    crate::etcd::key_value::varint(rest).ok_or(BadSegment::Damaged)
}

/// Appends a number in seven bits a byte.
pub(in crate::etcd) fn put_varint(bytes: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        bytes.push(value as u8 | 0x80);
        value >>= 7;
    }
    bytes.push(value as u8);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn revisions(contents: &[Vec<(bool, Vec<u8>)>]) -> Vec<Revised> {
        let change =
            |(is_tombstone, record): &(bool, Vec<u8>)| Change { is_tombstone: *is_tombstone, record: record.clone() };
        let one = |(main, changes): (i64, &Vec<_>)| Revised {
            main,
            received_ms: 1_000 + main,
            changes: changes.iter().map(change).collect(),
        };
        (51..).zip(contents).map(one).collect()
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(
            contents in prop::collection::vec(prop::collection::vec((any::<bool>(), prop::collection::vec(any::<u8>(), 0..40)), 1..5), 1..20),
            cut in any::<prop::sample::Index>(), flip in any::<prop::sample::Index>(),
        ) {
            let revisions = revisions(&contents);
            let (header, bytes) = encode(ClusterId(9), BTreeMap::from([(7, 60)]), &revisions).unwrap();
            prop_assert_eq!(decode(&bytes), Ok((header.clone(), revisions)));
            prop_assert_eq!((header.first, header.last), (51, 50 + contents.len() as i64));
            prop_assert_eq!(decode(&bytes[..cut.index(bytes.len())]), Err(BadSegment::Damaged));
            let mut changed = bytes.clone();
            changed[flip.index(bytes.len())] ^= 1;
            prop_assert_eq!(decode(&changed), Err(BadSegment::Damaged));
        }
    }

    #[test]
    fn nothing_makes_no_file() {
        assert_eq!(encode(ClusterId(9), BTreeMap::new(), &[]), None);
        assert_eq!(decode(b""), Err(BadSegment::Damaged));
    }
}
