//! Opens a file and names its buckets.

use std::sync::{Mutex, MutexGuard, PoisonError};

use super::check::Reached;
use super::cursor::{Cursor, Direction};
use super::page::{HEADER_BYTES, Header, Meta, Node, NodeKind, PAGE_BYTES_MAX, PAGE_BYTES_MIN, u64_at, wrong};
use crate::context::Context;
use crate::source::{ReadAt, ReadError, SourceError};

/// The longest page with its overflow, in bytes: twenty times what etcd takes in one request by default.
const NODE_BYTES_MAX: u64 = 32 << 20;
/// More buckets than etcd has ever had.
const BUCKETS_MAX: usize = 1000;

/// Why a file could not be read.
#[derive(Debug, thiserror::Error)]
pub enum BoltError {
    /// It is not what bbolt writes.
    #[error("{0}")]
    Structure(String),
    /// It is, but etcd would not have written this into it.
    #[error("{0}")]
    Content(String),
    /// Its bytes cannot be had.
    #[error(transparent)]
    Read(#[from] SourceError),
}

impl From<BoltError> for SourceError {
    fn from(error: BoltError) -> Self {
        match error {
            BoltError::Structure(what) | BoltError::Content(what) => Self::Damaged(what),
            BoltError::Read(error) => error,
        }
    }
}

/// Bytes at any offset.
pub trait FileBytes: Sync {
    /// Fills the buffer completely.
    fn read(&self, offset: u64, buffer: &mut [u8]) -> impl Future<Output = Result<(), SourceError>> + Send;
}

/// What is read at once where pages that are near each other follow, in bytes.
const WINDOW_BYTES: u64 = 64 << 10;

/// The bytes of a content that is open already, for one walk. Pages are mostly near the last one, so that some are read
/// ahead.
pub struct Slice<'a> {
    cx: &'a Context,
    content: &'a dyn ReadAt,
    length: u64,
    window: Mutex<Window>,
}

/// What was read ahead.
#[derive(Default)]
struct Window {
    start: u64,
    bytes: Vec<u8>,
    /// Where the last read began.
    last: u64,
}

impl Window {
    fn get(&self, offset: u64, length: usize) -> Option<&[u8]> {
        let from = usize::try_from(offset.checked_sub(self.start)?).ok()?;
        self.bytes.get(from..)?.get(..length)
    }
}

impl<'a> Slice<'a> {
    /// Over a content of this length.
    pub fn new(cx: &'a Context, content: &'a dyn ReadAt, length: u64) -> Self {
        Self { cx, content, length, window: Mutex::default() }
    }

    fn window(&self) -> MutexGuard<'_, Window> {
        self.window.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes bytes that were read ahead. If they were not, answers whether it is worth it.
    fn take(&self, offset: u64, buffer: &mut [u8]) -> Option<bool> {
        let mut window = self.window();
        let is_near = offset.abs_diff(window.last) <= WINDOW_BYTES;
        window.last = offset;
        let Some(bytes) = window.get(offset, buffer.len()) else { return Some(is_near) };
        buffer.copy_from_slice(bytes);
        None
    }

    async fn read_directly(&self, offset: u64, buffer: &mut [u8]) -> Result<(), SourceError> {
        self.content.read(self.cx, offset, buffer).await.map_err(|error| match error {
            ReadError::Unit(error) => error,
            ReadError::Item(problem) => SourceError::Incomplete(problem.to_string()),
        })
    }
}

impl FileBytes for Slice<'_> {
    async fn read(&self, offset: u64, buffer: &mut [u8]) -> Result<(), SourceError> {
        tokio::task::coop::consume_budget().await;
        self.cx.check()?;
        let Some(is_near) = self.take(offset, buffer) else { return Ok(()) };
        let start = offset - offset % WINDOW_BYTES;
        let end = self.length.min(start + WINDOW_BYTES);
        if !is_near || offset.saturating_add(buffer.len() as u64) > end {
            return self.read_directly(offset, buffer).await;
        }
        let mut bytes = std::mem::take(&mut self.window().bytes);
        bytes.resize((end - start) as usize, 0);
        self.read_directly(start, &mut bytes).await?;
        let from = (offset - start) as usize;
        buffer.copy_from_slice(&bytes[from..from + buffer.len()]);
        let mut window = self.window();
        (window.start, window.bytes) = (start, bytes);
        Ok(())
    }
}

