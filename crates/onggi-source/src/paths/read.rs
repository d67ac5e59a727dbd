//! The content of a file: opened without following links, touching its times or waiting for a pipe; read from the page
//! cache at once and from the disk beside the rest; without its holes.

use std::io::{self, IoSliceMut};
use std::ops::Range;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use rustix::fs::{Advice, FileType, Mode, OFlags, SeekFrom, Stat};
use rustix::io::{Errno, ReadWriteFlags};

use super::directory::Directory;
use super::inspect::class_of;
use crate::context::{Context, Problem};
use crate::item::Layout;
use crate::path::TreePath;
use crate::source::{Known, ReadAt, ReadError};

/// Length of one read from the disk, in bytes; what is in memory anyway is read in one go.
const STEP_BYTES: usize = 256 << 10;
/// Reads up to this length need no permit of the sources' memory, in bytes.
const FREE_BYTES: usize = 64 << 10;
/// A file with more pieces is taken to be dense from there on.
const PIECES_MAX: usize = 65_536;
/// From this length on the kernel is told to read far ahead, in bytes.
const AHEAD_BYTES: u64 = 1 << 20;

/// The kernel takes a lease away after 45 s (`/proc/sys/fs/lease-break-time`).
const LEASE_WAIT_MAX: Duration = Duration::from_secs(50);
/// How often a leased file is tried.
const LEASE_STEP: Duration = Duration::from_millis(100);

/// A file that may be read.
pub(super) struct FileContent {
    directory: Arc<Directory>,
    name: Vec<u8>,
    path: TreePath,
    opened: Mutex<Option<Arc<Opened>>>,
}

struct Opened {
    fd: OwnedFd,
    stat: Stat,
    /// The file system cannot say what is in memory.
    always_waits: AtomicBool,
}

impl FileContent {
    pub(super) fn new(directory: Arc<Directory>, name: Vec<u8>, path: TreePath) -> Self {
        Self { directory, name, path, opened: Mutex::default() }
    }

    /// A fault of this file.
    fn lost(&self, error: &io::Error) -> ReadError {
        self.problem(class_of(error), super::reason(error))
    }

    fn problem(&self, class: &'static str, text: String) -> ReadError {
        ReadError::Item(Problem { class, path: Some(self.path.clone()), text })
    }

    fn open_file(&self) -> io::Result<Opened> {
        let directory = self.directory.open()?;
        // NONBLOCK: a pipe or a device may have taken the name
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        let fd = match rustix::fs::openat(&*directory, &self.name, flags | OFlags::NOATIME, Mode::empty()) {
            Err(Errno::PERM) => rustix::fs::openat(&*directory, &self.name, flags, Mode::empty())?,
            opened => opened?,
        };
        let stat = rustix::fs::fstat(&fd)?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return Err(Errno::LOOP.into()); // as a link there is answered
        }
        Ok(Opened { fd, stat, always_waits: AtomicBool::new(false) })
    }

    /// Somebody may hold a lease on the file, as Samba does for its clients, and is being asked to give it back.
    async fn open_leased(&self, cx: &Context) -> Result<Opened, ReadError> {
        let mut waited = Duration::ZERO;
        loop {
            match self.open_file() {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock && waited < LEASE_WAIT_MAX => {
                    cx.sleep(LEASE_STEP).await?;
                    waited += LEASE_STEP;
                }
                opened => return opened.map_err(|error| self.lost(&error)),
            }
        }
    }

    fn opened(&self) -> Result<Arc<Opened>, ReadError> {
        let opened = self.opened.lock().unwrap_or_else(PoisonError::into_inner).clone();
        opened.ok_or_else(|| self.problem("io", "read before it was opened".to_owned()))
    }
}

