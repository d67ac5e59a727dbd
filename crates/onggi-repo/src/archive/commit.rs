//! The last steps: reading back what was written, the publish fence, and the snapshot file, which commits the run.

use super::{Archive, ArchiveStats, shared::Shared};
use crate::{
    error::{Problem, RepoError, Result},
    fence,
    format::{BlobId, Snapshot, SnapshotId, Summary, Time},
    read_back::{self, NewPack},
    sabotage,
};
use jiff::Timestamp;
use onggi_storage::FileType;
use std::{collections::HashSet, fmt, sync::Arc};

/// An archive that is complete and can be committed.
pub struct Finished {
    shared: Arc<Shared>,
    root: BlobId,
    parent: Option<SnapshotId>,
    started: Timestamp,
}

/// What a snapshot says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SnapshotDraft {
    /// Start of the capture.
    pub time: Timestamp,
    /// The unit's name.
    pub hostname: String,
    /// What was captured: absolute paths or virtual roots.
    pub paths: Vec<String>,
    /// Labels.
    pub tags: Vec<String>,
    /// Patterns left out.
    pub excludes: Vec<String>,
    /// Which program writes it: `onggi 1.2.3`.
    pub program_version: String,
}

/// A snapshot that is durable and was read back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Committed {
    /// Its name.
    pub id: SnapshotId,
    /// Its content.
    pub snapshot: Snapshot,
}

impl Finished {
    pub(super) fn new(archive: Archive, root: BlobId) -> Self {
        let Archive { shared, parent, started, .. } = archive;
        Self { shared, root, parent, started }
    }

    /// The root tree.
    pub fn root(&self) -> BlobId {
        self.root
    }

    /// Final figures.
    pub fn stats(&self) -> ArchiveStats {
        self.shared.counters.read()
    }

    /// Publishes: reads back what was written (`Unverified` if it is not all there), makes sure that nothing it relies on
    /// was removed meanwhile, writes the snapshot, and reads that back too.
    ///
    /// An error after the snapshot was written is `Unverified`: the snapshot is there, but not proved.
    pub async fn commit(self, draft: SnapshotDraft) -> Result<Committed> {
        let shared = &self.shared;
        shared.check()?;
        if shared.writing.is_dry {
            return Err(RepoError::Refused { guard: "dry-run", reason: "nothing was stored".into() });
        }
        let relied = shared.index.numbered(shared.reliance.packs());
        let (new, used): (Vec<_>, Vec<_>) = relied.into_iter().partition(|pack| pack.is_unproved);
        let indexes: HashSet<_> = new.iter().filter_map(|pack| pack.index).collect();
        let packs: Vec<_> = new.iter().map(NewPack::of).collect();
        if !sabotage::SNAPSHOT_BEFORE_INDEX.is_on() {
            read_back::read_back(&shared.repo, &shared.index, self.root, &packs, indexes, &used).await?;
            shared.index.proved(packs.iter().map(|pack| pack.id));
        }
        if !sabotage::NO_FENCE.is_on() {
            fence::fence(&shared.repo, &shared.lock, &shared.index, &packs, &used).await?;
        }
        let snapshot = self.snapshot(draft);
        let id = shared.repo.save_snapshot(&snapshot).await?;
        if sabotage::SNAPSHOT_BEFORE_INDEX.is_on() {
            shared.repo.announce(&shared.index).await?;
        }
        self.prove(id).await?;
        if let Some(journal) = &shared.journal {
            journal.remove()?;
        }
        Ok(Committed { id, snapshot })
    }

    /// Reads the snapshot past all caches.
    async fn prove(&self, id: SnapshotId) -> Result<()> {
        let repo = &self.shared.repo;
        let read = repo.load_json_from(&**repo.fresh(), FileType::Snapshot, id.into()).await;
        read.map(drop)
            .map_err(|error| RepoError::Unverified(vec![Problem::of("snapshot-unproved", id.handle(), &error)]))
    }

    fn snapshot(&self, draft: SnapshotDraft) -> Snapshot {
        let env = self.shared.repo.env();
        let (start, end) = (Time::utc(self.started), Time::utc(env.clock.now()));
        Snapshot {
            parent: self.parent,
            paths: draft.paths,
            hostname: draft.hostname,
            username: env.host.username.clone(),
            uid: env.host.uid,
            gid: env.host.gid,
            excludes: draft.excludes,
            tags: draft.tags,
            program_version: draft.program_version,
            summary: Some(Summary { figures: self.stats().figures(), ..Summary::new(start, end) }),
            ..Snapshot::new(Time::utc(draft.time), self.root)
        }
    }
}

impl fmt::Debug for Finished {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Finished(root {})", self.root.short())
    }
}
