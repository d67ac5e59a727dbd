//! The contract between the engine and the adapters: what a source is, and what it exchanges.

use async_trait::async_trait;
use jiff::Timestamp;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use bytes::Bytes;

use crate::context::{Context, Destination, Problem, Purpose, RunId, SnapshotId, Stop, UnitId};
use crate::item::{Content, Item, Kind, Layout, Metadata};
use crate::path::TreePath;

/// The result of a call on a source.
pub type Result<T, E = SourceError> = std::result::Result<T, E>;

/// A configured system that can be backed up and restored.
///
/// # The mark
///
/// All that a source makes or locks in the system bears the mark: `cx.run`, `cx.purpose`, `unit.id`. [`Source::thaw`]
/// and [`Source::release`] are functions of that mark alone: idempotent, callable by another process, also when
/// `freeze` or `capture` failed half-way or never ran. The normal end, an error, a cancel and the clean-up after a
/// crash are therefore the same two calls, and no adapter has a path for undoing.
///
/// # Who calls what
///
/// The engine alone calls; a source calls nobody back but the sink and what [`Context`] lends, and owns no task, thread
/// or timer. A run of one unit is a group of one; the calls of a group are:
///
/// 1. [`preflight`](Source::preflight), [`discover`](Source::discover), [`remnants`](Source::remnants), before the
///    window; each remnant of a dead run is settled by `thaw`, then `release`, or `reopen`.
/// 2. [`freeze`](Source::freeze): once for each unit, in the order of the group.
/// 3. [`capture`](Source::capture): once for each unit after *all* freezes, side by side; again with `base: None` after
///    [`SourceError::BaseLost`]. Members of [`Image::Live`] are drained with [`Capture::items`] now.
/// 4. [`thaw`](Source::thaw): for each unit whose `freeze` was *called*, in reverse order, whatever happened; beside a
///    `freeze` or `capture` that still runs when the hold is over, and then again after it.
/// 5. [`Capture::items`]: of the others. Again on the *same* capture after a transient error, each time into a fresh
///    sink; nothing of a failed attempt is committed.
/// 6. [`release`](Source::release): `Kept` after commit and read-back, else `Dropped`. Nothing is called after it.
///
/// The engine never drops a future of `freeze`, `capture`, `thaw`, `release` or `apply`: each call of an adapter on its
/// system has a time-out of its own, and looks at [`Context::check`] between calls. `&self` methods may run for several
/// units at once, never twice for one.
///
/// # Errors
///
/// [`SourceError`] has one variant per decision of the engine. What concerns one item only is a problem
/// ([`Context::problem`], or [`ReadError::Item`] out of a content); the run goes on and is then partial.
#[async_trait]
pub trait Source: Send + Sync {
    /// What the planner must know. Pure.
    fn capabilities(&self) -> Capabilities;

    /// What a unit that was discovered shares with others that are backed up beside it: by name, and how many may use it
    /// at once.
    fn shares(&self, _unit: &Unit) -> Vec<(String, usize)> {
        Vec::new()
    }

    /// Begins what takes time and changes nothing, such as a connection, while the repository is waited for. `only`: the ids
    /// of the units that are wanted; `None`: all. What goes wrong is told by the capture.
    async fn approach(&self, _cx: &Context, _only: Option<&[String]>) {}

    /// Proves access, versions and space; changes nothing. Lesser findings go to `cx.problem`.
    async fn preflight(&self, cx: &Context) -> Result<()>;

    /// Names what is there now.
    async fn discover(&self, cx: &Context) -> Result<Vec<Unit>>;

    /// Stops or fences writers. A part that succeeded may stay frozen on error: `thaw` follows in any case.
    async fn freeze(&self, _cx: &Context, _unit: &Unit) -> Result<()> {
        Ok(())
    }

