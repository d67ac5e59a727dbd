//! Copying snapshots into another repository: blobs it lacks are proved, sealed with its key as compressed as they are,
//! and announced; then the snapshot is written. With the same polynomial nothing is stored twice there.

use crate::{
    Lock, Problem, Repository, Result,
    budget::ByteBudget,
    error::{Act, RepoError},
    fence,
    format::{BlobId, BlobKind, PackEntry, PackId, Snapshot, SnapshotId, Tree, blob},
    index::{Copies, Marked, Marks, PackState},
    pack_writer::{PackWriter, Written},
    read_back,
    walk::{self, Place},
};
use futures::{StreamExt, stream};
use std::{collections::HashMap, sync::Arc};

/// Bytes of packs read ahead; as much again is on its way out.
const BUDGET: u64 = 64 << 20;
/// Packs read at once.
const READ_AHEAD: usize = 4;

/// Which snapshots would be copied; to be shown, then carried out.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CopyPlan {
    /// Oldest first.
    pub copy: Vec<(SnapshotId, Snapshot)>,
    /// Those that the destination has already.
    pub present: Vec<SnapshotId>,
}

/// What was copied.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Copied {
    /// Names here and there.
    pub snapshots: Vec<(SnapshotId, SnapshotId)>,
    /// Blobs that the destination lacked.
    pub blobs: usize,
    /// Bytes written there.
    pub bytes: u64,
    /// Snapshots that were not copied since a part of them is lost here.
    pub problems: Vec<Problem>,
}

/// Plans a copy. Pure. A snapshot is there already if one there stems from the same original, or has the same tree, time,
/// host and paths.
pub fn plan_copy(here: Vec<(SnapshotId, Snapshot)>, there: &[(SnapshotId, Snapshot)]) -> CopyPlan {
    let mut plan = CopyPlan::default();
    for (id, snapshot) in here {
        let origin = snapshot.original.unwrap_or(id);
        let is_there = there.iter().any(|(other_id, other)| {
            let is_same_origin = other.original.unwrap_or(*other_id) == origin || other.original == Some(id);
            let is_alike =
                other.time == snapshot.time && other.hostname == snapshot.hostname && other.paths == snapshot.paths;
            other.tree == snapshot.tree && (is_same_origin || is_alike)
        });
        if is_there {
            plan.present.push(id);
        } else {
            plan.copy.push((id, snapshot));
        }
    }
    plan.copy.sort_by_key(|(id, snapshot)| (snapshot.time, *id));
    plan
}

impl Repository {
    /// Whether the other repository cuts content alike, so that later backups there find what was copied.
    pub fn cuts_like(&self, other: &Self) -> bool {
        self.config().polynomial == other.config().polynomial && self.config().chunking() == other.config().chunking()
    }

    /// Carries a copy out. Both indexes must be loaded, after the locks were taken. A snapshot of which a part is lost is
    /// named and left out; the others are copied.
    pub async fn copy_to(&self, lock: &Lock, there: &Self, their_lock: &Lock, plan: &CopyPlan) -> Result<Copied> {
        self.complete_index().await?;
        let mut copied = Copied::default();
        let mut seen = Arc::new(self.index().marks());
        for (id, snapshot) in &plan.copy {
            lock.check()?;
            their_lock.check()?;
            let mut transfer =
                Transfer { here: self, there, their_lock, seen: Arc::clone(&seen), problems: Vec::new() };
            match transfer.snapshot(*id, snapshot).await? {
                Some((new, written)) => {
                    copied.snapshots.push((*id, new));
                    copied.blobs += written.blobs;
                    copied.bytes += written.bytes;
                }
                // What was seen may not be there in full: the next snapshot looks at all of it again.
                None => seen = Arc::new(self.index().marks()),
            }
            copied.problems.append(&mut transfer.problems);
        }
        Ok(copied)
    }
}

struct Transfer<'a> {
    here: &'a Repository,
    there: &'a Repository,
    their_lock: &'a Lock,
    /// Trees and blobs of snapshots that were copied in full.
    seen: Arc<Marks>,
    problems: Vec<Problem>,
}

