//! The publish fence: a process that was paused for a day must not publish a snapshot into a repository that was pruned
//! meanwhile. Either our lock was never without renewal for long, or everything we rely on is looked at again.

use crate::{
    Repository, Result,
    error::{Act, Problem, RepoError},
    format::{IndexFile, IndexId, PackId},
    index::{Index, PackInfo},
    lock::LockWatch,
    read_back::{self, NewPack},
};
use futures::TryStreamExt;
use onggi_storage::FileType;
use std::{
    collections::{HashMap, HashSet},
    time::Duration,
};

/// A lock that was not renewed for longer may have been taken for stale.
const GAP_MAX: Duration = Duration::from_mins(15);

/// Lets pass only what is surely still there. `LockLost` or `Unverified` else.
pub(crate) async fn fence(
    repo: &Repository,
    lock: &LockWatch,
    index: &Index,
    packs: &[NewPack],
    used: &[PackInfo],
) -> Result<()> {
    lock.check()?;
    if lock.gap().is_some_and(|gap| gap <= GAP_MAX) {
        return Ok(());
    }
    let new = packs.iter().filter_map(|pack| index.pack(&pack.id));
    let relied: HashMap<PackId, PackInfo> = used.iter().cloned().chain(new).map(|pack| (pack.id, pack)).collect();
    let mut problems = unannounced(repo, &relied).await?;
    let expected: Vec<_> = relied.values().map(|pack| (pack.id, pack.size)).collect();
    problems.extend(read_back::missing(repo, expected).await?);
    if !problems.is_empty() {
        return Err(RepoError::Unverified(problems));
    }
    lock.check()
}

/// Those packs that no index file announces any more, or that one has marked for deletion.
async fn unannounced(repo: &Repository, relied: &HashMap<PackId, PackInfo>) -> Result<Vec<Problem>> {
    let listed: Vec<_> = repo.fresh().list(FileType::Index).try_collect().await.act(|| "list indexes".into())?;
    let listed: HashSet<IndexId> = listed.iter().filter_map(|file| file.handle.id()).map(IndexId::from).collect();
    let known: HashSet<IndexId> = repo.index().all_packs().iter().filter_map(|pack| pack.index).collect();
    let is_announced = |pack: &PackInfo| pack.index.is_some_and(|index| listed.contains(&index));
    let mut lost: HashSet<PackId> = relied.values().filter(|pack| !is_announced(pack)).map(|pack| pack.id).collect();
    let mut marked = HashSet::new();
    for id in listed.difference(&known) {
        let json = match repo.load_json_from(&**repo.fresh(), FileType::Index, (*id).into()).await {
            Err(error) if error.is_not_found() => continue,
            answer => answer?,
        };
        let file = IndexFile::parse(&json).map_err(|fault| RepoError::format(id.handle(), fault))?;
        for pack in file.packs {
            lost.remove(&pack.id);
        }
        marked.extend(file.packs_to_delete.iter().map(|pack| pack.id).filter(|id| relied.contains_key(id)));
    }
    let problem = |class, id: &PackId, text: &str| Problem { class, what: id.handle().to_string(), text: text.into() };
    let mut problems: Vec<_> =
        lost.iter().map(|id| problem("pack-unannounced", id, "was dropped from the index meanwhile")).collect();
    problems.extend(marked.iter().map(|id| problem("pack-tombstoned", id, "was marked for deletion meanwhile")));
    problems.sort_by(|a, b| a.what.cmp(&b.what));
    Ok(problems)
}
