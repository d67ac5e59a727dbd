//! One page: its header, its elements, and the two metas. Pure.

use super::read::BoltError;

/// The smallest page.
pub const PAGE_BYTES_MIN: u32 = 1 << 10;
/// The largest page.
pub const PAGE_BYTES_MAX: u32 = 1 << 16;
/// Bytes before the elements of a page.
pub(super) const HEADER_BYTES: usize = 16;
/// Bytes of an element beside its key and value, in leaves and branches.
pub(super) const ELEMENT_BYTES: usize = 16;
/// Bytes of a meta behind the page's header, its checksum included.
const META_BYTES: usize = 64;
/// The free list of a file that stores none.
pub(super) const NO_FREE_LIST: u64 = u64::MAX;
pub(super) const MAGIC: u32 = 0xED0C_DAED;
pub(super) const VERSION: u32 = 2;
pub(super) const FLAG_BRANCH: u16 = 0x01;
pub(super) const FLAG_LEAF: u16 = 0x02;
pub(super) const FLAG_FREE_LIST: u16 = 0x10;
pub(super) const FLAG_META: u16 = 0x04;
/// Marks a leaf element that is a bucket.
pub(super) const ELEMENT_BUCKET: u32 = 1;

/// What a meta page says of the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Meta {
    /// Length of a page in bytes.
    pub page_bytes: u32,
    /// The page that names the buckets.
    pub root: u64,
    /// The page of the free list, if one is stored.
    pub free_list: Option<u64>,
    /// Number of pages.
    pub pages: u64,
    /// The transaction that wrote it.
    pub transaction: u64,
}

impl Meta {
    /// Reads a meta page from its start, at least [`PAGE_BYTES_MIN`] bytes.
    pub(super) fn parse(page: &[u8]) -> Result<Self, &'static str> {
        let header = Header::parse(page).ok_or("it is too short")?;
        let meta = page.get(HEADER_BYTES..HEADER_BYTES + META_BYTES).ok_or("it is too short")?;
        let (word, long) = (|at| u32_at(meta, at), |at| u64_at(meta, at));
        if header.flags != FLAG_META || word(0) != MAGIC {
            return Err("it is no meta page of bbolt");
        }
        if word(4) != VERSION {
            return Err("it is of another version of bbolt");
        }
        if long(56) != fnv_1a(&meta[..56]) {
            return Err("its checksum is wrong");
        }
        let page_bytes = word(8);
        if !page_bytes.is_power_of_two() || !(PAGE_BYTES_MIN..=PAGE_BYTES_MAX).contains(&page_bytes) {
            return Err("its page size is none");
        }
        let free_list = Some(long(32)).filter(|page| *page != NO_FREE_LIST);
        Ok(Self { page_bytes, root: long(16), free_list, pages: long(40), transaction: long(48) })
    }
}

/// FNV-1a with 64 bits.
pub(super) fn fnv_1a(bytes: &[u8]) -> u64 {
    let step = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, step)
}

/// The start of every page.
#[derive(Debug, Clone, Copy)]
pub(super) struct Header {
    pub id: u64,
    flags: u16,
    pub count: u16,
    /// Pages that follow and belong to it.
    pub overflow: u32,
}

impl Header {
    pub fn parse(page: &[u8]) -> Option<Self> {
        let header = page.get(..HEADER_BYTES)?;
        let half = |at: usize| u16::from_le_bytes([header[at], header[at + 1]]);
        Some(Self { id: u64_at(header, 0), flags: half(8), count: half(10), overflow: u32_at(header, 12) })
    }

    /// What holds keys.
    pub fn kind(self) -> Option<NodeKind> {
        match self.flags {
            FLAG_BRANCH => Some(NodeKind::Branch),
            FLAG_LEAF => Some(NodeKind::Leaf),
            _ => None,
        }
    }