    /// Fixes an image of the unit: when it returns, later writes no longer show (`Image::Live`: they may).
    ///
    /// It returns as soon as the image is fixed; waiting until it can be read belongs in `items`, because a whole group
    /// stays frozen for it. With `base` it may take only what changed since; if it cannot, it answers `BaseLost` and is
    /// asked for a full.
    async fn capture<'a>(&'a self, cx: &Context, unit: &Unit, base: Option<&Base>) -> Result<Box<dyn Capture + 'a>>;

    /// Undoes `freeze`, in full or in part. May be called while `freeze` or `capture` still runs, and again after.
    async fn thaw(&self, _cx: &Context, _unit: &Unit) -> Result<()> {
        Ok(())
    }

    /// Ends what this run made for this unit. `Dropped`: removes all of it. `Kept`: removes helpers, and the mark from
    /// what stays.
    async fn release(&self, _cx: &Context, _unit: &Unit, _outcome: Outcome) -> Result<()> {
        Ok(())
    }

    /// Lists captures and locks that lie in the system: of a run that ended early, or made by another tool.
    async fn remnants(&self, _cx: &Context) -> Result<Vec<Remnant>> {
        Ok(Vec::new())
    }

    /// Opens a remnant that is `complete`, to store it now.
    async fn reopen<'a>(&'a self, _cx: &Context, _remnant: &Remnant) -> Result<Box<dyn Capture + 'a>> {
        Err(SourceError::Unsupported("reopen"))
    }

    /// Looks at the destination and plans; changes nothing.
    async fn restore<'a>(
        &'a self,
        _cx: &Context,
        _request: &'a RestoreRequest,
        _from: &'a dyn Stored,
    ) -> Result<Box<dyn Restore + 'a>> {
        Err(SourceError::Unsupported("restore"))
    }
}

/// A fixed image of one unit. Dropping it ends what the process holds (a child, a session), nothing in the system.
#[async_trait]
pub trait Capture: Send {
    /// Pushes every item, in any order, several at once if that is faster. Called again after a transient error.
    ///
    /// Every answer of the sink goes up with `?`: a failed or dropped push makes the attempt *torn*, and a torn attempt
    /// is never committed, whatever this method returns.
    async fn items(&mut self, cx: &Context, out: &dyn Items) -> Result<Facts>;

    /// What is known of the image before all of it is read. With it, what came until a reading ended early is stored as a
    /// snapshot of its own, marked incomplete; `None`: it is not worth one.
    fn early(&self) -> Option<Facts> {
        None
    }
}

/// Where items go: the repository; or a comparison (drill), a count (dry run), a directory (export).
#[async_trait]
pub trait Items: Send + Sync {
    /// Takes one item; returns when its content is no longer needed. This is the back-pressure.
    async fn push(&self, item: Item, content: Content<'_>) -> Result<Pushed>;

    /// Takes the item over from the parent if that has it in the same version. `true`: done, do not push it.
    async fn reuse(&self, item: &Item) -> Result<bool>;

    /// Promises that nothing more comes below this directory, so that its tree can be sealed.
    async fn leave(&self, directory: &TreePath) -> Result<()>;
}

/// Bytes in one go. Nothing is opened before the first `next`.
#[async_trait]
pub trait ByteStream: Send {
    /// Yields the next piece. `None` is a promise: the producer confirmed that this was all (exit status, trailer,
    /// checksum). Anything else is an error.
    async fn next(&mut self, cx: &Context) -> Result<Option<Bytes>, ReadError>;
}

/// Bytes at any offset.
#[async_trait]
pub trait ReadAt: Send + Sync {
    /// Called once, before reading: length, where data is, and which of the `known` ranges are surely unchanged.
    async fn open(&self, cx: &Context, known: &Known<'_>) -> Result<Layout, ReadError>;

    /// Fills `buffer` completely. Called for several ranges at once; may be repeated.
    ///
    /// A content that has become shorter than `open` said answers a [`Problem`] of class `changed`, to be treated as if
    /// `confirm` had answered it: `open` then tells the new length.
    async fn read(&self, cx: &Context, offset: u64, buffer: &mut [u8]) -> Result<(), ReadError>;

    /// Called once, after the last read: the place to find that the content changed meanwhile.
    ///
    /// A [`Problem`] of class `changed` makes the engine read all of it once more, from `open`; a second one is
    /// reported and the bytes that were read are stored.
    async fn confirm(&self, _cx: &Context) -> Result<(), ReadError> {
        Ok(())
    }
}

/// A planned restore.
#[async_trait]
pub trait Restore: Send {
    /// What it is going to do, to be shown.
    fn plan(&self) -> &RestorePlan;

