//! As many entries of a restore as are handled at once, and what is done with them.

use super::attributes::{self, LeftOut, Owner, Privilege};
use super::destination::Destination;
use super::directory::{Report, Request, RestoreError, problem, stays};
use super::filling::{Filling, Slot};
use super::origin::{Content, Expected, Origin};
use crate::watch::{Event, Live, Watch};
use futures::{StreamExt, stream};
use onggi_repo::{
    Compute,
    format::{Node, NodeKind},
};
use onggi_source::{Context, Metadata, Problem, TreePath};
use rustix::fs::FileType;
use rustix::io::Errno;
use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex};

/// Entries of a batch: at about 500 bytes each, 8 MiB.
const ENTRIES_MAX: usize = 16_384;
/// Files of more than one chunk, each of which is open from its first piece to its last.
const LARGE_MAX: usize = 256;
/// Chunks, at 32 bytes each. One file may have more.
const CHUNKS_MAX: usize = 1 << 18;
/// Values of extended attributes, in bytes. One file may have more.
const ATTRIBUTE_BYTES_MAX: usize = 16 << 20;

/// A file that is to be written.
struct Waiting {
    path: TreePath,
    metadata: Metadata,
    content: Content,
}

/// The batch that is being collected, and the sum of those before.
pub(super) struct Batch {
    origin: Origin,
    request: Request,
    destination: Arc<Destination>,
    /// The threads that write: where the kernel can, they may nowhere else.
    hands: Compute,
    live: Arc<Live>,
    watch: Arc<dyn Watch>,
    owner: Owner,
    /// Directories that were made, or will be, and are not complete.
    made: HashSet<TreePath>,
    dirs: Vec<TreePath>,
    files: Vec<Waiting>,
    others: Vec<(TreePath, Node)>,
    hard_links: Vec<(TreePath, TreePath)>,
    complete: Vec<(TreePath, Metadata)>,
    chunks: usize,
    attribute_bytes: usize,
    large: usize,
    /// The first name of each file that has several.
    names: HashMap<(u64, u64), TreePath>,
    report: Report,
    problems: Vec<Problem>,
}

impl Batch {
    pub(super) fn new(
        origin: &Origin,
        request: &Request,
        destination: Arc<Destination>,
        (live, watch): (Arc<Live>, Arc<dyn Watch>),
    ) -> Self {
        let inside = destination.clone();
        Self {
            origin: origin.clone(),
            request: request.clone(),
            destination,
            hands: origin.environment().compute.beside("restore", move || inside.confine()),
            live,
            watch,
            owner: Owner::current(),
            made: HashSet::new(),
            dirs: Vec::new(),
            files: Vec::new(),
            others: Vec::new(),
            hard_links: Vec::new(),
            complete: Vec::new(),
            chunks: 0,
            attribute_bytes: 0,
            large: 0,
            names: HashMap::new(),
            report: Report::default(),
            problems: Vec::new(),
        }
    }

    pub(super) fn is_full(&self) -> bool {
        self.files.len() + self.others.len() + self.dirs.len() >= ENTRIES_MAX
            || self.large >= LARGE_MAX
            || self.chunks >= CHUNKS_MAX
            || self.attribute_bytes >= ATTRIBUTE_BYTES_MAX
    }

    /// Has a directory made, and those above it.
    pub(super) fn directory(&mut self, path: &TreePath) {
        if path.is_root() || self.made.contains(path) {
            return;
        }
        if let Some(parent) = path.parent() {
            self.directory(&parent);
        }
        self.made.insert(path.clone());
        self.dirs.push(path.clone());
    }

    /// Takes an entry that is no directory.
    pub(super) fn entry(&mut self, path: TreePath, node: Node, length: Option<u64>) {
        if let Some(parent) = path.parent() {
            self.directory(&parent);
        }
        self.attribute_bytes += node.xattrs.iter().map(|xattr| xattr.value.len()).sum::<usize>();
        if node.kind != NodeKind::File {
            self.others.push((path, node));
            return;
        }
        let Some(length) = length else {
            self.problem(problem("damaged", &path, "a part of it is in no index of the repository".into()));
            return;
        };
        if node.links > 1 && node.inode != 0 {
            match self.names.get(&(node.inode, node.device_id)) {
                Some(first) => {
                    self.hard_links.push((path, first.clone()));
                    return;
                }
                None => drop(self.names.insert((node.inode, node.device_id), path.clone())),
            }
        }
        let metadata = crate::node::metadata(&node);
        if node.size != length {
            let text = format!("its size is recorded as {} bytes, its content has {length}", node.size);
            self.problem(problem("size-differs", &path, text));
        }
        self.chunks += node.chunks().len();
        self.large += usize::from(node.chunks().len() > 1);
        let content = Content { inode: (node.device_id, node.inode), chunks: node.content.unwrap_or_default(), length };
        self.files.push(Waiting { path, metadata, content });
    }

