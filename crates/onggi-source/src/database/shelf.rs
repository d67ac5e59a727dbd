//! Between a dump and the repository: what the repository cannot take yet waits here, so that the dump never does. A
//! little in memory, and in a spool once the reader lags.

use std::collections::VecDeque;
use std::time::Duration;

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use tokio::sync::{Mutex, Notify, SemaphorePermit};

use crate::context::{Context, Spool};
use crate::source::{ByteStream, ReadError, Result, SourceError};

/// What may wait in memory, in bytes; taken from the sources' share.
const NEAR_BYTES_MAX: u32 = 1 << 20;
/// Length of one read from the spool, in bytes.
const STEP_BYTES: u64 = 64 << 10;
/// How long a dump waits for a reader before it is spooled: a pause to write a pack is none.
const PATIENCE: Duration = Duration::from_secs(5);

/// The place between. One task puts, another takes.
pub(super) struct Shelf<'a> {
    state: Mutex<State>,
    put: Notify,
    taken: Notify,
    done: Notify,
    patience: Duration,
    _memory: SemaphorePermit<'a>,
}

#[derive(Default)]
struct State {
    near: VecDeque<Bytes>,
    near_bytes: usize,
    far: Option<Box<dyn Spool>>,
    far_read: u64,
    end: Option<Result<()>>,
}

impl State {
    fn is_behind(&self) -> bool {
        self.far.as_ref().is_some_and(|far| self.far_read < far.length())
    }
}

impl<'a> Shelf<'a> {
    /// A run with a rate is known to lag.
    pub(super) async fn new(cx: &'a Context) -> Result<Self> {
        let memory = cx.unless_stopped(cx.memory.acquire_many(NEAR_BYTES_MAX)).await?;
        let memory = memory.map_err(|error| SourceError::Incomplete(format!("take memory: {error}")))?;
        let patience = if cx.rate.is_some() { Duration::ZERO } else { PATIENCE };
        Ok(Self {
            state: Mutex::default(),
            put: Notify::new(),
            taken: Notify::new(),
            done: Notify::new(),
            patience,
            _memory: memory,
        })
    }

    /// Puts the next piece there.
    pub(super) async fn put(&self, cx: &Context, piece: Bytes) -> Result<()> {
        let mut patience = self.patience;
        loop {
            let mut state = self.state.lock().await;
            let has_room = state.near_bytes + piece.len() <= NEAR_BYTES_MAX as usize;
            if has_room && !state.is_behind() {
                state.near_bytes += piece.len();
                state.near.push_back(piece);
                self.put.notify_one();
                return Ok(());
            }
            if patience.is_zero() || state.is_behind() {
                if state.far.is_none() {
                    state.far = Some(cx.world.spool(&cx.run, "dump").await?);
                }
                if let Some(far) = &state.far {
                    far.append(piece).await?;
                }
                self.put.notify_one();
                return Ok(());
            }
            drop(state);
            let until = cx.world.elapsed() + patience;
            tokio::select! {
                biased;
                () = self.taken.notified() => {}
                slept = cx.sleep(patience) => slept?,
            }
            patience = until.saturating_sub(cx.world.elapsed());
        }
    }

    /// Says that this was all, or why there is no more.
    pub(super) async fn end(&self, end: Result<()>) {
        self.state.lock().await.end = Some(end);
        self.put.notify_one();
    }

    /// Says that the reader wants no more.
    pub(super) fn done(&self) {
        self.done.notify_one();
    }

    /// The failure, once the reader is done and has not passed it on itself.
    pub(super) async fn untold(&self) -> SourceError {
        self.done.notified().await;
        match self.state.lock().await.end.take() {
            Some(Err(error)) => error,
            _ => SourceError::Incomplete("the dump has failed".to_owned()),
        }
    }

    async fn take(&self, cx: &Context) -> Result<Option<Bytes>, ReadError> {
        loop {
            let mut state = self.state.lock().await;
            // a failure makes all that still lies here worthless
            if let Some(Err(_)) = &state.end {
                let failed = Err(SourceError::Incomplete("the dump has failed".to_owned()));
                return state.end.replace(failed).map_or(Ok(None), |end| Ok(end.map(|()| None)?));
            }
            if let Some(piece) = state.near.pop_front() {
                state.near_bytes -= piece.len();
                self.taken.notify_one();
                return Ok(Some(piece));
            }
            if let Some(far) = &state.far
                && state.is_behind()
            {
                let length = (far.length() - state.far_read).min(STEP_BYTES);
                let mut piece = BytesMut::zeroed(length as usize);
                far.read(cx, state.far_read, &mut piece).await?;
                state.far_read += length;
                self.taken.notify_one();
                return Ok(Some(piece.freeze()));
            }
            if state.end.is_some() {
                return Ok(None);
            }
            drop(state);
            cx.unless_stopped(self.put.notified()).await?;
        }
    }
}

/// The end of the shelf that the repository reads from.
pub(super) struct Reader<'a>(pub(super) &'a Shelf<'a>);

#[async_trait]
impl ByteStream for Reader<'_> {
    async fn next(&mut self, cx: &Context) -> Result<Option<Bytes>, ReadError> {
        cx.check()?;
        self.0.take(cx).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::Bench;

    async fn read_all(cx: &Context, shelf: &Shelf<'_>) -> Result<Vec<u8>, ReadError> {
        let (mut all, mut reader) = (Vec::new(), Reader(shelf));
        while let Some(piece) = reader.next(cx).await? {
            all.extend_from_slice(&piece);
        }
        Ok(all)
    }

    fn pieces() -> Vec<Bytes> {
        (0..40_u8).map(|number| Bytes::from(vec![number; 100_000])).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn a_dump_never_waits_longer_than_its_patience() {
        for (rate, longest) in [(None, PATIENCE), (Some(1), Duration::ZERO)] {
            let mut bench = Bench::new("r1");
            bench.cx.rate = rate;
            let shelf = Shelf::new(&bench.cx).await.unwrap();
            for piece in pieces() {
                shelf.put(&bench.cx, piece).await.unwrap();
            }
            assert_eq!(bench.cx.world.elapsed(), longest, "nobody reads");
            shelf.end(Ok(())).await;
            assert_eq!(read_all(&bench.cx, &shelf).await.unwrap(), pieces().concat());
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_read_in_time_never_reaches_the_disk() {
        let bench = Bench::new("r1");
        let shelf = Shelf::new(&bench.cx).await.unwrap();
        let write = async {
            for piece in pieces() {
                shelf.put(&bench.cx, piece).await.unwrap();
            }
            shelf.end(Ok(())).await;
        };
        let (read, ()) = tokio::join!(read_all(&bench.cx, &shelf), write);
        assert_eq!(read.unwrap(), pieces().concat());
        assert!(shelf.state.lock().await.far.is_none());
    }

    #[tokio::test]
    async fn a_failure_is_told_before_what_still_lies_there() {
        let bench = Bench::new("r1");
        let shelf = Shelf::new(&bench.cx).await.unwrap();
        shelf.put(&bench.cx, Bytes::from_static(b"rows")).await.unwrap();
        shelf.end(Err(SourceError::Busy("lock".to_owned()))).await;
        assert!(matches!(read_all(&bench.cx, &shelf).await, Err(ReadError::Unit(SourceError::Busy(_)))));
        assert!(matches!(read_all(&bench.cx, &shelf).await, Err(ReadError::Unit(SourceError::Incomplete(_)))));
    }
}