    /// Carries the plan out. The engine then calls `Source::release`: `Dropped` removes what was created.
    async fn apply(&mut self, cx: &Context) -> Result<()>;

    /// Proves in the system's own terms that what was restored works: it starts, counts agree.
    async fn prove(&mut self, cx: &Context) -> Result<Proof>;
}

/// What is stored of a unit, as one tree: for a chain the union from the full to the chosen delta.
#[async_trait]
pub trait Stored: Send + Sync {
    /// Of each snapshot in the chain, the full first.
    fn facts(&self) -> &[Facts];

    /// One directory, sorted by the bytes of the names.
    async fn list(&self, directory: &TreePath) -> Result<Vec<Entry>>;

    /// The content of a file.
    async fn open(&self, path: &TreePath) -> Result<Box<dyn ReadAt + '_>>;
}

/// What the planner must know of a source.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Capabilities {
    /// Whether `freeze` does anything: if no member of a group freezes, the window has no limit.
    pub freezes: bool,
    /// Whether a capture stands still.
    pub image: Image,
    /// Whether a capture can continue a base.
    pub chains: bool,
    /// Where this source restores to by itself. Any unit can also be restored into a plain directory by the engine.
    pub destinations: &'static [Destination],
}

/// Whether a capture stands still.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Image {
    /// Nothing shows that is written after `capture`: thaw at once, drain later.
    Fixed,
    /// Items show the system as it is when read: a freeze must last until they are stored.
    Live,
}

/// What is captured as one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unit {
    /// Survives renames and is all that a source needs to find the unit again.
    pub id: UnitId,
    /// For people, and the snapshot's host name.
    pub name: String,
}

/// The newest good snapshot of the unit.
#[derive(Debug, Clone, PartialEq)]
pub struct Base {
    /// Its id.
    pub snapshot: SnapshotId,
    /// What its capture said.
    pub facts: Facts,
}

/// What is known of a capture once all items are pushed; stored with the snapshot.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Facts {
    /// The moment that the capture shows.
    pub taken_at: Timestamp,
    /// The snapshot that this one continues; `None`: it stands alone.
    pub follows: Option<SnapshotId>,
    /// The snapshot's `paths`, each shown with a leading `/`: real roots, or one virtual root.
    pub roots: Vec<TreePath>,
    /// Further tags of the snapshot.
    pub tags: Vec<String>,
    /// The source's own notes: read by the next capture, by restore and by prove. Opaque to the engine.
    pub notes: serde_json::Value,
}

impl Facts {
    /// A capture that stands alone and has no roots, tags or notes.
    pub fn new(taken_at: Timestamp) -> Self {
        Self { taken_at, follows: None, roots: Vec::new(), tags: Vec::new(), notes: serde_json::Value::Null }
    }
}

/// What becomes of all that a run made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The snapshot is stored, or the restore is wanted: what serves the next capture, or was restored, stays.
    Kept,
    /// All of it goes.
    Dropped,
}

/// What became of a pushed item, compared with the parent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pushed {
    /// The parent has nothing at this path.
    New,
    /// The parent has something else there.
    Changed,
    /// The parent has the same.
    Unmodified,
    /// Not stored; the problem is in the report.
    Lost,
}

/// What the engine has of the parent's item at this path; empty without one.
#[derive(Debug, Clone, Copy, Default)]
pub struct Known<'a> {
    /// Its token.
    pub version: Option<&'a [u8]>,
    /// Its content from offset 0 on, piece by piece.
    pub ranges: &'a [KnownRange],
}

/// A piece of the parent's content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KnownRange {
    /// In bytes.
    pub length: u64,
    /// SHA-256 of these bytes.
    pub sha256: [u8; 32],
}

/// A capture or a lock that lies in the system.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Remnant {
    /// Whose it is.
    pub unit: Unit,
    /// Who made it. `None`: another tool, so it is never touched, only shown or imported.
    pub mark: Option<(RunId, Purpose)>,
    /// Last sign of life of its maker.
    pub seen_at: Timestamp,
    /// The image is whole: `reopen` works.
    pub complete: bool,
    /// For the operator: "image, 12 GiB", "locks on 3 instances".
    pub what: String,
}

