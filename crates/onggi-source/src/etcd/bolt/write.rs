//! Writes a bbolt file in one pass from entries that come in order: leaves first, branches above them, metas last.
//!
//! Memory is one unfinished page of each level, never the database. Pages are never rewritten, the free list is empty,
//! and no bucket is kept inside another page.

use std::io::{self, Seek, SeekFrom, Write};

use super::page::{
    ELEMENT_BUCKET, ELEMENT_BYTES, FLAG_BRANCH, FLAG_FREE_LIST, FLAG_LEAF, FLAG_META, HEADER_BYTES, MAGIC,
    PAGE_BYTES_MAX, PAGE_BYTES_MIN, VERSION, fnv_1a,
};

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
    /// Name, root page and sequence of the finished ones.
    buckets: Vec<(Vec<u8>, u64, u64)>,
    open: Option<OpenBucket>,
}

/// The bucket that takes entries now.
#[derive(Debug)]
struct OpenBucket {
    name: Vec<u8>,
    sequence: u64,
    leaf: Page,
    last_key: Vec<u8>,
    branches: Vec<Page>,
}

/// The elements of a page that is not written yet.
#[derive(Debug, Default)]
struct Page {
    elements: Vec<Element>,
    bytes: usize,
}

#[derive(Debug)]
struct Element {
    /// Bucket flag of a leaf; nothing in a branch.
    flags: u32,
    /// The child of a branch.
    child: u64,
    key: Vec<u8>,
    value: Vec<u8>,
}

impl Element {
    fn leaf(key: &[u8], value: &[u8]) -> Self {
        Self { flags: 0, child: 0, key: key.to_vec(), value: value.to_vec() }
    }

    fn child(key: Vec<u8>, page: u64) -> Self {
        Self { flags: 0, child: page, key, value: Vec::new() }
    }

    fn bytes(&self) -> usize {
        ELEMENT_BYTES + self.key.len() + self.value.len()
    }
}

impl Page {
    fn push(&mut self, element: Element) {
        self.bytes += element.bytes();
        self.elements.push(element);
    }

    fn takes(&self, element: &Element, bytes_max: usize) -> bool {
        let bytes = self.bytes + element.bytes();
        self.elements.is_empty() || (bytes <= bytes_max && self.elements.len() < ELEMENTS_MAX)
    }

    fn take(&mut self) -> Self {
        std::mem::take(self)
    }

    /// The first elements, as many as a filled page takes, but never so many that a branch of one child remains.
    fn split_off_front(&mut self, bytes_max: usize) -> Self {
        let mut front = Self::default();
        let most = self.elements.len().saturating_sub(BRANCH_CHILDREN_MIN);
        let mut count = 0;
        let mut bytes = 0;
        for element in &self.elements[..most] {
            if count >= BRANCH_CHILDREN_MIN && (bytes + element.bytes() > bytes_max || count == ELEMENTS_MAX) {
                break;
            }
            bytes += element.bytes();
            count += 1;
        }
        front.elements = self.elements.drain(..count).collect();
        front.bytes = bytes;
        self.bytes -= bytes;
        front
    }
}

