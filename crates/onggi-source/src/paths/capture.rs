//! Pushes what the walk comes by: several items at once, each directory left when all below it is done.

use std::collections::HashMap;
use std::io;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures::stream::{FuturesUnordered, StreamExt};
use jiff::Timestamp;

use super::ahead::{Looked, Reader};
use super::directory::Directory;
use super::inspect::{Atime, Found, Names, class_of, inspect};
use super::listing::{Batch, Entering, Rules};
use super::read::FileContent;
use super::walk::{Place, Step, Walk};
use super::{Paths, nothing_left, reason, report_absent};
use crate::context::{Context, Problem, Progress};
use crate::item::{Content, Item, Kind, Version};
use crate::path::TreePath;
use crate::source::{Capture, Facts, Items, Result, SourceError};

/// Items that are pushed at once.
const PUSHES_MAX: usize = 64;
/// What was looked at longer ago is looked at again before it is pushed.
const FRESH: Duration = Duration::from_secs(1);

pub(super) struct PathsCapture<'a> {
    source: &'a Paths,
    taken_at: Timestamp,
}

impl<'a> PathsCapture<'a> {
    pub(super) fn new(source: &'a Paths, taken_at: Timestamp) -> Self {
        Self { source, taken_at }
    }
}

#[async_trait]
impl Capture for PathsCapture<'_> {
    async fn items(&mut self, cx: &Context, out: &dyn Items) -> Result<Facts> {
        let (rules, node) = (Arc::new(self.source.rules(cx)), Arc::new(self.source.tree(cx)));
        let mut walk = Walk::new(Reader::new(rules.clone(), cx.world.clone()), node);
        let pusher = Pusher { cx, out, rules, names: Names::load(), atime: self.source.atime() };
        let mut progress = Tree::new();
        pusher.run(&mut walk, &mut progress).await?;
        if !progress.found_a_root {
            return Err(nothing_left());
        }
        Ok(Facts { roots: self.source.roots(), ..Facts::new(self.taken_at) })
    }
}

/// Which directories still have something to come.
struct Tree {
    open: HashMap<usize, Open>,
    found_a_root: bool,
}

/// A directory that is not left yet.
struct Open {
    place: Place,
    above: Option<usize>,
    /// The walk itself, items on their way, and directories below that are not left.
    pending: usize,
}

impl Tree {
    fn new() -> Self {
        let root = Open { place: Place::Above(TreePath::root()), above: None, pending: 1 };
        Self { open: HashMap::from([(0, root)]), found_a_root: false }
    }

    fn begin(&mut self, id: usize) {
        if let Some(open) = self.open.get_mut(&id) {
            open.pending += 1;
        }
    }

    /// One thing less is to come; answers the directory if it was the last.
    fn end(&mut self, id: usize) -> Option<TreePath> {
        let open = self.open.get_mut(&id)?;
        open.pending -= 1;
        (open.pending == 0).then(|| open.place.tree())
    }
}

/// One thing that is done beside others.
enum Work {
    Push { id: usize, entry: Box<Entry> },
    Leave { id: usize, tree: TreePath },
}

/// An entry of a directory.
struct Entry {
    /// Where to read it, if it is a file.
    directory: Option<Arc<Directory>>,
    path: TreePath,
    found: Found,
    at: Duration,
}

/// Which work ended.
enum Done {
    Pushed(usize),
    Left(usize),
}

struct Pusher<'a> {
    cx: &'a Context,
    out: &'a dyn Items,
    rules: Arc<Rules>,
    names: Names,
    atime: Atime,
}

