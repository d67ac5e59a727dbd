//! Restores files of a snapshot into a directory: planned, then carried out batch by batch.
//!
//! A batch is as many entries as fit into a stated bound. Its directories are made first, then contents arrive in the
//! order in which they lie in the repository, then links, and last the metadata of directories that are complete. What
//! cannot be restored is a problem of that entry; the rest goes on.

use super::attributes::{LeftOut, Privilege};
use super::batch::Batch;
use super::destination::{Destination, Existing};
use super::origin::{Entries, Guard, Origin};
use super::select::Selection;
use super::tree::TreeEntry;
use crate::report::{Problems, causes};
use crate::watch::{Event, Live, Watch};
use onggi_repo::{
    Clock, RepoError,
    format::{Node, NodeKind},
};
use onggi_source::disk::DiskError;
use onggi_source::{Context, Metadata, Problem, Stop, TreePath};
use serde::Serialize;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Deepest directory that is restored: a tree that refers to itself must end.
pub const DEPTH_MAX: usize = 4096;
/// How many replaced paths a plan names; the rest is counted.
const NAMED_MAX: usize = 100;

/// What happens to a file that stands at the place already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Policy {
    /// It stays.
    Keep,
    /// It is replaced, unless it has the same content.
    Replace,
    /// It is replaced if the stored one is newer.
    Newer,
}

/// What happens to a file of which parts are lost in the repository. It is a problem in each case.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Damaged {
    /// Nothing is left under its name.
    Skip,
    /// It gets the ending `.onggi-damaged`, and a map of the missing parts beside it.
    Mark,
    /// Zeros stand for what is lost.
    Zero,
}

/// What is to be restored, where to, and how.
#[derive(Debug, Clone)]
pub struct Request {
    /// The directory, absolute. It is made if it is not there.
    pub target: PathBuf,
    /// What of the snapshot: a directory, whose entries land in the target, or another entry, which does itself. The
    /// root restores everything.
    pub path: TreePath,
    /// Which entries.
    pub selection: Selection,
    /// `None` refuses a target that is not empty.
    pub existing: Option<Policy>,
    /// For files that are damaged in the repository.
    pub damaged: Damaged,
    /// Whether rights are given.
    pub privilege: Privilege,
    /// Allows `/` as the target.
    pub in_place: bool,
    /// Reads everything back and compares it.
    pub verify: bool,
}

/// What a restore is going to do.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Plan {
    /// Files to be restored.
    pub files: u64,
    /// Directories to be made or taken over.
    pub dirs: u64,
    /// Links, pipes and devices.
    pub others: u64,
    /// Bytes of content.
    pub bytes: u64,
    /// Bytes that the target needs at most: without holes and what is there in that size.
    pub bytes_needed: u64,
    /// Entries that stand at the place already and would be replaced.
    pub replaces: u64,
    /// The first of them.
    pub replaced: Vec<String>,
    /// Entries that stay as they are.
    pub keeps: u64,
}

/// What was done.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Report {
    /// Files written.
    pub files_restored: u64,
    /// Files that had the same content, or stay by policy.
    pub files_unchanged: u64,
    /// Directories made or taken over.
    pub dirs: u64,
    /// Links, pipes and devices.
    pub others: u64,
    /// Bytes of the files written.
    pub bytes_restored: u64,
    /// Files read back and compared.
    pub files_verified: u64,
    /// Metadata that was left out, by kind.
    pub left_out: BTreeMap<LeftOut, u64>,
    /// What could not be restored.
    pub problems: Problems,
}

