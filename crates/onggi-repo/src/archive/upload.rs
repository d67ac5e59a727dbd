//! Packs on their way to the storage, and the index files that announce them. A pack is announced only after the
//! storage confirmed it; a blob is known to the index only from then on.

use super::{
    shared::{Shared, Work},
    stats::add,
};
use crate::{
    Result,
    budget::{Buffer, Permit},
    error::{Act, chain},
    format::{BlobKind, IndexFile, IndexId, IndexPack, PackEntry, PackId},
    index::PackState,
    sabotage,
};
use bytes::Bytes;
use futures::{FutureExt, StreamExt, future::BoxFuture, stream::FuturesUnordered};
use onggi_storage::FileType;
use std::{sync::Arc, time::Duration};
use tokio::sync::mpsc;

/// An index file is written when so much is waiting for one.
const FLUSH_BLOBS: usize = 50_000;
const FLUSH_BYTES: u64 = 1 << 30;
const FLUSH_AFTER: Duration = Duration::from_mins(1);

/// A complete pack.
pub(super) struct Upload {
    pub id: PackId,
    pub kind: BlobKind,
    pub buffer: Buffer,
    pub entries: Vec<PackEntry>,
    pub permit: Permit,
    pub work: Work,
}

/// A pack that this archive wrote.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct NewPack {
    pub id: PackId,
    pub kind: BlobKind,
    pub size: u64,
}

/// What this archive wrote so far.
#[derive(Default)]
pub(super) struct NewFiles {
    pub packs: Vec<NewPack>,
    pub indexes: Vec<IndexId>,
    /// Stored, but not announced.
    pending: Vec<IndexPack>,
    pending_blobs: usize,
    pending_bytes: u64,
}

/// Uploads what arrives, so many at once, and announces it now and then. Ends with the archive.
pub(super) async fn uploader(shared: Arc<Shared>, mut uploads: mpsc::UnboundedReceiver<Upload>, connections: usize) {
    let clock = Arc::clone(&shared.repo.env().clock);
    let mut active: FuturesUnordered<BoxFuture<'_, ()>> = FuturesUnordered::new();
    let mut flush_at = clock.elapsed() + FLUSH_AFTER;
    loop {
        tokio::select! {
            Some(()) = active.next(), if !active.is_empty() => {}
            upload = uploads.recv(), if active.len() < connections => match upload {
                Some(upload) => active.push(one(&shared, upload).boxed()),
                None => return,
            },
            () = clock.reach(flush_at) => {
                flush_at = clock.elapsed() + FLUSH_AFTER;
                let work = Work::begin(&shared);
                active.push(announce_or_fail(&shared, work).boxed());
            }
        }
    }
}

async fn one(shared: &Arc<Shared>, upload: Upload) {
    let Upload { id, kind, buffer, entries, permit, work } = upload;
    if shared.is_failed() {
        return;
    }
    let size = buffer.len() as u64;
    let handle = id.handle();
    // The buffer returns to its pool when the storage has let go of it, and not before.
    let content = Bytes::from_owner(buffer);
    let content = if sabotage::BUFFER_REUSED.is_on() { reused(&content) } else { content };
    let stored = shared.repo.storage().create(handle.clone(), content).await;
    drop(permit);
    let stored = if sabotage::UPLOAD_ERROR_DROPPED.is_on() { Ok(()) } else { stored };
    if let Err(error) = stored.act(|| format!("create {handle}")) {
        return shared.fail(error);
    }
    add(&shared.counters.packs, 1);
    add(&shared.counters.bytes_uploaded, size);
    if let Some(journal) = &shared.journal {
        journal.pack(id);
    }
    shared.index.add(id, PackState::Live, &entries);
    for entry in &entries {
        shared.run.stored(entry.kind, &entry.id);
    }
    let is_due = shared.new_files().stored(NewPack { id, kind, size }, entries);
    if is_due {
        announce_or_fail(shared, work).await;
    }
}

/// What SB20 does: what an uploader does that gives its buffer back too early: the next user's bytes are in it.
fn reused(content: &[u8]) -> Bytes {
    let mut bytes = content.to_vec();
    let half = bytes.len() / 2;
    bytes[..half].fill(0xa5);
    bytes.into()
}

impl NewFiles {
    /// Notes a stored pack; `true` if an index file is due.
    fn stored(&mut self, pack: NewPack, entries: Vec<PackEntry>) -> bool {
        self.packs.push(pack);
        self.pending_blobs += entries.len();
        self.pending_bytes += pack.size;
        self.pending.push(IndexPack::new(pack.id, entries));
        self.pending_blobs >= FLUSH_BLOBS || self.pending_bytes >= FLUSH_BYTES
    }

    fn take_pending(&mut self) -> Vec<IndexPack> {
        (self.pending_blobs, self.pending_bytes) = (0, 0);
        std::mem::take(&mut self.pending)
    }

    /// Takes packs that an earlier run stored and did not announce.
    pub fn adopt(&mut self, pack: NewPack, entries: Vec<PackEntry>) {
        self.stored(pack, entries);
    }
}

async fn announce_or_fail(shared: &Arc<Shared>, work: Work) {
    if let Err(error) = announce(shared).await {
        tracing::debug!(error = chain(&error), "index is not written");
        shared.fail(error);
    }
    drop(work);
}

/// Writes an index file for the packs that are stored and not announced.
pub(super) async fn announce(shared: &Arc<Shared>) -> Result<()> {
    let packs = shared.new_files().take_pending();
    if packs.is_empty() {
        return Ok(());
    }
    let ids: Vec<PackId> = packs.iter().map(|pack| pack.id).collect();
    let file = IndexFile { packs, ..IndexFile::default() };
    let json = shared.repo.env().compute.run(move || file.print()).await;
    let id = IndexId::from(shared.repo.save_json(FileType::Index, json).await?);
    shared.index.announced(id, ids);
    shared.new_files().indexes.push(id);
    Ok(())
}
