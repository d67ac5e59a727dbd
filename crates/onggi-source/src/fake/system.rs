//! The system in memory: live files, locks, images, restored copies, and the calls that change them.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use jiff::Timestamp;

use crate::context::{Context, Purpose, RunId, UnitId};
use crate::faults::Faults;
use crate::path::TreePath;
use crate::source::{Remnant, Result, SourceError, Unit};

/// Who made something.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mark {
    /// In which run.
    pub run: RunId,
    /// What for.
    pub purpose: Purpose,
    /// Of which unit.
    pub unit: UnitId,
}

impl Mark {
    /// The mark of this run on this unit.
    pub fn of(cx: &Context, unit: &Unit) -> Self {
        Self { run: cx.run.clone(), purpose: cx.purpose, unit: unit.id.clone() }
    }
}

/// One file of the system.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FakeFile {
    /// Its bytes.
    pub content: Bytes,
    /// When it was written.
    pub mtime: Timestamp,
    /// The revision that wrote it.
    pub revision: u64,
    /// Whether it can be read; if not, it is a problem of class `denied`.
    pub readable: bool,
}

/// One locked part.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FakeLock {
    /// Which part.
    pub part: String,
    /// By whom; `None`: by another tool.
    pub mark: Option<Mark>,
    /// Since when.
    pub seen_at: Timestamp,
}

/// A fixed image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FakeImage {
    /// Who made it; `None`: another tool.
    pub mark: Option<Mark>,
    /// What it shows.
    pub files: BTreeMap<TreePath, FakeFile>,
    /// The last revision in it.
    pub revision: u64,
    /// When it was made.
    pub taken_at: Timestamp,
    /// From when on it can be read, on the monotonic clock.
    pub ready_at: Duration,
    /// Kept for the next capture.
    pub is_base: bool,
}

/// What a restore made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FakeCopy {
    /// Who made it; `None`: it is the operator's.
    pub mark: Option<Mark>,
    /// What it holds.
    pub files: BTreeMap<TreePath, Bytes>,
}

/// The system. Clones share it, as processes do.
#[derive(Clone)]
pub struct FakeSystem(Arc<Inner>);

struct Inner {
    name: String,
    faults: Faults,
    state: Mutex<State>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct State {
    files: BTreeMap<TreePath, FakeFile>,
    revision: u64,
    compacted: u64,
    locks: Vec<FakeLock>,
    images: Vec<FakeImage>,
    copies: Vec<FakeCopy>,
}

impl FakeSystem {
    /// An empty system whose unit has this id and name.
    pub fn new(name: &str) -> Self {
        Self::with_faults(name, Faults::default())
    }

    /// An empty system that shares script and record with others, so that their calls are in one order.
    pub fn with_faults(name: &str, faults: Faults) -> Self {
        Self(Arc::new(Inner { name: name.to_owned(), faults, state: Mutex::default() }))
    }

    /// The unit's id and name.
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// Script and record.
    pub fn faults(&self) -> &Faults {
        &self.0.faults
    }

    /// Writes a file; the path must be a good one.
    pub fn put(&self, path: &str, content: impl Into<Bytes>) {
        let mut state = self.state();
        state.revision += 1;
        let revision = state.revision;
        let mtime = Timestamp::from_second(1_700_000_000 + revision.cast_signed()).expect("a small number of seconds");
        let file = FakeFile { content: content.into(), mtime, revision, readable: true };
        state.files.insert(TreePath::new(path).expect("a good path"), file);
    }

    /// Removes a file.
    pub fn remove(&self, path: &str) {
        let path = TreePath::new(path).expect("a good path");
        self.state().files.remove(&path);
    }

    /// Changes a file behind its metadata, in any way.
    pub fn edit(&self, path: &str, edit: impl FnOnce(&mut FakeFile)) {
        let path = TreePath::new(path).expect("a good path");
        if let Some(file) = self.state().files.get_mut(&path) {
            edit(file);
        }
    }

    /// Forgets what changed up to now, so that no base can be continued.
    pub fn compact(&self) {
        let mut state = self.state();
        state.compacted = state.revision + 1;
    }

    /// Locks a part as another tool would.
    pub fn lock_foreign(&self, part: &str) {
        let lock = FakeLock { part: part.to_owned(), mark: None, seen_at: Timestamp::UNIX_EPOCH };
        self.state().locks.push(lock);
    }

    /// Takes an image as another tool would.
    pub fn image_foreign(&self) {
        let mut state = self.state();
        let (files, revision) = (state.files.clone(), state.revision);
        let (taken_at, ready_at) = (Timestamp::UNIX_EPOCH, Duration::ZERO);
        state.images.push(FakeImage { mark: None, files, revision, taken_at, ready_at, is_base: false });
    }

    /// The live files.
    pub fn files(&self) -> BTreeMap<TreePath, FakeFile> {
        self.state().files.clone()
    }

    /// What is locked.
    pub fn locks(&self) -> Vec<FakeLock> {
        self.state().locks.clone()
    }

    /// The images that lie there.
    pub fn images(&self) -> Vec<FakeImage> {
        self.state().images.clone()
    }

    /// What restores made.
    pub fn copies(&self) -> Vec<FakeCopy> {
        self.state().copies.clone()
    }

    /// All of the system as text, to compare.
    pub fn describe(&self) -> String {
        format!("{:#?}", *self.state())
    }

    /// One call on the system: recorded, and failing when the script says so.
    pub(super) async fn call<T>(&self, name: impl Into<String>, work: impl FnOnce(&mut State) -> T) -> Result<T> {
        self.try_call(name, |state| Ok(work(state))).await
    }

