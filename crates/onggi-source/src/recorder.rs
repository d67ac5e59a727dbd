//! A repository in memory for tests: takes items as the engine does, watches the promises that come with them, and shows
//! what it took as a stored tree.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};

use crate::context::{Context, Problem};
use crate::item::{Content, Item, Kind, Layout, Version};
use crate::path::TreePath;
use crate::source::{ByteStream, Entry, Facts, Items, Known, Pushed, ReadAt, ReadError, Result, SourceError, Stored};

/// Length of one read, in bytes.
const STEP_BYTES: u64 = 64 << 10;

/// One taken item.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recorded {
    /// The item.
    pub item: Item,
    /// The content of a file.
    pub content: Bytes,
}

/// What was taken in one run, or in a chain of them.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct RecordedTree {
    /// The items by path.
    pub items: BTreeMap<TreePath, Recorded>,
    /// The facts of each run, the full first.
    pub facts: Vec<Facts>,
}

/// The sink of one attempt.
pub struct Recorder {
    cx: Context,
    parent: RecordedTree,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    items: BTreeMap<TreePath, Recorded>,
    pushing: BTreeMap<TreePath, usize>,
    left: BTreeSet<TreePath>,
    broken: Vec<String>,
    torn: bool,
    opened: Vec<TreePath>,
    bytes_read: u64,
}

impl Recorder {
    /// A sink without a parent. What is lost is reported to the context's monitor.
    pub fn new(cx: &Context) -> Self {
        Self::over(cx, &RecordedTree::default())
    }

    /// A sink with a parent.
    pub fn over(cx: &Context, parent: &RecordedTree) -> Self {
        Self { cx: cx.clone(), parent: parent.clone(), state: Mutex::default() }
    }

    /// Promises that were not kept, in words.
    pub fn broken_promises(&self) -> Vec<String> {
        self.state().broken.clone()
    }

    /// Whether a push failed or was dropped: nothing may be committed then.
    pub fn is_torn(&self) -> bool {
        let state = self.state();
        state.torn || !state.pushing.is_empty()
    }

    /// The files whose content was opened, in order.
    pub fn opened(&self) -> Vec<TreePath> {
        self.state().opened.clone()
    }

    /// The directories that were left.
    pub fn left(&self) -> BTreeSet<TreePath> {
        self.state().left.clone()
    }

    /// Bytes that were read, without holes.
    pub fn bytes_read(&self) -> u64 {
        self.state().bytes_read
    }

    /// What was taken, or why it may not be committed.
    pub fn commit(self, facts: Facts) -> Result<RecordedTree> {
        if self.is_torn() {
            return Err(SourceError::Incomplete("a push failed or was dropped".to_owned()));
        }
        let items = self.state.into_inner().unwrap_or_else(PoisonError::into_inner).items;
        Ok(RecordedTree { items, facts: vec![facts] })
    }

    fn begin(&self, item: &Item) {
        let mut state = self.state();
        let path = &item.path;
        if state.items.contains_key(path) || state.pushing.contains_key(path) {
            state.broken.push(format!("{path} was pushed twice"));
        }
        if state.left.iter().any(|left| path.starts_with(left)) {
            state.broken.push(format!("{path} was pushed after its directory was left"));
        }
        *state.pushing.entry(path.clone()).or_default() += 1;
    }

    fn take(&self, item: Item, content: Bytes) -> Pushed {
        let before = self.parent.items.get(&item.path);
        let pushed = match before {
            None => Pushed::New,
            Some(before) if before.content == content && before.item == item => Pushed::Unmodified,
            Some(_) => Pushed::Changed,
        };
        self.state().items.insert(item.path.clone(), Recorded { item, content });
        pushed
    }

