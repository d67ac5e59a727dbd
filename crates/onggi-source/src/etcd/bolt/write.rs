//! Writes a bbolt file in one pass from entries that come in order: leaves first, branches above them, metas last. Or
//! changes a file as bbolt does: new pages behind those that are there, and metas that lead to them.
//!
//! Memory is one unfinished page of each level, never the database. Pages are never rewritten, the free list of a new
//! file is empty, and no bucket is written inside another page.

use std::io::{self, Seek, SeekFrom, Write};

use super::page::{
    ELEMENT_BUCKET, ELEMENT_BYTES, FLAG_BRANCH, FLAG_FREE_LIST, FLAG_LEAF, FLAG_META, HEADER_BYTES, MAGIC, Meta,
    NO_FREE_LIST, Node, PAGE_BYTES_MAX, PAGE_BYTES_MIN, VERSION, fnv_1a,
};
use super::read::{Bolt, BoltError, Bucket, FileBytes};
use crate::source::SourceError;

/// Pages 0 and 1 are metas, 2 is the free list.
const PAGE_FREE_LIST: u64 = 2;
const PAGE_FIRST: u64 = 3;
/// The even one, which belongs on page 0; page 1 bears the one before.
const TRANSACTION: u64 = 2;
/// The count of a page is 16 bits wide.
const ELEMENTS_MAX: usize = 65_000;
/// Pages are filled so far, in percent, as etcd fills those that it appends to.
const FILL_PERCENT: usize = 90;
/// A branch with fewer children is none.
const BRANCH_CHILDREN_MIN: usize = 2;

/// A file that is being written, bucket by bucket, in the order of their names.
#[derive(Debug)]
pub struct BoltWriter<W> {
    out: W,
    page_bytes: usize,
    next_page: u64,
    /// What the metas name as theirs: the greater of both, an even one.
    transaction: u64,
    free_list: u64,
    /// The page that is being put together.
    page: Vec<u8>,
    /// Name and record of the finished ones.
    buckets: Vec<(Vec<u8>, Vec<u8>)>,
    open: Option<OpenBucket>,
}

/// The bucket that takes entries now.
#[derive(Debug, Default)]
struct OpenBucket {
    name: Vec<u8>,
    sequence: u64,
    leaf: Page,
    branches: Vec<Page>,
}

/// The elements of a page that is not written yet.
#[derive(Debug, Default)]
struct Page {
    elements: Vec<Element>,
    /// Their keys and values, one after the other.
    data: Vec<u8>,
}

#[derive(Debug, Clone, Copy)]
struct Element {
    /// Bucket flag of a leaf; nothing in a branch.
    flags: u32,
    /// The child of a branch.
    child: u64,
    key: usize,
    value: usize,
}

impl Element {
    fn bytes(self) -> usize {
        ELEMENT_BYTES + self.key + self.value
    }
}

impl Page {
    /// What a node of a file holds.
    fn of(node: &Node) -> Self {
        let mut page = Self::default();
        for index in 0..node.count() {
            if node.is_branch() {
                page.push(0, node.child(index), node.key(index), &[]);
            } else {
                let element = node.element(index);
                page.push(if element.is_bucket { ELEMENT_BUCKET } else { 0 }, 0, element.key, element.value);
            }
        }
        page
    }

    fn push(&mut self, flags: u32, child: u64, key: &[u8], value: &[u8]) {
        self.data.extend_from_slice(key);
        self.data.extend_from_slice(value);
        self.elements.push(Element { flags, child, key: key.len(), value: value.len() });
    }

    /// What it takes behind its header.
    fn bytes(&self) -> usize {
        self.elements.len() * ELEMENT_BYTES + self.data.len()
    }

    fn takes(&self, key: &[u8], value: &[u8], bytes_max: usize) -> bool {
        let bytes = self.bytes() + ELEMENT_BYTES + key.len() + value.len();
        self.elements.is_empty() || (bytes <= bytes_max && self.elements.len() < ELEMENTS_MAX)
    }

    fn first_key(&self) -> &[u8] {
        self.elements.first().and_then(|first| self.data.get(..first.key)).unwrap_or_default()
    }