impl FileBytes for [u8] {
    async fn read(&self, offset: u64, buffer: &mut [u8]) -> Result<(), SourceError> {
        let bytes = usize::try_from(offset).ok().and_then(|offset| self.get(offset..)?.get(..buffer.len()));
        let bytes = bytes.ok_or_else(|| SourceError::Incomplete("read past the end".to_owned()))?;
        buffer.copy_from_slice(bytes);
        Ok(())
    }
}

/// An opened file.
pub struct Bolt<'a, F: ?Sized> {
    bytes: &'a F,
    meta: Meta,
}

/// A named bucket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bucket {
    /// Its name.
    pub name: Vec<u8>,
    /// The number that bbolt counts for its users.
    pub sequence: u64,
    /// Where its tree begins.
    pub(super) root: Root,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Root {
    Page(u64),
    /// A small bucket lies where its name does: a leaf without a place of its own.
    Inline(Vec<u8>),
}

impl Bucket {
    /// What its name leads to.
    pub(super) fn record(&self) -> Vec<u8> {
        let (page, inline): (u64, &[u8]) = match &self.root {
            Root::Page(page) => (*page, &[]),
            Root::Inline(bytes) => (0, bytes),
        };
        [&page.to_le_bytes()[..], &self.sequence.to_le_bytes(), inline].concat()
    }
}

impl<'a, F: FileBytes + ?Sized> Bolt<'a, F> {
    /// Opens a database of exactly this length. Both metas must be good: etcd writes them anew into each snapshot.
    pub async fn open(bytes: &'a F, length: u64) -> Result<Self, BoltError> {
        let first = read_meta(bytes, length, 0, 0).await?;
        let second = read_meta(bytes, length, 1, first.page_bytes.into()).await?;
        if first.page_bytes != second.page_bytes {
            return Err(wrong(1, "its page size is not that of page 0"));
        }
        let meta = if first.transaction > second.transaction { first } else { second };
        if meta.pages.checked_mul(meta.page_bytes.into()) != Some(length) {
            return Err(wrong(0, format!("it counts {} pages, which is not the file's length", meta.pages)));
        }
        Ok(Self { bytes, meta })
    }

    /// What the newer meta says.
    pub fn meta(&self) -> Meta {
        self.meta
    }

    /// All buckets in the order of their names, and the pages that name them.
    pub async fn buckets(&self) -> Result<(Vec<Bucket>, Reached), BoltError> {
        let mut found = Vec::new();
        let root = Root::Page(self.meta.root);
        let mut cursor = Cursor::new(self, &root, Direction::Forward, Reached::new(self.meta.pages));
        while let Some(entry) = cursor.next().await? {
            if !entry.is_bucket {
                return Err(BoltError::Structure("a key lies beside the buckets".to_owned()));
            }
            if found.len() == BUCKETS_MAX {
                return Err(BoltError::Structure(format!("more than {BUCKETS_MAX} buckets")));
            }
            found.push(bucket(entry.key, entry.value)?);
        }
        Ok((found, cursor.into_reached()))
    }

    /// The entries of a bucket, each page at most once.
    pub fn cursor<'b>(&'b self, bucket: &'b Bucket, direction: Direction) -> Cursor<'b, F> {
        Cursor::new(self, &bucket.root, direction, Reached::new(self.meta.pages))
    }

    /// The same, with the pages that were reached before.
    pub(super) fn cursor_after<'b>(&'b self, bucket: &'b Bucket, reached: Reached) -> Cursor<'b, F> {
        Cursor::new(self, &bucket.root, Direction::Forward, reached)
    }

    /// The nodes from a bucket's root down to its last leaf.
    pub(super) async fn last_path(&self, bucket: &Bucket) -> Result<Vec<Node>, BoltError> {
        let mut reached = Reached::new(self.meta.pages);
        let mut path = Vec::new();
        let mut node = match &bucket.root {
            Root::Page(page) => self.node(*page, Vec::new(), &mut reached).await?,
            Root::Inline(bytes) => Root::inline(bytes)?,
        };
        // Ends because no page is reached twice.
        while node.is_branch() {
            let child = node.child(node.count() - 1);
            path.push(node);
            node = self.node(child, Vec::new(), &mut reached).await?;
        }
        path.push(node);
        Ok(path)
    }

    /// Reads a page with its overflow into this buffer.
    pub(super) async fn node(&self, id: u64, buffer: Vec<u8>, reached: &mut Reached) -> Result<Node, BoltError> {
        let (header, bytes) = self.page(id, buffer, reached).await?;
        if header.kind().is_none() {
            return Err(wrong(id, "it is neither branch nor leaf"));
        }
        Node::new(bytes).map_err(|what| wrong(id, what))
    }