/// What is to be restored, and where to.
#[derive(Debug, Clone, PartialEq)]
pub struct RestoreRequest {
    /// Which unit.
    pub unit: Unit,
    /// Where to.
    pub to: Destination,
    /// The kind's own options, already checked by its `config.rs`.
    pub options: serde_json::Value,
}

impl RestoreRequest {
    /// A request with the kind's options.
    ///
    /// # Panics
    /// If the options are no plain data.
    pub fn new(unit: Unit, to: Destination, options: &impl Serialize) -> Self {
        Self { unit, to, options: serde_json::to_value(options).expect("options are plain data") }
    }

    /// The kind's options; where nothing was asked for, what they are by themselves.
    pub(crate) fn options<T: DeserializeOwned + Default>(&self) -> Result<T> {
        let options: Result<Option<T>, _> = serde_json::from_value(self.options.clone());
        let options = options.map_err(|error| SourceError::Refused(format!("read the options: {error}")))?;
        Ok(options.unwrap_or_default())
    }
}

/// What a restore is going to do.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RestorePlan {
    /// In the order of execution.
    pub steps: Vec<Step>,
}

/// One step of a restore, named for the operator.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Makes something new.
    Create(String),
    /// Overwrites what is there; not undone by `release`.
    Replace(String),
    /// Leaves as it is.
    Leave(String),
    /// Cannot be honored. A plan with one is refused unless the operator accepts it.
    Cannot(String),
}

/// What was shown of a restored system.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proof {
    /// Each one line for the report.
    pub checks: Vec<String>,
}

/// One stored path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Where it lies in the tree.
    pub path: TreePath,
    /// What it is.
    pub kind: Kind,
    /// What is stored of it beside its content.
    pub metadata: Metadata,
    /// Length of a file's content in bytes; 0 for all else.
    pub length: u64,
}

/// A call on a source failed. One variant per decision of the engine.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// Again later, with back-off.
    #[error("system cannot be reached: {0}")]
    Unreachable(String),
    /// Again later, without alarm.
    #[error("system is busy: {0}")]
    Busy(String),
    /// No retry; concerns all units of the source.
    #[error("access is denied: {0}")]
    Denied(String),
    /// What it is told to use is missing or says too little; nothing was asked. No retry; concerns all units.
    #[error("configuration cannot be used: {0}")]
    Configuration(String),
    /// The unit is skipped; its snapshots stay.
    #[error("unit does not exist any more")]
    Gone,
    /// It is as its newest snapshot has it: nothing is stored, and that is in order.
    #[error("nothing has changed")]
    Unchanged,
    /// A full is captured at once.
    #[error("base cannot be continued: {0}")]
    BaseLost(String),
    /// Nothing is committed; captured anew.
    #[error("capture is incomplete: {0}")]
    Incomplete(String),
    /// A guard refused, and would again: somebody must decide. No retry.
    #[error("refused: {0}")]
    Refused(String),
    /// There is no room on onggi's own disk or at the destination. No retry.
    #[error("no room: {0}")]
    Full(String),
    /// What is stored, or was captured, is not what it should be. No retry.
    #[error("content is damaged: {0}")]
    Damaged(String),
    /// The source cannot do this at all.
    #[error("{0} is not supported")]
    Unsupported(&'static str),
    /// Our own doing: unwind.
    #[error(transparent)]
    Stopped(#[from] Stop),
}

impl SourceError {
    /// Whether the same call may succeed later.
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Unreachable(_) | Self::Busy(_))
    }

    /// What was to be written could not be: a full disk is told apart.
    pub(crate) fn unwritten(what: &str, error: &std::io::Error) -> Self {
        use std::io::ErrorKind;
        let text = format!("{what}: {error}");
        let is_full = matches!(error.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded);
        if is_full { Self::Full(text) } else { Self::Incomplete(text) }
    }
}

/// A failed read says itself how far it reaches.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// This item is lost, the rest goes on.
    #[error("{0}")]
    Item(Problem),
    /// The whole attempt ends.
    #[error(transparent)]
    Unit(#[from] SourceError),
}

impl From<Stop> for ReadError {
    fn from(stop: Stop) -> Self {
        Self::Unit(stop.into())
    }
}
