//! What the hub asks for.

use crate::frame::Frame;
use crate::wire::{Field, Malformed, Reader, fields};
use crate::{PROTOCOL, RANGES_MAX};

/// One message from the hub to the node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Request {
    /// The first one.
    Hello(Greeting),
    /// Names all that lies below a root.
    Walk(Walk),
    /// Reads a piece of a file.
    Read(ReadRequest),
    /// Says which pieces of a file still are what they were.
    Ranges {
        /// Which file; `offset` is where the first piece begins, `length` and `layout` say nothing.
        file: ReadRequest,
        /// Length and SHA-256 of each piece, one after the other.
        ranges: Vec<(u64, [u8; 32])>,
    },
    /// Runs a declared command and sends its output.
    Dump {
        /// Under this number.
        stream: u64,
        /// Its name.
        name: Vec<u8>,
        /// Program and arguments, where the node has no list of its own.
        command: Vec<Vec<u8>>,
        /// It is killed after so many seconds; 0: never.
        seconds: u64,
    },
    /// Other limits, from now on.
    Limits {
        /// Bytes per second; 0: as many as can be.
        rate: u64,
    },
    /// The stream may send so much more.
    Credit {
        /// Which stream.
        stream: u64,
        /// Bytes of a command's output, or entries of a walk.
        bytes: u64,
    },
    /// Nobody wants the rest of this stream.
    Cancel {
        /// Which stream.
        stream: u64,
    },
    /// Asks for a sign of life.
    Ping {
        /// Comes back with it.
        token: u64,
    },
    /// The end.
    Bye,
}

/// What the hub says first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Greeting {
    /// The oldest protocol that it speaks.
    pub protocol_min: u32,
    /// The newest.
    pub protocol_max: u32,
    /// Which run this is, for the node's log.
    pub run: Vec<u8>,
    /// Bytes per second; 0: as many as can be.
    pub rate: u64,
    /// How far to stand back for others' work: 0 to 19.
    pub nice: u8,
}

impl Greeting {
    /// Of a hub of this build.
    pub fn new(run: &str) -> Self {
        Self { protocol_min: PROTOCOL, protocol_max: PROTOCOL, run: run.as_bytes().to_vec(), rate: 0, nice: 0 }
    }
}

/// What is walked, and what is left out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Walk {
    /// Under this number.
    pub stream: u64,
    /// Absolute path of the root.
    pub root: Vec<u8>,
    /// Patterns of what is left out, over absolute paths.
    pub excludes: Vec<Vec<u8>>,
    /// Absolute paths that are left to another walk.
    pub stops: Vec<Vec<u8>>,
    /// Stay on the root's file system.
    pub one_file_system: bool,
    /// File systems of these types are not entered; `*` at the end stands for anything.
    pub skipped_types: Vec<Vec<u8>>,
    /// Tell extended attributes.
    pub xattrs: bool,
    /// Leave out what lies in directories that are marked as caches.
    pub exclude_caches: bool,
    /// Entries that may be sent before there is more credit.
    pub credit: u64,
}

/// A piece of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReadRequest {
    /// Under this number.
    pub stream: u64,
    /// The root that the file lies below.
    pub root: Vec<u8>,
    /// Its path below the root; empty: the root itself.
    pub path: Vec<u8>,
    /// The file system that it was seen on; 0: any.
    pub device: u64,
    /// The number that it had there; 0: any.
    pub inode: u64,
    /// Where the piece begins.
    pub offset: u64,
    /// Its length.
    pub length: u64,
    /// Say where the file has data.
    pub layout: bool,
}

fields!(Greeting { protocol_min, protocol_max, run, rate, nice });
fields!(Walk { stream, root, excludes, stops, one_file_system, skipped_types, xattrs, exclude_caches, credit });
fields!(ReadRequest { stream, root, path, device, inode, offset, length, layout });

const HELLO: u8 = 1;
const WALK: u8 = 2;
const READ: u8 = 3;
const RANGES: u8 = 4;
const DUMP: u8 = 5;
const LIMITS: u8 = 6;
const CREDIT: u8 = 7;
const CANCEL: u8 = 8;
const PING: u8 = 9;
const BYE: u8 = 10;

impl Request {
    /// The frame that carries it.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut body = Vec::new();
        let kind = match self {
            Self::Hello(greeting) => put(HELLO, greeting, &mut body),
            Self::Walk(walk) => put(WALK, walk, &mut body),
            Self::Read(read) => put(READ, read, &mut body),
            Self::Ranges { file, ranges } => {
                file.put(&mut body);
                put(RANGES, ranges, &mut body)
            }
            Self::Dump { stream, name, command, seconds } => {
                stream.put(&mut body);
                name.put(&mut body);
                command.put(&mut body);
                put(DUMP, seconds, &mut body)
            }
            Self::Limits { rate } => put(LIMITS, rate, &mut body),
            Self::Credit { stream, bytes } => put(CREDIT, &(*stream, *bytes), &mut body),
            Self::Cancel { stream } => put(CANCEL, stream, &mut body),
            Self::Ping { token } => put(PING, token, &mut body),
            Self::Bye => BYE,
        };
        crate::frame::encode(kind, &body, false)
    }

    /// Reads what a frame carries; `None`: something newer that may be passed over.
    pub fn decode(frame: &Frame) -> Result<Option<Self>, Malformed> {
        let from = &mut Reader::new(&frame.body);
        let request = match frame.kind {
            HELLO => Self::Hello(Field::take(from)?),
            WALK => Self::Walk(Field::take(from)?),
            READ => Self::Read(Field::take(from)?),
            RANGES => {
                let (file, ranges) = (Field::take(from)?, Vec::take(from)?);
                if ranges.len() > RANGES_MAX {
                    return Err(Malformed("too many ranges"));
                }
                Self::Ranges { file, ranges }
            }
            DUMP => Self::Dump {
                stream: Field::take(from)?,
                name: Field::take(from)?,
                command: Field::take(from)?,
                seconds: Field::take(from)?,
            },
            LIMITS => Self::Limits { rate: Field::take(from)? },
            CREDIT => Self::Credit { stream: Field::take(from)?, bytes: Field::take(from)? },
            CANCEL => Self::Cancel { stream: Field::take(from)? },
            PING => Self::Ping { token: Field::take(from)? },
            BYE => Self::Bye,
            _ if frame.ignorable => return Ok(None),
            _ => return Err(Malformed("a request of an unknown kind")),
        };
        std::mem::replace(from, Reader::new(&[])).end()?;
        Ok(Some(request))
    }
}

fn put(kind: u8, field: &impl Field, body: &mut Vec<u8>) -> u8 {
    field.put(body);
    kind
}
