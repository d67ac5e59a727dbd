//! Files inside a disk image: its partitions, and what of ext2, ext3, ext4 and XFS is on them, read and never written.
//!
//! An image is written by a stranger. Nothing that it says is believed: every offset is compared with where the file
//! system ends, every tree must descend and ascend in order so that none leads to itself, every list has a named
//! maximum, and what is held does not grow with what the image claims. What does not hold is [`DiskError::Damaged`].
//!
//! [`Disk`] finds the partitions, [`Disk::file_system`] opens one. A [`FileSystem`] is asked by the numbers of inodes.
//! No crate does it: those that there are hold the whole image, or all that the image says of its groups and its
//! journal, and tell neither names of one file, nor holes, nor attributes.

mod acl;
mod ext;
mod volume;
mod xfs;

use std::collections::HashSet;
use std::io;
use std::sync::Arc;

use crate::item::{Kind, Metadata};
use crate::openstack::image::{
    Format, ImageBytes, ImageError, Inspection, Qcow2, State, Table, inspect, inspect_backup,
};

pub(crate) use volume::Volume;

/// The most entries of one directory.
const ENTRIES_MAX: usize = 1 << 20;
/// The most bytes of one directory.
const DIRECTORY_BYTES_MAX: u64 = 1 << 30;
/// The longest target of a symbolic link, in bytes.
const TARGET_MAX: u64 = 4096;
/// The most bytes of the attributes of one inode.
const ATTRIBUTES_MAX: usize = 1 << 17;

/// Why something on a disk is not read.
#[derive(Debug, thiserror::Error)]
pub enum DiskError {
    /// It is of a kind that is not read; the text says which.
    #[error("{0}")]
    Unsupported(String),
    /// It is damaged, or made to do damage.
    #[error("the file system is damaged: {0}")]
    Damaged(String),
    /// The bytes of the image cannot be had.
    #[error("the image cannot be read: {0}")]
    Read(#[from] io::Error),
}

/// The answer of a call.
pub type Result<T> = std::result::Result<T, DiskError>;

fn damaged(what: impl Into<String>) -> DiskError {
    DiskError::Damaged(what.into())
}

/// A part of a disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// The partition's number; `None`: the whole disk.
    pub number: Option<u32>,
    /// Where it begins, in bytes of the disk.
    pub start: u64,
    /// Its length in bytes.
    pub length: u64,
    /// What its superblock says it is; `None`: nothing that is known.
    pub kind: Option<String>,
    /// Whether it was at rest.
    pub state: State,
}

/// A disk in an image.
pub struct Disk {
    bytes: Arc<dyn ImageBytes>,
    inspection: Inspection,
    parts: Vec<Part>,
}

impl Disk {
    /// Opens an image of this length: the disk itself, or a qcow2 file with it. Other formats are refused by name.
    pub fn open(bytes: Arc<dyn ImageBytes>, length: u64) -> Result<Self> {
        let mut start = vec![0; length.min(Format::START_BYTES as u64) as usize];
        bytes.read_exact_at(0, &mut start)?;
        let format = Format::of(None, &start).map_err(refused)?;
        let (bytes, length): (Arc<dyn ImageBytes>, u64) = match format {
            Format::Raw => (bytes, length),
            Format::Qcow2 => {
                let image = Qcow2::open(bytes, length).map_err(refused)?;
                let length = image.virtual_size();
                (Arc::new(Decoded(image)), length)
            }
            Format::Other(name) => {
                return Err(DiskError::Unsupported(format!("images of the format {name} are not read")));
            }
        };
        let read = |offset, buffer: &mut [u8]| bytes.read_exact_at(offset, buffer);
        let mut inspection = inspect(length, read)?;
        if has_no_start(&inspection)
            && let Some(found) = inspect_backup(length, read)?
        {
            inspection = found;
        }
        let parts = parts(&inspection, length);
        Ok(Self { bytes, inspection, parts })
    }

    /// How it is divided.
    pub fn table(&self) -> Table {
        self.inspection.table
    }

    /// Its parts: the partitions in the order of the table, or the whole disk where there is none.
    pub fn parts(&self) -> &[Part] {
        &self.parts
    }

    /// Opens the file system of a part.
    pub fn file_system(&self, part: &Part) -> Result<Arc<dyn FileSystem>> {
        let volume = Volume { bytes: self.bytes.clone(), start: part.start, length: part.length };
        match part.kind.as_deref() {
            Some("ext2" | "ext3" | "ext4") => Ok(Arc::new(ext::Ext::open(volume)?)),
            Some("xfs") => Ok(Arc::new(xfs::Xfs::open(volume)?)),
            Some("luks") => {
                Err(DiskError::Unsupported("it is encrypted (LUKS), and cannot be read without its key".into()))
            }
            Some("lvm") => {
                Err(DiskError::Unsupported("it is a part of a volume group (LVM), which is not read".into()))
            }
            Some(other) => Err(DiskError::Unsupported(format!("{other} is not read, only ext2, ext3, ext4 and xfs"))),
            None => Err(DiskError::Unsupported("no file system is known by what it begins with".into())),
        }
    }
}

/// Whether nothing is known of a disk by its start: nothing is there, or only what says that there is a GPT.
fn has_no_start(inspection: &Inspection) -> bool {
    match (inspection.table, inspection.partitions.as_slice()) {
        (Table::None, _) => inspection.file_systems.is_empty(),
        (Table::Mbr, [only]) => only.start == 512,
        _ => false,
    }
}

