//! One directory that is not complete: its entries by name, rendered as soon as they are known.

use crate::{
    error::{RepoError, Result},
    format::{BlobId, Node, NodeKind, Time},
    scratch::Scratch,
};
use std::collections::{BTreeMap, btree_map};

/// A directory that takes entries.
#[derive(Default)]
pub(super) struct Directory {
    /// Its own metadata, once that came.
    pub node: Option<Node>,
    /// What the parent snapshot had as its tree.
    pub before: Option<BlobId>,
    entries: BTreeMap<Box<[u8]>, Entry>,
    /// Contents whose chunks are not all known.
    pub waiting: usize,
    /// Directories below that are not sealed.
    pub open_below: usize,
    /// Nothing more comes.
    pub is_left: bool,
    /// Bytes of rendered entries in memory.
    pub bytes: usize,
}

/// One entry.
pub(super) enum Entry {
    /// A file whose content is not known yet.
    Waiting(Box<Node>),
    /// A directory that takes entries.
    Open,
    /// A directory that was sealed before its metadata came.
    Sealed(BlobId),
    /// JSON.
    Rendered(Box<[u8]>),
    /// JSON in the spill file.
    Spilled { at: u64, length: u32 },
}

impl Entry {
    /// Bytes of its rendering in memory.
    fn size(&self) -> usize {
        if let Self::Rendered(json) = self { json.len() } else { 0 }
    }
}

impl Directory {
    /// Whether it can be sealed.
    pub fn is_complete(&self) -> bool {
        self.is_left && self.waiting == 0 && self.open_below == 0
    }

    pub fn entry(&self, name: &[u8]) -> Option<&Entry> {
        self.entries.get(name)
    }

    /// Adds an entry, and returns by how many bytes of memory it grew; `None`: there is one of that name.
    pub fn add(&mut self, name: &[u8], entry: Entry) -> Option<usize> {
        let btree_map::Entry::Vacant(place) = self.entries.entry(name.into()) else { return None };
        let size = entry.size();
        self.waiting += usize::from(matches!(entry, Entry::Waiting(_)));
        place.insert(entry);
        self.bytes += size;
        Some(size)
    }

    /// Adds or replaces an entry, and returns by how many bytes of memory it grew.
    pub fn set(&mut self, name: &[u8], entry: Entry) -> usize {
        let size = entry.size();
        self.entries.insert(name.into(), entry);
        self.bytes += size;
        size
    }

    /// Exchanges an entry that is there.
    pub fn replace(&mut self, name: &[u8], entry: Entry) -> Result<Entry> {
        let slot = self.entries.get_mut(name);
        let slot = slot.ok_or_else(|| RepoError::Torn(format!("{} vanished", name.escape_ascii())))?;
        Ok(std::mem::replace(slot, entry))
    }

    /// The names of directories below that take entries.
    pub fn open_names(&self) -> impl Iterator<Item = &[u8]> {
        self.entries.iter().filter(|(_, entry)| matches!(entry, Entry::Open)).map(|(name, _)| &**name)
    }

    /// Moves rendered entries to the spill file.
    pub fn spill(&mut self, to: &mut Scratch) -> Result<()> {
        for entry in self.entries.values_mut() {
            if let Entry::Rendered(json) = entry {
                let (at, length) = (to.append(json)?, json.len() as u32);
                *entry = Entry::Spilled { at, length };
            }
        }
        self.bytes = 0;
        Ok(())
    }

    /// The tree blob. Nothing may be waiting or open.
    pub fn print(&self, spill: Option<&mut Scratch>) -> Result<Vec<u8>> {
        let mut spill = spill;
        let mut out = Vec::with_capacity(self.bytes + self.entries.len() + 16);
        out.extend_from_slice(b"{\"nodes\":[");
        for (index, (name, entry)) in self.entries.iter().enumerate() {
            if index > 0 {
                out.push(b',');
            }
            match (entry, spill.as_deref_mut()) {
                (Entry::Rendered(json), _) => out.extend_from_slice(json),
                (Entry::Sealed(tree), _) => directory_node(name, None, *tree).print(&mut out),
                (Entry::Spilled { at, length }, Some(spill)) => {
                    out.extend_from_slice(&spill.read(*at, *length as usize)?);
                }
                _ => return Err(RepoError::Torn("a directory was sealed before it was complete".into())),
            }
        }
        out.extend_from_slice(b"]}\n");
        Ok(out)
    }
}

/// A directory's node. One that nobody described gets the same metadata every time, so that its tree stays the same.
pub(super) fn directory_node(name: &[u8], described: Option<Node>, tree: BlobId) -> Node {
    let epoch = Time::utc(jiff::Timestamp::UNIX_EPOCH);
    let mut node = described.unwrap_or_else(|| Node::new(name, NodeKind::Dir, 0o755, epoch));
    node.name = name.to_vec();
    node.content = None;
    node.subtree = Some(tree);
    node
}

/// The JSON of a node.
pub(super) fn render(node: &Node) -> Box<[u8]> {
    let mut json = Vec::with_capacity(400 + 67 * node.chunks().len());
    node.print(&mut json);
    json.into_boxed_slice()
}
