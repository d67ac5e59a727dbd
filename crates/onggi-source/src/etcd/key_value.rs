//! Entries of the bucket `key`: the revision that a key bears there, and the record that it leads to, without copies.

use std::fmt;

use super::bolt::BoltError;

/// Length of a revision as a key: main, `_`, sub.
const REVISION_BYTES: usize = 17;

/// A place in the history of a cluster: the transaction, and which change in it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Revision {
    /// Number of the transaction.
    pub main: i64,
    /// Number of the change in it, from 0.
    pub sub: i64,
}

impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.main, self.sub)
    }
}

impl Revision {
    /// Reads a key of the bucket, and whether it says that something was deleted.
    pub fn parse(key: &[u8]) -> Option<(Self, bool)> {
        let (revision, mark) = key.split_at_checked(REVISION_BYTES)?;
        let is_tombstone = match mark {
            [] => false,
            [b't'] => true,
            _ => return None,
        };
        let number = |at: usize| Some(i64::from_be_bytes(*revision.get(at..)?.first_chunk()?));
        let (main, sub) = (number(0)?, number(9)?);
        (revision[8] == b'_' && main >= 0 && sub >= 0).then_some((Self { main, sub }, is_tombstone))
    }
}

/// One record; what is absent there is 0 or empty.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct KeyValue<'a> {
    /// The user's key.
    pub key: &'a [u8],
    /// The revision that made it.
    pub create_revision: i64,
    /// The revision of this change.
    pub mod_revision: i64,
    /// Changes since it was made.
    pub version: i64,
    /// The user's value.
    pub value: &'a [u8],
    /// The lease that it ends with.
    pub lease: i64,
}

impl<'a> KeyValue<'a> {
    /// Reads a record; unknown fields are passed over. `None` if it is none.
    pub fn parse(bytes: &'a [u8]) -> Option<Self> {
        let (mut record, mut rest) = (Self::default(), bytes);
        while !rest.is_empty() {
            let tag = varint(&mut rest)?;
            let (field, wire) = (tag >> 3, tag & 7);
            let (number, content) = match wire {
                0 => (varint(&mut rest)?, [].as_slice()),
                1 => (0, take(&mut rest, 8)?),
                2 => {
                    let length = usize::try_from(varint(&mut rest)?).ok()?;
                    (0, take(&mut rest, length)?)
                }
                5 => (0, take(&mut rest, 4)?),
                _ => return None,
            };
            match (field, wire) {
                (1, 2) => record.key = content,
                (2, 0) => record.create_revision = number.cast_signed(),
                (3, 0) => record.mod_revision = number.cast_signed(),
                (4, 0) => record.version = number.cast_signed(),
                (5, 2) => record.value = content,
                (6, 0) => record.lease = number.cast_signed(),
                (0..=6, _) => return None,
                _ => {}
            }
        }
        Some(record)
    }

    /// Whether it is what etcd writes for this key of the bucket.
    pub(super) fn check(&self, revision: Revision, is_tombstone: bool) -> Result<(), BoltError> {
        let fail = |what: &str| Err(BoltError::Content(format!("revision {revision}: {what}")));
        if self.key.is_empty() {
            return fail("it names no key");
        }
        let others = [self.create_revision, self.mod_revision, self.version, self.lease];
        if is_tombstone {
            let is_bare = others == [0; 4] && self.value.is_empty();
            return if is_bare { Ok(()) } else { fail("a deleted key still has a value") };
        }
        if self.mod_revision != revision.main {
            return fail("its record is of another revision");
        }
        if self.create_revision < 1 || self.create_revision > self.mod_revision || self.version < 1 {
            return fail("its record was made after it was changed");
        }
        Ok(())
    }
}

fn take<'a>(rest: &mut &'a [u8], length: usize) -> Option<&'a [u8]> {
    let (taken, after) = rest.split_at_checked(length)?;
    *rest = after;
    Some(taken)
}

/// Reads a number of at most ten bytes.
pub(super) fn varint(rest: &mut &[u8]) -> Option<u64> {
    let mut number = 0_u64;
    for shift in (0..70).step_by(7) {
        let (byte, after) = rest.split_first()?;
        *rest = after;
        number |= u64::from(byte & 0x7f).checked_shl(shift)?;
        if byte & 0x80 == 0 {
            return Some(number);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(main: u64, sub: u64, mark: &[u8]) -> Vec<u8> {
        [&main.to_be_bytes()[..], b"_", &sub.to_be_bytes(), mark].concat()
    }

    #[test]
    fn a_key_is_a_revision_and_perhaps_a_mark() {
        assert_eq!(Revision::parse(&key(7, 2, b"")), Some((Revision { main: 7, sub: 2 }, false)));
        assert_eq!(Revision::parse(&key(7, 2, b"t")), Some((Revision { main: 7, sub: 2 }, true)));
        for wrong in [key(7, 2, b"x"), key(7, 2, b"tt"), key(u64::MAX, 2, b""), vec![0; 17], vec![]] {
            assert_eq!(Revision::parse(&wrong), None);
        }
    }

    #[test]
    fn a_record_is_read_and_judged() {
        let bytes = [10, 1, b'k', 16, 5, 24, 7, 32, 2, 42, 1, b'v', 48, 9];
        let record = KeyValue::parse(&bytes).unwrap();
        let expected = KeyValue { key: b"k", create_revision: 5, mod_revision: 7, version: 2, value: b"v", lease: 9 };
        assert_eq!(record, expected);
        let at = |main| Revision { main, sub: 0 };
        assert!(record.check(at(7), false).is_ok());
        assert!(record.check(at(8), false).is_err() && record.check(at(7), true).is_err());
        assert!(KeyValue { create_revision: 8, ..record }.check(at(7), false).is_err());
        assert!(KeyValue { key: b"k", ..KeyValue::default() }.check(at(7), true).is_ok());
    }

    #[test]
    fn a_cut_or_foreign_record_is_none() {
        let bytes = [10, 1, b'k', 16, 0x80, 1, 42, 1, b'v'];
        for length in [1, 2, 4, 5, 7, 8] {
            assert_eq!(KeyValue::parse(&bytes[..length]), None, "{length}");
        }
        assert_eq!(KeyValue::parse(&[8, 1]), None);
        assert_eq!(KeyValue::parse(&[0xff; 11]), None);
    }
}
