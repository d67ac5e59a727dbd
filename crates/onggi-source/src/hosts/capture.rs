//! Pushes what a host tells and sends: several items at once, each directory left when all below it is done.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::os::unix::ffi::OsStrExt as _;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use futures::stream::{FuturesUnordered, StreamExt as _};
use jiff::Timestamp;
use onggi_node::check::WalkCheck;
use onggi_node::pattern::clean;
use onggi_node::{Answer, Entry, EntryKind, Lost, Malformed, Request, Stamp, Walk};

use super::Hosts;
use super::content::{NodeDump, NodeFile, Place};
use super::inventory::Host;
use super::lost;
use super::session::{Client, Driver, Silence, Stream};
use crate::context::{Context, Problem, Progress};
use crate::item::{Chunking, Content, Item, Kind, Metadata, Version, Xattr};
use crate::path::TreePath;
use crate::paths::RootPath;
use crate::source::{Capture, Facts, Items, Result, SourceError};

/// Items that are pushed at once: several directories' worth, so that no file waits for its directory's parent to be
/// loaded, and a host that is far away is asked for many files in one round trip.
const PUSHES_MAX: usize = 256;
/// Entries that the host may be ahead.
const ENTRIES_AHEAD: u64 = 8192;
/// What a command writes changes in many small places.
const DUMP_CHUNKING: Chunking = Chunking::Content(128 << 10);
/// Clocks that differ by more are told, in seconds.
const CLOCK_SECONDS_MAX: i64 = 60;
/// What is never entered unless a root names it: what kernels make up, and what other machines keep.
const SKIPPED_TYPES: &[&str] = &[
    "autofs",
    "binfmt_misc",
    "bpf",
    "cgroup*",
    "cifs",
    "configfs",
    "debugfs",
    "devpts",
    "devtmpfs",
    "efivarfs",
    "fuse.*",
    "fusectl",
    "hugetlbfs",
    "mqueue",
    "nfs*",
    "nsfs",
    "overlay",
    "proc",
    "pstore",
    "rpc_pipefs",
    "securityfs",
    "selinuxfs",
    "smb*",
    "squashfs",
    "sysfs",
    "tmpfs",
    "tracefs",
];

pub(super) struct HostCapture<'a> {
    pub(super) source: &'a Hosts,
    pub(super) host: Host,
    pub(super) taken_at: Timestamp,
    /// Of the connection that proved that the host can be read; used once.
    pub(super) session: Option<(Client, Driver)>,
}

#[async_trait]
impl Capture for HostCapture<'_> {
    async fn items(&mut self, cx: &Context, out: &dyn Items) -> Result<Facts> {
        let share = self.source.allowance.join();
        let (client, mut driver) = match self.session.take() {
            Some(session) => session,
            None => self.source.connect(cx, &self.host).await.map_err(|failure| failure.report(cx))?,
        };
        let reading =
            Reading { cx, out, client: &client, host: &self.host, source: self.source, names: Mutex::default() };
        let mut work = Box::pin(reading.run());
        let mut driving = Box::pin(driver.drive(cx, &share, &self.source.config.rate_windows));
        let mut ended = None;
        let done = loop {
            tokio::select! {
                biased;
                failure = &mut driving, if ended.is_none() => ended = Some(failure), // whoever waits learns it and unwinds
                done = &mut work => break done,
            }
        };
        client.tell(Request::Bye);
        match (done, ended) {
            (Err(SourceError::Unreachable(_)), Some(failure)) => Err(failure.report(cx)),
            (Err(error), _) => Err(error),
            (Ok(()), _) => {
                let dumps = (!self.host.dumps.is_empty()).then(|| tree_path(b"/onggi/dump"));
                let roots = self.host.roots.iter().map(|root| tree_path(&root_bytes(root))).chain(dumps).collect();
                Ok(Facts { roots, ..Facts::new(self.taken_at) })
            }
        }
    }
}

