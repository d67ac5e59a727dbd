//! What the node answers.

use crate::DATA_BYTES_MAX;
use crate::entry::{Entry, Time, put_entries, take_entries};
use crate::frame::{Encoder, Frame};
use crate::wire::{Field, Malformed, Reader, fields};

/// One message from the node to the hub.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// To [`Hello`](crate::Request::Hello): who it is.
    Hello(Box<Hello>),
    /// The directories from `/` down to a root and the root itself, the first thing of a walk.
    Chain {
        /// The walk.
        stream: u64,
        /// Without `/`; the last one is the root.
        entries: Vec<Entry>,
    },
    /// Entries of one directory.
    Entries {
        /// The walk.
        stream: u64,
        /// The number of the directory.
        directory: u64,
        /// In the order of their names.
        entries: Vec<Entry>,
    },
    /// Names of owners and groups, each told once and before the first entry that needs it.
    Names {
        /// The walk.
        stream: u64,
        /// Names of owners.
        users: Vec<(u32, Vec<u8>)>,
        /// Names of groups.
        groups: Vec<(u32, Vec<u8>)>,
    },
    /// Nothing more comes below this directory.
    DirectoryDone {
        /// The walk.
        stream: u64,
        /// The number of the directory.
        directory: u64,
        /// How many entries of it were sent.
        entries: u64,
    },
    /// Nothing more comes of this walk.
    WalkDone {
        /// The walk.
        stream: u64,
        /// How many directories were entered.
        directories: u64,
        /// How many entries were sent, without the chain.
        entries: u64,
    },
    /// What was passed over without being a fault.
    Passed {
        /// The walk.
        stream: u64,
        /// Why: 0 excluded, 1 socket, 2 another file system, 3 vanished, 4 kept by another walk.
        reason: u8,
        /// How many.
        items: u64,
    },
    /// What could not be looked at.
    Problem {
        /// The walk.
        stream: u64,
        /// Its absolute path.
        path: Vec<u8>,
        /// Why.
        lost: Lost,
    },
    /// A piece of a file or of a command's output.
    Data {
        /// Whose.
        stream: u64,
        /// The bytes.
        bytes: Vec<u8>,
    },
    /// All of a piece was sent, or it could not be.
    ReadDone {
        /// The read.
        stream: u64,
        /// Why not.
        lost: Lost,
        /// The file as it was after the read.
        stamp: Stamp,
        /// Where it has data, if that was asked.
        data: Vec<(u64, u64)>,
        /// The last bytes of the piece: what is short needs no message of its own.
        bytes: Vec<u8>,
    },
    /// Which of the known ranges are unchanged.
    RangesDone {
        /// The request.
        stream: u64,
        /// Why that is not known.
        lost: Lost,
        /// One bit per range, the first in the lowest bit of the first byte.
        unchanged: Vec<u8>,
    },
    /// A command ended.
    DumpDone {
        /// The request.
        stream: u64,
        /// Why it was not started.
        lost: Lost,
        /// Its exit status; -1: killed by a signal.
        status: i32,
        /// The end of what it said on standard error.
        tail: Vec<u8>,
    },
    /// A sign of life.
    Pong {
        /// What came with the question.
        token: u64,
    },
}

/// Who the node is and what it may do.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Hello {
    /// Version of the program.
    pub version: Vec<u8>,
    /// The protocol that is spoken from now on.
    pub protocol: u32,
    /// `/etc/machine-id`.
    pub machine: Vec<u8>,
    /// Changes with each start of the system.
    pub boot: Vec<u8>,
    /// Release of the kernel.
    pub kernel: Vec<u8>,
    /// Architecture.
    pub arch: Vec<u8>,
    /// Whom it runs as.
    pub uid: u32,
    /// It may read what its user may not.
    pub reads_all: bool,
    /// The only roots that may be read; empty: all.
    pub roots: Vec<Vec<u8>>,
    /// Names of the commands that the node declares.
    pub dumps: Vec<Vec<u8>>,
    /// It also runs commands that the hub names.
    pub takes_commands: bool,
    /// Its clock.
    pub clock: Time,
    /// The kernel itself keeps it from writing.
    pub confined: bool,
}