#[async_trait]
impl ReadAt for FileContent {
    async fn open(&self, cx: &Context, _known: &Known<'_>) -> Result<Layout, ReadError> {
        cx.check()?;
        let opened = self.open_leased(cx).await?;
        let layout = opened.layout().map_err(|error| self.lost(&error))?;
        if layout.length >= AHEAD_BYTES {
            let _ = rustix::fs::fadvise(&opened.fd, 0, None, Advice::Sequential); // a hint
        }
        *self.opened.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(opened));
        Ok(layout)
    }

    async fn read(&self, cx: &Context, offset: u64, buffer: &mut [u8]) -> Result<(), ReadError> {
        let opened = self.opened()?;
        let mut filled = 0;
        while filled < buffer.len() {
            cx.check()?;
            let (at, rest) = (offset + filled as u64, &mut buffer[filled..]);
            let read = match opened.read_cached(at, rest) {
                Some(read) => read,
                None => read_waiting(cx, &opened, at, rest).await?,
            };
            match read {
                Ok(0) => return Err(self.problem("changed", "it became shorter while it was read".to_owned())),
                Ok(length) => filled += length,
                Err(error) => return Err(self.lost(&error)),
            }
        }
        Ok(())
    }

    async fn confirm(&self, _cx: &Context) -> Result<(), ReadError> {
        let opened = self.opened()?;
        let now = rustix::fs::fstat(&opened.fd).map_err(|error| self.lost(&error.into()))?;
        let shape = |stat: &Stat| (stat.st_size, stat.st_mtime, stat.st_mtime_nsec);
        if shape(&now) == shape(&opened.stat) {
            return Ok(());
        }
        Err(self.problem("changed", "it changed while it was read".to_owned()))
    }
}

/// Reads a step on a thread that may wait, into a buffer of its own.
async fn read_waiting(
    cx: &Context,
    opened: &Arc<Opened>,
    offset: u64,
    buffer: &mut [u8],
) -> Result<io::Result<usize>, ReadError> {
    let length = buffer.len().min(STEP_BYTES);
    let _permit = match length {
        ..=FREE_BYTES => None,
        _ => cx.unless_stopped(cx.memory.acquire_many(length as u32)).await?.ok(),
    };
    let opened = opened.clone();
    let reading = tokio::task::spawn_blocking(move || {
        let mut bytes = vec![0; length];
        let read = rustix::io::retry_on_intr(|| rustix::io::pread(&opened.fd, &mut bytes[..], offset));
        read.map(|length| {
            bytes.truncate(length);
            bytes
        })
    });
    let read = cx.unless_stopped(reading).await?;
    Ok(read.map_err(io::Error::other).and_then(|read| {
        let bytes = read?;
        buffer[..bytes.len()].copy_from_slice(&bytes);
        Ok(bytes.len())
    }))
}

impl Opened {
    /// Reads what is in memory. `None`: it would have to wait.
    fn read_cached(&self, offset: u64, buffer: &mut [u8]) -> Option<io::Result<usize>> {
        if self.always_waits.load(Ordering::Relaxed) {
            return None;
        }
        let slices = &mut [IoSliceMut::new(buffer)];
        match rustix::io::preadv2(&self.fd, slices, offset, ReadWriteFlags::NOWAIT) {
            Err(Errno::AGAIN | Errno::INTR) => None,
            Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL) => {
                self.always_waits.store(true, Ordering::Relaxed);
                None
            }
            Err(error) => Some(Err(error.into())),
            Ok(length) => Some(Ok(length)),
        }
    }

    /// Where data is. Only a file with fewer blocks than its length needs is asked for its holes.
    fn layout(&self) -> io::Result<Layout> {
        let length = self.stat.st_size.cast_unsigned();
        if self.stat.st_blocks.cast_unsigned().saturating_mul(512) >= length {
            return Ok(Layout::dense(length));
        }
        let mut data: Vec<Range<u64>> = Vec::new();
        let mut offset = 0;
        while offset < length {
            let start = match rustix::fs::seek(&self.fd, SeekFrom::Data(offset)) {
                Ok(start) => start,
                Err(Errno::NXIO) => break,
                Err(Errno::INVAL | Errno::OPNOTSUPP) => return Ok(Layout::dense(length)),
                Err(error) => return Err(error.into()),
            };
            let last = data.len() + 1 == PIECES_MAX;
            let end = if last { length } else { rustix::fs::seek(&self.fd, SeekFrom::Hole(start))?.min(length) };
            if start < end {
                data.push(start..end);
            }
            offset = end.max(start + 1);
        }
        Ok(Layout { data, ..Layout::dense(length) })
    }
}
