//! Pure: what an artifact holds, as `find` prints it with zeros between. Names are bytes and may hold anything else.

use std::collections::HashMap;

use jiff::Timestamp;

use crate::item::{Kind, Metadata};

/// What `find` prints of each entry; the target of a link comes after it.
pub(crate) const FORMAT: &str = r"%y %m %U %G %s %T@ %i %n %P\0%l\0";

/// One entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Listed {
    /// Below the artifact; empty for itself.
    pub(crate) name: Vec<u8>,
    /// `None`: what cannot be stored.
    pub(crate) kind: Option<Kind>,
    pub(crate) metadata: Metadata,
    /// What it takes on its disk beyond what lies elsewhere, in bytes: nothing if it has a name outside the artifact.
    pub(crate) own_bytes: u64,
}

/// Reads it; `None` if it is none.
pub(crate) fn parse(output: &[u8]) -> Option<Vec<Listed>> {
    let mut fields = output.split(|byte| *byte == 0);
    let mut entries = Vec::new();
    loop {
        let line = fields.next()?;
        let Some(target) = fields.next() else {
            pair_links(&mut entries);
            return line.is_empty().then_some(entries);
        };
        entries.push(entry(line, target)?);
    }
}

fn entry(line: &[u8], target: &[u8]) -> Option<Listed> {
    let mut parts = line.splitn(9, |byte| *byte == b' ');
    let mut next = || parts.next().and_then(|part| std::str::from_utf8(part).ok());
    let kind = match next()? {
        "d" => Some(Kind::Directory),
        "f" => Some(Kind::File),
        "l" => Some(Kind::Symlink(target.to_vec())),
        "p" => Some(Kind::Fifo),
        _ => None,
    };
    let mode = u32::from_str_radix(next()?, 8).ok()?;
    let (uid, gid) = (next()?.parse().ok()?, next()?.parse().ok()?);
    let size = next()?.parse().ok()?;
    let mtime = time(next()?)?;
    let inode = next()?.parse().ok()?;
    let names = next()?.parse().ok()?;
    let size = if kind == Some(Kind::File) { size } else { 0 };
    let metadata = Metadata { mode, uid, gid, mtime, size, inode: Some(inode), links: names, ..Metadata::default() };
    Some(Listed { name: parts.next()?.to_vec(), kind, metadata, own_bytes: 0 })
}

/// `1700000000.1234567890`: seconds and a fraction of more digits than there are.
fn time(text: &str) -> Option<Timestamp> {
    let (seconds, fraction) = text.split_once('.').unwrap_or((text, "0"));
    let digits: String = fraction.chars().chain("000000000".chars()).take(9).collect();
    let (seconds, nanoseconds): (i64, i32) = (seconds.parse().ok()?, digits.parse().ok()?);
    // Before 1970 the fraction still counts upwards.
    Timestamp::from_second(seconds).ok()?.checked_add(jiff::SignedDuration::from_nanos(nanoseconds.into())).ok()
}

/// Keeps the numbers of files that have two names here. All others may be links to what is outside, and change with it.
fn pair_links(entries: &mut [Listed]) {
    let mut counts: HashMap<u64, u64> = HashMap::new();
    for entry in entries.iter().filter(|entry| entry.kind == Some(Kind::File)) {
        *counts.entry(entry.metadata.inode.unwrap_or_default()).or_default() += 1;
    }
    for entry in entries {
        let names = entry.metadata.inode.and_then(|inode| counts.get(&inode)).copied().unwrap_or(1);
        // Of several names of the same file each counts a part.
        let is_own = entry.kind == Some(Kind::File) && entry.metadata.links <= names;
        entry.own_bytes = if is_own { entry.metadata.size / names } else { 0 };
        entry.metadata.links = 1;
        if names < 2 || entry.kind != Some(Kind::File) {
            entry.metadata.inode = None;
        } else {
            entry.metadata.links = names;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_of_entry_is_read_whatever_its_name() {
        let output = b"d 755 0 0 4096 1700000000.5000000000 7 2 \0\0f 4600 1000 1001 12 1700000000.1234567891 8 2 a b\nc\0\0\
            l 777 0 0 3 -1.5000000000 9 1 l\0x y\0s 755 0 0 0 0.0 10 1 sock\0\0f 600 0 0 8 0.0 11 2 h1\0\0f 600 0 0 8 0.0 11 2 h2\0\0";
        let entries = parse(output).unwrap();
        assert_eq!(entries.len(), 6);
        assert_eq!((entries[0].name.as_slice(), &entries[0].kind), (&b""[..], &Some(Kind::Directory)));
        let file = &entries[1];
        assert_eq!((file.name.as_slice(), file.metadata.mode, file.metadata.size), (&b"a b\nc"[..], 0o4600, 12));
        assert_eq!(file.metadata.mtime.as_nanosecond(), 1_700_000_000_123_456_789);
        assert_eq!((file.metadata.uid, file.metadata.gid, file.metadata.inode), (1000, 1001, None));
        assert_eq!(entries[2].kind, Some(Kind::Symlink(b"x y".to_vec())));
        assert_eq!(entries[3].kind, None);
        assert_eq!((entries[4].metadata.inode, entries[4].metadata.links), (Some(11), 2));
        let own: Vec<u64> = entries.iter().map(|entry| entry.own_bytes).collect();
        assert_eq!(own, [0, 0, 0, 0, 4, 4], "what has a name elsewhere takes nothing");
    }

    #[test]
    fn what_is_cut_is_no_list() {
        assert_eq!(parse(b""), Some(Vec::new()));
        for output in
            [&b"d 755 0 0 4096 1.0 7 2 "[..], b"d 755 0 0 4096 1.0 7 2 \0", b"x\0\0", b"f 600 0 0 z 1.0 7 1 a\0\0"]
        {
            assert_eq!(parse(output), None, "{:?}", String::from_utf8_lossy(output));
        }
    }
}