    /// The parent's content, if it has the item in the same version.
    fn unchanged(&self, item: &Item) -> Option<Bytes> {
        let before = self.parent.items.get(&item.path)?;
        let (one, other) = (&before.item.metadata, &item.metadata);
        let same = match &item.version {
            Version::Unknown => false,
            Version::Token(_) => before.item.version == item.version,
            Version::Stat => {
                let shape = |m: &crate::item::Metadata| (m.size, m.mtime);
                let both = |one: Option<_>, other: Option<_>| one.is_none() || other.is_none() || one == other;
                shape(one) == shape(other) && both(one.inode, other.inode) && one.ctime == other.ctime
            }
        };
        (same && before.item.kind == item.kind).then(|| before.content.clone())
    }

    async fn read(&self, item: &Item, content: Content<'_>) -> Result<Bytes, ReadError> {
        match content {
            Content::None => Ok(Bytes::new()),
            Content::Inline(bytes) => Ok(bytes),
            Content::Stream(stream) => {
                self.state().opened.push(item.path.clone());
                self.read_stream(stream).await
            }
            Content::At(content) => {
                self.state().opened.push(item.path.clone());
                match self.read_at(item, content).await {
                    Err(ReadError::Item(problem)) if problem.class == "changed" => {
                        self.read_changed(item, content).await
                    }
                    read => read,
                }
            }
        }
    }

    /// Once more; if it changes again, what was read is taken, with a problem.
    async fn read_changed(&self, item: &Item, content: &dyn ReadAt) -> Result<Bytes, ReadError> {
        let layout = content.open(&self.cx, &Known::default()).await?;
        let bytes = self.read_layout(item, content, &layout).await?;
        match content.confirm(&self.cx).await {
            Err(ReadError::Item(problem)) if problem.class == "changed" => self.cx.problem(problem),
            confirmed => confirmed?,
        }
        Ok(bytes)
    }

    async fn read_at(&self, item: &Item, content: &dyn ReadAt) -> Result<Bytes, ReadError> {
        let layout = content.open(&self.cx, &Known::default()).await?;
        let bytes = self.read_layout(item, content, &layout).await?;
        content.confirm(&self.cx).await?;
        Ok(bytes)
    }

    async fn read_layout(&self, item: &Item, content: &dyn ReadAt, layout: &Layout) -> Result<Bytes, ReadError> {
        let mut bytes = BytesMut::zeroed(usize::try_from(layout.length).expect("a test's file fits into memory"));
        let mut end = 0;
        for range in &layout.data {
            if range.start < end || range.end <= range.start || range.end > layout.length {
                self.state().broken.push(format!("{}: layout {:?}", item.path, layout.data));
            }
            end = range.end;
            for start in (range.start..range.end).step_by(STEP_BYTES as usize) {
                let stop = range.end.min(start + STEP_BYTES);
                content.read(&self.cx, start, &mut bytes[start as usize..stop as usize]).await?;
                self.state().bytes_read += stop - start;
            }
        }
        Ok(bytes.freeze())
    }

    async fn read_stream(&self, stream: &mut dyn ByteStream) -> Result<Bytes, ReadError> {
        let mut bytes = BytesMut::new();
        while let Some(piece) = stream.next(&self.cx).await? {
            self.state().bytes_read += piece.len() as u64;
            bytes.extend_from_slice(&piece);
        }
        Ok(bytes.freeze())
    }

