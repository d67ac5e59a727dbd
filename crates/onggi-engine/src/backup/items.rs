//! The sink of a backup: compares each item with the parent, takes over what is unchanged, reads the rest.
//!
//! The engine trusts no adapter with safety: a push that failed or was dropped makes the attempt torn, and a torn
//! attempt is never committed, whatever the capture says.

use super::{
    UnitRun,
    content::{Before, Expected, Failure, Read, Reader},
    manifest::FOLDER,
    monitor::UnitMonitor,
    proof::{Proof, Trust},
    rate::Rate,
    trail::{self, Trail},
};
use crate::{
    config::Chunker,
    node,
    watch::{Event, Live},
};
use async_trait::async_trait;
use onggi_repo::{
    RepoError,
    archive::{Archive, Origin, ParentNode, is_unchanged},
    format::{Node, NodeKind},
};
use onggi_source::{
    Chunking, Content, Context, Item, Items, Problem, Progress, Pushed, Result, RunId, Secrecy, SourceError, Stop,
    TreePath, Version,
};
use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
};
use tokio::sync::OnceCell;

/// One attempt to bring the items of a capture into an archive.
pub(super) struct Sink<'a> {
    reader: Reader<'a>,
    unit: &'a UnitRun<'a>,
    /// The parent's tokens.
    versions: &'a HashMap<TreePath, Vec<u8>>,
    torn: AtomicBool,
    failure: Mutex<Option<RepoError>>,
    noted: Mutex<Noted>,
    /// Whether the repository protects what is secret.
    keeps_secrets: OnceCell<bool>,
}

/// What the manifest says of items.
#[derive(Default)]
pub(super) struct Noted {
    pub tokens: BTreeMap<TreePath, Vec<u8>>,
    pub secrets: BTreeSet<TreePath>,
}

/// Set unless the push it stands for came to its end.
struct InFlight<'a> {
    torn: &'a AtomicBool,
    is_done: bool,
}

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        if !self.is_done {
            self.torn.store(true, Relaxed);
        }
    }
}