/// Why something could not be done: 0 is success, else one of the system's numbers or one of the constants here.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Lost(pub u32);

impl Lost {
    /// Nothing is wrong.
    pub const NOTHING: Self = Self(0);
    /// The node's own list of roots or commands does not have it.
    pub const REFUSED: Self = Self(100_001);
    /// Another file lies there now.
    pub const REPLACED: Self = Self(100_002);
    /// The names of the directory do not fit into the program's memory.
    pub const TOO_MANY: Self = Self(100_003);
    /// The path is longer or deeper than a path may be.
    pub const TOO_DEEP: Self = Self(100_004);
    /// It took longer than it may.
    pub const TOO_SLOW: Self = Self(100_005);
    /// The same directory lies above.
    pub const LOOP: Self = Self(100_006);
}

/// What of a file shows that it changed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Stamp {
    /// Its length.
    pub size: u64,
    /// When its content last changed.
    pub mtime: Time,
    /// The file system that it lies on.
    pub device: u64,
    /// Its number there.
    pub inode: u64,
}

fields!(Hello {
    version,
    protocol,
    machine,
    boot,
    kernel,
    arch,
    uid,
    reads_all,
    roots,
    dumps,
    takes_commands,
    clock,
    confined,
});
fields!(Stamp { size, mtime, device, inode });

impl Field for Lost {
    fn put(&self, into: &mut Vec<u8>) {
        self.0.put(into);
    }

    fn take(from: &mut Reader<'_>) -> Result<Self, Malformed> {
        Ok(Self(u32::take(from)?))
    }
}

const HELLO: u8 = 65;
const CHAIN: u8 = 66;
const ENTRIES: u8 = 67;
const NAMES: u8 = 68;
const DIRECTORY_DONE: u8 = 69;
const WALK_DONE: u8 = 70;
const PASSED: u8 = 71;
const PROBLEM: u8 = 72;
const DATA: u8 = 73;
const READ_DONE: u8 = 74;
const RANGES_DONE: u8 = 75;
const DUMP_DONE: u8 = 76;
const PONG: u8 = 77;

impl Answer {
    /// The frame that carries it. `compress`: try; content that did not shrink before is not worth it.
    #[must_use]
    pub fn encode(&self, compress: bool) -> Vec<u8> {
        let mut frames = Vec::new();
        self.append(&[], compress, &mut Encoder::default(), &mut frames);
        frames
    }

    /// Puts it behind other frames, with further bytes at the end of those that it has; says whether it became shorter.
    pub fn append(&self, rest: &[u8], compress: bool, encoder: &mut Encoder, frames: &mut Vec<u8>) -> bool {
        encoder.append(frames, compress, |body| {
            let kind = self.put(body);
            body.extend_from_slice(rest);
            kind
        })
    }

    fn put(&self, body: &mut Vec<u8>) -> u8 {
        match self {
            Self::Hello(hello) => put(HELLO, &**hello, body),
            Self::Chain { stream, entries } => {
                stream.put(body);
                put_entries(entries, body);
                CHAIN
            }
            Self::Entries { stream, directory, entries } => {
                (*stream, *directory).put(body);
                put_entries(entries, body);
                ENTRIES
            }
            Self::Names { stream, users, groups } => {
                stream.put(body);
                users.put(body);
                put(NAMES, groups, body)
            }
            Self::DirectoryDone { stream, directory, entries } => {
                put(DIRECTORY_DONE, &((*stream, *directory), *entries), body)
            }
            Self::WalkDone { stream, directories, entries } => {
                put(WALK_DONE, &((*stream, *directories), *entries), body)
            }
            Self::Passed { stream, reason, items } => put(PASSED, &((*stream, *reason), *items), body),
            Self::Problem { stream, path, lost } => {
                stream.put(body);
                path.put(body);
                put(PROBLEM, lost, body)
            }
            Self::Data { stream, bytes } => {
                stream.put(body);
                body.extend_from_slice(bytes);
                DATA
            }
            Self::ReadDone { stream, lost, stamp, data, bytes } => {
                (*stream, *lost).put(body);
                stamp.put(body);
                data.put(body);
                body.extend_from_slice(bytes);
                READ_DONE
            }
            Self::RangesDone { stream, lost, unchanged } => {
                (*stream, *lost).put(body);
                put(RANGES_DONE, unchanged, body)
            }
            Self::DumpDone { stream, lost, status, tail } => {
                (*stream, *lost).put(body);
                status.put(body);
                put(DUMP_DONE, tail, body)
            }
            Self::Pong { token } => put(PONG, token, body),
        }
    }

