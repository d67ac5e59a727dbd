//! What a hub sends to a host that takes files back, and the one answer to all of it. No answer before the end: whoever
//! sends never has to listen meanwhile.

use crate::check;
use crate::entry::{Entry, put_entries, take_entries};
use crate::frame::{self, Frame};
use crate::wire::{Field, Malformed, Reader, fields};
use crate::{DATA_BYTES_MAX, Lost};

/// Most problems that are told one by one.
pub const PROBLEMS_MAX: usize = 1000;

/// One step of a restore. A path lies below the place that everything goes to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Put {
    /// Makes an entry. A file stays open and takes bytes until it is finished.
    Make {
        /// The directory that it lies in.
        above: Vec<u8>,
        /// What it is.
        entry: Entry,
    },
    /// Bytes of the open file; what no bytes come for stays a hole.
    Fill {
        /// Where they belong.
        offset: u64,
        /// The bytes.
        bytes: Vec<u8>,
    },
    /// Nothing more comes for an entry: it gets its owner, its rights, its attributes and its times.
    Finish {
        /// The directory that it lies in.
        above: Vec<u8>,
        /// All of it.
        entry: Entry,
        /// Name of the owner, which counts before the number; empty: none.
        user: Vec<u8>,
        /// Name of the group.
        group: Vec<u8>,
    },
    /// Another name of a file that is finished.
    Link {
        /// The directory that it lies in.
        above: Vec<u8>,
        /// The new name.
        name: Vec<u8>,
        /// Path of the file.
        to: Vec<u8>,
    },
    /// The end.
    End,
}

/// What became of it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Written {
    /// Files and further names of files.
    pub files: u64,
    /// Directories.
    pub directories: u64,
    /// All else.
    pub others: u64,
    /// Bytes of content, without holes.
    pub bytes: u64,
    /// Entries whose owner stayed that of the program, which is not root.
    pub owned: u64,
    /// Paths, each with why it is not as it should be.
    pub problems: Vec<(u32, Vec<u8>)>,
    /// How many more problems there are.
    pub more: u64,
}

impl Written {
    /// Notes a problem.
    pub fn problem(&mut self, path: Vec<u8>, lost: Lost) {
        if self.problems.len() < PROBLEMS_MAX {
            self.problems.push((lost.0, path));
        } else {
            self.more += 1;
        }
    }
}

fields!(Written { files, directories, others, bytes, owned, problems, more });

const MAKE: u8 = 129;
const FILL: u8 = 130;
const FINISH: u8 = 131;
const LINK: u8 = 132;
const END: u8 = 133;
const WRITTEN: u8 = 134;

impl Put {
    /// The frame that carries it.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut body = Vec::new();
        let kind = match self {
            Self::Make { above, entry } => {
                above.put(&mut body);
                put_entries(std::slice::from_ref(entry), &mut body);
                MAKE
            }
            Self::Fill { offset, bytes } => {
                offset.put(&mut body);
                body.extend_from_slice(bytes);
                FILL
            }
            Self::Finish { above, entry, user, group } => {
                above.put(&mut body);
                put_entries(std::slice::from_ref(entry), &mut body);
                user.put(&mut body);
                group.put(&mut body);
                FINISH
            }
            Self::Link { above, name, to } => {
                (above.clone(), name.clone()).put(&mut body);
                to.put(&mut body);
                LINK
            }
            Self::End => END,
        };
        frame::encode(kind, &body, true)
    }

    /// Reads what a frame carries, and holds it to what paths and names may be.
    pub fn decode(frame: &Frame) -> Result<Self, Malformed> {
        let from = &mut Reader::new(&frame.body);
        let put = match frame.kind {
            MAKE => Self::Make { above: take_path(from)?, entry: take_one(from)? },
            FILL => {
                let (offset, bytes) = (u64::take(from)?, from.rest());
                if bytes.len() > DATA_BYTES_MAX {
                    return Err(Malformed("a piece is too long"));
                }
                Self::Fill { offset, bytes: bytes.to_vec() }
            }
            FINISH => Self::Finish {
                above: take_path(from)?,
                entry: take_one(from)?,
                user: Field::take(from)?,
                group: Field::take(from)?,
            },
            LINK => {
                let (above, name, to) = (take_path(from)?, Vec::take(from)?, take_path(from)?);
                check::name(&name)?;
                Self::Link { above, name, to }
            }
            END => Self::End,
            _ => return Err(Malformed("a step of an unknown kind")),
        };
        std::mem::replace(from, Reader::new(&[])).end()?;
        Ok(put)
    }
}

