//! A delta: watches every change from the last stored revision on, until enough is there.
//!
//! A message may end within a revision; a revision is whole when a later one begins, or when a message ends that is not
//! a fragment. What is not whole is never stored. Revisions follow each other without a gap; a gap, a compaction or
//! another cluster is the end of the chain, and a full begins the next.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tokio::sync::Mutex;

use super::replay::{FOLDER, file_name};
use super::segment::{self, Change, Header, Revised, put_varint};
use crate::context::{Context, Progress, SnapshotId, Stop, UnitId};
use crate::etcd::Etcd;
use crate::etcd::client::{Event, Told, Watching};
use crate::etcd::cluster::Cluster;
use crate::etcd::key_value::KeyValue;
use crate::etcd::model::{ClusterId, Notes};
use crate::item::{Content, Item, Metadata};
use crate::path::TreePath;
use crate::source::{
    Base, Capabilities, Capture, Facts, Image, Items, Outcome, Remnant, Result, Source, SourceError, Unit,
};

/// When a delta is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Flush {
    /// So long after it began.
    pub after: Duration,
    /// At so many bytes.
    pub bytes_max: usize,
    /// At so many changes.
    pub events_max: usize,
    /// A chain that is older is ended by a full.
    pub full_every: Duration,
}

impl Flush {
    /// Five minutes, 8 MiB or 20 000 changes; a full every six hours.
    pub const DEFAULT: Self = Self {
        after: Duration::from_mins(5),
        bytes_max: 8 << 20,
        events_max: 20_000,
        full_every: Duration::from_hours(6),
    };
}

/// What a delta knows of itself: the facts' notes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct DeltaNotes {
    /// Version of these notes: 1.
    pub format: u32,
    /// The cluster.
    pub cluster_id: ClusterId,
    /// The last revision.
    pub revision: i64,
    /// When the full at the beginning of the chain was taken.
    pub full_at: Timestamp,
    /// Revision of users and roles; a change of them is in no watch.
    pub auth_revision: u64,
    /// Leases that are known to the chain.
    pub leases: BTreeSet<i64>,
}

const FORMAT: u32 = 1;
/// How long a watch that was just begun is given to tell what it has.
const FIRST: Duration = Duration::from_secs(2);
/// Leases that no change names are asked for at most so many at once; the others with the next delta.
const LEASES_ASKED_MAX: usize = 1 << 12;
/// More leases than these are taken down anew with each delta.
const LEASES_MAX: usize = 1 << 16;

/// A source that goes on from what is stored: a full where nothing is, else the changes since.
pub struct Follower {
    etcd: Etcd,
    flush: Flush,
    /// The watch goes on while what it brought is stored.
    watch: Mutex<Option<Watch>>,
}

/// A watch that is open.
struct Watch {
    stream: Box<dyn Watching>,
    /// Revisions that are whole and not stored yet.
    whole: Vec<Revised>,
    /// The one that may still grow.
    growing: Option<Revised>,
    /// The last revision that was stored or is whole.
    reached: i64,
    bytes: usize,
    events: usize,
}

impl Follower {
    /// A source over a configuration without faults; touches nothing.
    pub fn new(etcd: Etcd, flush: Flush) -> Self {
        Self { etcd, flush, watch: Mutex::new(None) }
    }

    /// Waits until there is enough to be stored; not at all where no watch is open, which is answered with `false`.
    pub async fn gather(&self, cx: &Context) -> Result<bool> {
        let mut kept = self.watch.lock().await;
        let Some(watch) = kept.as_mut() else { return Ok(false) };
        match watch.fill(cx, self.flush, Waits::Yes).await {
            Ok(()) => Ok(true),
            // What is whole can be stored all the same.
            Err(error) if error.is_transient() && !watch.whole.is_empty() => Ok(true),
            // The last delta may still be stored.
            Err(error @ SourceError::Stopped(_)) => Err(error),
            Err(error) => {
                *kept = None;
                Err(error)
            }
        }
    }
}

/// Whether a watch that has brought nothing is waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Waits {
    Yes,
    No,
}

/// The newest snapshot of the chain: a full or a delta.
struct Head {
    snapshot: SnapshotId,
    notes: DeltaNotes,
}

impl Head {
    fn of(base: &Base) -> Result<Self> {
        let lost = |_| SourceError::BaseLost("it does not say what it is of".to_owned());
        let snapshot = base.snapshot.clone();
        if base.facts.follows.is_some() {
            let notes = serde_json::from_value(base.facts.notes.clone()).map_err(lost)?;
            return Ok(Self { snapshot, notes });
        }
        let full: Notes = serde_json::from_value(base.facts.notes.clone()).map_err(lost)?;
        let notes = DeltaNotes {
            format: FORMAT,
            cluster_id: full.cluster_id,
            // A cluster without a key is at revision 1 already.
            revision: full.revision.max(1),
            full_at: base.facts.taken_at,
            auth_revision: full.auth_revision,
            leases: BTreeSet::new(),
        };
        Ok(Self { snapshot, notes })
    }
}