impl Pusher<'_> {
    /// After the first error nothing is started any more, but all that runs is awaited.
    async fn run(&self, walk: &mut Walk, tree: &mut Tree) -> Result<()> {
        let (mut running, mut first, mut walking) = (FuturesUnordered::new(), None, true);
        loop {
            let mut started = Vec::new();
            tokio::select! {
                biased;
                Some(done) = running.next() => started.extend(Self::settle(done, tree, &mut first)),
                step = walk.next(), if walking && first.is_none() => match step {
                    Some(step) => self.take(step, tree, &mut started),
                    None => walking = false,
                },
                else => return first.map_or(Ok(()), Err),
            }
            for work in started {
                while running.len() >= PUSHES_MAX {
                    let Some(done) = running.next().await else { break };
                    if let Some(leave) = Self::settle(done, tree, &mut first) {
                        running.push(self.work(leave));
                    }
                }
                if first.is_none() {
                    running.push(self.work(work));
                }
            }
        }
    }

    /// Counts what ended; answers the directory that can be left now.
    fn settle(done: Result<Done>, tree: &mut Tree, first: &mut Option<SourceError>) -> Option<Work> {
        let id = match done {
            Ok(Done::Pushed(id)) => id,
            Ok(Done::Left(id)) => tree.open.remove(&id)?.above?,
            Err(error) => {
                first.get_or_insert(error);
                return None;
            }
        };
        if first.is_some() {
            return None;
        }
        tree.end(id).map(|tree| Work::Leave { id, tree })
    }

    fn take(&self, step: Step, tree: &mut Tree, started: &mut Vec<Work>) {
        match step {
            Step::Entered { id, above, place } => {
                tree.begin(above);
                tree.open.insert(id, Open { place, above: Some(above), pending: 1 });
            }
            Step::Passed { id } => started.extend(tree.end(id).map(|tree| Work::Leave { id, tree })),
            Step::Lost { tree, error } => self.lost(&tree, &error),
            Step::Entries { id, tree: place, looked } => {
                let Looked { batch, at, broken, .. } = looked;
                if let Some(error) = broken {
                    self.lost(&place, &error);
                }
                self.report(&batch, &place);
                for (found, entering) in batch.found {
                    let Ok(path) = place.join(found.tree_name()) else { continue };
                    if matches!(entering, Entering::Loop) {
                        let text = "the directory is mounted again below itself".to_owned();
                        self.cx.problem(Problem { class: "loop", path: Some(path.clone()), text });
                    }
                    tree.found_a_root |= !(found.kind.is_directory() && matches!(entering, Entering::Nothing));
                    let directory = match entering {
                        Entering::Read(directory) => Some(directory),
                        _ => None,
                    };
                    tree.begin(id);
                    started.push(Work::Push { id, entry: Box::new(Entry { directory, path, found, at }) });
                }
            }
        }
    }

    fn report(&self, batch: &Batch, place: &TreePath) {
        for (name, error) in &batch.lost {
            if let Ok(path) = place.join(name) {
                self.lost(&path, error);
            }
        }
        for (path, error, root) in &batch.absent {
            report_absent(self.cx, path, error, *root);
        }
        let passed = [
            ("vanished", batch.vanished),
            ("excluded", batch.excluded),
            ("socket", batch.sockets),
            ("crossing", batch.crossings),
        ];
        for (reason, items) in passed.into_iter().filter(|(_, items)| *items > 0) {
            self.passed(reason, items);
        }
    }

    fn passed(&self, reason: &'static str, items: u64) {
        self.cx.monitor.progress(Progress::Passed { reason, items });
    }

    /// A fault of one path; that it has gone since it was listed is none.
    fn lost(&self, path: &TreePath, error: &io::Error) {
        match class_of(error) {
            "vanished" => self.passed("vanished", 1),
            class => self.cx.problem(Problem { class, path: Some(path.clone()), text: reason(error) }),
        }
    }

    async fn work(&self, work: Work) -> Result<Done> {
        match work {
            Work::Leave { id, tree } => self.out.leave(&tree).await.map(|()| Done::Left(id)),
            Work::Push { id, entry } => self.push(entry).await.map(|()| Done::Pushed(id)),
        }
    }

    async fn push(&self, mut entry: Box<Entry>) -> Result<()> {
        self.cx.check()?;
        if let Some(directory) = entry.directory.as_ref().filter(|_| self.is_old(entry.at)) {
            match self.look_again(directory, &entry.found) {
                Ok(found) => entry.found = found,
                Err(error) => {
                    self.lost(&entry.path, &error);
                    return Ok(());
                }
            }
        }
        let Entry { directory, path, found, .. } = *entry;
        if let Some((which, error)) = &found.lost_xattrs {
            let text = format!("{which}: {}", reason(error));
            self.cx.problem(Problem { class: class_of(error), path: Some(path.clone()), text });
        }
        let item = Item::new(path.clone(), found.kind.clone()).with_metadata(found.metadata(&self.names, self.atime));
        match (&found.kind, directory) {
            (Kind::File, Some(directory)) => {
                let content = FileContent::new(directory, found.name, path);
                self.out.push(item.with_version(Version::Stat), Content::At(&content)).await?;
            }
            _ => drop(self.out.push(item, Content::None).await?),
        }
        Ok(())
    }

    fn is_old(&self, at: Duration) -> bool {
        self.cx.world.elapsed().saturating_sub(at) > FRESH
    }

    /// A file that something else has replaced is as one behind a link.
    fn look_again(&self, directory: &Directory, before: &Found) -> io::Result<Found> {
        let found = inspect(directory.open()?.as_fd(), &before.name, self.rules.xattrs())?;
        if found.kind.is_file() { Ok(found) } else { Err(rustix::io::Errno::LOOP.into()) }
    }
}
