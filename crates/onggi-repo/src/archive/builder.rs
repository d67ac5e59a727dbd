//! Builds the trees. Items come in any order; a directory is sealed when nothing more comes, its contents are hashed
//! and the directories below it are sealed. What is rendered and waits beyond the budget goes to the spill file.

use super::{
    claims::Claim,
    content::StoredContent,
    directory::{Directory, Entry, directory_node, render},
    seal::{Plain, store},
    shared::Shared,
    stats::add,
    writer::TreeBudget,
};
use crate::{
    error::{RepoError, Result},
    format::{BlobId, BlobKind, Node, node::is_safe_name},
    scratch::Scratch,
};
use std::{collections::HashMap, path::PathBuf, sync::Arc};

/// Directories that are not sealed, by path.
pub(super) struct Builder {
    directories: HashMap<Vec<u8>, Directory>,
    /// Metadata that came while its directory was being sealed.
    late: HashMap<Vec<u8>, Node>,
    root: Option<BlobId>,
    bytes: usize,
    budget: TreeBudget,
    spill_folder: Option<(PathBuf, String)>,
    spill: Option<Scratch>,
}

/// A directory that is complete, taken out to be sealed.
pub(super) struct Complete {
    path: Vec<u8>,
    directory: Directory,
}

impl Builder {
    /// `spill`: folder and name of the spill file; without one everything stays in memory.
    pub fn new(budget: TreeBudget, spill_folder: Option<(PathBuf, String)>) -> Self {
        let directories = HashMap::from([(Vec::new(), Directory::default())]);
        Self { directories, late: HashMap::new(), root: None, bytes: 0, budget, spill_folder, spill: None }
    }

    /// The root tree, once it is sealed.
    pub fn root(&self) -> Option<BlobId> {
        self.root
    }

    /// Adds an item that is whole.
    pub fn put(&mut self, path: &[u8], node: &Node) -> Result<()> {
        self.add(path, Entry::Rendered(render(node)))
    }

    /// Adds a directory's metadata. The directory itself may be there already: open, left, being sealed, or sealed.
    pub fn put_directory(&mut self, path: &[u8], node: Node, before: Option<BlobId>) -> Result<()> {
        let (parent, name) = split(path)?;
        self.open(parent)?;
        match self.directories.get(parent).and_then(|directory| directory.entry(name)) {
            Some(Entry::Sealed(tree)) => {
                let json = render(&directory_node(name, Some(node), *tree));
                return self.set(parent, name, Entry::Rendered(json));
            }
            None => self.open(path)?,
            Some(Entry::Open) => {}
            Some(_) => return Err(duplicate(path)),
        }
        let is_new = match self.directories.get_mut(path) {
            Some(directory) if directory.node.is_some() => false,
            Some(directory) => {
                (directory.node, directory.before) = (Some(node), before);
                true
            }
            None => self.late.insert(path.to_vec(), node).is_none(),
        };
        if is_new { Ok(()) } else { Err(duplicate(path)) }
    }

    /// Adds a file whose content is still to come.
    pub fn put_waiting(&mut self, path: &[u8], node: Node) -> Result<()> {
        self.add(path, Entry::Waiting(Box::new(node)))
    }

    /// A file's content is known. Returns the file's JSON, and its directory if that makes it complete.
    pub fn resolve(&mut self, path: &[u8], content: StoredContent) -> Result<(Box<[u8]>, Option<Complete>)> {
        let (parent, name) = split(path)?;
        let directory = self.directory(parent)?;
        let placeholder = Entry::Rendered(Box::default());
        let Entry::Waiting(mut node) = directory.replace(name, placeholder)? else {
            return Err(RepoError::Torn(format!("{} has no content to wait for", path.escape_ascii())));
        };
        node.size = content.length;
        node.content = Some(content.chunks);
        let json = render(&node);
        directory.waiting -= 1;
        self.set(parent, name, Entry::Rendered(json.clone()))?;
        Ok((json, self.take_if_complete(parent)))
    }

    /// Promises that nothing more comes below a directory; returns those that are complete now.
    pub fn leave(&mut self, path: &[u8]) -> Vec<Complete> {
        let mut below = vec![path.to_vec()];
        let mut complete = Vec::new();
        while let Some(path) = below.pop() {
            let Some(directory) = self.directories.get_mut(&path) else { continue };
            directory.is_left = true;
            below.extend(directory.open_names().map(|name| join(&path, name)));
            complete.extend(self.take_if_complete(&path));
        }
        complete
    }

    /// A directory was sealed: notes its tree in the one above, and returns that if it is complete now.
    fn sealed(&mut self, path: &[u8], node: Option<Node>, tree: BlobId) -> Result<Option<Complete>> {
        if path.is_empty() {
            self.root = Some(tree);
            return Ok(None);
        }
        let (parent, name) = split(path)?;
        let node = match (node, self.late.remove(path)) {
            (Some(_), Some(_)) => return Err(duplicate(path)),
            (node, late) => node.or(late),
        };
        let entry = match node {
            Some(node) => Entry::Rendered(render(&directory_node(name, Some(node), tree))),
            None => Entry::Sealed(tree),
        };
        self.directory(parent)?.open_below -= 1;
        self.set(parent, name, entry)?;
        Ok(self.take_if_complete(parent))
    }

