//! What a run leaves so that another process finds its work: a file on this machine, written before anything is touched,
//! and one beside the artifacts on each machine of the unit, written before the first lock.

use std::collections::BTreeMap;
use std::fs::{DirBuilder, File};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::config::Surroundings;
use crate::context::{Context, Purpose, RunId};
use crate::hex::hexadecimal;
use crate::marks::{self, failed};
use crate::source::{Remnant, Result, SourceError, Unit};

/// The name of marks on machines, before the run's id. It begins with a dot, so that it is no artifact.
const PREFIX: &str = ".onggi-";
/// The ending of the file that the process at work holds; the system lets go of it when the process dies.
const HELD: &str = "held";

/// The file on this machine.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Kept {
    pub(super) run: RunId,
    pub(super) purpose: Purpose,
    pub(super) unit: Unit,
    /// The last sign of life.
    pub(super) seen_at: Timestamp,
    /// Users that were made, or were to be.
    pub(super) users: Vec<String>,
    /// The moment that the artifacts show, once all are made: they can be carried away without holding anything again.
    pub(super) taken_at: Option<Timestamp>,
}

/// The file on a machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Phase {
    /// What was held for is done.
    pub(super) is_whole: bool,
    /// Nothing is held any more.
    pub(super) is_thawed: bool,
}

#[derive(Serialize, Deserialize)]
struct Written {
    run: RunId,
    purpose: Purpose,
    unit: Unit,
    seen_at: Timestamp,
    #[serde(flatten)]
    phase: Phase,
}

/// The marks of one source on this machine.
pub(super) struct Marks {
    folder: PathBuf,
}

impl Marks {
    pub(super) fn new(surroundings: &Surroundings) -> Self {
        // A hash, because a source's name need be no good name of a folder.
        let source = hexadecimal(&Sha256::digest(&surroundings.source)[..16]);
        Self { folder: surroundings.state.join("bosh").join(source) }
    }

    pub(super) fn read(&self, cx: &Context, unit: &Unit) -> Result<Option<Kept>> {
        let path = self.path(cx, unit);
        match std::fs::read(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            read => {
                let kept = read.and_then(|bytes| serde_json::from_slice(&bytes).map_err(io::Error::from));
                kept.map(Some).map_err(|error| failed("read", &path, &error))
            }
        }
    }

    pub(super) fn write(&self, cx: &Context, kept: &Kept) -> Result<()> {
        let path = self.path(cx, &kept.unit);
        let kept = Kept { seen_at: cx.world.now(), ..kept.clone() };
        let written = serde_json::to_vec(&kept).map_err(io::Error::from);
        let written = written.and_then(|bytes| marks::write(&path, &bytes));
        written.map_err(|error| failed("write", &path, &error))
    }

    /// Removes it, with what lies beside it.
    pub(super) fn remove(&self, cx: &Context, unit: &Unit) -> Result<()> {
        for path in [self.path(cx, unit).with_extension(HELD), self.arrived(cx, unit), self.path(cx, unit)] {
            marks::remove(&path).map_err(|error| failed("remove", &path, &error))?;
        }
        Ok(())
    }

