//! Data: whole packs are read once; their hash, every seal, every compression and every id is proved, and that header and
//! index say the same. One pack is one job; a blob is hashed into the pack's hash and opened while it is in the cache.

use super::{VerifyCounters, VerifyReport};
use crate::{
    Lock, Problem, Repository, Result,
    budget::ByteBudget,
    error::Act,
    format::{MasterKey, PackId, blob, pack},
    index::Index,
    kernel::hash::Hasher,
};
use bytes::Bytes;
use futures::{StreamExt, stream};
use std::{
    cell::RefCell,
    sync::{Arc, atomic::Ordering},
};

/// Bytes of packs in memory at once.
const BUDGET: u64 = 96 << 20;

/// Reads packs and adds what is wrong with them.
pub(super) async fn verify(
    repo: &Repository,
    lock: &Lock,
    packs: Vec<(PackId, u64)>,
    counters: &VerifyCounters,
    report: &mut VerifyReport,
) -> Result<()> {
    let budget = ByteBudget::new(BUDGET);
    let index = repo.index();
    let at_once = repo.at_once().max(repo.env().compute.threads() + 1);
    let reads = stream::iter(packs).map(|(id, size)| {
        let (budget, index) = (&budget, Arc::clone(&index));
        async move {
            let permit = budget.take(size as usize).await;
            let found = one(repo, index, id, size).await;
            drop(permit);
            found
        }
    });
    let mut reads = reads.buffer_unordered(at_once);
    while let Some(found) = reads.next().await {
        let (found, size) = found?;
        report.add(found);
        counters.packs.fetch_add(1, Ordering::Relaxed);
        counters.bytes.fetch_add(size, Ordering::Relaxed);
        lock.check()?;
    }
    Ok(())
}

async fn one(repo: &Repository, index: Arc<Index>, id: PackId, size: u64) -> Result<(Vec<Problem>, u64)> {
    let handle = id.handle();
    let content = match repo.fresh().read(handle.clone(), None).await.act(|| format!("read {handle}")) {
        Ok(content) => content,
        Err(error) if error.is_not_found() || error.is_damage() => {
            return Ok((vec![Problem::of("pack-missing", &handle, &error)], 0));
        }
        Err(error) => return Err(error),
    };
    if content.len() as u64 != size {
        let text = format!("gave {} bytes instead of {size}", content.len());
        return Ok((vec![Problem { class: "pack-size", what: handle.to_string(), text }], content.len() as u64));
    }
    let master = repo.master().clone();
    let found = repo.env().compute.run(move || check_pack(&master, &index, id, &content)).await;
    Ok((found, size))
}

thread_local! {
    /// Buffers for opened and unfolded blobs, kept by each computing thread.
    static SCRATCH: RefCell<(Vec<u8>, Vec<u8>)> = const { RefCell::new((Vec::new(), Vec::new())) };
}

/// Everything that is wrong with one pack.
pub(crate) fn check_pack(master: &MasterKey, index: &Index, id: PackId, content: &Bytes) -> Vec<Problem> {
    let what = id.handle().to_string();
    let mut problems = Vec::new();
    let entries = match pack::read_header(master, content, content.len() as u64) {
        Ok(pack::HeaderRead::Done(entries)) => entries,
        Ok(pack::HeaderRead::Need(_)) => unreachable_header(&what, &mut problems),
        Err(fault) => {
            problems.push(Problem::of("pack-header", &what, &fault));
            index.entries_of(&id)
        }
    };
    let mut hasher = Hasher::default();
    let mut hashed = 0;
    SCRATCH.with_borrow_mut(|(scratch, plaintext)| {
        for entry in &entries {
            let range = entry.offset as usize..entry.offset as usize + entry.length as usize;
            let Some(sealed) = content.get(range.clone()) else {
                let text = format!("blob {} lies beyond the end", entry.id.short());
                problems.push(Problem { class: "blob-damaged", what: what.clone(), text });
                continue;
            };
            if range.start == hashed {
                hasher.update(sealed);
                hashed = range.end;
            }
            let opened = blob::prove_blob(master, sealed, entry.uncompressed_length, entry.id, scratch, plaintext);
            if let Err(fault) = opened {
                problems.push(Problem::of(
                    "blob-damaged",
                    format!("{} blob {} in {what}", entry.kind, entry.id.short()),
                    &fault,
                ));
            }
        }
        release_large(scratch);
        release_large(plaintext);
    });
    hasher.update(&content[hashed..]);
    if hasher.finish() != id.0 {
        let text = "its content does not match its name".into();
        problems.push(Problem { class: "pack-damaged", what: what.clone(), text });
    }
    problems.extend(index_fault(index, id, &entries, what));
    problems
}

/// The whole pack was given, so more cannot be needed.
fn unreachable_header(what: &str, problems: &mut Vec<Problem>) -> Vec<pack::PackEntry> {
    problems.push(Problem { class: "pack-header", what: what.into(), text: "its length is not possible".into() });
    Vec::new()
}

fn index_fault(index: &Index, id: PackId, entries: &[pack::PackEntry], what: String) -> Option<Problem> {
    let is_known = |entry: &pack::PackEntry| {
        index.all(entry.kind, &entry.id).iter().any(|copy| {
            (copy.pack, copy.offset, copy.length, copy.uncompressed_length)
                == (id, entry.offset, entry.length, entry.uncompressed_length)
        })
    };
    let announced = index.pack(&id).map_or(0, |pack| pack.blobs as usize);
    let missing = entries.iter().filter(|entry| !is_known(entry)).count();
    (missing > 0 || announced != entries.len()).then(|| {
        let text = format!("the index does not have {missing} of its {} blobs, and {announced} in all", entries.len());
        Problem { class: "index-differs", what, text }
    })
}

/// A rare giant blob must not stay in memory for good.
fn release_large(buffer: &mut Vec<u8>) {
    buffer.clear();
    buffer.shrink_to(16 << 20);
}