    /// Reads what a frame carries; `None`: something newer that may be passed over.
    pub fn decode(frame: &Frame) -> Result<Option<Self>, Malformed> {
        let from = &mut Reader::new(&frame.body);
        let answer = match frame.kind {
            HELLO => Self::Hello(Box::new(Field::take(from)?)),
            CHAIN => Self::Chain { stream: Field::take(from)?, entries: take_entries(from)? },
            ENTRIES => {
                let (stream, directory) = Field::take(from)?;
                Self::Entries { stream, directory, entries: take_entries(from)? }
            }
            NAMES => Self::Names { stream: Field::take(from)?, users: Field::take(from)?, groups: Field::take(from)? },
            DIRECTORY_DONE => {
                let ((stream, directory), entries) = Field::take(from)?;
                Self::DirectoryDone { stream, directory, entries }
            }
            WALK_DONE => {
                let ((stream, directories), entries) = Field::take(from)?;
                Self::WalkDone { stream, directories, entries }
            }
            PASSED => {
                let ((stream, reason), items) = Field::take(from)?;
                Self::Passed { stream, reason, items }
            }
            PROBLEM => Self::Problem { stream: Field::take(from)?, path: Field::take(from)?, lost: Field::take(from)? },
            DATA => Self::Data { stream: Field::take(from)?, bytes: take_data(from)? },
            READ_DONE => {
                let (stream, lost) = Field::take(from)?;
                let (stamp, data) = (Field::take(from)?, Field::take(from)?);
                Self::ReadDone { stream, lost, stamp, data, bytes: take_data(from)? }
            }
            RANGES_DONE => {
                let (stream, lost) = Field::take(from)?;
                Self::RangesDone { stream, lost, unchanged: Field::take(from)? }
            }
            DUMP_DONE => {
                let (stream, lost) = Field::take(from)?;
                Self::DumpDone { stream, lost, status: Field::take(from)?, tail: Field::take(from)? }
            }
            PONG => Self::Pong { token: Field::take(from)? },
            _ if frame.ignorable => return Ok(None),
            _ => return Err(Malformed("an answer of an unknown kind")),
        };
        std::mem::replace(from, Reader::new(&[])).end()?;
        Ok(Some(answer))
    }

    /// The stream that it belongs to, if it belongs to one.
    pub fn stream(&self) -> Option<u64> {
        match self {
            Self::Hello(_) | Self::Pong { .. } => None,
            Self::Chain { stream, .. }
            | Self::Entries { stream, .. }
            | Self::Names { stream, .. }
            | Self::DirectoryDone { stream, .. }
            | Self::WalkDone { stream, .. }
            | Self::Passed { stream, .. }
            | Self::Problem { stream, .. }
            | Self::Data { stream, .. }
            | Self::ReadDone { stream, .. }
            | Self::RangesDone { stream, .. }
            | Self::DumpDone { stream, .. } => Some(*stream),
        }
    }
}

fn take_data(from: &mut Reader<'_>) -> Result<Vec<u8>, Malformed> {
    let bytes = from.rest();
    if bytes.len() > DATA_BYTES_MAX { Err(Malformed("a piece is too long")) } else { Ok(bytes.to_vec()) }
}

fn put(kind: u8, field: &impl Field, body: &mut Vec<u8>) -> u8 {
    field.put(body);
    kind
}
