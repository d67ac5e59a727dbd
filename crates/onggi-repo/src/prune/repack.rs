//! Moving needed blobs into new packs. Their sealed bytes are copied; each seal is checked, on request the content too.

use crate::{
    Lock, Repository, Result,
    error::{Act, RepoError},
    format::{FormatError, PackEntry, PackId, blob, seal},
    pack_writer::{PackWriter, Written},
};
use bytes::Bytes;
use futures::{StreamExt, stream};
use std::collections::HashMap;

/// Packs read ahead.
const READ_AHEAD: usize = 3;

/// Copies the blobs, and returns when the new packs are stored and announced.
pub(super) async fn repack(
    repo: &Repository,
    lock: &Lock,
    moved: &HashMap<PackId, Vec<PackEntry>>,
    is_verifying: bool,
) -> Result<Written> {
    let mut writer = PackWriter::new(repo);
    let mut packs: Vec<_> = moved.iter().filter(|(_, entries)| !entries.is_empty()).collect();
    packs.sort_by_key(|(id, _)| **id);
    let reads = packs.into_iter().map(|(id, entries)| read(repo, *id, entries.clone(), is_verifying));
    let mut reads = stream::iter(reads).buffered(READ_AHEAD);
    while let Some(read) = reads.next().await {
        let (content, entries) = read?;
        lock.check()?;
        for entry in entries {
            let sealed = content.slice(entry.offset as usize..(entry.offset + entry.length) as usize);
            writer.add(entry.kind, entry.id, &sealed, entry.uncompressed_length).await?;
        }
    }
    writer.finish().await
}

/// A pack whose needed blobs were all checked.
async fn read(
    repo: &Repository,
    id: PackId,
    entries: Vec<PackEntry>,
    is_verifying: bool,
) -> Result<(Bytes, Vec<PackEntry>)> {
    let handle = id.handle();
    let content = repo.storage().read(handle.clone(), None).await.act(|| format!("read {handle}"))?;
    let master = repo.master().clone();
    let check = move || {
        for entry in &entries {
            let range = entry.offset as usize..(entry.offset + entry.length) as usize;
            let sealed =
                content.get(range).ok_or_else(|| FormatError::invalid("pack", "a blob lies beyond its end"))?;
            if is_verifying {
                blob::decode_blob(&master, sealed, entry.uncompressed_length, entry.id)?;
            } else {
                seal::authenticate(&master, sealed)?;
            }
        }
        Ok((content, entries))
    };
    let checked: Result<_, FormatError> = repo.env().compute.run(check).await;
    checked.map_err(|fault| RepoError::format(&handle, fault))
}
