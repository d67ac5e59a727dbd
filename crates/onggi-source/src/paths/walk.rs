//! The walk through a tree of directories, depth first and sorted; `ahead.rs` reads beside it.

use std::collections::{BTreeSet, VecDeque};
use std::io;
use std::sync::Arc;

use tokio::sync::oneshot;

use super::ahead::{Listed, Looked, Reader};
use super::directory::{Directory, OPEN_LEVELS};
use super::listing::{Entering, NameList};
use super::targets::Node;
use crate::path::TreePath;

/// Batches of one directory that are under way at once.
const BATCHES_AHEAD: usize = 3;
/// Sibling directories that are read in one go.
const GROUP_DIRECTORIES: usize = 16;

/// What the walk comes by.
pub(super) enum Step {
    /// Entries of a directory. A directory among them is entered later.
    Entries {
        /// The number of the directory.
        id: usize,
        /// Its place in the tree.
        tree: TreePath,
        looked: Looked,
    },
    /// A directory is entered: its number, and that of the one it lies in.
    Entered { id: usize, above: usize, place: Place },
    /// All entries of a directory have come by, and all below it.
    Passed { id: usize },
    /// A directory, or the rest of it, could not be read.
    Lost { tree: TreePath, error: io::Error },
}

/// A directory of the tree.
#[derive(Debug, Clone)]
pub(super) enum Place {
    /// Above the roots.
    Above(TreePath),
    /// In the file system.
    Real(Arc<Directory>),
}

impl Place {
    pub(super) fn tree(&self) -> TreePath {
        match self {
            Self::Above(tree) => tree.clone(),
            Self::Real(directory) => directory.tree(),
        }
    }

    fn directory(&self) -> Option<&Arc<Directory>> {
        match self {
            Self::Above(_) => None,
            Self::Real(directory) => Some(directory),
        }
    }
}

/// The walk. The directory with the number 0 is the root of the tree.
pub(super) struct Walk {
    reader: Reader,
    stack: Vec<Frame>,
    next_id: usize,
}

/// A directory whose entries are coming by.
struct Frame {
    id: usize,
    place: Place,
    /// Its place in the tree, until something below it is entered.
    tree: Option<TreePath>,
    /// Roots below it.
    node: Option<Arc<Node>>,
    listing: Option<oneshot::Receiver<Listed>>,
    names: Arc<NameList>,
    /// That many of the names were handed to the reader.
    taken: usize,
    looking: VecDeque<oneshot::Receiver<Looked>>,
    below: VecDeque<Below>,
    /// Names in `node` that did not come by as entries.
    roots: BTreeSet<Vec<u8>>,
}

/// A directory that is going to be entered.
struct Below {
    place: Place,
    node: Option<Arc<Node>>,
    listing: Option<oneshot::Receiver<Listed>>,
}

impl Walk {
    /// Through all roots of this tree.
    pub(super) fn new(reader: Reader, node: Arc<Node>) -> Self {
        let mut walk = Self { reader, stack: Vec::new(), next_id: 0 };
        walk.push(Below { place: Place::Above(TreePath::root()), node: Some(node), listing: None });
        walk
    }

    /// The next step, `None` at the end. May be dropped half-way and called again.
    pub(super) async fn next(&mut self) -> Option<Step> {
        loop {
            let frame = self.stack.last_mut()?;
            if let Some(listing) = &mut frame.listing {
                let listed = listing.await.unwrap_or_else(|_| Listed::Lost(interrupted()));
                if let Some(step) = frame.take_listing(listed, &self.reader) {
                    return Some(step);
                }
                continue;
            }
            frame.look_further(&self.reader);
            if let Some(looking) = frame.looking.front_mut() {
                let looked = looking.await;
                frame.looking.pop_front();
                return Some(match looked {
                    Ok(looked) => frame.take(looked),
                    Err(_) => Step::Lost { tree: frame.tree(), error: interrupted() },
                });
            }
            frame.read_below_ahead(&self.reader);
            return Some(match frame.below.pop_front() {
                Some(below) => self.enter(below),
                None => Step::Passed { id: self.stack.pop()?.id },
            });
        }
    }