impl<W: Write + Seek> BoltWriter<W> {
    /// A writer into an empty file. The page size is a power of two between 1 and 64 KiB.
    pub fn new(mut out: W, page_bytes: usize) -> io::Result<Self> {
        if !page_bytes.is_power_of_two() || !(PAGE_BYTES_MIN as usize..=PAGE_BYTES_MAX as usize).contains(&page_bytes) {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, format!("{page_bytes} is no page size")));
        }
        out.seek(SeekFrom::Start(PAGE_FIRST * page_bytes as u64))?;
        Ok(Self { out, page_bytes, next_page: PAGE_FIRST, buckets: Vec::new(), open: None })
    }

    /// Begins the next bucket, whose name is greater than those before, and ends the one that is open.
    pub fn bucket(&mut self, name: &[u8], sequence: u64) -> io::Result<()> {
        self.close()?;
        if self.buckets.last().is_some_and(|(last, _, _)| last.as_slice() >= name) {
            return Err(disorder("buckets"));
        }
        self.open = Some(OpenBucket {
            name: name.to_vec(),
            sequence,
            leaf: Page::default(),
            last_key: Vec::new(),
            branches: Vec::new(),
        });
        Ok(())
    }

    /// Adds an entry to the open bucket; its key is greater than those before.
    pub fn put(&mut self, key: &[u8], value: &[u8]) -> io::Result<()> {
        let mut open = self.open.take().ok_or_else(|| disorder("entries"))?;
        if key.is_empty() || key <= open.last_key.as_slice() {
            return Err(disorder("keys"));
        }
        let element = Element::leaf(key, value);
        if !open.leaf.takes(&element, self.filled_bytes()) {
            let leaf = open.leaf.take();
            self.add_leaf(&mut open.branches, &leaf)?;
        }
        open.leaf.push(element);
        open.last_key.clear();
        open.last_key.extend_from_slice(key);
        self.open = Some(open);
        Ok(())
    }

    /// Writes what is left, then the root and the metas. Returns the file and its length.
    pub fn finish(mut self) -> io::Result<(W, u64)> {
        self.close()?;
        let mut root = OpenBucket {
            name: Vec::new(),
            sequence: 0,
            leaf: Page::default(),
            last_key: Vec::new(),
            branches: Vec::new(),
        };
        for (name, page, sequence) in std::mem::take(&mut self.buckets) {
            let value = [page.to_le_bytes(), sequence.to_le_bytes()].concat();
            let element = Element { flags: ELEMENT_BUCKET, ..Element::leaf(&name, &value) };
            if !root.leaf.takes(&element, self.filled_bytes()) {
                let leaf = root.leaf.take();
                self.add_leaf(&mut root.branches, &leaf)?;
            }
            root.leaf.push(element);
        }
        let root = self.write_tree(root)?;
        let length = self.next_page * self.page_bytes as u64;
        self.out.seek(SeekFrom::Start(0))?;
        for page in [0, 1] {
            let meta = self.meta(page, root);
            self.out.write_all(&meta)?;
        }
        let mut free_list = vec![0; self.page_bytes];
        header(&mut free_list, PAGE_FREE_LIST, FLAG_FREE_LIST, 0, 0);
        self.out.write_all(&free_list)?;
        self.out.flush()?;
        Ok((self.out, length))
    }

    fn filled_bytes(&self) -> usize {
        self.page_bytes * FILL_PERCENT / 100 - HEADER_BYTES
    }

    fn close(&mut self) -> io::Result<()> {
        let Some(open) = self.open.take() else { return Ok(()) };
        let (name, sequence) = (open.name.clone(), open.sequence);
        let root = self.write_tree(open)?;
        self.buckets.push((name, root, sequence));
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
            let page = tree.branches[level].take();
            // Between one and two pages may be pending: they become two of about the same length.
            let mut rest = page;
            let halves = if rest.bytes > self.filled_bytes() && rest.elements.len() >= 2 * BRANCH_CHILDREN_MIN {
                let half = rest.bytes / 2;
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
        self.add_child(branches, 0, first_key(leaf), page)
    }

    fn add_branch(&mut self, branches: &mut Vec<Page>, level: usize, branch: &Page) -> io::Result<()> {
        let page = self.write(branch, FLAG_BRANCH)?;
        self.add_child(branches, level + 1, first_key(branch), page)
    }

    /// Adds a child to the pending branch of a level. It is written only when enough is pending for another beside it.
    fn add_child(&mut self, branches: &mut Vec<Page>, level: usize, key: Vec<u8>, child: u64) -> io::Result<()> {
        if branches.len() <= level {
            branches.push(Page::default());
        }
        let filled = self.filled_bytes();
        branches[level].push(Element::child(key, child));
        let pending = &mut branches[level];
        let is_long = pending.bytes >= 2 * filled || pending.elements.len() >= ELEMENTS_MAX;
        if is_long && pending.elements.len() >= 2 * BRANCH_CHILDREN_MIN {
            let front = pending.split_off_front(filled);
            self.add_branch(branches, level, &front)?;
        }
        Ok(())
    }

    /// Writes a page with as many overflow pages as it takes; returns its number.
    fn write(&mut self, page: &Page, flag: u16) -> io::Result<u64> {
        let pages = (HEADER_BYTES + page.bytes).div_ceil(self.page_bytes);
        let number = self.next_page;
        let mut bytes = vec![0; pages * self.page_bytes];
        header(&mut bytes, number, flag, page.elements.len(), pages - 1);
        let mut data = HEADER_BYTES + page.elements.len() * ELEMENT_BYTES;
        for (index, element) in page.elements.iter().enumerate() {
            let at = HEADER_BYTES + index * ELEMENT_BYTES;
            let position = field(data - at)?;
            let words = if flag == FLAG_LEAF {
                [element.flags, position, field(element.key.len())?, field(element.value.len())?]
            } else {
                let [low, high] = [element.child as u32, (element.child >> 32) as u32];
                [position, field(element.key.len())?, low, high]
            };
            for (word, place) in words.iter().zip(bytes[at..at + ELEMENT_BYTES].chunks_exact_mut(4)) {
                place.copy_from_slice(&word.to_le_bytes());
            }
            for part in [&element.key, &element.value] {
                bytes[data..data + part.len()].copy_from_slice(part);
                data += part.len();
            }
        }
        self.out.write_all(&bytes)?;
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
        for word in [root, 0, PAGE_FREE_LIST, self.next_page, TRANSACTION - page] {
            meta.extend_from_slice(&word.to_le_bytes());
        }
        let checksum = fnv_1a(&meta);
        meta.extend_from_slice(&checksum.to_le_bytes());
        bytes[HEADER_BYTES..HEADER_BYTES + meta.len()].copy_from_slice(&meta);
        bytes
    }
}

fn first_key(page: &Page) -> Vec<u8> {
    page.elements.first().map(|element| element.key.clone()).unwrap_or_default()
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