/// Names of owners that this host has told.
#[derive(Default)]
struct Names {
    users: HashMap<u32, String>,
    groups: HashMap<u32, String>,
}

impl Names {
    fn add(&mut self, users: Vec<(u32, Vec<u8>)>, groups: Vec<(u32, Vec<u8>)>) {
        let text = |(id, name): (u32, Vec<u8>)| (id, String::from_utf8_lossy(&name).into_owned());
        self.users.extend(users.into_iter().map(text));
        self.groups.extend(groups.into_iter().map(text));
    }
}

/// One reading of a host.
struct Reading<'a> {
    cx: &'a Context,
    out: &'a dyn Items,
    client: &'a Client,
    host: &'a Host,
    source: &'a Hosts,
    names: Mutex<Names>,
}

/// A directory that is not left yet.
struct Open {
    path: TreePath,
    above: u64,
    /// Its own end, items on their way, and directories below that are not left.
    pending: usize,
    may_be_left: bool,
}

/// Which work ended: an item of a directory, or the directory.
#[derive(Clone, Copy)]
enum Done {
    Pushed(u64),
    Left(u64),
}

/// One thing that is done beside others.
enum Work {
    Push { directory: u64, item: Box<Item>, place: Option<Place> },
    Leave { directory: u64, path: TreePath },
}