/// A restore did not take place, or ended early.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    /// Nothing was touched: files stand there and no policy was given.
    #[error("{0} is not empty")]
    NotEmpty(PathBuf),
    /// Nothing was touched: the live system needs a word of its own.
    #[error("the target is the root of this system")]
    Live,
    /// Nothing was touched, or what is complete stays: no room.
    #[error("{target} is full: {needed} bytes are needed and {free} are free")]
    Full {
        /// Where.
        target: PathBuf,
        /// Bytes that were still to come.
        needed: u64,
        /// Bytes that are free.
        free: u64,
    },
    /// The target cannot be made or opened.
    #[error("open {0}")]
    Target(PathBuf, #[source] std::io::Error),
    /// The repository cannot give it.
    #[error("read the snapshot")]
    Repository(#[from] RepoError),
    /// The disk image cannot give it.
    #[error("read the disk")]
    Disk(#[from] DiskError),
    /// Stopped. What is complete stays, and a repetition goes on from there.
    #[error(transparent)]
    Stopped(#[from] Stop),
}

impl RestoreError {
    /// Why something cannot be had, in one line.
    pub fn text(&self) -> String {
        match self {
            Self::Repository(error) => causes(error).join(": "),
            Self::Disk(error) => causes(error).join(": "),
            error => causes(error).join(": "),
        }
    }
}

/// A planned restore.
#[derive(Debug)]
pub struct DirectoryRestore {
    origin: Origin,
    request: Request,
    plan: Plan,
}

/// One directory on the way down.
struct Frame {
    path: TreePath,
    metadata: Option<Metadata>,
    entries: Entries,
}

impl DirectoryRestore {
    /// Looks at what is restored and at the target and plans; changes nothing.
    pub async fn plan(origin: impl Into<Origin>, request: Request, cx: &Context) -> Result<Self, RestoreError> {
        let origin = origin.into();
        if request.target.parent().is_none() && !request.in_place {
            return Err(RestoreError::Live);
        }
        let destination = match open(&request.target, &*origin.environment().clock) {
            Ok(destination) => Some(destination),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
            Err(error) => return Err(RestoreError::Target(request.target, error)),
        };
        if request.existing.is_none() && destination.as_ref().is_some_and(|destination| !destination.is_empty()) {
            return Err(RestoreError::NotEmpty(request.target));
        }
        let mut restore = Self { origin, request, plan: Plan::default() };
        let origin = restore.origin.clone();
        let mut planning = Planning { origin, destination, plan: Plan::default(), policy: restore.request.existing };
        restore.walk(cx, &mut planning).await?;
        restore.plan = planning.plan;
        restore.check_room()?;
        Ok(restore)
    }

    /// What it is going to do.
    pub fn planned(&self) -> &Plan {
        &self.plan
    }

    /// Carries the plan out.
    pub async fn apply(&self, cx: &Context, watch: Arc<dyn Watch>) -> Result<Report, RestoreError> {
        let target = &self.request.target;
        make_target(target).map_err(|error| RestoreError::Target(target.clone(), error))?;
        let destination = open(target, &*self.origin.environment().clock)
            .map_err(|error| RestoreError::Target(target.clone(), error))?;
        let live = Arc::new(Live::default());
        live.items_expected.set(self.plan.files);
        live.bytes_expected.set(self.plan.bytes);
        let name = target.display().to_string();
        watch.event(Event::Started { name: name.clone(), live: live.clone() });
        let batch = Batch::new(&self.origin, &self.request, Arc::new(destination), (live, watch.clone()));
        let mut applying = Applying { batch };
        let walked = self.walk(cx, &mut applying).await;
        let finished = applying.batch.flush(cx).await;
        watch.event(Event::Ended { name });
        let report = applying.batch.into_report();
        match walked.and(finished) {
            Err(RestoreError::Full { target, needed: _, free }) => {
                Err(RestoreError::Full { target, needed: self.plan.bytes.saturating_sub(report.bytes_restored), free })
            }
            Err(error) => Err(error),
            Ok(()) => Ok(report),
        }
    }

    fn check_room(&self) -> Result<(), RestoreError> {
        let mut existing = self.request.target.as_path();
        let room = loop {
            match rustix::fs::statvfs(existing) {
                Ok(room) => break room,
                Err(_) => match existing.parent() {
                    Some(parent) => existing = parent,
                    None => return Ok(()),
                },
            }
        };
        let free = room.f_bavail.saturating_mul(room.f_frsize);
        let entries = self.plan.files + self.plan.dirs + self.plan.others;
        // A file system without inodes of its own (btrfs) tells of none.
        let lacks_inodes = room.f_files > 0 && room.f_favail + self.plan.replaces + self.plan.keeps < entries;
        if self.plan.bytes_needed > free || lacks_inodes {
            let target = self.request.target.clone();
            return Err(RestoreError::Full { target, needed: self.plan.bytes_needed, free });
        }
        Ok(())
    }

    /// Visits everything that is selected, a directory before its entries and again after them.
    async fn walk(&self, cx: &Context, visit: &mut (dyn Visit + Send)) -> Result<(), RestoreError> {
        let start = match self.origin.find(&self.request.path).await? {
            Some(entry) if entry.node.kind != NodeKind::Dir => {
                return self.visit_one(cx, visit, &TreePath::root(), entry).await.map(drop);
            }
            None if !self.request.path.is_root() => {
                return Err(RepoError::Missing(format!("path {}", self.request.path)).into());
            }
            start => start,
        };
        let mut guard = Guard::new(&self.origin);
        let mut open = vec![self.frame(visit, TreePath::root(), None, start.as_ref()).await];
        while let Some(frame) = open.last_mut() {
            cx.check()?;
            let Some(entry) = frame.entries.next().await else {
                if let Some(Frame { path, metadata: Some(metadata), .. }) = open.pop() {
                    visit.leave(path, metadata);
                }
                continue;
            };
            let directory = frame.path.clone();
            if let Some((path, entry)) = self.visit_one(cx, visit, &directory, entry).await? {
                if open.len() >= DEPTH_MAX {
                    visit.problem(problem("too-deep", &path, format!("deeper than {DEPTH_MAX} directories")));
                    continue;
                }
                if let Err(why) = guard.enter(&entry, open.iter().map(|frame| &frame.entries)) {
                    visit.problem(problem("damaged", &path, why.into()));
                    continue;
                }
                let metadata = Some(crate::node::metadata(&entry.node));
                open.push(self.frame(visit, path, metadata, Some(&entry)).await);
            }
        }
        Ok(())
    }

    async fn frame(
        &self,
        visit: &mut (dyn Visit + Send),
        path: TreePath,
        metadata: Option<Metadata>,
        directory: Option<&TreeEntry>,
    ) -> Frame {
        let (entries, lost) = self.origin.list(directory).await;
        if let Some(error) = lost {
            visit.problem(problem("lost-directory", &path, error.text()));
        }
        Frame { path, metadata, entries }
    }

    /// Visits an entry; gives back a directory that is to be entered.
    async fn visit_one(
        &self,
        cx: &Context,
        visit: &mut (dyn Visit + Send),
        directory: &TreePath,
        entry: TreeEntry,
    ) -> Result<Option<(TreePath, TreeEntry)>, RestoreError> {
        let path = match directory.join(&entry.node.name) {
            Ok(path) if entry.node.has_safe_name() => path,
            _ => {
                let text = format!("an entry named {:?} cannot be restored", String::from_utf8_lossy(&entry.node.name));
                visit.problem(problem("bad-name", directory, text));
                return Ok(None);
            }
        };
        let selected_by = self.stored_path(&path);
        if !self.request.selection.enters(&selected_by) {
            return Ok(None);
        }
        let takes = self.request.selection.takes(&selected_by);
        if entry.node.kind == NodeKind::Dir {
            if takes {
                visit.directory(&path);
            }
            return Ok(Some((path, entry)));
        }
        if takes {
            let size = self.origin.content_length(&entry.node);
            visit.entry(cx, path, entry.node, size).await?;
        }
        Ok(None)
    }

    /// Patterns speak of paths in the snapshot, whatever part of it is restored.
    fn stored_path(&self, path: &TreePath) -> TreePath {
        let is_file = self.request.path.name().is_some_and(|name| path.as_bytes() == name);
        let base = if is_file { self.request.path.parent() } else { Some(self.request.path.clone()) };
        base.unwrap_or_else(TreePath::root).below(path)
    }
}

/// Sees what a restore takes.
#[async_trait::async_trait]
trait Visit {
    /// A directory that is selected itself.
    fn directory(&mut self, path: &TreePath);
    /// Anything else. `length` is `None` for a file of which a chunk is unknown.
    async fn entry(
        &mut self,
        cx: &Context,
        path: TreePath,
        node: Node,
        length: Option<u64>,
    ) -> Result<(), RestoreError>;
    /// A directory all of whose entries were visited.
    fn leave(&mut self, path: TreePath, metadata: Metadata);
    /// Something cannot be visited.
    fn problem(&mut self, problem: Problem);
}

struct Planning {
    origin: Origin,
    destination: Option<Destination>,
    plan: Plan,
    policy: Option<Policy>,
}

#[async_trait::async_trait]
impl Visit for Planning {
    fn directory(&mut self, _path: &TreePath) {
        self.plan.dirs += 1;
    }

    async fn entry(
        &mut self,
        _: &Context,
        path: TreePath,
        node: Node,
        length: Option<u64>,
    ) -> Result<(), RestoreError> {
        let found = self.destination.as_ref().and_then(|destination| destination.existing(&path).ok().flatten());
        if found.is_some_and(|found| stays(self.policy, found, &crate::node::metadata(&node))) {
            self.plan.keeps += 1;
            return Ok(());
        }
        if found.is_some() {
            self.plan.replaces += 1;
            if self.plan.replaced.len() < NAMED_MAX {
                self.plan.replaced.push(path.to_string());
            }
        }
        if node.kind == NodeKind::File {
            let length = length.unwrap_or(0);
            self.plan.files += 1;
            self.plan.bytes += length;
            let dense = self.origin.dense(&node, length);
            self.plan.bytes_needed += found.map_or(dense, |found| dense.saturating_sub(found.size));
        } else {
            self.plan.others += 1;
        }
        Ok(())
    }

    fn leave(&mut self, _path: TreePath, _metadata: Metadata) {}

    /// Problems are told by the restore itself.
    fn problem(&mut self, _problem: Problem) {}
}

struct Applying {
    batch: Batch,
}

#[async_trait::async_trait]
impl Visit for Applying {
    fn directory(&mut self, path: &TreePath) {
        self.batch.directory(path);
    }

    async fn entry(
        &mut self,
        cx: &Context,
        path: TreePath,
        node: Node,
        length: Option<u64>,
    ) -> Result<(), RestoreError> {
        self.batch.entry(path, node, length);
        if self.batch.is_full() { self.batch.flush(cx).await } else { Ok(()) }
    }

    fn leave(&mut self, path: TreePath, metadata: Metadata) {
        self.batch.leave(path, metadata);
    }

    fn problem(&mut self, problem: Problem) {
        self.batch.problem(problem);
    }
}

/// Whether what stands at a place is left alone.
pub(super) fn stays(policy: Option<Policy>, found: Existing, stored: &Metadata) -> bool {
    match policy {
        Some(Policy::Keep) => true,
        Some(Policy::Newer) => {
            let stored = (stored.mtime.as_second(), u32::try_from(stored.mtime.subsec_nanosecond()).unwrap_or(0));
            found.mtime >= stored
        }
        Some(Policy::Replace) | None => false,
    }
}

pub(super) fn problem(class: &'static str, path: &TreePath, text: String) -> Problem {
    Problem { class, path: Some(path.clone()), text }
}

fn open(target: &Path, clock: &dyn Clock) -> std::io::Result<Destination> {
    let mut tag = [0; 8];
    clock.fill_random(&mut tag);
    Destination::open(target, u64::from_le_bytes(tag)).map_err(Into::into)
}

#[expect(
    clippy::disallowed_methods,
    reason = "the target of a restore is what it is about; all below it goes through `Destination`"
)]
fn make_target(target: &Path) -> std::io::Result<()> {
    std::fs::create_dir_all(target)
}
