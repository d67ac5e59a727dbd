//! What a message must keep to beyond its form. The hub holds every answer to it, the node every request: a name that
//! could lead out of its directory is refused before anybody uses it.

use std::collections::HashMap;

use crate::entry::{Entry, EntryKind};
use crate::wire::Malformed;
use crate::{Answer, DEPTH_MAX, NAME_BYTES_MAX, PATH_BYTES_MAX, XATTRS_BYTES_MAX};

/// Most entries that one run may bring.
const ENTRIES_PER_RUN_MAX: u64 = 1 << 32;
/// Most directories whose end is awaited, a whole level of each on the way down.
const OPEN_MAX: usize = 4 << 20;
/// Most names of owners, and of groups.
const NAMES_MAX: usize = 1 << 20;

/// A name of one component: not empty, `.` or `..`, without `/` and NUL, not longer than a name may be.
pub fn name(name: &[u8]) -> Result<(), Malformed> {
    if matches!(name, b"" | b"." | b"..") || name.contains(&0) || name.contains(&b'/') || name.len() > NAME_BYTES_MAX {
        return Err(Malformed("a name is none"));
    }
    Ok(())
}

/// A path of components, relative; the empty one is allowed.
pub fn relative(path: &[u8]) -> Result<(), Malformed> {
    if path.len() > PATH_BYTES_MAX {
        return Err(Malformed("a path is too long"));
    }
    if path.is_empty() { Ok(()) } else { path.split(|byte| *byte == b'/').try_for_each(name) }
}

/// An absolute path; `/` is allowed.
pub fn absolute(path: &[u8]) -> Result<(), Malformed> {
    let rest = path.strip_prefix(b"/").ok_or(Malformed("a path is not absolute"))?;
    relative(rest)
}

/// An entry by itself.
pub fn entry(entry: &Entry) -> Result<(), Malformed> {
    name(&entry.name)?;
    if entry.mode & !0o7777 != 0 {
        return Err(Malformed("a mode has more than permissions"));
    }
    if entry.mtime.nanoseconds >= 1_000_000_000 || entry.ctime.nanoseconds >= 1_000_000_000 {
        return Err(Malformed("an instant has too many nanoseconds"));
    }
    if matches!(&entry.kind, EntryKind::Symlink(target) if target.is_empty() || target.contains(&0)) {
        return Err(Malformed("a link points nowhere"));
    }
    let length = |(name, value): &(Vec<u8>, Vec<u8>)| name.len() + value.len();
    if entry.xattrs.iter().map(length).sum::<usize>() > XATTRS_BYTES_MAX {
        return Err(Malformed("there are too many extended attributes"));
    }
    if entry.xattrs.iter().any(|(name, _)| name.is_empty() || name.contains(&0)) {
        return Err(Malformed("an extended attribute has no name"));
    }
    Ok(())
}

/// Watches one walk: each directory is announced before its entries, ended once and after all below it, and the counts
/// are right.
#[derive(Debug, Default)]
pub struct WalkCheck {
    open: HashMap<u64, Open>,
    begun: bool,
    directories: u64,
    entries: u64,
    names: (usize, usize),
}

#[derive(Debug)]
struct Open {
    above: u64,
    entries: u64,
    below: u64,
    depth: usize,
}

impl WalkCheck {
    /// Takes an answer of the walk, or says why it cannot be one.
    pub fn take(&mut self, answer: &Answer) -> Result<(), Malformed> {
        match answer {
            Answer::Chain { entries, .. } => self.chain(entries),
            Answer::Entries { directory, entries, .. } => self.add(*directory, entries),
            Answer::DirectoryDone { directory, entries, .. } => self.close(*directory, *entries),
            Answer::WalkDone { directories, entries, .. } => self.end(*directories, *entries),
            Answer::Names { users, groups, .. } => {
                self.names.0 += users.len();
                self.names.1 += groups.len();
                let too_long = |(_, name): &(u32, Vec<u8>)| name.len() > NAME_BYTES_MAX;
                if self.names.0.max(self.names.1) > NAMES_MAX || users.iter().chain(groups).any(too_long) {
                    return Err(Malformed("there are too many names of owners"));
                }
                Ok(())
            }
            Answer::Problem { path, .. } => absolute(path),
            Answer::Passed { .. } => Ok(()),
            _ => Err(Malformed("this is no answer to a walk")),
        }
    }

    fn chain(&mut self, entries: &[Entry]) -> Result<(), Malformed> {
        if std::mem::replace(&mut self.begun, true) {
            return Err(Malformed("a walk begins twice"));
        }
        entries.iter().try_for_each(entry)?;
        let above = entries.split_last().map_or(&[][..], |(_, above)| above);
        if above.iter().any(|entry| !matches!(entry.kind, EntryKind::Directory(_))) {
            return Err(Malformed("a root lies in what is no directory"));
        }
        match entries.last().map(|root| &root.kind) {
            Some(EntryKind::Directory(number)) if *number != 0 => self.announce(*number, 0, 0),
            Some(_) => Ok(()),
            None => self.announce(1, 0, 0), // the root is `/`
        }
    }

    fn announce(&mut self, number: u64, above: u64, depth: usize) -> Result<(), Malformed> {
        if depth > DEPTH_MAX || self.open.len() >= OPEN_MAX {
            return Err(Malformed("a tree is too deep"));
        }
        let before = self.open.insert(number, Open { above, entries: 0, below: 0, depth });
        self.directories += 1;
        if before.is_some() { Err(Malformed("a directory is announced twice")) } else { Ok(()) }
    }

    fn add(&mut self, directory: u64, entries: &[Entry]) -> Result<(), Malformed> {
        self.entries += entries.len() as u64;
        if self.entries > ENTRIES_PER_RUN_MAX {
            return Err(Malformed("there are too many entries"));
        }
        let open = self.open.get_mut(&directory).ok_or(Malformed("entries of an unknown directory"))?;
        open.entries += entries.len() as u64;
        let depth = open.depth + 1;
        for one in entries {
            entry(one)?;
            if let EntryKind::Directory(number) = one.kind
                && number != 0
            {
                self.announce(number, directory, depth)?;
                if let Some(open) = self.open.get_mut(&directory) {
                    open.below += 1;
                }
            }
        }
        Ok(())
    }

    fn close(&mut self, directory: u64, entries: u64) -> Result<(), Malformed> {
        let open = self.open.remove(&directory).ok_or(Malformed("the end of an unknown directory"))?;
        if open.below > 0 || open.entries != entries {
            return Err(Malformed("a directory ends before all of it came"));
        }
        if let Some(above) = self.open.get_mut(&open.above) {
            above.below -= 1;
        }
        Ok(())
    }

    fn end(&self, directories: u64, entries: u64) -> Result<(), Malformed> {
        if !self.open.is_empty() || directories != self.directories || entries != self.entries {
            return Err(Malformed("a walk ends before all of it came"));
        }
        Ok(())
    }
}