impl Reading<'_> {
    async fn run(self) -> Result<()> {
        self.tell_of_clock();
        let (mut above, mut found) = (BTreeSet::new(), false);
        let roots: Vec<Vec<u8>> = self.host.roots.iter().map(root_bytes).collect();
        if !self.host.dumps.is_empty() {
            self.dumps().await?;
            found = true;
        }
        for (root, path) in self.host.roots.iter().zip(&roots) {
            let others = roots.iter().filter(|other| *other != path).cloned().collect();
            found |= self.walk(root, path, others, &mut above).await?;
        }
        if found { Ok(()) } else { Err(SourceError::Incomplete("none of the paths can be read".to_owned())) }
    }

    fn tell_of_clock(&self) {
        let there = lost::timestamp(self.client.hello.clock);
        let apart = self.cx.world.now().duration_since(there).as_secs().abs();
        if apart > CLOCK_SECONDS_MAX {
            let text = format!("its clock is {apart} s apart from this one");
            self.cx.monitor.progress(Progress::Phase(text));
        }
    }

    /// Stores the output of the commands.
    async fn dumps(&self) -> Result<()> {
        let named = |text: &str| TreePath::new(text).map_err(|error| SourceError::Refused(error.to_string()));
        let (onggi, folder) = (named("onggi")?, named("onggi/dump")?);
        for directory in [&onggi, &folder] {
            let metadata = Metadata { mode: 0o755, mtime: self.cx.world.now(), ..Metadata::default() };
            self.out.push(Item::directory(directory.clone()).with_metadata(metadata), Content::None).await?;
        }
        for dump in &self.host.dumps {
            let path = folder.join(&dump.name).map_err(|error| SourceError::Refused(error.to_string()))?;
            self.dump(dump, path).await?;
        }
        self.out.leave(&folder).await
    }

    /// One that fails fails the unit.
    async fn dump(&self, dump: &super::config::Dump, path: TreePath) -> Result<()> {
        let metadata = Metadata { mode: 0o600, mtime: self.cx.world.now(), links: 1, ..Metadata::default() };
        let item = Item::file(path.clone()).with_metadata(metadata).with_chunking(DUMP_CHUNKING).secret();
        let mut stream = NodeDump::new(self.client, dump);
        let pushed = self.out.push(item, Content::Stream(&mut stream)).await;
        if let Err(SourceError::Incomplete(text)) = &pushed {
            self.cx.problem(Problem { class: "dump-failed", path: Some(path), text: text.clone() });
        }
        pushed.map(drop)
    }

    /// Brings in all below a root; `false`: there is nothing.
    async fn walk(
        &self,
        root: &RootPath,
        path: &[u8],
        others: Vec<Vec<u8>>,
        above: &mut BTreeSet<TreePath>,
    ) -> Result<bool> {
        let walk = Walk {
            stream: 0,
            root: path.to_vec(),
            excludes: self.host.exclude.iter().map(|pattern| pattern.as_bytes().to_vec()).collect(),
            stops: others.clone(),
            one_file_system: self.host.one_file_system,
            skipped_types: SKIPPED_TYPES.iter().map(|name| name.as_bytes().to_vec()).collect(),
            xattrs: self.source.config.xattrs,
            exclude_caches: self.source.config.exclude_caches,
            credit: ENTRIES_AHEAD,
        };
        let client = self.client;
        let answers = client.ask(|stream| Request::Walk(Walk { stream, ..walk }));
        let mut walking = Walking {
            root: path.into(),
            others,
            above,
            check: WalkCheck::default(),
            open: HashMap::new(),
            found: false,
        };
        walking.run(self, answers).await?;
        let found = walking.found;
        if !found && root.optional {
            self.cx.monitor.progress(Progress::Passed { reason: "absent", items: 1 });
        }
        Ok(found)
    }

    async fn work(&self, work: Work) -> Result<Done> {
        self.cx.check()?;
        match work {
            Work::Leave { directory, path } => self.out.leave(&path).await.map(|()| Done::Left(directory)),
            Work::Push { directory, item, place: None } => {
                self.out.push(*item, Content::None).await.map(|_| Done::Pushed(directory))
            }
            Work::Push { directory, item, place: Some(place) } => {
                let content = NodeFile::new(self.client, place, item.path.clone(), self.source.config.verified_ranges);
                self.out.push(*item, Content::At(&content)).await.map(|_| Done::Pushed(directory))
            }
        }
    }

    fn names(&self) -> MutexGuard<'_, Names> {
        self.names.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn item(&self, path: TreePath, entry: &Entry) -> Item {
        let names = self.names();
        let kind = match &entry.kind {
            EntryKind::File => Kind::File,
            EntryKind::Directory(_) => Kind::Directory,
            EntryKind::Symlink(target) => Kind::Symlink(target.clone()),
            EntryKind::BlockDevice(number) => Kind::BlockDevice(*number),
            EntryKind::CharDevice(number) => Kind::CharDevice(*number),
            EntryKind::Fifo => Kind::Fifo,
        };
        let name = |names: &HashMap<u32, String>, id: u32| names.get(&id).cloned().unwrap_or_default();
        let xattr = |(name, value): &(Vec<u8>, Vec<u8>)| Xattr { name: name.clone(), value: value.clone() };
        let metadata = Metadata {
            mode: entry.mode,
            uid: entry.uid,
            gid: entry.gid,
            user: name(&names.users, entry.uid),
            group: name(&names.groups, entry.gid),
            mtime: lost::timestamp(entry.mtime),
            atime: None,
            ctime: Some(lost::timestamp(entry.ctime)),
            inode: Some(entry.inode),
            device_id: entry.device,
            links: if matches!(kind, Kind::Directory | Kind::Fifo) { 0 } else { entry.links },
            size: entry.size,
            xattrs: entry.xattrs.iter().map(xattr).collect(),
        };
        let version = if kind.is_file() { Version::Stat } else { Version::Unknown };
        Item::new(path, kind).with_metadata(metadata).with_version(version)
    }
}

/// One walk.
struct Walking<'a> {
    root: Arc<[u8]>,
    /// Roots of other walks.
    others: Vec<Vec<u8>>,
    /// Directories above roots that were pushed before.
    above: &'a mut BTreeSet<TreePath>,
    check: WalkCheck,
    open: HashMap<u64, Open>,
    found: bool,
}