fn parts(inspection: &Inspection, length: u64) -> Vec<Part> {
    let of = |number: Option<u32>, start: u64, length: u64| {
        let found = inspection.file_systems.iter().find(|found| found.partition == number);
        let state = found.map_or(State::Unknown, |found| found.state);
        Part { number, start, length, kind: found.map(|found| found.kind.clone()), state }
    };
    if inspection.table == Table::None {
        return vec![of(None, 0, length)];
    }
    let mut known = HashSet::new();
    let partitions = inspection.partitions.iter().filter(|partition| known.insert(partition.number));
    partitions.map(|partition| of(Some(partition.number), partition.start, partition.length)).collect()
}

fn refused(error: ImageError) -> DiskError {
    match error {
        ImageError::Read(error) => DiskError::Read(error),
        ImageError::Refused(text) | ImageError::Structure(text) => {
            DiskError::Unsupported(format!("the image is not decoded: {text}"))
        }
    }
}

/// The disk in a qcow2 file, as bytes.
struct Decoded(Qcow2<Arc<dyn ImageBytes>>);

impl ImageBytes for Decoded {
    fn read_exact_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        self.0.read_exact_at(offset, buffer).map_err(|error| match error {
            ImageError::Read(error) => error,
            other => io::Error::new(io::ErrorKind::InvalidData, other.to_string()),
        })
    }
}

/// What a file system says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Summary {
    /// `ext4`, `xfs`.
    pub kind: &'static str,
    /// Its label, byte for byte; may be empty.
    pub label: Vec<u8>,
    /// Whether its last changes are seen.
    pub journal: Journal,
}

/// What became of changes that were only in the journal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Journal {
    /// There are none.
    Empty,
    /// So many blocks are read from the journal instead of their places, as the kernel would have put them there.
    Replayed(usize),
    /// They are not seen; the text says why.
    Unread(String),
}

/// What an inode is, without its content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stat {
    /// What it is.
    pub kind: Kind,
    /// What is known of it.
    pub metadata: Metadata,
    /// Bytes that its content takes on the disk: without holes.
    pub allocated: u64,
}

/// The entries of a directory.
#[derive(Debug, Default)]
pub struct Listing {
    /// Names and the inodes that they are of, without `.` and `..`, sorted. No name is there twice.
    pub entries: Vec<(Vec<u8>, u64)>,
    /// Why there may be more.
    pub fault: Option<DiskError>,
}

/// A piece of a file that is no hole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Run {
    /// Where in the file, in bytes.
    pub offset: u64,
    /// In bytes, at least 1.
    pub length: u64,
    /// Where its bytes are.
    pub place: Place,
}

/// Where bytes of a file are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// From this byte of the file system on.
    At(u64),
    /// Here.
    Here(Vec<u8>),
}

/// Takes one run after the other.
pub type EachRun<'a> = dyn FnMut(Run) -> Result<()> + 'a;

/// A file system that is read. Its calls block.
pub trait FileSystem: Send + Sync {
    /// What it says of itself.
    fn summary(&self) -> &Summary;
    /// The inode of its root.
    fn root(&self) -> u64;
    /// What an inode is; of a link also where it points.
    fn stat(&self, inode: u64) -> Result<Stat>;
    /// The entries of a directory.
    fn list(&self, directory: u64) -> Result<Listing>;
    /// The pieces of a file, in ascending order, none beyond its end. What lies between them is zeros.
    fn runs(&self, file: u64, each: &mut EachRun<'_>) -> Result<()>;
    /// Fills the buffer from a byte of the file system.
    fn read(&self, at: u64, buffer: &mut [u8]) -> Result<()>;
}

/// Blocks that follow each other, in the file and on the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stretch {
    /// The first, in the file.
    first: u64,
    /// The first, on the disk, as the file system counts them.
    at: u64,
    /// How many, at least 1.
    blocks: u64,
    /// Whether they have content; zeros if not.
    is_written: bool,
}

type EachStretch<'a> = dyn FnMut(Stretch) -> Result<()> + 'a;

/// What an inode is by its mode; a link's target is not known yet.
fn kind(inode: u64, mode: u16, device: impl FnOnce() -> u64) -> Result<Kind> {
    Ok(match mode >> 12 {
        0x1 => Kind::Fifo,
        0x2 => Kind::CharDevice(device()),
        0x4 => Kind::Directory,
        0x6 => Kind::BlockDevice(device()),
        0x8 => Kind::File,
        0xa => Kind::Symlink(Vec::new()),
        0xc => Kind::Socket,
        _ => return Err(damaged(format!("inode {inode} is not in use"))),
    })
}

/// Collects a directory, and ends where it is too large or does not hold.
#[derive(Debug, Default)]
struct Entries {
    entries: Vec<(Vec<u8>, u64)>,
}

impl Entries {
    fn push(&mut self, name: &[u8], inode: u64) -> Result<()> {
        if matches!(name, b"." | b"..") {
            return Ok(());
        }
        if self.entries.len() >= ENTRIES_MAX {
            return Err(damaged(format!("a directory has more than {ENTRIES_MAX} entries")));
        }
        self.entries.push((name.to_vec(), inode));
        Ok(())
    }

    fn finish(mut self, read: Result<()>) -> Listing {
        self.entries.sort();
        let before = self.entries.len();
        self.entries.dedup_by(|later, earlier| later.0 == earlier.0);
        let twice = || (before > self.entries.len()).then(|| damaged("a directory has a name twice"));
        let fault = read.err().or_else(twice);
        Listing { entries: self.entries, fault }
    }
}