    /// Makes this process the one that works under this mark, as long as it keeps what it gets.
    pub(super) fn hold(&self, cx: &Context, unit: &Unit) -> Result<File> {
        let path = self.path(cx, unit).with_extension(HELD);
        let made = DirBuilder::new().recursive(true).mode(0o700).create(&self.folder);
        let opened = made.and_then(|()| File::options().create(true).append(true).mode(0o600).open(&path));
        let file = opened.map_err(|error| failed("open", &path, &error))?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(file),
            Err(rustix::io::Errno::WOULDBLOCK) => {
                Err(SourceError::Busy("another onggi of this machine works on it".to_owned()))
            }
            Err(error) => Err(failed("lock", &path, &error.into())),
        }
    }

    /// Where it is noted what has arrived.
    pub(super) fn arrived(&self, cx: &Context, unit: &Unit) -> PathBuf {
        self.path(cx, unit).with_extension("arrived")
    }

    /// Remembers what the artifacts of a unit took on each of its machines, in bytes. Nothing depends on it but advice.
    pub(super) fn note_took(&self, unit: &Unit, took: &BTreeMap<String, u64>) {
        let written = serde_json::to_vec(took).map_err(io::Error::from);
        if let Err(error) = written.and_then(|bytes| marks::write(&self.took_path(unit), &bytes)) {
            tracing::debug!(%error, "what artifacts took is not noted");
        }
    }

    /// What they took the last time.
    pub(super) fn took(&self, unit: &Unit) -> BTreeMap<String, u64> {
        let read = std::fs::read(self.took_path(unit)).ok();
        read.and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default()
    }

    fn took_path(&self, unit: &Unit) -> PathBuf {
        self.folder.join(hexadecimal(&Sha256::digest(unit.id.as_str())[..16])).with_extension("took")
    }

    /// All that lie here. Artifacts without a sign of life for longer than `keep` are not wanted any more.
    pub(super) fn remnants(&self, now: Timestamp, keep: Duration) -> Result<Vec<Remnant>> {
        let keep = SignedDuration::try_from(keep).unwrap_or(SignedDuration::MAX);
        let mut paths = marks::listed(&self.folder).map_err(|error| failed("list", &self.folder, &error))?;
        paths.retain(|path| path.extension().is_some_and(|extension| extension == "mark"));
        let mut found = Vec::new();
        for path in paths {
            let read = std::fs::read(&path).and_then(|bytes| serde_json::from_slice(&bytes).map_err(io::Error::from));
            let kept: Kept = match read {
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue, // released meanwhile
                kept => kept.map_err(|error| failed("read", &path, &error))?,
            };
            let is_old = now.duration_since(kept.seen_at) > keep;
            let what = match kept.taken_at {
                None => "locks and unfinished artifacts",
                Some(_) if is_old => "artifacts, not carried away for too long",
                Some(_) => "artifacts, not carried away",
            };
            found.push(Remnant {
                unit: kept.unit,
                mark: Some((kept.run, kept.purpose)),
                // What nobody holds has no maker any more, however short ago that was.
                seen_at: if is_held(&path.with_extension(HELD)) { kept.seen_at } else { Timestamp::UNIX_EPOCH },
                complete: kept.taken_at.is_some() && !is_old,
                what: what.to_owned(),
            });
        }
        Ok(found)
    }

    fn path(&self, cx: &Context, unit: &Unit) -> PathBuf {
        self.folder.join(marks::name(&cx.run, cx.purpose, unit)).with_extension("mark")
    }
}

/// Whether a process has this file.
fn is_held(path: &Path) -> bool {
    let probe = |file: File| flock(file, FlockOperation::NonBlockingLockShared).is_err();
    File::open(path).is_ok_and(probe)
}

/// The name of this run's mark on a machine.
pub(super) fn file_name(cx: &Context) -> String {
    format!("{PREFIX}{}", cx.run)
}

/// What it says.
pub(super) fn text(cx: &Context, unit: &Unit, phase: Phase) -> String {
    let written =
        Written { run: cx.run.clone(), purpose: cx.purpose, unit: unit.clone(), seen_at: cx.world.now(), phase };
    serde_json::to_string(&written).expect("texts have a form in JSON")
}

/// What a mark says, if it is this run's for this unit.
pub(super) fn own(cx: &Context, unit: &Unit, text: &str) -> Option<Phase> {
    let written: Written = serde_json::from_str(text).ok()?;
    let is_own = written.run == cx.run && written.purpose == cx.purpose && written.unit.id == unit.id;
    is_own.then_some(written.phase)
}

/// Whose a mark is, for people.
pub(super) fn whose(text: &str) -> String {
    match serde_json::from_str::<Written>(text) {
        Ok(written) => format!("run {} of onggi, last seen {}", written.run, written.seen_at),
        Err(_) => "a run that cannot be told".to_owned(),
    }
}