impl Walking<'_> {
    /// After the first error nothing is started any more, but all that runs is awaited.
    async fn run(&mut self, reading: &Reading<'_>, mut answers: Stream<'_>) -> Result<()> {
        let (mut running, mut waiting) = (FuturesUnordered::new(), VecDeque::new());
        let (mut failed, mut is_done) = (None, false);
        loop {
            while running.len() < PUSHES_MAX && failed.is_none() {
                let Some(work) = waiting.pop_front() else { break };
                running.push(reading.work(work));
            }
            let listens = !is_done && failed.is_none() && waiting.is_empty();
            tokio::select! {
                biased;
                Some(done) = running.next() => match done {
                    Ok(done) => waiting.extend(self.settle(done)),
                    Err(error) => failed = failed.or(Some(error)),
                },
                answer = answers.next(reading.cx), if listens => match self.hear(reading, answer, answers.id) {
                    Ok(Some(work)) => waiting.extend(work),
                    Ok(None) => {
                        is_done = true;
                        answers.done();
                    }
                    Err(error) => failed = Some(error),
                },
                else => return failed.map_or(Ok(()), Err),
            }
        }
    }

    /// What is to be done about an answer; `None`: it was the last.
    fn hear(
        &mut self,
        reading: &Reading<'_>,
        answer: Result<Answer, Silence>,
        stream: u64,
    ) -> Result<Option<Vec<Work>>> {
        let answer = answer?;
        self.check.take(&answer).map_err(|error| against_protocol(&error))?;
        if matches!(answer, Answer::WalkDone { .. }) { Ok(None) } else { self.take(reading, answer, stream).map(Some) }
    }

    fn take(&mut self, reading: &Reading<'_>, answer: Answer, stream: u64) -> Result<Vec<Work>> {
        match answer {
            Answer::Chain { entries, .. } => self.chain(reading, &entries),
            Answer::Names { users, groups, .. } => {
                reading.names().add(users, groups);
                Ok(Vec::new())
            }
            Answer::Entries { directory, entries, .. } => {
                let bytes = entries.len() as u64;
                reading.client.tell(Request::Credit { stream, bytes });
                entries.into_iter().map(|entry| self.found(reading, directory, &entry)).collect()
            }
            Answer::DirectoryDone { directory, .. } => Ok(self.end(directory).into_iter().collect()),
            Answer::Passed { reason, items, .. } => {
                let reasons = ["excluded", "socket", "crossing", "vanished", "other-root"];
                let reason = reasons.get(usize::from(reason)).copied().unwrap_or("passed");
                if reason != "other-root" {
                    reading.cx.monitor.progress(Progress::Passed { reason, items });
                }
                Ok(Vec::new())
            }
            Answer::Problem { path, lost, .. } => {
                self.lost(reading, &path, lost);
                Ok(Vec::new())
            }
            _ => Err(against_protocol(&Malformed("this is no answer to a walk"))),
        }
    }

    /// A fault of one path. A root that is absent is none, if that is in order.
    fn lost(&self, reading: &Reading<'_>, path: &[u8], lost: Lost) {
        let class = lost::class(lost);
        let is_root = path == &*self.root && !self.found;
        let root = reading.host.roots.iter().find(|root| root_bytes(root) == *self.root);
        if class == "vanished" && is_root {
            if root.is_some_and(|root| root.optional) {
                return;
            }
            let problem = Problem { class: "missing-root", ..lost::problem(lost, &tree_path(path)) };
            return reading.cx.problem(problem);
        }
        if class == "vanished" {
            return reading.cx.monitor.progress(Progress::Passed { reason: "vanished", items: 1 });
        }
        reading.cx.problem(lost::problem(lost, &tree_path(path)));
    }

    /// The directories above the root, each once for all roots, then the root.
    fn chain(&mut self, reading: &Reading<'_>, entries: &[Entry]) -> Result<Vec<Work>> {
        if entries.len() != clean(&self.root).len() {
            return Err(against_protocol(&Malformed("this is not the way to the root")));
        }
        self.found = true;
        if entries.is_empty() {
            let open = Open { path: TreePath::root(), above: 0, pending: 1, may_be_left: false };
            self.open.insert(1, open);
            return Ok(Vec::new());
        }
        let names = clean(&self.root);
        let (mut path, mut work) = (TreePath::root(), Vec::new());
        for (number, (entry, name)) in entries.iter().zip(&names).enumerate() {
            if entry.name != *name {
                return Err(against_protocol(&Malformed("this is not the way to the root")));
            }
            path = join(&path, &entry.name)?;
            let is_root = number + 1 == names.len();
            // another root's walk brings what lies in it
            let is_others =
                self.others.iter().any(|other| path != tree_path(other) && path.starts_with(&tree_path(other)));
            if is_root {
                work.push(self.work(reading, 0, path.clone(), entry));
            } else if !is_others && !self.others.contains(&full(&path)) && self.above.insert(path.clone()) {
                work.push(Work::Push { directory: 0, item: Box::new(reading.item(path.clone(), entry)), place: None });
            }
        }
        Ok(work)
    }

    fn found(&mut self, reading: &Reading<'_>, directory: u64, entry: &Entry) -> Result<Work> {
        let open = self.open.get_mut(&directory).ok_or_else(|| against_protocol(&Malformed("an unknown directory")))?;
        open.pending += 1;
        let path = join(&open.path, &entry.name)?;
        Ok(self.work(reading, directory, path, entry))
    }

    /// Opens a directory that is entered; tells attributes that are missing.
    fn work(&mut self, reading: &Reading<'_>, directory: u64, path: TreePath, entry: &Entry) -> Work {
        if let Some(code) = entry.lost_xattrs {
            let text = format!("extended attributes: {}", lost::text(Lost(code)));
            reading.cx.problem(Problem { text, ..lost::problem(Lost(code), &path) });
        }
        if let EntryKind::Directory(number @ 1..) = entry.kind {
            let may_be_left = !self.others.iter().any(|other| tree_path(other).starts_with(&path));
            self.open.insert(number, Open { path: path.clone(), above: directory, pending: 1, may_be_left });
            if let Some(open) = self.open.get_mut(&directory) {
                open.pending += 1;
            }
        }
        let place = (entry.kind == EntryKind::File).then(|| Place {
            root: Arc::clone(&self.root),
            stamp: Stamp { size: entry.size, mtime: entry.mtime, device: entry.device, inode: entry.inode },
        });
        Work::Push { directory, item: Box::new(reading.item(path, entry)), place }
    }

    /// Counts what ended; answers the directory that can be left now.
    fn settle(&mut self, done: Done) -> Option<Work> {
        match done {
            Done::Pushed(directory) => self.end(directory),
            Done::Left(directory) => {
                let above = self.open.remove(&directory)?.above;
                self.end(above)
            }
        }
    }

    fn end(&mut self, mut directory: u64) -> Option<Work> {
        loop {
            let open = self.open.get_mut(&directory)?;
            open.pending = open.pending.saturating_sub(1);
            if open.pending > 0 {
                return None;
            }
            if open.may_be_left {
                return Some(Work::Leave { directory, path: open.path.clone() });
            }
            directory = self.open.remove(&directory)?.above;
        }
    }
}

fn join(path: &TreePath, name: &[u8]) -> Result<TreePath> {
    path.join(name).map_err(|_| against_protocol(&Malformed("a name is none")))
}

fn root_bytes(root: &RootPath) -> Vec<u8> {
    [b"/", clean(root.path.as_os_str().as_bytes()).join(&b'/').as_slice()].concat()
}

/// Of an absolute path that was checked.
fn tree_path(path: &[u8]) -> TreePath {
    TreePath::new(path.strip_prefix(b"/").unwrap_or(path)).unwrap_or_else(|_| TreePath::root())
}

fn full(path: &TreePath) -> Vec<u8> {
    [b"/", path.as_bytes()].concat()
}

fn against_protocol(error: &Malformed) -> SourceError {
    SourceError::Damaged(format!("the host breaks the protocol: {error}"))
}