impl Written {
    /// The frame that carries it.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut body = Vec::new();
        self.put(&mut body);
        frame::encode(WRITTEN, &body, true)
    }

    /// Reads what a frame carries.
    pub fn decode(frame: &Frame) -> Result<Self, Malformed> {
        if frame.kind != WRITTEN {
            return Err(Malformed("this is no answer to a restore"));
        }
        let mut from = Reader::new(&frame.body);
        let written: Self = Field::take(&mut from)?;
        from.end()?;
        if written.problems.len() > PROBLEMS_MAX {
            return Err(Malformed("there are too many problems"));
        }
        written.problems.iter().try_for_each(|(_, path)| check::relative(path))?;
        Ok(written)
    }
}

fn take_path(from: &mut Reader<'_>) -> Result<Vec<u8>, Malformed> {
    let path = Vec::take(from)?;
    check::relative(&path)?;
    Ok(path)
}

fn take_one(from: &mut Reader<'_>) -> Result<Entry, Malformed> {
    let mut entries = take_entries(from)?;
    let entry = entries.pop().filter(|_| entries.is_empty()).ok_or(Malformed("a step is not of one entry"))?;
    check::entry(&entry)?;
    Ok(entry)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::Decoder;
    use crate::{EntryKind, Time};

    fn frame(bytes: &[u8]) -> Frame {
        let mut decoder = Decoder::default();
        decoder.push(bytes);
        decoder.next_frame().unwrap().unwrap()
    }

    fn entry(name: &[u8]) -> Entry {
        Entry {
            name: name.to_vec(),
            kind: EntryKind::Symlink(b"elsewhere".to_vec()),
            mode: 0o777,
            uid: 5,
            gid: 6,
            size: 0,
            mtime: Time { seconds: -7, nanoseconds: 8 },
            ctime: Time::default(),
            device: 0,
            inode: 0,
            links: 1,
            xattrs: vec![(b"user.a".to_vec(), vec![0, 255])],
            lost_xattrs: None,
        }
    }

    #[test]
    fn steps_come_out_as_they_went_in() {
        let (above, user) = (b"a/b".to_vec(), b"root".to_vec());
        for put in [
            Put::Make { above: above.clone(), entry: entry(b"x") },
            Put::Fill { offset: 1 << 40, bytes: vec![7; 1000] },
            Put::Finish { above: Vec::new(), entry: entry(b"x"), user, group: Vec::new() },
            Put::Link { above: above.clone(), name: b"y".to_vec(), to: b"a/x".to_vec() },
            Put::End,
        ] {
            assert_eq!(Put::decode(&frame(&put.encode())).unwrap(), put);
        }
        let mut written = Written { files: 1, bytes: 2, ..Written::default() };
        written.problem(above, Lost(13));
        assert_eq!(Written::decode(&frame(&written.encode())).unwrap(), written);
    }

    #[test]
    fn a_path_that_leads_out_is_no_step() {
        for above in [&b"../x"[..], b"/x", b"a//b", b"a/."] {
            assert!(Put::decode(&frame(&Put::Make { above: above.to_vec(), entry: entry(b"x") }.encode())).is_err());
        }
        let link = Put::Link { above: Vec::new(), name: b"..".to_vec(), to: b"x".to_vec() };
        assert!(Put::decode(&frame(&link.encode())).is_err());
    }
}
