//! Snapshots written anew with other tags or another tree. The new file is durable and read back before the old one goes.

use crate::{
    Lock, Problem, Repository, Result,
    error::RepoError,
    format::{Snapshot, SnapshotId},
};
use onggi_storage::FileType;

/// How tags change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TagChange {
    /// Exactly these from now on.
    Set(Vec<String>),
    /// First these go, then those come.
    Edit {
        /// Tags that come.
        add: Vec<String>,
        /// Tags that go.
        remove: Vec<String>,
    },
}

impl TagChange {
    /// The snapshot with other tags; `None` if nothing changes.
    pub fn apply(&self, snapshot: &Snapshot) -> Option<Snapshot> {
        let tags = match self {
            Self::Set(tags) => distinct(tags.iter()),
            Self::Edit { add, remove } => {
                let kept = snapshot.tags.iter().filter(|tag| !remove.contains(tag));
                distinct(kept.chain(add))
            }
        };
        (tags != snapshot.tags).then(|| Snapshot { tags, ..snapshot.clone() })
    }
}

fn distinct<'a>(tags: impl Iterator<Item = &'a String>) -> Vec<String> {
    let mut distinct = Vec::new();
    for tag in tags {
        if !distinct.contains(tag) {
            distinct.push(tag.clone());
        }
    }
    distinct
}

impl Repository {
    /// Changes the tags of a snapshot. Returns its new name, or `None` if nothing had to change.
    pub async fn change_tags(&self, lock: &Lock, id: SnapshotId, change: &TagChange) -> Result<Option<SnapshotId>> {
        let snapshot = self.snapshot(id).await?;
        match change.apply(&snapshot) {
            None => Ok(None),
            Some(changed) => self.replace_snapshot(lock, id, changed).await.map(Some),
        }
    }

    /// Writes a snapshot in place of another one, which goes.
    pub(crate) async fn replace_snapshot(&self, lock: &Lock, id: SnapshotId, new: Snapshot) -> Result<SnapshotId> {
        self.refuse_if_append_only()?;
        let new_id = self.derive_snapshot(lock, id, new).await?;
        lock.check()?;
        if new_id != id {
            self.remove_quietly(id.handle()).await?;
        }
        Ok(new_id)
    }

    /// Writes a snapshot made from another one, and remembers from which.
    pub(crate) async fn derive_snapshot(&self, lock: &Lock, from: SnapshotId, new: Snapshot) -> Result<SnapshotId> {
        lock.check()?;
        let new = Snapshot { original: new.original.or(Some(from)), ..new };
        let id = self.save_snapshot(&new).await?;
        let read = self.load_json_from(&**self.fresh(), FileType::Snapshot, id.into()).await;
        read.map_err(|error| RepoError::Unverified(vec![Problem::of("snapshot-unproved", id.handle(), &error)]))?;
        Ok(id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::BlobId;

    #[track_caller]
    fn check(change: &TagChange, expected: Option<&[&str]>) {
        let mut snapshot = Snapshot::new("2026-01-01T00:00:00Z".parse().unwrap(), BlobId([1; 32]));
        snapshot.tags = vec!["a".into(), "b".into()];
        let changed = change.apply(&snapshot).map(|snapshot| snapshot.tags);
        assert_eq!(changed, expected.map(|tags| tags.iter().map(|tag| (*tag).to_owned()).collect()));
    }

    fn tags(tags: &[&str]) -> Vec<String> {
        tags.iter().map(|tag| (*tag).to_owned()).collect()
    }

    #[test]
    fn tags_are_set_added_and_removed_once() {
        check(&TagChange::Set(tags(&["c", "c"])), Some(&["c"]));
        check(&TagChange::Set(tags(&["a", "b"])), None);
        check(&TagChange::Edit { add: tags(&["c", "b"]), remove: tags(&["a"]) }, Some(&["b", "c"]));
        check(&TagChange::Edit { add: tags(&["a"]), remove: tags(&["z"]) }, None);
    }
}