    pub fn is_free_list(self) -> bool {
        self.flags == FLAG_FREE_LIST
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NodeKind {
    Branch,
    Leaf,
}

/// A page with keys, whose elements all lie inside it.
#[derive(Debug, Default)]
pub(super) struct Node {
    bytes: Vec<u8>,
    count: usize,
    is_branch: bool,
}

/// An element of a leaf.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct LeafElement<'a> {
    pub key: &'a [u8],
    pub value: &'a [u8],
    pub is_bucket: bool,
}

impl Node {
    /// Takes a page with its overflow and checks every element once, so that later reading needs no more checks.
    pub fn new(bytes: Vec<u8>) -> Result<Self, &'static str> {
        let header = Header::parse(&bytes).ok_or("it is too short")?;
        let kind = header.kind().ok_or("it is neither branch nor leaf")?;
        let node = Self { bytes, count: header.count.into(), is_branch: kind == NodeKind::Branch };
        if node.is_branch && node.count == 0 {
            return Err("it is a branch without children");
        }
        for index in 0..node.count {
            let (key, value) = node.spans(index).ok_or("an element points outside of it")?;
            if node.bytes.get(key).is_none() || node.bytes.get(value).is_none() {
                return Err("an element points outside of it");
            }
            if !node.is_branch && u32_at(&node.bytes, HEADER_BYTES + index * ELEMENT_BYTES) > ELEMENT_BUCKET {
                return Err("an element has unknown flags");
            }
            if index > 0 && node.key(index - 1) >= node.key(index) {
                return Err("its keys do not ascend");
            }
        }
        Ok(node)
    }

    pub fn is_branch(&self) -> bool {
        self.is_branch
    }

    pub fn count(&self) -> usize {
        self.count
    }

    /// The buffer, to be used again.
    pub fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }

    pub fn key(&self, index: usize) -> &[u8] {
        let spans = self.spans(index);
        spans.and_then(|(key, _)| self.bytes.get(key)).unwrap_or_default()
    }

    /// The child of a branch.
    pub fn child(&self, index: usize) -> u64 {
        u64_at(&self.bytes, HEADER_BYTES + index * ELEMENT_BYTES + 8)
    }

    pub fn element(&self, index: usize) -> LeafElement<'_> {
        let (key, value) = self.spans(index).unwrap_or_default();
        let bytes = |span| self.bytes.get(span).unwrap_or_default();
        let is_bucket = u32_at(&self.bytes, HEADER_BYTES + index * ELEMENT_BYTES) == ELEMENT_BUCKET;
        LeafElement { key: bytes(key), value: bytes(value), is_bucket }
    }

    /// Where the key and the value of an element lie; the value of a branch's is empty. `None` if its record is cut.
    fn spans(&self, index: usize) -> Option<(std::ops::Range<usize>, std::ops::Range<usize>)> {
        let at = HEADER_BYTES + index * ELEMENT_BYTES;
        let record = self.bytes.get(at..at + ELEMENT_BYTES)?;
        let word = |at| u32_at(record, at) as usize;
        let (position, key, value) = if self.is_branch { (word(0), word(4), 0) } else { (word(4), word(8), word(12)) };
        let start = at + position;
        Some((start..start + key, start + key..start + key + value))
    }
}

pub(super) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    bytes.get(at..).and_then(|bytes| bytes.first_chunk()).map_or(0, |bytes| u32::from_le_bytes(*bytes))
}

pub(super) fn u64_at(bytes: &[u8], at: usize) -> u64 {
    bytes.get(at..).and_then(|bytes| bytes.first_chunk()).map_or(0, |bytes| u64::from_le_bytes(*bytes))
}

/// A page that is not what it should be.
pub(super) fn wrong(page: u64, what: impl Into<String>) -> BoltError {
    BoltError::Structure(format!("page {page}: {}", what.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_is_fnv_1a() {
        assert_eq!(fnv_1a(b""), 0xcbf2_9ce4_8422_2325);
        assert_eq!(fnv_1a(b"foobar"), 0x8594_4171_f739_67e8);
    }

    #[test]
    fn elements_outside_of_their_page_are_found() {
        let mut page = vec![0; 64];
        page[8] = 2;
        page[10] = 1;
        page[20] = 16;
        page[24] = 33;
        assert_eq!(Node::new(page.clone()).unwrap_err(), "an element points outside of it");
        page[24] = 32;
        assert_eq!(Node::new(page).unwrap().element(0).key.len(), 32);
    }

    #[test]
    fn what_is_cut_is_refused() {
        for length in 0..32 {
            let mut page = vec![0; length];
            page.iter_mut().skip(8).take(1).for_each(|flags| *flags = 2);
            page.iter_mut().skip(10).take(1).for_each(|count| *count = 1);
            assert!(Node::new(page).is_err() && Meta::parse(&vec![0; length]).is_err());
        }
    }
}