    fn last_key(&self) -> &[u8] {
        let last = self.elements.last().and_then(|last| self.data.get(self.data.len() - last.key - last.value..));
        last.and_then(|entry| entry.get(..self.elements.last()?.key)).unwrap_or_default()
    }

    fn clear(&mut self) {
        self.elements.clear();
        self.data.clear();
    }

    /// The first elements, as many as a filled page takes, but never so many that a branch of one child remains.
    fn split_off_front(&mut self, bytes_max: usize) -> Self {
        let most = self.elements.len().saturating_sub(BRANCH_CHILDREN_MIN);
        let (mut count, mut bytes) = (0, 0);
        for element in &self.elements[..most] {
            if count >= BRANCH_CHILDREN_MIN && (bytes + element.bytes() > bytes_max || count == ELEMENTS_MAX) {
                break;
            }
            bytes += element.bytes();
            count += 1;
        }
        let elements = self.elements.drain(..count).collect();
        Self { elements, data: self.data.drain(..bytes - count * ELEMENT_BYTES).collect() }
    }
}

impl<W: Write + Seek> BoltWriter<W> {
    /// A writer into an empty file. The page size is a power of two between 1 and 64 KiB.
    pub fn new(out: W, page_bytes: usize) -> io::Result<Self> {
        Self::start(out, page_bytes, PAGE_FIRST, (TRANSACTION, PAGE_FREE_LIST))
    }

    /// A writer that changes the file that `meta` is of. Its buckets must be named anew, those that stay by
    /// [`keep`](Self::keep). Which pages are free then is found by whoever opens it, as in any file of etcd.
    pub fn amend(out: W, meta: Meta) -> io::Result<Self> {
        let transaction = meta.transaction.checked_next_multiple_of(2).and_then(|even| even.checked_add(2));
        let transaction = transaction.ok_or_else(|| io::Error::other("its transactions are counted to their end"))?;
        Self::start(out, meta.page_bytes as usize, meta.pages, (transaction, NO_FREE_LIST))
    }

