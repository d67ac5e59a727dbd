//! Reading back before saying yes: what a run wrote is read past all caches, and everything it refers to must be where
//! an index says.

use crate::{
    Repository, Result,
    error::{Act, Problem, RepoError},
    format::{BlobId, BlobKind, FormatError, IndexFile, IndexId, PackEntry, PackId, Reason, Tree, blob, pack},
    index::{Index, PackInfo},
    kernel::hash,
};
use bytes::Bytes;
use futures::{StreamExt, TryStreamExt, future::BoxFuture, stream};
use onggi_storage::{FileType, clock};
use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

/// A pack that was just written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct NewPack {
    pub id: PackId,
    pub kind: BlobKind,
    pub size: u64,
}

impl NewPack {
    pub fn of(info: &PackInfo) -> Self {
        // One of both kinds holds trees too.
        Self { id: info.id, kind: info.kind.unwrap_or(BlobKind::Tree), size: info.size }
    }
}

/// New data packs read in full: at least so many, or one in a hundred.
const SAMPLE_MIN: usize = 5;
const SAMPLE_SHARE: usize = 100;
/// Packs in memory at once.
const AT_ONCE: usize = 2;

/// Proves that a root tree and all that is new below it can be read by someone who comes fresh.
pub(crate) async fn read_back(
    repo: &Repository,
    index: &Arc<Index>,
    root: BlobId,
    packs: &[NewPack],
    indexes: impl IntoIterator<Item = IndexId>,
    used: &[PackInfo],
) -> Result<()> {
    let mut problems = Vec::new();
    let announced = announced(repo, indexes, &mut problems).await?;
    for pack in packs.iter().filter(|pack| !announced.contains_key(&pack.id)) {
        problems.push(problem("pack-unannounced", pack.id, "no index that was read back names it"));
    }
    let expected = packs.iter().map(|pack| (pack.id, pack.size)).chain(used.iter().map(|pack| (pack.id, pack.size)));
    let expected: Vec<_> = expected.collect();
    problems.extend(missing(repo, expected).await?);
    if index.live(BlobKind::Tree, &root).is_none() {
        problems.push(problem("blob-missing", root.short(), "the root tree is in no index"));
    }
    let chosen = choose(repo, packs);
    // Boxed one by one: a future that borrows through a closure cannot be shown to be `Send`.
    let mut reads: Vec<BoxFuture<'_, _>> = Vec::new();
    for pack in chosen {
        let entries = announced.get(&pack.id).cloned().unwrap_or_default();
        reads.push(Box::pin(async move { (pack, prove(repo, index, pack, entries).await) }));
    }
    let mut reads = stream::iter(reads).buffer_unordered(AT_ONCE);
    while let Some((pack, proved)) = reads.next().await {
        match proved {
            Ok(found) => problems.extend(found),
            Err(error @ RepoError::Storage(..)) if error.is_transient() => return Err(error),
            Err(error) => problems.push(Problem::of("pack-damaged", pack.id.handle(), &error)),
        }
    }
    if problems.is_empty() { Ok(()) } else { Err(RepoError::Unverified(problems)) }
}

fn problem(class: &'static str, what: impl std::fmt::Display, text: &str) -> Problem {
    Problem { class, what: what.to_string(), text: text.into() }
}

/// What the new index files say when they are read again.
async fn announced(
    repo: &Repository,
    indexes: impl IntoIterator<Item = IndexId>,
    problems: &mut Vec<Problem>,
) -> Result<HashMap<PackId, Vec<PackEntry>>> {
    let mut announced = HashMap::new();
    for id in indexes {
        let json = repo.load_json_from(&**repo.fresh(), FileType::Index, id.into()).await;
        let file = json.and_then(|json| IndexFile::parse(&json).map_err(|fault| RepoError::format(id.handle(), fault)));
        match file {
            Ok(file) => announced.extend(file.packs.into_iter().map(|pack| (pack.id, pack.blobs))),
            Err(error) if error.is_transient() => return Err(error),
            Err(error) => problems.push(Problem::of("index-damaged", id.handle(), &error)),
        }
    }
    Ok(announced)
}

