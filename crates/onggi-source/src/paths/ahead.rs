//! Reads directories on blocking threads ahead of the walk: many entries in one go, and a bounded number of them before
//! they are asked for. What is no longer asked for ends by itself.

use std::io;
use std::ops::Range;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::oneshot;

use super::directory::Directory;
use super::listing::{Batch, NameList, Rules};
use super::targets::Node;
use crate::context::World;
use crate::path::TreePath;

/// Entries of one directory that are looked at in one go.
pub(super) const BATCH_ENTRIES: usize = 1024;
/// With that many entries a group of directories answers before it is read to its end.
const ANSWER_ENTRIES: usize = 256;
/// Entries that may wait to be asked for; beyond it nothing is read ahead, and a group of directories is given up.
const ENTRIES_AHEAD: usize = 16_384;

/// The threads that read, and what they obey.
#[derive(Clone)]
pub(super) struct Reader {
    rules: Arc<Rules>,
    world: Arc<dyn World>,
    ahead: Arc<AtomicUsize>,
}

/// A directory was read, or not.
pub(super) enum Listed {
    /// With its first batch.
    Read(Arc<NameList>, Looked),
    /// Enough waits to be asked for.
    GaveUp,
    /// It cannot be read at all.
    Lost(io::Error),
}

impl Listed {
    fn entries(&self) -> usize {
        match self {
            Self::Read(_, first) => first.batch.found.len(),
            Self::GaveUp | Self::Lost(_) => 0,
        }
    }
}

/// A batch of entries.
pub(super) struct Looked {
    pub(super) batch: Batch,
    /// Which names of the directory these are.
    pub(super) entries: Range<usize>,
    /// When, on the monotonic clock.
    pub(super) at: Duration,
    /// Why the directory, or this batch, is not complete.
    pub(super) broken: Option<io::Error>,
    _counted: Counted,
}

/// Entries that count as waiting until this is dropped.
struct Counted {
    entries: usize,
    ahead: Arc<AtomicUsize>,
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.ahead.fetch_sub(self.entries, Ordering::Relaxed);
    }
}

impl Reader {
    pub(super) fn new(rules: Arc<Rules>, world: Arc<dyn World>) -> Self {
        Self { rules, world, ahead: Arc::default() }
    }

    /// Whether enough waits to be asked for.
    pub(super) fn is_far_ahead(&self) -> bool {
        self.ahead.load(Ordering::Relaxed) >= ENTRIES_AHEAD
    }

    /// Reads these directories one after the other, each with its first batch; with each come the roots below it.
    pub(super) fn list(
        &self,
        directories: impl IntoIterator<Item = (Arc<Directory>, Option<Arc<Node>>)>,
    ) -> Vec<oneshot::Receiver<Listed>> {
        let (jobs, answers): (Vec<_>, Vec<_>) = directories
            .into_iter()
            .map(|directory| {
                let (sender, receiver) = oneshot::channel();
                ((directory, sender), receiver)
            })
            .unzip();
        let reader = self.clone();
        tokio::task::spawn_blocking(move || {
            let (mut ready, mut entries) = (Vec::new(), 0);
            for (number, ((directory, node), sender)) in jobs.into_iter().enumerate() {
                if sender.is_closed() {
                    continue; // the walk ended
                }
                let listed = if number > 0 && reader.is_far_ahead() {
                    Listed::GaveUp
                } else {
                    reader.list_now(&directory, node.as_deref()).unwrap_or_else(Listed::Lost)
                };
                entries += listed.entries();
                ready.push((sender, listed));
                if entries >= ANSWER_ENTRIES {
                    answer(std::mem::take(&mut ready));
                    entries = 0;
                }
            }
            answer(ready);
        });
        answers
    }

    fn list_now(&self, directory: &Arc<Directory>, node: Option<&Node>) -> io::Result<Listed> {
        let fd = directory.open_briefly()?;
        let listing = self.rules.list(directory, &fd)?;
        let range = 0..listing.names.len().min(BATCH_ENTRIES);
        let mut first = self.look_now(directory, Ok(fd), &listing.names, range, node);
        first.batch.excluded += listing.excluded;
        first.broken = first.broken.or(listing.broken);
        Ok(Listed::Read(Arc::new(listing.names), first))
    }

    /// Looks at the names from this number on; answers also the number after the last of them.
    pub(super) fn look(
        &self,
        directory: &Arc<Directory>,
        names: &Arc<NameList>,
        start: usize,
        node: Option<&Arc<Node>>,
    ) -> (oneshot::Receiver<Looked>, usize) {
        let end = names.len().min(start + BATCH_ENTRIES);
        let (reader, directory, names, node) = (self.clone(), directory.clone(), names.clone(), node.cloned());
        let work = move || {
            let fd = directory.open_briefly();
            reader.look_now(&directory, fd, &names, start..end, node.as_deref())
        };
        (beside(work), end)
    }

    fn look_now(
        &self,
        directory: &Arc<Directory>,
        fd: io::Result<Arc<OwnedFd>>,
        names: &NameList,
        entries: Range<usize>,
        node: Option<&Node>,
    ) -> Looked {
        let (mut batch, at) = (Batch::default(), self.world.elapsed());
        let looked = fd.and_then(|fd| self.rules.look((directory, &fd), names, entries.clone(), node, &mut batch));
        self.looked(batch, entries, at, looked.err())
    }

    /// Looks at roots and at directories above roots, by their names in the tree.
    pub(super) fn look_at_roots(
        &self,
        tree: TreePath,
        node: Arc<Node>,
        names: Vec<Vec<u8>>,
    ) -> oneshot::Receiver<Looked> {
        let reader = self.clone();
        beside(move || {
            let (mut batch, at) = (Batch::default(), reader.world.elapsed());
            reader.rules.look_at_roots(&tree, &node, &names, &mut batch);
            reader.looked(batch, 0..0, at, None)
        })
    }

    fn looked(&self, batch: Batch, entries: Range<usize>, at: Duration, broken: Option<io::Error>) -> Looked {
        let counted = Counted { entries: batch.found.len(), ahead: self.ahead.clone() };
        self.ahead.fetch_add(counted.entries, Ordering::Relaxed);
        Looked { batch, entries, at, broken, _counted: counted }
    }
}

/// Answers many at once, since each answer may wake the walk.
fn answer(ready: Vec<(oneshot::Sender<Listed>, Listed)>) {
    // the last first: the walk waits for the first one, and then finds the others
    for (sender, listed) in ready.into_iter().rev() {
        let _ = sender.send(listed); // the walk ended
    }
}

fn beside<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> oneshot::Receiver<T> {
    let (sender, receiver) = oneshot::channel();
    tokio::task::spawn_blocking(move || {
        if !sender.is_closed() {
            let _ = sender.send(work()); // the walk ended
        }
    });
    receiver
}