    fn enter(&mut self, below: Below) -> Step {
        let above = self.stack.last().map_or(0, |frame| frame.id);
        let place = below.place.clone();
        if let Some(frame) = self.stack.last_mut() {
            frame.tree = None;
        }
        let id = self.push(below);
        let far = self.stack.len().checked_sub(OPEN_LEVELS).map(|level| &self.stack[level].place);
        if let Some(Place::Real(far)) = far {
            far.close();
        }
        Step::Entered { id, above, place }
    }

    fn push(&mut self, below: Below) -> usize {
        let id = self.next_id;
        self.next_id += 1;
        let roots = below.node.iter().flat_map(|node| node.children.keys().cloned()).collect();
        self.stack.push(Frame {
            id,
            tree: None,
            place: below.place,
            node: below.node,
            listing: below.listing,
            names: Arc::default(),
            taken: 0,
            looking: VecDeque::new(),
            below: VecDeque::new(),
            roots,
        });
        id
    }
}

/// A thread that read beside the walk ended without an answer.
fn interrupted() -> io::Error {
    io::Error::other("reading was interrupted")
}

impl Frame {
    fn tree(&mut self) -> TreePath {
        self.tree.get_or_insert_with(|| self.place.tree()).clone()
    }

    fn take_listing(&mut self, listed: Listed, reader: &Reader) -> Option<Step> {
        self.listing = None;
        match listed {
            Listed::Read(names, first) => {
                self.taken = first.entries.end;
                self.names = names;
                Some(self.take(first))
            }
            Listed::GaveUp => {
                let again = self.place.directory().map(|directory| (directory.clone(), self.node.clone()));
                self.listing = reader.list(again).pop();
                None
            }
            Listed::Lost(error) => Some(Step::Lost { tree: self.tree(), error }),
        }
    }

    /// Has further names looked at, and after the last of them the roots that are no entries.
    fn look_further(&mut self, reader: &Reader) {
        while let Place::Real(directory) = &self.place
            && self.looking.len() < BATCHES_AHEAD
            && self.taken < self.names.len()
        {
            let (batch, end) = reader.look(directory, &self.names, self.taken, self.node.as_ref());
            self.looking.push_back(batch);
            self.taken = end;
        }
        if self.looking.is_empty()
            && !self.roots.is_empty()
            && let Some(node) = self.node.clone()
        {
            let names = std::iter::from_fn(|| self.roots.pop_first()).take(super::ahead::BATCH_ENTRIES).collect();
            let tree = self.tree();
            self.looking.push_back(reader.look_at_roots(tree, node, names));
        }
    }

    /// Remembers the directories of a batch and makes a step of it.
    fn take(&mut self, looked: Looked) -> Step {
        let tree = self.tree();
        for (found, entering) in &looked.batch.found {
            let child = self.node.as_ref().and_then(|node| node.children.get(found.tree_name())).cloned();
            self.roots.remove(found.tree_name());
            let node = child.filter(|child| !child.children.is_empty());
            let place = match (entering, &node) {
                (Entering::Enter(directory), _) => Place::Real(directory.clone()),
                // it is above roots, or not entered although roots lie below it
                (_, Some(_)) => match tree.join(found.tree_name()) {
                    Ok(tree) => Place::Above(tree),
                    Err(_) => continue,
                },
                _ => continue,
            };
            self.below.push_back(Below { place, node, listing: None });
        }
        Step::Entries { id: self.id, tree, looked }
    }

    /// Has the next directory below this one read, and with it those after it, a group at a time.
    fn read_below_ahead(&mut self, reader: &Reader) {
        let must = self.below.front().is_some_and(Below::is_unread);
        if !must && reader.is_far_ahead() {
            return;
        }
        let near = self.below.iter_mut().take(2 * GROUP_DIRECTORIES);
        let unread = near.filter(|below| below.is_unread());
        let group: Vec<_> = unread
            .filter_map(|below| Some(((below.place.directory()?.clone(), below.node.clone()), &mut below.listing)))
            .take(GROUP_DIRECTORIES)
            .collect();
        if !must && group.len() < GROUP_DIRECTORIES {
            return;
        }
        let (directories, slots): (Vec<_>, Vec<_>) = group.into_iter().unzip();
        for (slot, listing) in slots.into_iter().zip(reader.list(directories)) {
            *slot = Some(listing);
        }
    }
}

impl Below {
    fn is_unread(&self) -> bool {
        self.listing.is_none() && self.place.directory().is_some()
    }
}