#[async_trait]
impl Source for Follower {
    fn capabilities(&self) -> Capabilities {
        Capabilities { freezes: false, image: Image::Fixed, chains: true, destinations: &[] }
    }

    async fn preflight(&self, cx: &Context) -> Result<()> {
        self.etcd.preflight(cx).await
    }

    async fn discover(&self, cx: &Context) -> Result<Vec<Unit>> {
        self.etcd.discover(cx).await
    }

    /// Stores what is there; `Busy` if nothing is.
    async fn capture<'a>(&'a self, cx: &Context, unit: &Unit, base: Option<&Base>) -> Result<Box<dyn Capture + 'a>> {
        let Some(base) = base else {
            self.watch.lock().await.take();
            return self.etcd.capture(cx, unit, None).await;
        };
        let head = Head::of(base)?;
        let lost = |text: &str| Err(SourceError::BaseLost(text.to_owned()));
        if UnitId::new(head.notes.cluster_id.to_string()) != unit.id {
            return lost("the cluster was replaced");
        }
        let age = cx.world.now().duration_since(head.notes.full_at);
        if age > jiff::SignedDuration::try_from(self.flush.full_every).unwrap_or(jiff::SignedDuration::MAX) {
            return lost("the chain is long enough");
        }
        let cluster = Cluster::reach(&self.etcd, cx, None).await?;
        if cluster.id != head.notes.cluster_id {
            return lost("the cluster was replaced");
        }
        let mut kept = self.watch.lock().await;
        let watch = match kept.take().filter(|watch| watch.stored(head.notes.revision)) {
            Some(watch) => watch,
            None => self.begin(cx, &cluster, head.notes.revision).await?,
        };
        let watch = kept.insert(watch);
        if watch.whole.is_empty()
            && let Err(error) = watch.fill(cx, Flush { after: FIRST, ..self.flush }, Waits::No).await
        {
            *kept = None;
            return Err(error);
        }
        if watch.whole.is_empty() {
            return Err(SourceError::Unchanged);
        }
        match self.close(cx, &cluster, head, watch).await {
            Ok(delta) => Ok(Box::new(delta)),
            Err(error) => {
                *kept = None;
                Err(error)
            }
        }
    }

    /// The watch stays: if what it brought was not stored, it no longer fits what is, and is begun anew.
    async fn release(&self, cx: &Context, unit: &Unit, outcome: Outcome) -> Result<()> {
        self.etcd.release(cx, unit, outcome).await
    }

    async fn remnants(&self, cx: &Context) -> Result<Vec<Remnant>> {
        self.etcd.remnants(cx).await
    }
}

impl Follower {
    async fn begin(&self, cx: &Context, cluster: &Cluster, revision: i64) -> Result<Watch> {
        let member = cluster.selection.members.first().ok_or(SourceError::Gone)?;
        cx.monitor.progress(Progress::Phase(format!("following {} from revision {revision}", member.endpoint)));
        let connection = self.etcd.dial.dial(cx, &cluster.access, &member.endpoint).await?;
        let stream = connection.watch(cx, revision + 1).await?;
        Ok(Watch { stream, whole: Vec::new(), growing: None, reached: revision, bytes: 0, events: 0 })
    }

    /// Writes the file of what is whole, and what the watch does not tell.
    async fn close<'a>(&'a self, cx: &Context, cluster: &Cluster, head: Head, watch: &mut Watch) -> Result<Delta<'a>> {
        let member = cluster.selection.members.first().ok_or(SourceError::Gone)?;
        let connection = self.etcd.dial.dial(cx, &cluster.access, &member.endpoint).await?;
        let auth_revision = connection.auth_revision(cx).await?.unwrap_or(head.notes.auth_revision);
        if auth_revision != head.notes.auth_revision {
            return Err(SourceError::BaseLost("users or roles were changed, which no delta tells".to_owned()));
        }
        // Whoever was granted one may use it in any later delta, which then need not ask.
        let mut wanted = watch.leases();
        let listed = connection.leases(cx).await?;
        wanted.extend(listed.into_iter().filter(|id| !head.notes.leases.contains(id)).take(LEASES_ASKED_MAX));
        let mut known = head.notes.leases.clone();
        let mut leases = BTreeMap::new();
        for id in wanted.into_iter().filter(|id| !head.notes.leases.contains(id)) {
            // One that has ended by now has taken its keys along, which the watch tells.
            if let Some(ttl) = connection.lease_ttl(cx, id).await? {
                leases.insert(id, ttl);
                if known.len() < LEASES_MAX {
                    known.insert(id);
                }
            }
        }
        let whole = watch.take();
        let encoded = segment::encode(head.notes.cluster_id, leases, &whole);
        let (header, content) = encoded.ok_or_else(|| SourceError::Incomplete("nothing was changed".to_owned()))?;
        let notes = DeltaNotes { revision: header.last, leases: known, ..head.notes };
        Ok(Delta { etcd: &self.etcd, follows: head.snapshot, header, content: content.into(), notes })
    }
}

impl Watch {
    /// Whether it goes on right behind what is stored.
    fn stored(&self, revision: i64) -> bool {
        self.whole.first().or(self.growing.as_ref()).map_or(self.reached, |next| next.main - 1) == revision
    }

