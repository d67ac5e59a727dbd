//! What is stored of a cluster: the full at the beginning of the chain, what is known of it, and the deltas behind.

use std::sync::{Mutex, PoisonError};

use bytes::{Bytes, BytesMut};
use futures::{StreamExt as _, TryStreamExt as _, stream};
use sha2::{Digest as _, Sha256};

use super::Until;
use crate::context::{Context, Spool};
use crate::etcd::delta::replay::Replay;
use crate::etcd::model::{FORMAT, Notes, SNAPSHOT_FILE};
use crate::etcd::snapshot::{TRAILER_BYTES, write};
use crate::path::TreePath;
use crate::source::{Facts, Known, ReadAt, ReadError, Result, SourceError, Stored};

/// How much is read and written at once, in bytes.
pub(super) const STEP_BYTES: usize = 512 << 10;
/// Steps that are read at once.
const AHEAD: usize = 8;

/// A full and the last revision of its chain.
pub(super) struct Full {
    pub notes: Notes,
    pub has_unknown: bool,
    pub is_kubernetes: bool,
    /// The last revision of the last delta.
    pub last: i64,
    pub delta_bytes: u64,
    root: TreePath,
}

/// What is wanted of the notes of both fulls and deltas.
#[derive(serde::Deserialize)]
struct Ends {
    revision: i64,
}

impl Full {
    /// Reads what the snapshots of the chain know of themselves. Where they lie is said by the full: the cluster may be
    /// configured under another name by now.
    pub async fn find(from: &dyn Stored, configured: &TreePath) -> Result<Self> {
        let refused = |text: &str| SourceError::Refused(text.to_owned());
        let facts: &[Facts] = from.facts();
        let first = facts.first().ok_or_else(|| refused("the snapshot does not say what it is of"))?;
        let notes = serde_json::from_value::<Notes>(first.notes.clone());
        let notes = notes.map_err(|_| refused("it is no snapshot of etcd, or one without its full"))?;
        if notes.format > FORMAT {
            return Err(SourceError::Refused(format!(
                "its notes are of format {}, newer than this program",
                notes.format
            )));
        }
        let root = first.roots.first().unwrap_or(configured).clone();
        let last = facts.last().and_then(|facts| serde_json::from_value::<Ends>(facts.notes.clone()).ok());
        let last = last.map_or(notes.revision, |ends| ends.revision);
        let has_unknown = first.tags.iter().any(|tag| tag == "untested");
        let is_kubernetes = notes.is_kubernetes;
        let mut full = Self { notes, has_unknown, is_kubernetes, last, delta_bytes: 0, root };
        full.delta_bytes = full.replay(from, Until::Latest).await?.bytes;
        Ok(full)
    }

    pub async fn replay<'a>(&self, from: &'a dyn Stored, until: Until) -> Result<Replay<'a>> {
        Replay::open(from, &self.root, (self.notes.cluster_id, self.notes.revision), until).await
    }

    /// Reads the file to its end into the spool, so that its pages can be read in the order of their keys.
    pub async fn spool(&self, cx: &Context, from: &dyn Stored) -> Result<Box<dyn Spool>> {
        let spool = cx.world.spool(&cx.run, "etcd").await?;
        self.copy(cx, from, &*spool).await?;
        Ok(spool)
    }

    /// Reads the file to its end. Its hash must be that of the stream that it came in.
    pub async fn copy(&self, cx: &Context, from: &dyn Stored, spool: &dyn Spool) -> Result<()> {
        let file = self.root.join(SNAPSHOT_FILE).map_err(|error| SourceError::Denied(error.to_string()))?;
        let content = from.open(&file).await?;
        let length = content.open(cx, &Known::default()).await.map_err(lost)?.length;
        if length != self.notes.db_size + TRAILER_BYTES {
            return Err(SourceError::Damaged(format!("{file} has {length} bytes, not those of its snapshot")));
        }
        spool.reserve(length).await?;
        let (content, used) = (&*content, &Mutex::new(Vec::new()));
        let starts = (0..length).step_by(STEP_BYTES);
        let steps = starts.map(|start| {
            let used = used.lock().unwrap_or_else(PoisonError::into_inner).pop();
            step(cx, content, start, length, used.unwrap_or_default())
        });
        let mut steps = stream::iter(steps).buffered(AHEAD);
        let (mut hash, mut trailer, mut last) = (Sha256::new(), Vec::new(), Bytes::new());
        loop {
            cx.check()?;
            let left = usize::try_from(self.notes.db_size.saturating_sub(spool.length())).unwrap_or(usize::MAX);
            trailer.extend_from_slice(&last[last.len().min(left)..]);
            // The next steps come in while this one is hashed and written.
            let (next, written) = tokio::join!(steps.try_next(), write(spool, hash, last.clone(), left as u64));
            hash = written?;
            // New memory would be cleared by the system first.
            used.lock().unwrap_or_else(PoisonError::into_inner).extend(last.try_into_mut());
            match next? {
                Some(bytes) => last = bytes,
                None => break,
            }
        }
        if hash.finalize().as_slice() != trailer {
            return Err(SourceError::Damaged(format!("{file}: its SHA-256 is not that of its trailer")));
        }
        Ok(())
    }
}

async fn step(cx: &Context, content: &dyn ReadAt, start: u64, length: u64, mut bytes: BytesMut) -> Result<Bytes> {
    bytes.resize(STEP_BYTES.min((length - start) as usize), 0);
    content.read(cx, start, &mut bytes).await.map_err(lost)?;
    Ok(bytes.freeze())
}

fn lost(error: ReadError) -> SourceError {
    match error {
        ReadError::Unit(error) => error,
        ReadError::Item(problem) => SourceError::Damaged(problem.to_string()),
    }
}
