//! The contents of one batch of files on their way to disk: pieces arrive in any order from many threads, and a file
//! shows under its name when its last piece is there.

use super::attributes::{self, LeftOut, Owner, Privilege};
use super::destination::{Destination, NewFile};
use super::directory::Damaged;
use crate::watch::{Event, Live, Watch};
use onggi_repo::{FetchSink, Problem as RepoProblem};
use onggi_source::{Context, Metadata, Problem, TreePath};
use rustix::io::Errno;
use std::{
    collections::BTreeMap,
    ops::Range,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

/// A file that waits for its content.
#[derive(Debug)]
pub(super) struct Slot {
    pub path: TreePath,
    pub metadata: Metadata,
    /// Bytes of all its chunks.
    pub length: u64,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    file: Option<Arc<NewFile>>,
    lost: Vec<Range<u64>>,
    failed: Option<Errno>,
}

/// What became of a batch.
#[derive(Debug, Default)]
pub(super) struct Outcome {
    pub files: u64,
    pub bytes: u64,
    pub problems: Vec<Problem>,
    pub left_out: BTreeMap<LeftOut, u64>,
    /// The destination has no room left; nothing more is written.
    pub is_full: bool,
}

/// A batch.
pub(super) struct Filling {
    pub cx: Context,
    pub destination: Arc<Destination>,
    pub slots: Vec<Slot>,
    pub privilege: Privilege,
    pub owner: Owner,
    pub damaged: Damaged,
    /// Where contents are lost, for people.
    pub place: &'static str,
    pub live: Arc<Live>,
    pub watch: Arc<dyn Watch>,
    pub outcome: Mutex<Outcome>,
}

impl Slot {
    pub(super) fn new(path: TreePath, metadata: Metadata, length: u64) -> Self {
        let state = State { file: None, lost: Vec::new(), failed: None };
        Self { path, metadata, length, state: Mutex::new(state) }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The file, made when its first piece arrives.
    fn file(&self, destination: &Destination) -> Result<Arc<NewFile>, Errno> {
        let mut state = self.state();
        if let Some(error) = state.failed {
            return Err(error);
        }
        if state.file.is_none() {
            state.file = Some(Arc::new(destination.create_file(&self.path)?));
        }
        state.file.clone().ok_or(Errno::IO)
    }
}

impl Filling {
    pub(super) fn outcome(&self) -> MutexGuard<'_, Outcome> {
        self.outcome.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives a file its name once every piece was handed out.
    fn complete(&self, slot: &Slot) -> Result<(), Errno> {
        let (file, lost) = {
            let mut state = slot.state();
            if let Some(error) = state.failed {
                state.file = None;
                return Err(error);
            }
            (state.file.take(), std::mem::take(&mut state.lost))
        };
        // A file that is empty, or one hole, has none yet.
        let file = file.map_or_else(|| self.destination.create_file(&slot.path).map(Arc::new), Ok)?;
        self.finish(slot, file, &lost)
    }

    fn finish(&self, slot: &Slot, file: Arc<NewFile>, lost: &[Range<u64>]) -> Result<(), Errno> {
        // Every writer let go of the file before its piece was counted.
        let file = Arc::into_inner(file).ok_or(Errno::BUSY)?;
        if !lost.is_empty() {
            self.report_damage(slot, lost);
            if self.damaged == Damaged::Skip {
                return Ok(());
            }
        }
        file.set_length(slot.length)?;
        let left_out = attributes::apply(file.descriptor(), &slot.metadata, self.privilege, self.owner)?;
        let name = slot.path.name().ok_or(Errno::INVAL)?;
        let mut written = slot.path.clone();
        if lost.is_empty() || self.damaged == Damaged::Zero {
            file.finish(name)?;
        } else {
            file.finish(&[name, b".onggi-damaged"].concat())?;
            self.write_map(slot, name, lost)?;
            written = TreePath::new([written.as_bytes(), b".onggi-damaged"].concat()).unwrap_or(written);
        }
        let mut outcome = self.outcome();
        outcome.files += 1;
        outcome.bytes += slot.length;
        for left in left_out {
            *outcome.left_out.entry(left).or_default() += 1;
        }
        drop(outcome);
        self.live.files.add(1);
        self.watch.event(Event::Item { path: written, what: "restored" });
        Ok(())
    }

    /// Beside a damaged file: the offset and length of each part that is missing, one a line.
    fn write_map(&self, slot: &Slot, name: &[u8], lost: &[Range<u64>]) -> Result<(), Errno> {
        let lines: Vec<String> =
            lost.iter().map(|range| format!("{} {}\n", range.start, range.end - range.start)).collect();
        let map = self.destination.create_file(&slot.path)?;
        map.write_at(0, lines.concat().as_bytes())?;
        map.finish(&[name, b".onggi-damaged.map"].concat())
    }

    fn report_damage(&self, slot: &Slot, lost: &[Range<u64>]) {
        let bytes: u64 = lost.iter().map(|range| range.end - range.start).sum();
        let kept = match self.damaged {
            Damaged::Skip => "not restored",
            Damaged::Mark => "restored as .onggi-damaged",
            Damaged::Zero => "restored with zeros in their place",
        };
        let text = format!("{bytes} of {} bytes are lost {}; {kept}", slot.length, self.place);
        self.problem(Problem { class: "damaged", path: Some(slot.path.clone()), text });
    }

    fn failed(&self, slot: &Slot, error: Errno) {
        if matches!(error, Errno::NOSPC | Errno::DQUOT) {
            self.outcome().is_full = true;
        }
        self.problem(Problem { class: "write-failed", path: Some(slot.path.clone()), text: error.to_string() });
    }

    pub(super) fn problem(&self, problem: Problem) {
        self.live.problems.add(1);
        if crate::sabotage::RESTORE_ERROR_NOT_COUNTED.is_on() {
            return;
        }
        self.watch.event(Event::Problem(problem.clone().into()));
        self.outcome().problems.push(problem);
    }
}

impl FetchSink for Filling {
    fn write(&self, key: usize, offset: u64, bytes: &[u8]) {
        let slot = &self.slots[key];
        let written = slot.file(&self.destination).and_then(|file| file.write_at(offset, bytes));
        self.live.bytes_moved.add(bytes.len() as u64);
        self.live.bytes.add(bytes.len() as u64);
        if let Err(error) = written {
            slot.state().failed.get_or_insert(error);
        }
    }

    fn hole(&self, _key: usize, _offset: u64, length: u64) {
        self.live.bytes.add(length);
    }

    fn lost(&self, key: usize, offset: u64, length: u64, problem: RepoProblem) {
        let slot = &self.slots[key];
        tracing::debug!(path = %slot.path, %problem, "part of a file is lost");
        slot.state().lost.push(offset..offset + length);
    }

    fn done(&self, key: usize) {
        let slot = &self.slots[key];
        if let Err(error) = self.complete(slot) {
            self.failed(slot, error);
        }
    }

    fn is_stopped(&self) -> bool {
        self.cx.check().is_err() || self.outcome().is_full
    }
}