    fn lose(&self, problem: Problem) -> Pushed {
        if problem.class != "vanished" {
            self.cx.problem(problem);
        }
        Pushed::Lost
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Counts a push as under way until it came to an end; a dropped one never does.
#[async_trait]
impl Items for Recorder {
    async fn push(&self, item: Item, content: Content<'_>) -> Result<Pushed> {
        self.cx.check()?;
        self.begin(&item);
        let path = item.path.clone();
        let pushed = match self.unchanged(&item) {
            Some(content) => Ok(self.take(item, content)),
            None => match self.read(&item, content).await {
                Ok(content) => Ok(self.take(item, content)),
                Err(ReadError::Item(problem)) => Ok(self.lose(problem)),
                Err(ReadError::Unit(error)) => Err(error),
            },
        };
        let mut state = self.state();
        state.torn |= pushed.is_err();
        state.pushing.remove(&path);
        pushed
    }

    async fn reuse(&self, item: &Item) -> Result<bool> {
        self.cx.check()?;
        let Some(content) = self.unchanged(item) else { return Ok(false) };
        self.begin(item);
        self.take(item.clone(), content);
        self.state().pushing.remove(&item.path);
        Ok(true)
    }

    async fn leave(&self, directory: &TreePath) -> Result<()> {
        self.cx.check()?;
        let mut state = self.state();
        if let Some(path) = state.pushing.keys().find(|path| path.starts_with(directory) && *path != directory).cloned()
        {
            state.broken.push(format!("{directory} was left while {path} was being pushed"));
        }
        if !state.left.insert(directory.clone()) {
            state.broken.push(format!("{directory} was left twice"));
        }
        Ok(())
    }
}

impl RecordedTree {
    /// This tree over the one that it continues: what is newer wins.
    #[must_use]
    pub fn over(self, base: &Self) -> Self {
        let mut joined = base.clone();
        joined.items.extend(self.items);
        joined.facts.extend(self.facts);
        joined
    }

    /// One line per item, sorted by path: the kind and for a file its length.
    pub fn lines(&self) -> Vec<String> {
        let line = |(path, recorded): (&TreePath, &Recorded)| match &recorded.item.kind {
            Kind::Directory => format!("{path}/"),
            Kind::File => format!("{path} {}", recorded.content.len()),
            Kind::Symlink(target) => format!("{path} -> {}", String::from_utf8_lossy(target)),
            Kind::BlockDevice(_) => format!("{path} block"),
            Kind::CharDevice(_) => format!("{path} char"),
            Kind::Fifo => format!("{path} fifo"),
            Kind::Socket => format!("{path} socket"),
        };
        self.items.iter().map(line).collect()
    }

    /// The item at this path; a test names only what is there.
    #[track_caller]
    pub fn at(&self, path: &str) -> &Recorded {
        let path = TreePath::new(path).expect("a good path");
        self.items.get(&path).unwrap_or_else(|| panic!("{path} is not there: {:?}", self.lines()))
    }

    /// Its entries as if each directory of a path had been pushed.
    fn entries(&self, directory: &TreePath) -> BTreeMap<TreePath, Entry> {
        let mut found = BTreeMap::new();
        for (path, recorded) in self.items.iter().filter(|(path, _)| path.starts_with(directory)) {
            let depth = directory.components().count();
            let Some(name) = path.components().nth(depth) else { continue };
            let Ok(child) = directory.join(name) else { continue };
            let entry = if child == *path {
                let (kind, metadata) = (recorded.item.kind.clone(), recorded.item.metadata.clone());
                Entry { path: child.clone(), kind, metadata, length: recorded.content.len() as u64 }
            } else if found.contains_key(&child) {
                continue;
            } else {
                let metadata = crate::item::Metadata::default();
                Entry { path: child.clone(), kind: Kind::Directory, metadata, length: 0 }
            };
            found.insert(child, entry);
        }
        found
    }
}

#[async_trait]
impl Stored for RecordedTree {
    fn facts(&self) -> &[Facts] {
        &self.facts
    }

    async fn list(&self, directory: &TreePath) -> Result<Vec<Entry>> {
        Ok(self.entries(directory).into_values().collect())
    }

    async fn open(&self, path: &TreePath) -> Result<Box<dyn ReadAt + '_>> {
        let missing = || SourceError::Incomplete(format!("{path} is not stored"));
        let recorded = self.items.get(path).ok_or_else(missing)?;
        Ok(Box::new(InMemory(Arc::new(recorded.content.clone()))))
    }
}

struct InMemory(Arc<Bytes>);

#[async_trait]
impl ReadAt for InMemory {
    async fn open(&self, _cx: &Context, _known: &Known<'_>) -> Result<Layout, ReadError> {
        Ok(Layout::dense(self.0.len() as u64))
    }

    async fn read(&self, _cx: &Context, offset: u64, buffer: &mut [u8]) -> Result<(), ReadError> {
        let start = usize::try_from(offset).expect("a test's file fits into memory");
        buffer.copy_from_slice(&self.0[start..start + buffer.len()]);
        Ok(())
    }
}