    fn start(mut out: W, page_bytes: usize, next_page: u64, (transaction, free_list): (u64, u64)) -> io::Result<Self> {
        if !page_bytes.is_power_of_two() || !(PAGE_BYTES_MIN as usize..=PAGE_BYTES_MAX as usize).contains(&page_bytes) {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, format!("{page_bytes} is no page size")));
        }
        out.seek(SeekFrom::Start(next_page * page_bytes as u64))?;
        let (page, buckets) = (Vec::new(), Vec::new());
        Ok(Self { out, page_bytes, next_page, transaction, free_list, page, buckets, open: None })
    }

    /// Begins the next bucket, whose name is greater than those before, and ends the one that is open.
    pub fn bucket(&mut self, name: &[u8], sequence: u64) -> io::Result<()> {
        self.close()?;
        self.follows(name)?;
        self.open = Some(OpenBucket { name: name.to_vec(), sequence, ..OpenBucket::default() });
        Ok(())
    }

    /// Adds an entry to the open bucket; its key is greater than those before.
    pub fn put(&mut self, key: &[u8], value: &[u8]) -> io::Result<()> {
        let mut open = self.open.take().ok_or_else(|| disorder("entries"))?;
        if key <= open.leaf.last_key() {
            return Err(disorder("keys"));
        }
        self.add_entry(&mut open, 0, key, value)?;
        self.open = Some(open);
        Ok(())
    }

    /// Leaves a bucket of the file that is changed as it is, in its order.
    pub fn keep(&mut self, bucket: &Bucket) -> io::Result<()> {
        self.close()?;
        self.follows(&bucket.name)?;
        self.buckets.push((bucket.name.clone(), bucket.record()));
        Ok(())
    }

    /// Leaves a bucket as it is but for one more entry, whose key is greater than those in it: its last leaf and the
    /// branches above are written anew.
    pub async fn extend<F: FileBytes + ?Sized>(
        &mut self,
        bolt: &Bolt<'_, F>,
        bucket: &Bucket,
        (key, value): (&[u8], &[u8]),
    ) -> Result<(), BoltError> {
        self.close().map_err(unwritten)?;
        self.follows(&bucket.name).map_err(unwritten)?;
        let mut path = bolt.last_path(bucket).await?;
        let mut leaf = path.pop().map(|leaf| Page::of(&leaf)).unwrap_or_default();
        if !leaf.elements.is_empty() && key <= leaf.last_key() {
            return Err(unwritten(disorder("keys")).into());
        }
        leaf.push(0, 0, key, value);
        let mut child = self.write(&leaf, FLAG_LEAF).map_err(unwritten)?;
        for node in path.into_iter().rev() {
            let mut branch = Page::of(&node);
            branch.elements.last_mut().into_iter().for_each(|last| last.child = child);
            child = self.write(&branch, FLAG_BRANCH).map_err(unwritten)?;
        }
        self.buckets.push((bucket.name.clone(), record(child, bucket.sequence)));
        Ok(())
    }

    fn follows(&self, name: &[u8]) -> io::Result<()> {
        if self.buckets.last().is_some_and(|(last, _)| last.as_slice() >= name) {
            return Err(disorder("buckets"));
        }
        Ok(())
    }

    /// Writes what is left, then the root and the metas. Returns the file and its length.
    pub fn finish(mut self) -> io::Result<(W, u64)> {
        self.close()?;
        let mut root = OpenBucket::default();
        for (name, record) in std::mem::take(&mut self.buckets) {
            self.add_entry(&mut root, ELEMENT_BUCKET, &name, &record)?;
        }
        let root = self.write_tree(root)?;
        let length = self.next_page * self.page_bytes as u64;
        self.out.seek(SeekFrom::Start(0))?;
        for page in [0, 1] {
            let meta = self.meta(page, root);
            self.out.write_all(&meta)?;
        }
        if self.free_list == PAGE_FREE_LIST {
            let mut free_list = vec![0; self.page_bytes];
            header(&mut free_list, PAGE_FREE_LIST, FLAG_FREE_LIST, 0, 0);
            self.out.write_all(&free_list)?;
        }
        self.out.flush()?;
        Ok((self.out, length))
    }

    fn filled_bytes(&self) -> usize {
        self.page_bytes * FILL_PERCENT / 100 - HEADER_BYTES
    }

    fn add_entry(&mut self, open: &mut OpenBucket, flags: u32, key: &[u8], value: &[u8]) -> io::Result<()> {
        if !open.leaf.takes(key, value, self.filled_bytes()) {
            self.add_leaf(&mut open.branches, &open.leaf)?;
            open.leaf.clear();
        }
        open.leaf.push(flags, 0, key, value);
        Ok(())
    }

    fn close(&mut self) -> io::Result<()> {
        let Some(open) = self.open.take() else { return Ok(()) };
        let (name, sequence) = (open.name.clone(), open.sequence);
        let root = self.write_tree(open)?;
        self.buckets.push((name, record(root, sequence)));
        Ok(())
    }

    /// Writes the unfinished pages of a tree from the bottom up; returns its root.
    fn write_tree(&mut self, mut tree: OpenBucket) -> io::Result<u64> {
        if tree.branches.is_empty() {
            return self.write(&tree.leaf, FLAG_LEAF);
        }
        self.add_leaf(&mut tree.branches, &tree.leaf)?;
        let mut level = 0;
        loop {
            let is_top = level + 1 == tree.branches.len();
            // Between one and two pages may be pending: they become two of about the same length.
            let mut rest = std::mem::take(&mut tree.branches[level]);
            let halves = if rest.bytes() > self.filled_bytes() && rest.elements.len() >= 2 * BRANCH_CHILDREN_MIN {
                let half = rest.bytes() / 2;
                vec![rest.split_off_front(half), rest]
            } else {
                vec![rest]
            };
            if is_top && halves.len() == 1 {
                return self.write(&halves[0], FLAG_BRANCH);
            }
            for half in halves {
                self.add_branch(&mut tree.branches, level, &half)?;
            }
            level += 1;
        }
    }

    fn add_leaf(&mut self, branches: &mut Vec<Page>, leaf: &Page) -> io::Result<()> {
        let page = self.write(leaf, FLAG_LEAF)?;
        self.add_child(branches, 0, leaf.first_key(), page)
    }

    fn add_branch(&mut self, branches: &mut Vec<Page>, level: usize, branch: &Page) -> io::Result<()> {
        let page = self.write(branch, FLAG_BRANCH)?;
        self.add_child(branches, level + 1, branch.first_key(), page)
    }

    /// Adds a child to the pending branch of a level. It is written only when enough is pending for another beside it.
    fn add_child(&mut self, branches: &mut Vec<Page>, level: usize, key: &[u8], child: u64) -> io::Result<()> {
        if branches.len() <= level {
            branches.push(Page::default());
        }
        let filled = self.filled_bytes();
        let pending = &mut branches[level];
        pending.push(0, child, key, &[]);
        let is_long = pending.bytes() >= 2 * filled || pending.elements.len() >= ELEMENTS_MAX;
        if is_long && pending.elements.len() >= 2 * BRANCH_CHILDREN_MIN {
            let front = pending.split_off_front(filled);
            self.add_branch(branches, level, &front)?;
        }
        Ok(())
    }

    /// Writes a page with as many overflow pages as it takes; returns its number.
    fn write(&mut self, page: &Page, flag: u16) -> io::Result<u64> {
        let pages = (HEADER_BYTES + page.bytes()).div_ceil(self.page_bytes);
        let number = self.next_page;
        let mut bytes = std::mem::take(&mut self.page);
        bytes.clear();
        bytes.resize(HEADER_BYTES, 0);
        header(&mut bytes, number, flag, page.elements.len(), pages - 1);
        // The data begins behind the elements; each says how far behind itself.
        let mut ahead = page.elements.len() * ELEMENT_BYTES;
        for element in &page.elements {
            let (position, key, value) = (field(ahead)?, field(element.key)?, field(element.value)?);
            let words = if flag == FLAG_LEAF {
                [element.flags, position, key, value]
            } else {
                [position, key, element.child as u32, (element.child >> 32) as u32]
            };
            for word in words {
                bytes.extend_from_slice(&word.to_le_bytes());
            }
            ahead = ahead + element.key + element.value - ELEMENT_BYTES;
        }
        bytes.extend_from_slice(&page.data);
        bytes.resize(pages * self.page_bytes, 0);
        self.out.write_all(&bytes)?;
        self.page = bytes;
        self.next_page += pages as u64;
        Ok(number)
    }

    fn meta(&self, page: u64, root: u64) -> Vec<u8> {
        let mut bytes = vec![0; self.page_bytes];
        header(&mut bytes, page, FLAG_META, 0, 0);
        let mut meta = Vec::with_capacity(64);
        for word in [MAGIC, VERSION, self.page_bytes as u32, 0] {
            meta.extend_from_slice(&word.to_le_bytes());
        }
        for word in [root, 0, self.free_list, self.next_page, self.transaction - page] {
            meta.extend_from_slice(&word.to_le_bytes());
        }
        let checksum = fnv_1a(&meta);
        meta.extend_from_slice(&checksum.to_le_bytes());
        bytes[HEADER_BYTES..HEADER_BYTES + meta.len()].copy_from_slice(&meta);
        bytes
    }
}

/// What a bucket's name leads to.
fn record(root: u64, sequence: u64) -> Vec<u8> {
    [root.to_le_bytes(), sequence.to_le_bytes()].concat()
}

#[expect(clippy::needless_pass_by_value, reason = "for map_err")]
fn unwritten(error: io::Error) -> SourceError {
    SourceError::unwritten("write the database", &error)
}

fn header(bytes: &mut [u8], number: u64, flag: u16, count: usize, overflow: usize) {
    bytes[0..8].copy_from_slice(&number.to_le_bytes());
    bytes[8..10].copy_from_slice(&flag.to_le_bytes());
    bytes[10..12].copy_from_slice(&(count as u16).to_le_bytes());
    bytes[12..16].copy_from_slice(&(overflow as u32).to_le_bytes());
}

fn field(value: usize) -> io::Result<u32> {
    u32::try_from(value).map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "an entry is too long for a page"))
}

fn disorder(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, format!("{what} are not in ascending order"))
}
