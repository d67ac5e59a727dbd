//! What a directory holds: one entry with all that its status says, written as what differs from the entry before it.

use crate::wire::{Field, Malformed, Reader, put_bytes};
use crate::{ENTRIES_MAX, NAME_BYTES_MAX, PATH_BYTES_MAX, XATTR_BYTES_MAX};

/// An instant, in seconds since 1970 and nanoseconds after that.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Time {
    /// Negative before 1970.
    pub seconds: i64,
    /// Less than 10⁹.
    pub nanoseconds: u32,
}

/// What an entry is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EntryKind {
    /// A regular file.
    File,
    /// A directory. Its entries follow under this number; 0: it is not entered.
    Directory(u64),
    /// A symbolic link and where it points.
    Symlink(Vec<u8>),
    /// A block device and its number.
    BlockDevice(u64),
    /// A character device and its number.
    CharDevice(u64),
    /// A named pipe.
    Fifo,
}

/// One entry of a directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Its name there.
    pub name: Vec<u8>,
    /// What it is.
    pub kind: EntryKind,
    /// Permission bits, set-id and sticky bits.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Length of a file.
    pub size: u64,
    /// When its content last changed.
    pub mtime: Time,
    /// When anything of it last changed.
    pub ctime: Time,
    /// Number of its file system.
    pub device: u64,
    /// Number within the file system.
    pub inode: u64,
    /// Names of the same file.
    pub links: u64,
    /// Extended attributes in the kernel's order.
    pub xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    /// Some of the attributes are missing, for this reason of the system's.
    pub lost_xattrs: Option<u32>,
}

impl Field for Time {
    fn put(&self, into: &mut Vec<u8>) {
        self.seconds.put(into);
        self.nanoseconds.put(into);
    }

    fn take(from: &mut Reader<'_>) -> Result<Self, Malformed> {
        Ok(Self { seconds: i64::take(from)?, nanoseconds: u32::take(from)? })
    }
}

const SAME_OWNER: u32 = 1;
const SAME_DEVICE: u32 = 1 << 1;
const CTIME_IS_MTIME: u32 = 1 << 2;
const ONE_LINK: u32 = 1 << 3;
const HAS_XATTRS: u32 = 1 << 4;
const LOST_XATTRS: u32 = 1 << 5;
const FLAGS: u32 = (1 << 6) - 1;

/// Writes a list of entries.
pub(crate) fn put_entries(entries: &[Entry], into: &mut Vec<u8>) {
    (entries.len() as u64).put(into);
    let mut before = blank();
    for entry in entries {
        put_entry(entry, &before, into);
        before = shape(entry);
    }
}

/// Reads a list of entries.
pub(crate) fn take_entries(from: &mut Reader<'_>) -> Result<Vec<Entry>, Malformed> {
    let count = from.count(ENTRIES_MAX as u64)?;
    let (mut entries, mut before) = (Vec::new(), blank());
    for _ in 0..count {
        let entry = take_entry(from, &before)?;
        before = shape(&entry);
        entries.push(entry);
    }
    Ok(entries)
}

/// What the first entry is compared with.
fn blank() -> Entry {
    Entry {
        name: Vec::new(),
        kind: EntryKind::File,
        mode: 0o644,
        uid: 0,
        gid: 0,
        size: 0,
        mtime: Time::default(),
        ctime: Time::default(),
        device: 0,
        inode: 0,
        links: 1,
        xattrs: Vec::new(),
        lost_xattrs: None,
    }
}

/// What of an entry the next one is compared with.
fn shape(entry: &Entry) -> Entry {
    Entry { name: entry.name.clone(), kind: EntryKind::File, xattrs: Vec::new(), ..*entry }
}

fn put_entry(entry: &Entry, before: &Entry, into: &mut Vec<u8>) {
    let owner = |entry: &Entry| (entry.mode, entry.uid, entry.gid);
    let flags = [
        (owner(entry) == owner(before), SAME_OWNER),
        (entry.device == before.device, SAME_DEVICE),
        (entry.ctime == entry.mtime, CTIME_IS_MTIME),
        (entry.links == 1, ONE_LINK),
        (!entry.xattrs.is_empty(), HAS_XATTRS),
        (entry.lost_xattrs.is_some(), LOST_XATTRS),
    ];
    let flags = flags.iter().filter(|(is_so, _)| *is_so).fold(0, |flags, (_, flag)| flags | flag);
    flags.put(into);
    let shared =
        entry.name.iter().zip(&before.name).take_while(|(one, other)| one == other).count().min(NAME_BYTES_MAX);
    into.push(shared as u8);
    put_bytes(&entry.name[shared..], into);
    put_kind(&entry.kind, into);
    if flags & SAME_OWNER == 0 {
        entry.mode.put(into);
        entry.uid.put(into);
        entry.gid.put(into);
    }
    entry.size.put(into);
    put_time(entry.mtime, before.mtime, into);
    if flags & CTIME_IS_MTIME == 0 {
        put_time(entry.ctime, before.ctime, into);
    }
    if flags & SAME_DEVICE == 0 {
        entry.device.put(into);
    }
    entry.inode.wrapping_sub(before.inode).cast_signed().put(into);
    if flags & ONE_LINK == 0 {
        entry.links.put(into);
    }
    if flags & HAS_XATTRS != 0 {
        (entry.xattrs.len() as u64).put(into);
        for (name, value) in &entry.xattrs {
            put_bytes(name, into);
            put_bytes(value, into);
        }
    }
    if let Some(reason) = entry.lost_xattrs {
        reason.put(into);
    }
}