    /// One call that the system may refuse.
    pub(super) async fn try_call<T>(
        &self,
        name: impl Into<String>,
        work: impl FnOnce(&mut State) -> Result<T>,
    ) -> Result<T> {
        let name = format!("{} {}", self.0.name, name.into());
        self.0.faults.call(name, async { work(&mut self.state()) }).await
    }

    /// The parts that bear the mark, in the order of locking.
    pub(super) fn locked_parts(&self, mark: &Mark) -> Vec<String> {
        let of_mark = |lock: &&FakeLock| lock.mark.as_ref() == Some(mark);
        self.state().locks.iter().filter(of_mark).map(|lock| lock.part.clone()).collect()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    pub(super) fn lock(&mut self, lock: FakeLock) -> Result<()> {
        match self.locks.iter().find(|other| other.part == lock.part) {
            Some(other) if other.mark != lock.mark => Err(SourceError::Busy(format!("{} is locked", lock.part))),
            Some(_) => Ok(()),
            None => {
                self.locks.push(lock);
                Ok(())
            }
        }
    }

    pub(super) fn unlock(&mut self, part: &str, mark: &Mark) {
        self.locks.retain(|lock| lock.part != part || lock.mark.as_ref() != Some(mark));
    }

    /// With `since` the image holds what was written after that revision.
    pub(super) fn fix_image(
        &mut self,
        mark: Mark,
        taken_at: Timestamp,
        ready_at: Duration,
        since: Option<u64>,
    ) -> Result<FakeImage> {
        if since.is_some_and(|since| since < self.compacted) {
            return Err(SourceError::BaseLost("history is compacted".to_owned()));
        }
        let after = since.unwrap_or(0);
        let wanted = self.files.iter().filter(|(_, file)| file.revision > after);
        let files = wanted.map(|(path, file)| (path.clone(), file.clone())).collect();
        let revision = self.revision;
        let image = FakeImage { mark: Some(mark), files, revision, taken_at, ready_at, is_base: false };
        self.images.push(image.clone());
        Ok(image)
    }

    pub(super) fn image(&self, mark: &Mark) -> Option<FakeImage> {
        self.images.iter().find(|image| image.mark.as_ref() == Some(mark)).cloned()
    }

    pub(super) fn live(&self) -> BTreeMap<TreePath, FakeFile> {
        self.files.clone()
    }

    pub(super) fn remove(&mut self, mark: &Mark) {
        self.images.retain(|image| image.is_base || image.mark.as_ref() != Some(mark));
        self.copies.retain(|copy| copy.mark.as_ref() != Some(mark));
    }

    /// The image of this run stays as the base and the older one goes; without an image of this run nothing happens.
    pub(super) fn keep_image(&mut self, mark: &Mark) {
        if self.images.iter().any(|image| !image.is_base && image.mark.as_ref() == Some(mark)) {
            let unit = &mark.unit;
            self.images.retain(|image| !image.is_base || image.mark.as_ref().is_none_or(|other| other.unit != *unit));
        }
        let ours = |image: &&mut FakeImage| image.mark.as_ref() == Some(mark);
        self.images.iter_mut().filter(ours).for_each(|image| image.is_base = true);
    }

    /// From now on what this run restored is the operator's.
    pub(super) fn hand_over(&mut self, mark: &Mark) {
        self.copies.iter_mut().for_each(|copy| drop(copy.mark.take_if(|other| other == mark)));
    }

    pub(super) fn replace(&mut self, files: BTreeMap<TreePath, Bytes>) {
        self.files.clear();
        for (path, content) in files {
            self.revision += 1;
            let (mtime, revision) = (Timestamp::UNIX_EPOCH, self.revision);
            self.files.insert(path, FakeFile { content, mtime, revision, readable: true });
        }
    }

    pub(super) fn add_copy(&mut self, copy: FakeCopy) {
        self.copies.push(copy);
    }

    pub(super) fn copy_of(&self, mark: &Mark) -> Option<FakeCopy> {
        self.copies.iter().find(|copy| copy.mark.as_ref() == Some(mark)).cloned()
    }

    /// One remnant for each mark, and one for all that other tools left.
    pub(super) fn remnants(&self, unit: &Unit, elapsed: Duration) -> Vec<Remnant> {
        let images = self.images.iter().filter(|image| !image.is_base);
        let complete = |mark: &Option<Mark>| images.clone().any(|i| i.mark == *mark && i.ready_at <= elapsed);
        let locks = self.locks.iter().map(|lock| (&lock.mark, lock.seen_at, format!("lock on {}", lock.part)));
        let lying = images.clone().map(|image| (&image.mark, image.taken_at, "image".to_owned()));
        let copies = self.copies.iter().filter(|copy| copy.mark.is_some());
        let made = copies.map(|copy| (&copy.mark, Timestamp::UNIX_EPOCH, "copy".to_owned()));
        let mut found: Vec<Remnant> = Vec::new();
        for (mark, seen_at, what) in locks.chain(lying).chain(made) {
            let wanted = mark.as_ref().map(|mark| (mark.run.clone(), mark.purpose));
            match found.iter_mut().find(|remnant| remnant.mark == wanted) {
                Some(remnant) => {
                    remnant.what = format!("{}, {what}", remnant.what);
                    remnant.seen_at = remnant.seen_at.max(seen_at);
                }
                None => {
                    found.push(Remnant { unit: unit.clone(), mark: wanted, seen_at, complete: complete(mark), what });
                }
            }
        }
        found
    }
}
