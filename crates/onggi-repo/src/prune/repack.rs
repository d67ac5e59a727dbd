//! Moving needed blobs into new packs. Their sealed bytes are copied; each seal is checked, on request the content too.
//! Trees that are not compressed, and on request data, are compressed on the way: a pack that is rewritten for what it
//! holds uncompressed must not be rewritten again.

use crate::{
    Lock, Repository, Result,
    error::{Act, RepoError},
    format::{
        BlobKind, Compression, FormatError, PackEntry, PackId, blob,
        seal::{self, MasterKey},
    },
    kernel::checksum::Checksum,
    pack_writer::{PackWriter, Written},
};
use bytes::Bytes;
use futures::{StreamExt, stream};
use std::collections::HashMap;

/// Packs read ahead.
const READ_AHEAD: usize = 3;

/// What is done with blobs that move into new packs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Care {
    /// Each is opened and hashed, not only its seal checked.
    pub is_verifying: bool,
    /// Data that is not compressed is compressed, and packs that hold some are repacked; trees always are.
    pub compresses_data: bool,
}

/// A blob as it will lie in its new pack.
struct Moved {
    entry: PackEntry,
    sealed: Bytes,
    uncompressed_length: Option<u32>,
}

/// Copies the blobs, and returns when the new packs are stored and announced.
pub(super) async fn repack(
    repo: &Repository,
    lock: &Lock,
    moved: &HashMap<PackId, Vec<PackEntry>>,
    care: Care,
) -> Result<Written> {
    let mut writer = PackWriter::new(repo);
    let mut packs: Vec<_> = moved.iter().filter(|(_, entries)| !entries.is_empty()).collect();
    packs.sort_by_key(|(id, _)| **id);
    let reads = packs.into_iter().map(|(id, entries)| read(repo, *id, entries.clone(), care));
    let mut reads = stream::iter(reads).buffered(READ_AHEAD);
    while let Some(read) = reads.next().await {
        let blobs = read?;
        lock.check()?;
        for Moved { entry, sealed, uncompressed_length } in blobs {
            writer.add(entry.kind, entry.id, &sealed, uncompressed_length).await?;
        }
    }
    writer.finish().await
}

/// A pack whose needed blobs were all checked.
async fn read(repo: &Repository, id: PackId, entries: Vec<PackEntry>, care: Care) -> Result<Vec<Moved>> {
    let handle = id.handle();
    let content = repo.storage().read(handle.clone(), None).await.act(|| format!("read {handle}"))?;
    let (master, env) = (repo.master().clone(), repo.env().clone());
    let take = move |entry: PackEntry| {
        let range = entry.offset as usize..(entry.offset + entry.length) as usize;
        let sealed = content.get(range.clone());
        let sealed = sealed.ok_or_else(|| FormatError::invalid("pack", "a blob lies beyond its end"))?;
        if entry.uncompressed_length.is_none() && (entry.kind == BlobKind::Tree || care.compresses_data) {
            return compressed(&master, env.nonce(), sealed, entry);
        }
        if care.is_verifying {
            blob::decode_blob(&master, sealed, entry.uncompressed_length, entry.id)?;
        } else {
            seal::authenticate(&master, sealed)?;
        }
        let uncompressed_length = entry.uncompressed_length;
        Ok(Moved { entry, sealed: content.slice(range), uncompressed_length })
    };
    let taken = repo.env().compute.run(move || entries.into_iter().map(take).collect::<Result<_, FormatError>>()).await;
    taken.map_err(|fault| RepoError::format(&handle, fault))
}

/// A blob that was not compressed, proved, sealed anew, and proved once more.
fn compressed(
    master: &MasterKey,
    nonce: [u8; seal::NONCE],
    sealed: &[u8],
    entry: PackEntry,
) -> Result<Moved, FormatError> {
    let plaintext = blob::decode_blob(master, sealed, None, entry.id)?;
    let blob = blob::encode_blob(master, nonce, entry.kind, &plaintext, Compression::DEFAULT);
    let sum = Checksum::of([&plaintext[..]]);
    blob::prove_sealing(master, &blob, sum, &mut Vec::new(), &mut Vec::new())?;
    Ok(Moved { entry, sealed: blob.bytes.into(), uncompressed_length: blob.uncompressed_length })
}