    /// Takes word that a directory has all its entries.
    pub(super) fn leave(&mut self, path: TreePath, metadata: Metadata) {
        if self.made.remove(&path) {
            self.complete.push((path, metadata));
        }
    }

    pub(super) fn problem(&mut self, problem: Problem) {
        self.live.problems.add(1);
        self.watch.event(Event::Problem(problem.clone().into()));
        self.problems.push(problem);
    }

    fn done(&self, path: TreePath, what: &'static str) {
        self.watch.event(Event::Item { path, what });
    }

    /// Does what was collected.
    pub(super) async fn flush(&mut self, cx: &Context) -> Result<(), RestoreError> {
        let hands = self.hands.clone();
        hands.run_here(|| self.make_directories())?;
        self.write_files(cx).await?;
        hands.run_here(|| self.make_links())?;
        hands.run_here(|| self.complete_directories())
    }

    fn make_directories(&mut self) -> Result<(), RestoreError> {
        for path in std::mem::take(&mut self.dirs) {
            match self.destination.make_directory(&path) {
                Ok(()) => {
                    self.report.dirs += 1;
                    self.live.dirs.add(1);
                }
                Err(error) => self.failed(&path, error)?,
            }
        }
        Ok(())
    }

    /// Hard links, symbolic links, pipes and devices.
    fn make_links(&mut self) -> Result<(), RestoreError> {
        for (path, first) in std::mem::take(&mut self.hard_links) {
            match self.destination.hard_link(&path, &first) {
                Ok(()) => {
                    self.report.files_restored += 1;
                    self.done(path, "restored");
                }
                Err(error) => self.failed(&path, error)?,
            }
        }
        for (path, node) in std::mem::take(&mut self.others) {
            match self.make_other(&path, &node) {
                Ok(true) => self.done(path, "restored"),
                Ok(false) => {}
                Err(error) => self.failed(&path, error)?,
            }
        }
        Ok(())
    }

    fn complete_directories(&mut self) -> Result<(), RestoreError> {
        for (path, metadata) in std::mem::take(&mut self.complete) {
            let set = self.destination.directory(&path);
            match set.and_then(|directory| attributes::apply(directory, &metadata, self.request.privilege, self.owner))
            {
                Ok(left_out) => self.left_out(left_out),
                Err(error) => self.failed(&path, error)?,
            }
        }
        Ok(())
    }

    async fn write_files(&mut self, cx: &Context) -> Result<(), RestoreError> {
        let files = self.drop_unchanged().await?;
        (self.chunks, self.large, self.attribute_bytes) = (0, 0, 0);
        let expected = |file: &Waiting| self.origin.expected(&file.content);
        let expected: Vec<_> = if self.request.verify { files.iter().map(expected).collect() } else { Vec::new() };
        let (mut wanted, mut slots) = (Vec::with_capacity(files.len()), Vec::with_capacity(files.len()));
        for file in files {
            slots.push(Slot::new(file.path, file.metadata, file.content.length));
            wanted.push(file.content);
        }
        let filling = Arc::new(Filling {
            cx: cx.clone(),
            destination: self.destination.clone(),
            slots,
            privilege: self.request.privilege,
            owner: self.owner,
            damaged: self.request.damaged,
            place: self.origin.place(),
            live: self.live.clone(),
            watch: self.watch.clone(),
            outcome: Mutex::default(),
        });
        self.origin.fetch(wanted, filling.clone(), self.hands.clone()).await?;
        let outcome = std::mem::take(&mut *filling.outcome());
        self.report.files_restored += outcome.files;
        self.report.bytes_restored += outcome.bytes;
        self.problems.extend(outcome.problems);
        for (kind, count) in outcome.left_out {
            *self.report.left_out.entry(kind).or_default() += count;
        }
        if outcome.is_full {
            return Err(RestoreError::Full { target: self.request.target.clone(), needed: 0, free: 0 });
        }
        cx.check()?;
        self.verify(&filling, expected).await;
        Ok(())
    }