/// Those of the expected packs that a fresh listing does not show with exactly that size.
pub(crate) async fn missing(
    repo: &Repository,
    expected: impl IntoIterator<Item = (PackId, u64)>,
) -> Result<Vec<Problem>> {
    let mut expected: HashMap<PackId, u64> = expected.into_iter().collect();
    if expected.is_empty() {
        return Ok(Vec::new());
    }
    let mut problems = Vec::new();
    let mut listing = repo.fresh().list(FileType::Pack);
    while let Some(file) = listing.try_next().await.act(|| "list packs".into())? {
        let Some(id) = file.handle.id().map(PackId::from) else { continue };
        if expected.get(&id).is_some_and(|size| *size != file.size) {
            problems.push(problem("pack-size", id.handle(), "has another length than its index says"));
        }
        expected.remove(&id);
    }
    let mut lost: Vec<PackId> = expected.into_keys().collect();
    lost.sort();
    problems.extend(lost.iter().map(|id| problem("pack-missing", id.handle(), "is not in the storage")));
    Ok(problems)
}

/// All tree packs, and a random sample of the others.
fn choose(repo: &Repository, packs: &[NewPack]) -> Vec<NewPack> {
    let (mut chosen, mut data): (Vec<_>, Vec<_>) = packs.iter().partition(|pack| pack.kind == BlobKind::Tree);
    let wanted = SAMPLE_MIN.max(data.len() / SAMPLE_SHARE).min(data.len());
    for _ in 0..wanted {
        let at = clock::random_below(&*repo.env().clock, data.len() as u64) as usize;
        chosen.push(data.swap_remove(at));
    }
    chosen
}

/// Reads a whole pack: its name, header and every blob; of trees, that everything they refer to is in the index.
async fn prove(repo: &Repository, index: &Arc<Index>, new: NewPack, entries: Vec<PackEntry>) -> Result<Vec<Problem>> {
    let handle = new.id.handle();
    let content = repo.fresh().read(handle.clone(), None).await.act(|| format!("read {handle}"))?;
    let (key, index) = (repo.master().clone(), Arc::clone(index));
    let proof = move || {
        if hash::sha256(&content) != new.id.0 {
            return Err(FormatError { what: "pack", reason: Reason::Hash });
        }
        let header = pack::read_header(&key, &content, content.len() as u64)?;
        if header != pack::HeaderRead::Done(entries.clone()) {
            return Err(FormatError::invalid("pack", "its header differs from the index"));
        }
        prove_blobs(&key, &index, &content, &entries)
    };
    repo.env().compute.run(proof).await.map_err(|fault| RepoError::format(new.id.handle(), fault))
}

fn prove_blobs(
    key: &crate::format::MasterKey,
    index: &Index,
    content: &Bytes,
    entries: &[PackEntry],
) -> Result<Vec<Problem>, FormatError> {
    let (mut scratch, mut plaintext) = (Vec::new(), Vec::new());
    let mut lost = HashSet::new();
    for entry in entries {
        let range = entry.range();
        let sealed = content.get(range.start as usize..range.end as usize);
        let sealed = sealed.ok_or_else(|| FormatError::invalid("pack", "a blob lies beyond its end"))?;
        if entry.kind == BlobKind::Data {
            blob::prove_blob(key, sealed, entry.uncompressed_length, entry.id, &mut scratch, &mut plaintext)?;
        } else {
            blob::decode_blob_into(key, sealed, entry.uncompressed_length, entry.id, &mut scratch, &mut plaintext)?;
            lost.extend(unknown(index, &Tree::parse(&plaintext)?));
        }
    }
    Ok(lost
        .into_iter()
        .map(|(kind, id)| problem("blob-missing", format!("{kind} blob {id}"), "is in no index"))
        .collect())
}

/// What a tree refers to and no index has.
fn unknown(index: &Index, tree: &Tree) -> Vec<(BlobKind, BlobId)> {
    let references = tree.nodes().iter().flat_map(|node| {
        let chunks = node.chunks().iter().map(|id| (BlobKind::Data, *id));
        chunks.chain(node.subtree.map(|id| (BlobKind::Tree, id)))
    });
    references.filter(|(kind, id)| index.live(*kind, id).is_none()).collect()
}
