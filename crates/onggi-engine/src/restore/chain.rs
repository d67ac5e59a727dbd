//! A snapshot and those that it continues, back to the full, as one tree.

use super::SnapshotTree;
use crate::backup::Manifest;
use onggi_repo::{
    RepoError, Repository,
    format::{Snapshot, SnapshotId},
};

/// Far more than a source lets a chain grow.
const LENGTH_MAX: usize = 100_000;

/// Why a chain cannot be joined.
#[derive(Debug, thiserror::Error)]
pub enum ChainError {
    /// Its source left no manifest: it can be restored into a folder only.
    #[error("snapshot {0} does not say what it is of")]
    Plain(String),
    /// One that it continues is gone.
    #[error("snapshot {0}, which it continues, is not there any more")]
    Broken(String),
    /// A part cannot be read.
    #[error("read snapshot {0}")]
    Unreadable(String, #[source] RepoError),
}

/// Joins the chain that ends with a snapshot; what is later wins. Gives the manifest of that snapshot beside.
pub async fn chain(
    repo: &Repository,
    all: &[(SnapshotId, Snapshot)],
    last: &SnapshotId,
) -> Result<(SnapshotTree, Manifest), ChainError> {
    let (mut trees, mut facts, mut newest) = (Vec::new(), Vec::new(), None);
    let mut next = Some(last.to_string());
    while let Some(wanted) = next.take() {
        let found = all.iter().find(|one| is_named(one, &wanted));
        let is_endless = trees.len() == LENGTH_MAX;
        let (id, snapshot) = found.filter(|_| !is_endless).ok_or_else(|| ChainError::Broken(short(&wanted)))?;
        let read = Manifest::of(repo, snapshot).await;
        let manifest = read.map_err(|error| ChainError::Unreadable(id.short(), error))?;
        let manifest = manifest.ok_or_else(|| ChainError::Plain(id.short()))?;
        next = manifest.facts.follows.as_ref().map(ToString::to_string);
        trees.push(snapshot.tree);
        facts.push(manifest.facts.clone());
        newest.get_or_insert(manifest);
    }
    trees.reverse();
    facts.reverse();
    let newest = newest.ok_or_else(|| ChainError::Broken(last.short()))?;
    Ok((SnapshotTree::new(repo.clone(), trees, facts), newest))
}

/// A copy bears the id that it was copied from beside its own.
fn is_named((id, snapshot): &(SnapshotId, Snapshot), wanted: &str) -> bool {
    id.to_string() == wanted || snapshot.original.is_some_and(|original| original.to_string() == wanted)
}

fn short(id: &str) -> String {
    id.get(..8).unwrap_or(id).to_owned()
}
