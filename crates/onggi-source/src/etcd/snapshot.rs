//! A snapshot's way into the spool: at full speed, because the member keeps every page that it frees meanwhile, and to
//! its confirmed end.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use sha2::{Digest as _, Sha256};
use tokio::sync::OwnedSemaphorePermit;

use super::client::{Member, Piece, Pieces, SILENCE, limited};
use crate::context::{Context, Spool};
use crate::source::{Result, SourceError};

/// How much is written at once, in bytes. Two such pieces are in memory, one on its way in and one on its way out.
const STEP_BYTES: usize = 512 << 10;
/// The SHA-256 behind the database.
pub(super) const TRAILER_BYTES: u64 = 32;
/// A member that fails to read its own file sends empty messages for ever.
const EMPTY_MAX: u32 = 16;
/// The database may grow between the question and the snapshot, in percent.
const ROOM_PERCENT: u64 = 105;

/// A snapshot that is whole.
pub(super) struct Received {
    pub spool: Arc<dyn Spool>,
    /// Bytes of the database without the trailer.
    pub db_size: u64,
    /// Of the database.
    pub sha256: [u8; 32],
    /// The version that the stream names.
    pub version: String,
}

/// A snapshot that is on its way. Its member keeps the state of the moment when it began, and grows until all is read.
pub(super) struct Coming {
    spool: Arc<dyn Spool>,
    stream: Box<dyn Pieces>,
    arriving: Arriving,
    /// What came and is not in the spool yet.
    next: Bytes,
    _memory: OwnedSemaphorePermit,
}

impl Coming {
    /// Begins one, of about so many bytes.
    pub async fn begin(cx: &Context, member: &dyn Member, expected: u64) -> Result<Self> {
        let memory = cx.unless_stopped(Arc::clone(&cx.memory).acquire_many_owned(2 * STEP_BYTES as u32)).await?;
        let memory = memory.map_err(|_| SourceError::Busy("no memory is given any more".to_owned()))?;
        let spool = cx.world.spool(&cx.run, "etcd").await?;
        spool.reserve(expected / 100 * ROOM_PERCENT + TRAILER_BYTES).await?;
        let mut stream = member.snapshot(cx).await?;
        let mut arriving = Arriving::default();
        let first = arriving.step(cx, &mut *stream, BytesMut::with_capacity(STEP_BYTES)).await?;
        Ok(Self { spool: spool.into(), stream, arriving, next: first.unwrap_or_default(), _memory: memory })
    }

    /// Where it goes; what is there can be read.
    pub fn spool(&self) -> &Arc<dyn Spool> {
        &self.spool
    }

    /// Bytes of the whole file, as the member announced them.
    pub fn length(&self) -> u64 {
        self.arriving.db_size + TRAILER_BYTES
    }

    /// Reads it to its end, and tells how much lies in the spool. The spool of a failed one goes with it.
    pub async fn finish(self, cx: &Context, tell: impl Fn(u64)) -> Result<Received> {
        let Self { spool, mut stream, mut arriving, mut next, .. } = self;
        let (mut hash, mut empty) = (Sha256::new(), BytesMut::with_capacity(STEP_BYTES));
        loop {
            let db_left = arriving.db_size.saturating_sub(spool.length());
            let written = write(&*spool, hash, next.clone(), db_left);
            let (step, written) = tokio::join!(arriving.step(cx, &mut *stream, empty), written);
            hash = written?;
            tell(spool.length());
            // New memory would be cleared by the system first.
            empty = next.try_into_mut().unwrap_or_default();
            match step? {
                Some(bytes) => next = bytes,
                None => break,
            }
        }
        confirm(&arriving, &*spool, &hash.finalize().into())?;
        let Arriving { db_size, trailer, version, .. } = arriving;
        Ok(Received { spool, db_size, sha256: trailer, version })
    }
}

/// Appends a piece and hashes what of it belongs to the database.
pub(super) async fn write(spool: &dyn Spool, mut hash: Sha256, bytes: Bytes, db_left: u64) -> Result<Sha256> {
    if bytes.is_empty() {
        return Ok(hash);
    }
    let hashed = bytes.slice(..bytes.len().min(usize::try_from(db_left).unwrap_or(usize::MAX)));
    let hashing = tokio::task::spawn_blocking(move || {
        hash.update(&hashed);
        hash
    });
    let (hash, appended) = tokio::join!(hashing, spool.append(bytes));
    appended?;
    hash.map_err(|error| SourceError::Incomplete(format!("hash the snapshot: {error}")))
}

fn confirm(arriving: &Arriving, spool: &dyn Spool, sha256: &[u8; 32]) -> Result<()> {
    let wrong = |text: String| Err(SourceError::Incomplete(text));
    let expected = arriving.db_size + TRAILER_BYTES;
    if spool.length() != expected {
        return wrong(format!("the snapshot ended after {} of {expected} bytes", spool.length()));
    }
    if arriving.trailer != *sha256 {
        return wrong("the snapshot's SHA-256 is not that of its trailer".to_owned());
    }
    Ok(())
}

/// What is known of a stream while it runs.
#[derive(Default)]
struct Arriving {
    /// Bytes of the database, as the first message says.
    db_size: u64,
    received: u64,
    empty: u32,
    /// The last bytes that came.
    trailer: [u8; 32],
    version: String,
    has_ended: bool,
}

impl Arriving {
    /// The next piece to be written, in this memory; `None` once the stream has ended and all was taken.
    async fn step(&mut self, cx: &Context, stream: &mut dyn Pieces, mut step: BytesMut) -> Result<Option<Bytes>> {
        step.clear();
        step.reserve(STEP_BYTES);
        while step.len() < STEP_BYTES && !self.has_ended {
            match limited(cx, SILENCE, "Snapshot", stream.next(cx)).await? {
                Some(piece) => {
                    self.take(&piece)?;
                    step.extend_from_slice(&piece.blob);
                }
                None => self.has_ended = true,
            }
        }
        Ok(Some(step.freeze()).filter(|step| !step.is_empty()))
    }

    fn take(&mut self, piece: &Piece) -> Result<()> {
        let wrong = |text: String| Err(SourceError::Incomplete(text));
        let length = piece.blob.len() as u64;
        if self.received == 0 && length > 0 {
            self.db_size = piece.remaining.saturating_add(length);
            self.version.clone_from(&piece.version);
        }
        self.empty = if length == 0 { self.empty + 1 } else { 0 };
        if self.empty == EMPTY_MAX {
            return wrong(format!("the member sends nothing although {} bytes remain", piece.remaining));
        }
        self.received += length;
        if self.received > self.db_size + TRAILER_BYTES {
            return wrong(format!("the snapshot does not end after {} bytes", self.db_size + TRAILER_BYTES));
        }
        if let Some(last) = piece.blob.last_chunk() {
            self.trailer = *last;
        }
        Ok(())
    }
}