    fn take_if_complete(&mut self, path: &[u8]) -> Option<Complete> {
        if !self.directories.get(path).is_some_and(Directory::is_complete) {
            return None;
        }
        let (path, directory) = self.directories.remove_entry(path)?;
        self.bytes -= directory.bytes;
        Some(Complete { path, directory })
    }

    /// Adds an entry whose name is not taken.
    fn add(&mut self, path: &[u8], entry: Entry) -> Result<()> {
        let (parent, name) = split(path)?;
        if self.directories.get(parent).is_none_or(|directory| directory.is_left) {
            self.open(parent)?;
        }
        let added = self.directory(parent)?.add(name, entry);
        self.bytes += added.ok_or_else(|| duplicate(path))?;
        self.spill_surplus()
    }

    /// Makes a directory take entries, and those above it.
    fn open(&mut self, path: &[u8]) -> Result<()> {
        if let Some(directory) = self.directories.get(path) {
            let is_left = directory.is_left;
            return if is_left { Err(left(path)) } else { Ok(()) };
        }
        if path.is_empty() {
            return Err(left(path));
        }
        let (parent, name) = split(path)?;
        self.open(parent)?;
        let above = self.directory(parent)?;
        match above.entry(name) {
            None => {
                above.open_below += 1;
                above.set(name, Entry::Open);
                self.directories.insert(path.to_vec(), Directory::default());
                Ok(())
            }
            Some(Entry::Sealed(_)) => Err(left(path)),
            Some(_) => Err(duplicate(path)),
        }
    }

    fn directory(&mut self, path: &[u8]) -> Result<&mut Directory> {
        self.directories.get_mut(path).ok_or_else(|| left(path))
    }

    /// Sets an entry.
    fn set(&mut self, parent: &[u8], name: &[u8], entry: Entry) -> Result<()> {
        self.bytes += self.directory(parent)?.set(name, entry);
        self.spill_surplus()
    }

    fn spill_surplus(&mut self) -> Result<()> {
        while self.bytes > self.budget.part() && self.spill_folder.is_some() {
            self.spill_largest()?;
        }
        Ok(())
    }

    fn spill_largest(&mut self) -> Result<()> {
        if self.spill.is_none()
            && let Some((folder, name)) = &self.spill_folder
        {
            self.spill = Some(Scratch::unnamed(folder, name)?);
        }
        let largest = self.directories.values_mut().max_by_key(|directory| directory.bytes);
        if let (Some(directory), Some(spill)) = (largest, &mut self.spill) {
            self.bytes -= directory.bytes;
            directory.spill(spill)?;
        }
        Ok(())
    }
}

/// Seals directories, upwards as long as that completes the next one.
pub(super) fn seal(shared: &Arc<Shared>, complete: Complete) {
    let mut next = Some(complete);
    while let Some(Complete { path, directory }) = next {
        match seal_one(shared, &path, directory) {
            Ok(above) => next = above,
            Err(error) => return shared.fail(error),
        }
    }
    shared.changed.notify_waiters();
}

fn seal_one(shared: &Arc<Shared>, path: &[u8], directory: Directory) -> Result<Option<Complete>> {
    let json = match directory.print(None) {
        Ok(json) => json,
        Err(_) => directory.print(shared.builder().spill.as_mut())?,
    };
    let tree = BlobId::of(&json);
    let counter = match directory.before {
        None => &shared.counters.dirs_new,
        Some(before) if before == tree => &shared.counters.dirs_unmodified,
        Some(_) => &shared.counters.dirs_changed,
    };
    if !path.is_empty() {
        add(counter, 1);
    }
    if shared.claim(BlobKind::Tree, &tree) == Claim::New {
        store(shared, BlobKind::Tree, tree, Plain::Bytes(json));
    }
    shared.builder().sealed(path, directory.node, tree)
}

/// Directory and name. A name that no file system has is refused.
pub(super) fn split(path: &[u8]) -> Result<(&[u8], &[u8])> {
    let (parent, name) = match path.iter().rposition(|&byte| byte == b'/') {
        Some(at) => (&path[..at], &path[at + 1..]),
        None => (&path[..0], path),
    };
    if is_safe_name(name) && !path.starts_with(b"/") {
        return Ok((parent, name));
    }
    Err(RepoError::Refused { guard: "name", reason: format!("{:?} cannot be stored", path.escape_ascii().to_string()) })
}

fn join(parent: &[u8], name: &[u8]) -> Vec<u8> {
    if parent.is_empty() { name.to_vec() } else { [parent, b"/", name].concat() }
}

fn duplicate(path: &[u8]) -> RepoError {
    RepoError::Refused { guard: "duplicate", reason: format!("{} was stored already", path.escape_ascii()) }
}

fn left(path: &[u8]) -> RepoError {
    RepoError::Refused {
        guard: "left",
        reason: format!("directory {:?} was left already", path.escape_ascii().to_string()),
    }
}
