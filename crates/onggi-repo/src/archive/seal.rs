//! A new blob's way into a pack: compressed, sealed, opened again to prove that it can be, and handed to the packer.
//!
//! Jobs never wait. One that finds no memory goes to the waiting room, an async task that waits for it and starts the
//! job again.

use super::{
    chunk::Chunk,
    packer,
    shared::Shared,
    stats::{Counters, add},
    writer::{InHand, Writing},
};
use crate::{
    budget::Permit,
    error::RepoError,
    format::{BlobId, BlobKind, Compression, blob, seal::OVERHEAD},
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
    compression: Compression,
    /// Of the archive that claimed it.
    counters: Arc<Counters>,
}

impl SealJob {
    /// Bytes of memory while it is sealed: a joined copy, the sealed bytes, and what proving them takes.
    fn need(&self) -> usize {
        4 * self.plain.len() + OVERHEAD
    }
}

/// Stores a blob that was claimed, whatever becomes of the archive that did: others may rely on it.
pub(super) fn store(shared: &Shared, kind: BlobKind, id: BlobId, plain: Plain) {
    let length = plain.len() as u64;
    let blobs = if kind == BlobKind::Data { &shared.counters.data_blobs } else { &shared.counters.tree_blobs };
    add(blobs, 1);
    add(&shared.counters.data_added, length);
    let writing = &shared.writing;
    if writing.is_dry {
        return;
    }
    let sum = plain.sum();
    let (compression, counters) = (shared.compression, Arc::clone(&shared.counters));
    let job = SealJob { kind, id, plain, sum, compression, counters };
    match writing.packs.try_take(job.need()) {
        Some(permit) => seal(&InHand(Arc::clone(writing)), job, permit),
        // The task that receives it ends only with the last archive.
        None => drop(writing.waiting.send(job)),
    }
}

fn seal(InHand(writing): &InHand, job: SealJob, mut permit: Permit) {
    if writing.is_failed() {
        return;
    }
    let SealJob { kind, id, plain, sum, compression, counters } = job;
    let length = plain.len();
    let mut joint = None;
    let plaintext = match &plain {
        Plain::Bytes(bytes) => bytes,
        Plain::Chunk(chunk) => chunk.contiguous().unwrap_or_else(|| {
            let joint = joint.insert(writing.pool.take(length));
            chunk.slices().for_each(|slice| joint.extend_from_slice(slice));
            joint.as_slice()
        }),
    };
    let mut sealed = writing.pool.take(length + length / 128 + 1024);
    let (key, nonce) = (writing.repo.master(), writing.repo.env().nonce());
    let draw = usize::from(nonce[0]);
    let blob = blob::encode_blob_in(std::mem::take(&mut sealed), key, nonce, kind, plaintext, compression);
    drop((joint, plain));
    let proof = if blob.uncompressed_length.is_some() { (blob.bytes.len(), length) } else { (0, 0) };
    let (mut scratch, mut proof) = (writing.pool.take(proof.0), writing.pool.take(proof.1));
    let opened = blob::prove_sealing(key, &blob, sum, &mut scratch, &mut proof);
    *sealed = blob.bytes;
    if let Err(fault) = opened {
        return writing.fail(&RepoError::format(format!("blob {} just sealed", id.short()), fault));
    }
    drop((scratch, proof));
    permit.shrink(sealed.len());
    add(&counters.data_added_packed, sealed.len() as u64);
    packer::add(writing, (kind, id), (&sealed, blob.uncompressed_length), draw, permit);
    writing.claims.packed(kind, &id);
    writing.changed.notify_waiters();
}

/// Waits for memory on behalf of jobs, in their order. Open packs that hold too much of it are closed early.
pub(super) async fn waiting_room(writing: Arc<Writing>, mut jobs: mpsc::UnboundedReceiver<SealJob>) {
    while let Some(job) = jobs.recv().await {
        let need = job.need();
        let Some(permit) = wait(&writing, need).await else { return };
        let owner = InHand(Arc::clone(&writing));
        writing.repo.env().compute.spawn(move || seal(&owner, job, permit));
    }
}

async fn wait(writing: &Arc<Writing>, need: usize) -> Option<Permit> {
    loop {
        let changed = writing.changed.notified();
        tokio::pin!(changed);
        changed.as_mut().enable();
        packer::make_room(writing, need);
        tokio::select! {
            biased;
            permit = writing.packs.take(need) => return permit.ok(),
            () = changed => {}
        }
    }
}