    /// Reads until there is enough, or the time is over; if it waits, until anything is there.
    async fn fill(&mut self, cx: &Context, flush: Flush, waits: Waits) -> Result<()> {
        let end = cx.world.elapsed() + flush.after;
        while self.bytes < flush.bytes_max && self.events < flush.events_max {
            let left = end.saturating_sub(cx.world.elapsed());
            let may_end = waits == Waits::No || !self.whole.is_empty();
            if left.is_zero() && may_end {
                break;
            }
            let limited = if may_end { cx.within(left, Stop::TimeLimit) } else { cx.clone() };
            match self.stream.next(&limited).await {
                Ok(told) => self.take_in(cx, told)?,
                Err(SourceError::Stopped(Stop::TimeLimit)) if may_end => {
                    cx.check()?;
                    break;
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn take_in(&mut self, cx: &Context, told: Told) -> Result<()> {
        let lost = |text: String| Err(SourceError::BaseLost(text));
        let (events, is_fragment) = match told {
            Told::Changes { events, is_fragment } => (events, is_fragment),
            Told::Compacted(revision) => return lost(format!("revisions up to {revision} were compacted meanwhile")),
            Told::Nothing => return Ok(()),
        };
        let now = cx.world.now().as_millisecond();
        for Event { is_tombstone, record } in events {
            let parsed =
                KeyValue::parse(&record).ok_or_else(|| SourceError::Incomplete("a change is none".to_owned()))?;
            let main = parsed.mod_revision;
            if self.growing.as_ref().is_some_and(|growing| growing.main < main) {
                self.grown();
            }
            let expected = self.growing.as_ref().map_or(self.reached + 1, |growing| growing.main);
            if main < expected {
                continue;
            }
            if main > expected {
                return lost(format!("revision {expected} is missing before {main}"));
            }
            let record = if is_tombstone { tombstone(parsed.key) } else { record.to_vec() };
            self.bytes += record.len();
            self.events += 1;
            let fresh = Revised { main, received_ms: now, changes: Vec::new() };
            self.growing.get_or_insert(fresh).changes.push(Change { is_tombstone, record });
        }
        if !is_fragment {
            self.grown();
        }
        Ok(())
    }

    fn grown(&mut self) {
        if let Some(growing) = self.growing.take() {
            self.reached = growing.main;
            self.whole.push(growing);
        }
    }

    fn leases(&self) -> BTreeSet<i64> {
        let changes = self.whole.iter().flat_map(|revised| &revised.changes).filter(|change| !change.is_tombstone);
        let ids = changes.filter_map(|change| Some(KeyValue::parse(&change.record)?.lease));
        ids.filter(|id| *id != 0).collect()
    }

    fn take(&mut self) -> Vec<Revised> {
        (self.bytes, self.events) = (0, 0);
        std::mem::take(&mut self.whole)
    }
}

/// What stands in the database for a key that was deleted.
fn tombstone(key: &[u8]) -> Vec<u8> {
    let mut record = vec![1 << 3 | 2];
    put_varint(&mut record, key.len() as u64);
    record.extend_from_slice(key);
    record
}

/// A delta that is ready to be stored.
struct Delta<'a> {
    etcd: &'a Etcd,
    follows: SnapshotId,
    header: Header,
    content: Bytes,
    notes: DeltaNotes,
}

#[async_trait]
impl Capture for Delta<'_> {
    async fn items(&mut self, cx: &Context, out: &dyn Items) -> Result<Facts> {
        cx.check()?;
        let wrong = |error: crate::path::BadComponent| SourceError::Denied(error.to_string());
        let taken_at = Timestamp::from_millisecond(self.header.ended_ms).unwrap_or_else(|_| cx.world.now());
        let root = self.etcd.root()?;
        let folder = root.join(FOLDER).map_err(wrong)?;
        let directories = [root.parent().unwrap_or_else(TreePath::root), root.clone(), folder.clone()];
        for path in &directories {
            let metadata = Metadata { mode: 0o755, mtime: taken_at, ..Metadata::default() };
            out.push(Item::directory(path.clone()).with_metadata(metadata), Content::None).await?;
        }
        let Header { first, last, .. } = self.header;
        let size = self.content.len() as u64;
        let metadata = Metadata { mode: 0o600, mtime: taken_at, links: 1, size, ..Metadata::default() };
        let file = folder.join(file_name(first, last)).map_err(wrong)?;
        out.push(Item::file(file).with_metadata(metadata), Content::Inline(self.content.clone())).await?;
        for path in directories.iter().rev() {
            out.leave(path).await?;
        }
        let notes = serde_json::to_value(&self.notes).map_err(|error| SourceError::Incomplete(error.to_string()))?;
        let tags = vec!["delta".to_owned(), format!("cid:{}", self.notes.cluster_id), format!("rev:{first}-{last}")];
        let follows = Some(self.follows.clone());
        Ok(Facts { follows, roots: vec![root], tags, notes, ..Facts::new(taken_at) })
    }
}