impl<'a> Sink<'a> {
    pub fn new(
        cx: &'a Context,
        archive: &'a Archive,
        repo: &'a onggi_repo::Repository,
        unit: &'a UnitRun<'a>,
        (trust, versions): (Trust, &'a HashMap<TreePath, Vec<u8>>),
    ) -> Self {
        let rate = unit.member.plan.rate.map(Rate::new);
        Self {
            reader: Reader { cx, repo, archive, live: &unit.live, trust, rate },
            unit,
            versions,
            torn: AtomicBool::new(false),
            failure: Mutex::default(),
            noted: Mutex::default(),
            keeps_secrets: OnceCell::new(),
        }
    }

    /// Whether all pushes came to their end.
    pub fn check(&self) -> Result<()> {
        if self.torn.load(Relaxed) {
            return Err(SourceError::Incomplete("an item was given up half-way".into()));
        }
        Ok(())
    }

    /// The repository's failure, if it was that.
    pub fn into_failure(self) -> Option<RepoError> {
        self.failure.into_inner().unwrap_or_else(PoisonError::into_inner)
    }

    /// What the manifest must say of the items so far.
    pub fn take_noted(&self) -> Noted {
        std::mem::take(&mut *self.noted())
    }

    /// What the manifest must say of what was believed.
    pub fn runs_since_full(&self) -> u32 {
        self.reader.trust.runs_since_full()
    }

    pub fn run(&self) -> &RunId {
        &self.reader.cx.run
    }

    fn noted(&self) -> MutexGuard<'_, Noted> {
        self.noted.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keys and passwords go only where a password is asked for. Asked when the first comes: it takes a derivation for
    /// each key of the repository.
    async fn confirm_kept(&self, item: &Item) -> Result<()> {
        if item.secrecy == Secrecy::Normal {
            return Ok(());
        }
        let asked = self
            .keeps_secrets
            .get_or_try_init(async || self.reader.repo.opens_without_password().await.map(|opens| !opens));
        if *asked.await.map_err(|error| self.fail(error))? {
            return Ok(());
        }
        Err(self.fail(RepoError::Refused {
            guard: "secrets",
            reason: format!(
                "{} is a secret, and the repository has a key with an empty password: it protects nothing",
                item.path
            ),
        }))
    }

    /// Keeps the repository's failure for the report and unwinds the capture.
    fn fail(&self, error: RepoError) -> SourceError {
        self.failure.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
        Stop::Repository.into()
    }

    async fn parent(&self, item: &Item) -> Result<Option<ParentNode>> {
        self.reader.archive.parent(item.path.as_bytes()).await.map_err(|error| self.fail(error))
    }

    /// Whether the parent's content may stand for this item's.
    fn is_same(&self, item: &Item, new: &Node, parent: &ParentNode) -> bool {
        match &item.version {
            Version::Unknown => false,
            Version::Stat => is_unchanged(new, parent, item.metadata.ctime.is_some()),
            Version::Token(token) => parent.kind == NodeKind::File && self.token(item, parent).as_ref() == Some(token),
        }
    }

    /// The parent's token: a snapshot has it in its manifest, an interrupted run in its journal.
    fn token(&self, item: &Item, parent: &ParentNode) -> Option<Vec<u8>> {
        match parent.origin() {
            Origin::Snapshot => self.versions.get(&item.path).cloned(),
            Origin::Interrupted(version) => trail::token(version?),
        }
    }

    /// Whether an item's source must show that it is what the parent has. What an interrupted run left was read just now,
    /// and trees that equal restic's have no place to count runs in.
    fn is_proved(&self, item: &Item, parent: &ParentNode) -> bool {
        let counts_runs = self.unit.member.plan.manifest.is_some();
        counts_runs && parent.origin() == Origin::Snapshot && self.reader.trust.proves(&item.path)
    }

    /// Takes a file over from the parent, which has it in the same version. Gives the node back if the content is lost.
    async fn keep(&self, item: &Item, new: Node, parent: &ParentNode) -> Result<Option<Node>> {
        let kept = self.reader.archive.keep_file(item.path.as_bytes(), new, parent).await;
        if !kept.map_err(|error| self.fail(error))? {
            return Ok(Some(file_node(item)));
        }
        self.live().bytes.add(parent.size);
        self.done(item, "unmodified");
        Ok(None)
    }

    async fn take(&self, item: Item, content: Content<'_>) -> Result<Pushed> {
        self.reader.cx.check()?;
        let new = file_node(&item);
        let parent = self.parent(&item).await?;
        if !item.kind.is_file() {
            let pushed = compared(&new, parent.as_deref());
            let put = self.reader.archive.put(item.path.as_bytes(), new).await;
            put.map_err(|error| self.fail(error))?;
            let counter = if item.kind.is_directory() { &self.live().dirs } else { &self.live().files };
            counter.add(1);
            return Ok(pushed);
        }
        let same = parent.as_ref().filter(|parent| self.is_same(&item, &new, parent));
        let proves = same.is_some_and(|parent| self.is_proved(&item, parent));
        let new = match same.filter(|_| !proves) {
            None => new,
            Some(same) => match self.keep(&item, new, same).await? {
                None => return Ok(Pushed::Unmodified),
                Some(node) => node,
            },
        };
        // what reading takes in memory is not taken for the many files that are not read
        Box::pin(self.take_file(item, content, new, (parent, proves))).await
    }

    /// Reads a file. `proves`: the parent stands for it if the source shows that it is what the parent has.
    async fn take_file(
        &self,
        item: Item,
        mut content: Content<'_>,
        mut new: Node,
        (parent, proves): (Option<ParentNode>, bool),
    ) -> Result<Pushed> {
        let proved = parent.as_ref().filter(|_| proves);
        let token = parent.as_ref().and_then(|parent| self.token(&item, parent));
        let (mut before, mut trail) = (Before::new(&self.reader, parent.as_deref(), token), Trail::new(&item));
        // A parent that has lost a part proves nothing.
        if let Some(proved) = proved.filter(|parent| before.length() == parent.size) {
            match self.reader.proves(&item.path, &mut content, &before).await {
                Ok(Proof::Holds) => match self.keep(&item, new, proved).await? {
                    None => return Ok(Pushed::Unmodified),
                    Some(node) => new = node,
                },
                Ok(Proof::Open) => {}
                Ok(Proof::Untrue) => (before, trail) = (Before::default(), None),
                Err(failure) => return self.failed(item, failure),
            }
        }
        let chunking = self.chunking(&item);
        let expected = Expected { path: &item.path, chunking, length: item.metadata.size, before, trail };
        match self.reader.read(content, expected).await {
            Ok(read) => self.put_file(item, new, read, parent.is_some()).await,
            Err(failure) => self.failed(item, failure),
        }
    }

    fn failed(&self, item: Item, failure: Failure) -> Result<Pushed> {
        match failure {
            Failure::Unit(error) => Err(error),
            Failure::Repo(error) => Err(self.fail(error)),
            Failure::Item(problem) => {
                self.lost(item, problem);
                Ok(Pushed::Lost)
            }
        }
    }

    async fn put_file(&self, item: Item, new: Node, read: Read, is_known: bool) -> Result<Pushed> {
        let Read { content, doubt } = read;
        let content = content.with_token(trail::version(&item));
        let put = self.reader.archive.put_file(item.path.as_bytes(), new, content).await;
        put.map_err(|error| self.fail(error))?;
        if let Some(problem) = doubt {
            self.reader.cx.problem(Problem { path: Some(item.path.clone()), ..problem });
        }
        self.done(&item, if is_known { "changed" } else { "new" });
        Ok(if is_known { Pushed::Changed } else { Pushed::New })
    }

    /// An item that is not stored: a problem, unless it was only listed and is gone.
    fn lost(&self, item: Item, problem: Problem) {
        if problem.class == "vanished" {
            return self.reader.cx.monitor.progress(Progress::Passed { reason: "vanished", items: 1 });
        }
        self.reader.cx.problem(Problem { path: Some(item.path), ..problem });
    }

    fn done(&self, item: &Item, what: &'static str) {
        self.live().files.add(1);
        if self.unit.member.plan.manifest.is_some() {
            let mut noted = self.noted();
            if let Version::Token(token) = &item.version {
                noted.tokens.insert(item.path.clone(), token.clone());
            }
            if item.secrecy == Secrecy::Secret {
                noted.secrets.insert(item.path.clone());
            }
        }
        self.monitor().event(Event::Item { path: item.path.clone(), what });
    }

    fn chunking(&self, item: &Item) -> Chunking {
        match self.unit.member.plan.chunker {
            None => item.chunking,
            Some(Chunker::Default) => Chunking::Default,
            Some(Chunker::Fixed(length)) => Chunking::Fixed(length),
            Some(Chunker::Content(mean)) => Chunking::Content(mean),
        }
    }

    fn live(&self) -> &Live {
        &self.unit.live
    }

    fn monitor(&self) -> &UnitMonitor {
        &self.unit.monitor
    }
}

/// An item's node with the size that was announced; that of its content replaces it.
fn file_node(item: &Item) -> Node {
    let size = if item.kind.is_file() { item.metadata.size } else { 0 };
    Node { size, ..node::of_item(item) }
}

/// What became of an item without content.
fn compared(new: &Node, parent: Option<&Node>) -> Pushed {
    match parent {
        None => Pushed::New,
        Some(parent) if parent.kind == new.kind && parent.mode == new.mode && parent.mtime == new.mtime => {
            Pushed::Unmodified
        }
        Some(_) => Pushed::Changed,
    }
}

#[async_trait]
impl Items for Sink<'_> {
    async fn push(&self, item: Item, content: Content<'_>) -> Result<Pushed> {
        let mut flight = InFlight { torn: &self.torn, is_done: false };
        self.confirm_kept(&item).await?;
        let pushed = self.take(item, content).await?;
        flight.is_done = true;
        Ok(pushed)
    }

    async fn reuse(&self, item: &Item) -> Result<bool> {
        let mut flight = InFlight { torn: &self.torn, is_done: false };
        self.reader.cx.check()?;
        let new = file_node(item);
        let parent = self.parent(item).await?.filter(|parent| item.kind.is_file() && self.is_same(item, &new, parent));
        let kept = match parent {
            Some(parent) if !self.is_proved(item, &parent) => self.keep(item, new, &parent).await?.is_none(),
            _ => false,
        };
        flight.is_done = true;
        Ok(kept)
    }

    /// Directories above the manifest are left at the end, after it was written.
    async fn leave(&self, directory: &TreePath) -> Result<()> {
        let manifest = self.unit.member.plan.manifest.as_ref();
        let folder = manifest.and_then(|root| root.join(FOLDER).ok());
        if directory.is_root() || folder.is_some_and(|folder| folder.starts_with(directory)) {
            return Ok(());
        }
        self.reader.archive.leave(directory.as_bytes()).await.map_err(|error| self.fail(error))
    }
}
