//! Packs on their way to the storage. A pack counts only after the storage confirmed it, and is announced by an index
//! file later; a blob is known to the index only from then on.

use super::writer::Writing;
use crate::{
    budget::{Buffer, Permit},
    error::{Act, chain},
    format::{PackEntry, PackId},
    sabotage,
};
use bytes::Bytes;
use futures::{FutureExt, StreamExt, future::BoxFuture, stream::FuturesUnordered};
use std::{sync::Arc, time::Duration};
use tokio::sync::mpsc;

/// An index file is written at least so often.
const ANNOUNCE_AFTER: Duration = Duration::from_mins(1);

/// A complete pack.
pub(super) struct Upload {
    pub id: PackId,
    pub buffer: Buffer,
    pub entries: Vec<PackEntry>,
    pub permit: Permit,
}

/// Uploads what arrives, so many at once, and announces it now and then. Ends with the last archive.
pub(super) async fn uploader(writing: Arc<Writing>, mut uploads: mpsc::UnboundedReceiver<Upload>, connections: usize) {
    let clock = Arc::clone(&writing.repo.env().clock);
    let mut active: FuturesUnordered<BoxFuture<'_, ()>> = FuturesUnordered::new();
    let mut announce_at = clock.elapsed() + ANNOUNCE_AFTER;
    loop {
        tokio::select! {
            Some(()) = active.next(), if !active.is_empty() => {}
            upload = uploads.recv(), if active.len() < connections => match upload {
                Some(upload) => active.push(one(&writing, upload).boxed()),
                None => return,
            },
            () = clock.reach(announce_at) => {
                announce_at = clock.elapsed() + ANNOUNCE_AFTER;
                active.push(announce_or_fail(&writing).boxed());
            }
        }
    }
}

async fn one(writing: &Arc<Writing>, upload: Upload) {
    let Upload { id, buffer, entries, permit } = upload;
    if writing.is_failed() {
        return;
    }
    let handle = id.handle();
    // The buffer returns to its pool when the storage has let go of it, and not before.
    let content = Bytes::from_owner(buffer);
    let content = if sabotage::BUFFER_REUSED.is_on() { reused(&content) } else { content };
    let stored = writing.repo.storage().create(handle.clone(), content).await;
    drop(permit);
    let stored = if sabotage::UPLOAD_ERROR_DROPPED.is_on() { Ok(()) } else { stored };
    if let Err(error) = stored.act(|| format!("create {handle}")) {
        return writing.fail(&error);
    }
    let (number, is_due) = writing.index.add_pending(id, &entries).unzip();
    writing.claims.stored((id, number), &entries);
    if is_due == Some(true) {
        announce_or_fail(writing).await;
    }
}

/// What SB20 does: what an uploader does that gives its buffer back too early: the next user's bytes are in it.
fn reused(content: &[u8]) -> Bytes {
    let mut bytes = content.to_vec();
    let half = bytes.len() / 2;
    bytes[..half].fill(0xa5);
    bytes.into()
}

async fn announce_or_fail(writing: &Writing) {
    if let Err(error) = writing.repo.announce(&writing.index).await {
        tracing::debug!(error = chain(&error), "index is not written");
        writing.fail(&error);
    }
}