    /// Any page, which must lie where it says.
    pub(super) async fn page(
        &self,
        id: u64,
        mut buffer: Vec<u8>,
        reached: &mut Reached,
    ) -> Result<(Header, Vec<u8>), BoltError> {
        if id < 2 || id >= self.meta.pages {
            return Err(wrong(id, "it lies outside of the file"));
        }
        let page_bytes = u64::from(self.meta.page_bytes);
        // What it held before is overwritten, so that nothing needs to be cleared.
        buffer.resize(self.meta.page_bytes as usize, 0);
        self.bytes.read(id * page_bytes, &mut buffer).await?;
        let header = Header::parse(&buffer).ok_or_else(|| wrong(id, "it is too short"))?;
        if header.id != id {
            return Err(wrong(id, format!("it says that it is page {}", header.id)));
        }
        let pages = u64::from(header.overflow) + 1;
        reached.mark(id, pages)?;
        let length = pages * page_bytes;
        if length > NODE_BYTES_MAX {
            return Err(wrong(id, format!("it has {length} bytes, more than {NODE_BYTES_MAX}")));
        }
        if pages > 1 {
            buffer.resize(length as usize, 0);
            self.bytes.read((id + 1) * page_bytes, &mut buffer[page_bytes as usize..]).await?;
        }
        Ok((header, buffer))
    }

    /// Bytes of a page that needs no check of its own.
    pub(super) async fn read(&self, offset: u64, buffer: &mut [u8]) -> Result<(), BoltError> {
        Ok(self.bytes.read(offset, buffer).await?)
    }
}

async fn read_meta<F: FileBytes + ?Sized>(bytes: &F, length: u64, page: u64, at: u64) -> Result<Meta, BoltError> {
    if length < at + u64::from(PAGE_BYTES_MIN) {
        return Err(wrong(page, "the file ends before it"));
    }
    let mut start = vec![0; PAGE_BYTES_MIN as usize];
    bytes.read(at, &mut start).await?;
    Meta::parse(&start).map_err(|what| wrong(page, what))
}

/// A bucket's value is its root page and its sequence; where the root is none, a leaf follows.
fn bucket(name: &[u8], value: &[u8]) -> Result<Bucket, BoltError> {
    let shown = || String::from_utf8_lossy(name).into_owned();
    let Some((head, inline)) = value.split_at_checked(16) else {
        return Err(BoltError::Structure(format!("bucket {:?} has no root", shown())));
    };
    let root = match u64_at(head, 0) {
        0 if inline.len() < HEADER_BYTES || inline.len() > PAGE_BYTES_MAX as usize => {
            return Err(BoltError::Structure(format!("bucket {:?} has neither root nor content", shown())));
        }
        0 => Root::Inline(inline.to_vec()),
        page => Root::Page(page),
    };
    Ok(Bucket { name: name.to_vec(), sequence: u64_at(head, 8), root })
}

impl Root {
    /// The node of an inline bucket.
    pub fn inline(bytes: &[u8]) -> Result<Node, BoltError> {
        let is_leaf = Header::parse(bytes).and_then(Header::kind) == Some(NodeKind::Leaf);
        let node = Node::new(bytes.to_vec());
        node.ok().filter(|_| is_leaf).ok_or_else(|| BoltError::Structure("an inline bucket is no leaf".to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::{Bench, MemorySpool};
    use crate::context::Spool as _;

    #[tokio::test(start_paused = true)]
    async fn what_is_read_ahead_is_what_is_there() {
        let bench = Bench::new("r1");
        let all: Vec<u8> = (0..300_000_u32).map(|number| (number / 7 % 251) as u8).collect();
        let spool = MemorySpool::default();
        spool.append(all.clone().into()).await.unwrap();
        let slice = Slice::new(&bench.cx, &spool, all.len() as u64);
        // Page after page, backwards, across the edges of windows, far away, larger than a window, at the very end.
        let pages = (0..70).map(|page| (page * 4096, 4096)).chain((0..70).rev().map(|page| (page * 4096, 4096)));
        let others = [(65_000, 2000), (130_000, 4096), (262_144, 4096), (0, 200_000), (4096, 4096), (299_000, 1000)];
        for (offset, length) in pages.chain(others) {
            let mut buffer = vec![0; length];
            slice.read(offset as u64, &mut buffer).await.unwrap();
            assert!(buffer == all[offset..offset + length], "{offset}");
        }
    }
}
