//! A new blob's way into a pack: compressed, sealed, opened again to prove that it can be, and handed to the packer.
//!
//! Jobs never wait. One that finds no memory goes to the waiting room, an async task that waits for it and starts the
//! job again.

use super::{
    chunk::Chunk,
    packer,
    shared::{Shared, Work},
    stats::add,
};
use crate::{
    budget::Permit,
    error::RepoError,
    format::{BlobId, BlobKind, blob, seal::OVERHEAD},
    kernel::checksum::Checksum,
};
use std::sync::Arc;
use tokio::sync::mpsc;

/// The bytes of a blob.
#[derive(Debug)]
pub(super) enum Plain {
    Chunk(Chunk),
    Bytes(Vec<u8>),
}

impl Plain {
    fn len(&self) -> usize {
        match self {
            Self::Chunk(chunk) => chunk.len() as usize,
            Self::Bytes(bytes) => bytes.len(),
        }
    }

    fn sum(&self) -> Checksum {
        match self {
            Self::Chunk(chunk) => Checksum::of(chunk.slices()),
            Self::Bytes(bytes) => Checksum::of([&bytes[..]]),
        }
    }
}

/// A blob to be sealed.
pub(super) struct SealJob {
    kind: BlobKind,
    id: BlobId,
    plain: Plain,
    /// Of the plaintext, taken as soon as its id was known.
    sum: Checksum,
    work: Work,
}

impl SealJob {
    /// Bytes of memory while it is sealed: a joined copy, the sealed bytes, and what proving them takes.
    fn need(&self) -> usize {
        4 * self.plain.len() + OVERHEAD
    }
}

/// Stores a blob that was claimed.
pub(super) fn store(shared: &Arc<Shared>, kind: BlobKind, id: BlobId, plain: Plain, work: Work) {
    let length = plain.len() as u64;
    let blobs = if kind == BlobKind::Data { &shared.counters.data_blobs } else { &shared.counters.tree_blobs };
    add(blobs, 1);
    add(&shared.counters.data_added, length);
    if shared.is_dry {
        return;
    }
    let sum = plain.sum();
    let job = SealJob { kind, id, plain, sum, work };
    match shared.packs.try_take(job.need()) {
        Some(permit) => seal(shared, job, permit),
        // The task that receives it ends only with the archive.
        None => drop(shared.waiting.send(job)),
    }
}

fn seal(shared: &Arc<Shared>, job: SealJob, mut permit: Permit) {
    if shared.is_failed() {
        return;
    }
    let SealJob { kind, id, plain, sum, work } = job;
    let length = plain.len();
    let mut joint = None;
    let plaintext = match &plain {
        Plain::Bytes(bytes) => bytes,
        Plain::Chunk(chunk) => chunk.contiguous().unwrap_or_else(|| {
            let joint = joint.insert(shared.pool.take(length));
            chunk.slices().for_each(|slice| joint.extend_from_slice(slice));
            joint.as_slice()
        }),
    };
    let mut sealed = shared.pool.take(length + length / 128 + 1024);
    let (key, nonce) = (shared.repo.master(), shared.repo.env().nonce());
    let draw = usize::from(nonce[0]);
    let blob = blob::encode_blob_in(std::mem::take(&mut sealed), key, nonce, kind, plaintext, shared.compression);
    drop((joint, plain));
    let proof = if blob.uncompressed_length.is_some() { (blob.bytes.len(), length) } else { (0, 0) };
    let (mut scratch, mut proof) = (shared.pool.take(proof.0), shared.pool.take(proof.1));
    let opened = blob::prove_sealing(key, &blob, sum, &mut scratch, &mut proof);
    *sealed = blob.bytes;
    if let Err(fault) = opened {
        return shared.fail(RepoError::format(format!("blob {} just sealed", id.short()), fault));
    }
    drop((scratch, proof));
    permit.shrink(sealed.len());
    add(&shared.counters.data_added_packed, sealed.len() as u64);
    packer::add(shared, (kind, id), (&sealed, blob.uncompressed_length), draw, permit);
    drop(work);
    shared.changed.notify_waiters();
}

/// Waits for memory on behalf of jobs, in their order. Open packs that hold too much of it are closed early.
pub(super) async fn waiting_room(shared: Arc<Shared>, mut jobs: mpsc::UnboundedReceiver<SealJob>) {
    while let Some(job) = jobs.recv().await {
        let need = job.need();
        let Some(permit) = wait(&shared, need).await else { return };
        let owner = Arc::clone(&shared);
        shared.repo.env().compute.spawn(move || seal(&owner, job, permit));
    }
}

async fn wait(shared: &Arc<Shared>, need: usize) -> Option<Permit> {
    loop {
        let changed = shared.changed.notified();
        tokio::pin!(changed);
        changed.as_mut().enable();
        packer::make_room(shared, need);
        tokio::select! {
            biased;
            permit = shared.packs.take(need) => return permit.ok(),
            () = changed => {}
        }
    }
}