impl Transfer<'_> {
    /// Copies one snapshot; `None` if a part of it is lost.
    async fn snapshot(&mut self, id: SnapshotId, snapshot: &Snapshot) -> Result<Option<(SnapshotId, Written)>> {
        let wanted = Arc::new(self.here.index().marks());
        let found = self.want(Place::root(snapshot.tree, id.short()), &wanted).await?;
        self.problems.extend(found);
        if !self.problems.is_empty() {
            return Ok(None);
        }
        let written = self.blobs(&wanted).await?;
        if !self.problems.is_empty() {
            return Ok(None);
        }
        let index = self.there.index();
        let relied: Vec<_> = index.all_packs().into_iter().filter(|pack| pack.state == PackState::Live).collect();
        read_back::read_back(self.there, &index, snapshot.tree, &written.packs, written.indexes.clone(), &[]).await?;
        fence::fence(self.there, &self.their_lock.watch(), &index, &written.packs, &relied).await?;
        let copy = Snapshot { parent: None, ..snapshot.clone() };
        let new = self.there.derive_snapshot(self.their_lock, id, copy).await?;
        Ok(Some((new, written)))
    }

    /// Marks what the other repository lacks. Every tree is visited: that it is there says nothing of what is below it.
    async fn want(&self, root: Place, wanted: &Arc<Marks>) -> Result<Vec<Problem>> {
        let (here, there) = (self.here.index(), self.there.index());
        let want = {
            let (here, wanted) = (Arc::clone(&here), Arc::clone(wanted));
            move |kind, id: &BlobId| there.live(kind, id).is_some() || here.mark(&wanted, kind, id) != Marked::Unknown
        };
        let is_new = {
            let (here, seen, want) = (Arc::clone(&here), Arc::clone(&self.seen), want.clone());
            move |id: &BlobId| {
                want(BlobKind::Tree, id);
                here.mark(&seen, BlobKind::Tree, id) != Marked::Again
            }
        };
        let inspect = move |place: &Place, tree: &Tree, problems: &mut Vec<Problem>| {
            for node in tree.nodes() {
                let mut lost = None;
                for id in node.chunks() {
                    if !want(BlobKind::Data, id) {
                        lost = Some(id);
                    }
                }
                if let Some(id) = lost {
                    let text = format!("data blob {} is in no pack", id.short());
                    problems.push(Problem { class: "blob-lost", what: place.path_of(node), text });
                }
            }
        };
        walk::walk(self.here, vec![root], Arc::new(is_new), Arc::new(inspect)).await
    }

    /// Copies the marked blobs, pack by pack.
    async fn blobs(&mut self, wanted: &Marks) -> Result<Written> {
        let budget = ByteBudget::new(BUDGET);
        let mut writer = PackWriter::new(self.there);
        let (here, there) = (self.here, self.there);
        let reads = by_pack(here, wanted)?.into_iter().map(|(pack, entries)| {
            let budget = &budget;
            async move {
                let size = entries.iter().map(|entry| entry.length as usize).sum();
                let permit = budget.take(size).await;
                let resealed = reseal(here, there, pack, entries).await;
                drop(permit);
                resealed
            }
        });
        let mut reads = stream::iter(reads).buffered(READ_AHEAD);
        while let Some(resealed) = reads.next().await {
            for (entry, sealed) in resealed? {
                match sealed {
                    Ok((sealed, length)) => writer.add(entry.kind, entry.id, &sealed, length).await?,
                    Err(problem) => self.problems.push(problem),
                }
            }
            self.their_lock.check()?;
        }
        writer.finish().await
    }
}

type Resealed = Result<(Vec<u8>, Option<u32>), Problem>;

/// Wanted blobs by the pack they are read from, in the order of packs and offsets.
fn by_pack(here: &Repository, wanted: &Marks) -> Result<Vec<(PackId, Vec<PackEntry>)>> {
    let mut packs: HashMap<PackId, Vec<PackEntry>> = HashMap::new();
    let is_whole = here.index().each_copies(wanted, |Copies { kind, id, is_marked, locations }| {
        let copy = locations.iter().find(|copy| copy.is_live).or(locations.first());
        if let Some(copy) = copy.filter(|_| is_marked) {
            let entry = PackEntry {
                kind,
                id,
                offset: copy.offset,
                length: copy.length,
                uncompressed_length: copy.uncompressed_length,
            };
            packs.entry(copy.pack).or_default().push(entry);
        }
    });
    if !is_whole {
        let reason = "the index grew while a snapshot was being copied".into();
        return Err(RepoError::Refused { guard: "index", reason });
    }
    let mut packs: Vec<_> = packs.into_iter().collect();
    for (_, entries) in &mut packs {
        entries.sort_by_key(|entry| entry.offset);
    }
    packs.sort_by_key(|(pack, _)| *pack);
    Ok(packs)
}

/// Reads the stretch of a pack that holds the wanted blobs and seals them with the other key. A blob that is damaged here
/// is looked for in other packs.
async fn reseal(
    here: &Repository,
    there: &Repository,
    pack: PackId,
    entries: Vec<PackEntry>,
) -> Result<Vec<(PackEntry, Resealed)>> {
    let start = entries.iter().map(|entry| entry.range().start).min().unwrap_or(0);
    let end = entries.iter().map(|entry| entry.range().end).max().unwrap_or(0);
    let handle = pack.handle();
    let content = match here.storage().read(handle.clone(), Some(start..end)).await.act(|| format!("read {handle}")) {
        Ok(content) => content,
        Err(error) if error.is_not_found() || error.is_damage() => bytes::Bytes::new(),
        Err(error) => return Err(error),
    };
    let (from, to, env) = (here.master().clone(), there.master().clone(), there.env().clone());
    let work = move || {
        let reseal = |entry: &PackEntry| {
            let range = entry.range();
            let sealed = content.get((range.start - start) as usize..(range.end - start) as usize)?;
            blob::reseal_blob(&from, &to, env.nonce(), sealed, entry.uncompressed_length, entry.id).ok()
        };
        entries.into_iter().map(|entry| (entry, reseal(&entry))).collect::<Vec<_>>()
    };
    let mut resealed = Vec::new();
    for (entry, sealed) in here.env().compute.run(work).await {
        let sealed = match sealed {
            Some(sealed) => Ok((sealed, entry.uncompressed_length)),
            None => other_copy(here, there, entry).await?,
        };
        resealed.push((entry, sealed));
    }
    Ok(resealed)
}

async fn other_copy(here: &Repository, there: &Repository, entry: PackEntry) -> Result<Resealed> {
    match here.blob(entry.kind, entry.id).await {
        Ok(plaintext) => {
            let (key, nonce) = (there.master().clone(), there.env().nonce());
            let seal =
                move || blob::encode_blob(&key, nonce, entry.kind, &plaintext, crate::format::Compression::DEFAULT);
            let sealed = there.env().compute.run(seal).await;
            Ok(Ok((sealed.bytes, sealed.uncompressed_length)))
        }
        Err(error) if error.is_damage() || error.is_not_found() => {
            Ok(Err(Problem::of("blob-damaged", format!("{} blob {}", entry.kind, entry.id.short()), &error)))
        }
        Err(error) => Err(error),
    }
}
