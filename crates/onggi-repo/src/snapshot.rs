//! The snapshots of a repository: listing, reading, and finding the one that is meant.

use crate::{
    Repository, Result,
    error::{Problem, RepoError},
    format::{Snapshot, SnapshotId},
};
use futures::{StreamExt, stream};
use onggi_storage::FileType;

/// The snapshots that could be read, and what is wrong with the others.
#[derive(Debug, Clone, Default)]
pub struct Snapshots {
    /// Oldest first.
    pub found: Vec<(SnapshotId, Snapshot)>,
    /// Unreadable snapshot files.
    pub problems: Vec<Problem>,
}

impl Repository {
    /// Reads all snapshots. Do this before `load_index`: their blobs are then in the index.
    pub async fn snapshots(&self) -> Result<Snapshots> {
        let ids = self.list_ids(FileType::Snapshot).await?;
        let mut all = Snapshots::default();
        let reads = stream::iter(ids).map(|id| async move { (id.into(), self.snapshot(id.into()).await) });
        let mut reads = reads.buffer_unordered(self.at_once());
        while let Some((id, answer)) = reads.next().await {
            let id: SnapshotId = id;
            match answer {
                Ok(snapshot) => all.found.push((id, snapshot)),
                Err(error) if error.is_not_found() => {}
                Err(error) if error.is_damage() => {
                    all.problems.push(Problem::of("snapshot-damaged", id.handle(), &error));
                }
                Err(error) => return Err(error),
            }
        }
        all.found.sort_by(|(one, a), (two, b)| (a.time, one).cmp(&(b.time, two)));
        Ok(all)
    }

    /// Reads one snapshot.
    pub async fn snapshot(&self, id: SnapshotId) -> Result<Snapshot> {
        let json = self.load_json(FileType::Snapshot, id.into()).await?;
        Snapshot::parse(&json).map_err(|fault| RepoError::format(id.handle(), fault))
    }

    /// Writes a snapshot as it is: for rewriting tags and copying, where its tree is already durable.
    pub(crate) async fn save_snapshot(&self, snapshot: &Snapshot) -> Result<SnapshotId> {
        self.save_json(FileType::Snapshot, snapshot.print()).await.map(SnapshotId::from)
    }
}