    /// Sets the metadata of files that have their content already, and leaves those that stay by policy.
    async fn drop_unchanged(&mut self) -> Result<Vec<Waiting>, RestoreError> {
        let mut compared = Vec::new();
        let mut files = Vec::new();
        for file in std::mem::take(&mut self.files) {
            match self.destination.existing(&file.path) {
                Ok(Some(found)) if stays(self.request.existing, found, &file.metadata) => {
                    self.report.files_unchanged += 1;
                }
                Ok(Some(found)) if found.file_type == FileType::RegularFile && found.size == file.content.length => {
                    compared.push(file);
                }
                Ok(_) => files.push(file),
                Err(error) => self.failed(&file.path, error)?,
            }
        }
        let compute = &self.hands.clone();
        let comparisons: Vec<_> =
            compared.into_iter().map(|file| (self.origin.expected(&file.content), file)).collect();
        let (destination, origin) = (&self.destination, &self.origin);
        let answers: Vec<_> = stream::iter(comparisons)
            .map(|(expected, file)| async move {
                let is_same = origin.is_same(compute, destination.clone(), file.path.clone(), expected).await;
                (file, is_same)
            })
            .buffered(compute.threads())
            .collect()
            .await;
        for (file, is_same) in answers {
            if !is_same {
                files.push(file);
                continue;
            }
            self.report.files_unchanged += 1;
            self.live.files.add(1);
            self.live.bytes.add(file.content.length);
            let open = self.destination.open_file(&file.path);
            match open.and_then(|open| attributes::apply(open, &file.metadata, self.request.privilege, self.owner)) {
                Ok(left_out) => self.left_out(left_out),
                Err(error) => self.failed(&file.path, error)?,
            }
            self.done(file.path, "unmodified");
        }
        Ok(files)
    }

    /// Reads back what was written.
    async fn verify(&mut self, filling: &Arc<Filling>, expected: Vec<Expected>) {
        let (origin, compute) = (&self.origin, &self.origin.environment().compute);
        let answers: Vec<_> = stream::iter(expected.into_iter().enumerate())
            .map(|(key, expected)| {
                let (destination, path) = (filling.destination.clone(), filling.slots[key].path.clone());
                async move { (key, origin.is_same(compute, destination, path, expected).await) }
            })
            .buffered(compute.threads())
            .collect()
            .await;
        for (key, is_same) in answers {
            if is_same {
                self.report.files_verified += 1;
            } else {
                let text = "what was written does not read back".into();
                self.problem(problem("verify-failed", &filling.slots[key].path, text));
            }
        }
    }

    /// `false`: it was not made, and that is no error.
    fn make_other(&mut self, path: &TreePath, node: &Node) -> Result<bool, Errno> {
        let metadata = crate::node::metadata(node);
        if let Some(found) = self.destination.existing(path)?
            && stays(self.request.existing, found, &metadata)
        {
            self.report.files_unchanged += 1;
            return Ok(false);
        }
        let destination = &self.destination;
        match node.kind {
            NodeKind::Symlink => destination.symlink(path, &node.link_target)?,
            NodeKind::Fifo => destination.special(path, FileType::Fifo, 0)?,
            NodeKind::Dev | NodeKind::CharDev if self.request.privilege == Privilege::Plain => {
                self.left_out(vec![LeftOut::Device]);
                return Ok(false);
            }
            NodeKind::Dev => destination.special(path, FileType::BlockDevice, node.device)?,
            NodeKind::CharDev => destination.special(path, FileType::CharacterDevice, node.device)?,
            _ => {
                self.problem(problem("unknown-kind", path, format!("a {} is not restored", node.kind.word())));
                return Ok(false);
            }
        }
        let (directory, name) = self.destination.place(path)?;
        let is_link = node.kind == NodeKind::Symlink;
        let left_out = attributes::apply_at(&*directory, name, &metadata, is_link, self.request.privilege, self.owner)?;
        self.left_out(left_out);
        self.report.others += 1;
        Ok(true)
    }

    fn left_out(&mut self, left_out: Vec<LeftOut>) {
        for kind in left_out {
            *self.report.left_out.entry(kind).or_default() += 1;
        }
    }

    fn failed(&mut self, path: &TreePath, error: Errno) -> Result<(), RestoreError> {
        self.problem(problem("write-failed", path, error.to_string()));
        if matches!(error, Errno::NOSPC | Errno::DQUOT) {
            return Err(RestoreError::Full { target: self.request.target.clone(), needed: 0, free: 0 });
        }
        Ok(())
    }

    /// The sum of all batches.
    pub(super) fn into_report(mut self) -> Report {
        self.problems.into_iter().for_each(|problem| self.report.problems.push(problem.into()));
        self.report
    }
}
