//! Buffers that the caller reads content into, each with the permit for its bytes.
//!
//! A content that is longer than one small buffer keeps up to a whole chunk of bytes back until its next cut is known.
//! If many such contents shared one budget they could together hold all of it and each wait for more. So the number of
//! long contents is limited, and each has a reserve that is enough to go on alone; what is free besides is used too,
//! by all archives at once.

use crate::budget::{Buffer, BufferPool, ByteBudget, Closed, Permit};
use std::{
    ops::{Deref, DerefMut},
    sync::{Arc, Mutex, PoisonError},
};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// A good length for reading long contents, in bytes.
pub const WINDOW_LENGTH: usize = 1 << 20;
/// The longest window.
pub const WINDOW_MAX: usize = 8 << 20;
/// How many windows of `WINDOW_LENGTH` may be in the caller's hands for one content; more may wait for ever.
pub const READ_AHEAD: usize = 3;

/// Long contents at once, of one archive.
const SLOTS_MAX: u64 = 4;

/// A buffer for content. It has the length asked for, and whatever it held before: fill it, or shorten it if there was
/// less to read.
#[derive(Debug)]
pub struct Window {
    buffer: Buffer,
    _permit: Permit,
}

impl Window {
    /// Keeps the first `length` bytes.
    pub fn truncate(&mut self, length: usize) {
        self.buffer.truncate(length);
    }
}

impl Deref for Window {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.buffer
    }
}

impl DerefMut for Window {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.buffer
    }
}

/// The right to write a long content, with a reserve for it.
pub(super) struct Slot {
    /// `None` only while it is given back.
    reserve: Option<ByteBudget>,
    free: Arc<Mutex<Vec<ByteBudget>>>,
    _permit: OwnedSemaphorePermit,
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.free.lock().unwrap_or_else(PoisonError::into_inner).extend(self.reserve.take());
    }
}

/// Some of these rights.
struct Slots {
    free: Arc<Mutex<Vec<ByteBudget>>>,
    permits: Arc<Semaphore>,
}

impl Slots {
    fn new(slots: usize, reserve: u64) -> Self {
        let free = (0..slots).map(|_| ByteBudget::new(reserve)).collect();
        Self { free: Arc::new(Mutex::new(free)), permits: Arc::new(Semaphore::new(slots)) }
    }

    async fn take(&self) -> Slot {
        let permit = Arc::clone(&self.permits).acquire_owned().await.expect("it is never closed");
        let reserve = self.free.lock().unwrap_or_else(PoisonError::into_inner).pop();
        Slot { reserve, free: Arc::clone(&self.free), _permit: permit }
    }
}

/// What all archives at once share of this memory.
pub(super) struct CommonWindows {
    budget: ByteBudget,
    slots: Slots,
    reserve: u64,
    pool: BufferPool,
}

impl CommonWindows {
    /// `total`: bytes for one archive; each beside it adds the reserve of one long content. `chunk_max`: the most bytes
    /// that one content keeps back.
    pub fn new(total: u64, chunk_max: u64, pool: BufferPool) -> Self {
        // A chunk that ends in the middle of one window and began in the middle of another, and the read-ahead.
        let reserve = chunk_max.max(WINDOW_MAX as u64) + (1 + READ_AHEAD) as u64 * WINDOW_LENGTH as u64;
        let slots = (total * 3 / 4 / reserve).clamp(1, SLOTS_MAX);
        let budget = total.saturating_sub(slots * reserve).max(2 * WINDOW_LENGTH as u64);
        Self { budget: ByteBudget::new(budget), slots: Slots::new(slots as usize - 1, reserve), reserve, pool }
    }
}

/// One archive's windows: it can always write one long content, whatever the others do.
pub(super) struct Windows {
    common: Arc<CommonWindows>,
    own: Slots,
    /// Has no permits; it is there to be closed.
    end: Semaphore,
}

impl Windows {
    pub fn new(common: Arc<CommonWindows>) -> Self {
        let own = Slots::new(1, common.reserve);
        Self { common, own, end: Semaphore::new(0) }
    }

    /// Waits for the right to write a long content.
    pub async fn slot(&self) -> Result<Slot, Closed> {
        let any = async {
            tokio::select! {
                biased;
                slot = self.own.take() => slot,
                slot = self.common.slots.take() => slot,
            }
        };
        self.until_closed(any).await
    }

    /// A buffer of that length, at most `WINDOW_MAX`, if memory is free now.
    pub fn try_take(&self, length: usize) -> Option<Window> {
        let length = length.min(WINDOW_MAX);
        self.common.budget.try_take(BufferPool::cost(length)).map(|permit| self.window(length, permit))
    }

    /// The same, when memory is free.
    pub async fn take(&self, slot: Option<&Slot>, length: usize) -> Result<Window, Closed> {
        let length = length.min(WINDOW_MAX);
        let budget = slot.and_then(|slot| slot.reserve.as_ref()).unwrap_or(&self.common.budget);
        let permit = self.until_closed(budget.take(BufferPool::cost(length))).await??;
        Ok(self.window(length, permit))
    }

    fn window(&self, length: usize, permit: Permit) -> Window {
        Window { buffer: self.common.pool.take_full(length), _permit: permit }
    }

    async fn until_closed<T>(&self, waiting: impl Future<Output = T>) -> Result<T, Closed> {
        tokio::select! {
            biased;
            _ = self.end.acquire() => Err(Closed),
            answer = waiting => Ok(answer),
        }
    }

    /// Wakes all who wait, and refuses from now on.
    pub fn close(&self) {
        self.end.close();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{WriteBudget, format::ChunkSizes};

    #[test]
    fn an_archive_beside_others_adds_one_reserve() {
        let WriteBudget { windows, .. } = WriteBudget::STANDARD;
        let common = CommonWindows::new(windows, ChunkSizes::DEFAULT.max.into(), BufferPool::new(0));
        assert_eq!(common.reserve, WriteBudget::BESIDE);
    }
}