fn take_entry(from: &mut Reader<'_>, before: &Entry) -> Result<Entry, Malformed> {
    let flags = u32::take(from)?;
    if flags & !FLAGS != 0 {
        return Err(Malformed("an entry has unknown flags"));
    }
    let shared = usize::from(u8::take(from)?);
    let mut name = before.name.get(..shared).ok_or(Malformed("a name shares more than there is"))?.to_vec();
    name.extend_from_slice(from.bytes(NAME_BYTES_MAX)?);
    let kind = take_kind(from)?;
    let (mode, uid, gid) = match flags & SAME_OWNER {
        0 => (u32::take(from)?, u32::take(from)?, u32::take(from)?),
        _ => (before.mode, before.uid, before.gid),
    };
    let size = u64::take(from)?;
    let mtime = take_time(from, before.mtime)?;
    let ctime = if flags & CTIME_IS_MTIME == 0 { take_time(from, before.ctime)? } else { mtime };
    let device = if flags & SAME_DEVICE == 0 { u64::take(from)? } else { before.device };
    let inode = before.inode.wrapping_add(i64::take(from)?.cast_unsigned());
    let links = if flags & ONE_LINK == 0 { u64::take(from)? } else { 1 };
    let xattrs = if flags & HAS_XATTRS == 0 { Vec::new() } else { take_xattrs(from)? };
    let lost_xattrs = (flags & LOST_XATTRS != 0).then(|| u32::take(from)).transpose()?;
    Ok(Entry { name, kind, mode, uid, gid, size, mtime, ctime, device, inode, links, xattrs, lost_xattrs })
}

fn put_time(time: Time, before: Time, into: &mut Vec<u8>) {
    time.seconds.wrapping_sub(before.seconds).put(into);
    time.nanoseconds.put(into);
}

fn take_time(from: &mut Reader<'_>, before: Time) -> Result<Time, Malformed> {
    let seconds = before.seconds.wrapping_add(i64::take(from)?);
    Ok(Time { seconds, nanoseconds: u32::take(from)? })
}

fn put_kind(kind: &EntryKind, into: &mut Vec<u8>) {
    match kind {
        EntryKind::File => into.push(0),
        EntryKind::Directory(number) => {
            into.push(1);
            number.put(into);
        }
        EntryKind::Symlink(target) => {
            into.push(2);
            put_bytes(target, into);
        }
        EntryKind::BlockDevice(number) => {
            into.push(3);
            number.put(into);
        }
        EntryKind::CharDevice(number) => {
            into.push(4);
            number.put(into);
        }
        EntryKind::Fifo => into.push(5),
    }
}

fn take_kind(from: &mut Reader<'_>) -> Result<EntryKind, Malformed> {
    Ok(match u8::take(from)? {
        0 => EntryKind::File,
        1 => EntryKind::Directory(u64::take(from)?),
        2 => EntryKind::Symlink(from.bytes(PATH_BYTES_MAX)?.to_vec()),
        3 => EntryKind::BlockDevice(u64::take(from)?),
        4 => EntryKind::CharDevice(u64::take(from)?),
        5 => EntryKind::Fifo,
        _ => return Err(Malformed("an entry is of an unknown kind")),
    })
}

/// Name and value.
type NamedBytes = (Vec<u8>, Vec<u8>);

fn take_xattrs(from: &mut Reader<'_>) -> Result<Vec<NamedBytes>, Malformed> {
    let count = from.count(XATTR_BYTES_MAX as u64)?;
    let mut xattrs = Vec::new();
    for _ in 0..count {
        let name = from.bytes(NAME_BYTES_MAX)?.to_vec();
        xattrs.push((name, from.bytes(XATTR_BYTES_MAX)?.to_vec()));
    }
    Ok(xattrs)
}
