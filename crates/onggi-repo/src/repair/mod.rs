//! Mending, in the order in which it is to be done: the index, then damaged packs, then snapshots that lost something.
//! Each prints a plan first. Nothing is deleted but copies of keys that are gone: damaged files move to
//! `onggi/quarantine/`, and what can be restored before can be restored after.

mod copies;
mod index;
mod packs;
mod snapshots;

pub use crate::copies::{CopyFault, FaultyCopy};
pub use copies::CopyRepair;
pub use index::IndexRepair;
pub use packs::{PackRepair, PackSalvage};
pub use snapshots::{DAMAGED_SUFFIX, REPAIRED, SnapshotRepair};

use crate::{
    Lock, LockKind, Repository, Result,
    error::{Act, RepoError},
};
use onggi_storage::{Handle, OwnFolder, OwnName};

/// Repairs change what all others rely on.
fn check_alone(repo: &Repository, lock: &Lock) -> Result<()> {
    lock.check()?;
    repo.refuse_if_append_only()?;
    if lock.kind() == LockKind::Exclusive {
        return Ok(());
    }
    Err(RepoError::Refused { guard: "lock", reason: "a repair needs an exclusive lock".into() })
}

/// Moves a damaged file out of the way: first a copy, then the original goes.
async fn quarantine(repo: &Repository, handle: Handle) -> Result<()> {
    let content = match repo.fresh().read(handle.clone(), None).await {
        Err(error) if error.is_not_found() => return Ok(()),
        content => content.act(|| format!("read {handle}"))?,
    };
    let name = handle.path().replace('/', "-");
    let name = OwnName::new(name).expect("paths of hashed files are lower-case letters, digits and slashes");
    let kept = Handle::Own(OwnFolder::Quarantine, name);
    match repo.storage().create(kept.clone(), content).await {
        // Another damaged file of this name is kept already.
        Err(onggi_storage::StorageError::AlreadyExists(_)) => {}
        answer => answer.act(|| format!("create {kept}"))?,
    }
    repo.remove_quietly(handle).await
}
