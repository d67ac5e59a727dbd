//! Buffers that the caller reads content into, each with the permit for its bytes.
//!
//! A content that is longer than one small buffer keeps up to a whole chunk of bytes back until its next cut is known.
//! If many such contents shared one budget they could together hold all of it and each wait for more. So the number of
//! long contents is limited, and each has a reserve that is enough to go on alone; what is free besides is used too.

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

/// Long contents at once.
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

/// The budget of one archive's windows.
pub(super) struct Windows {
    common: ByteBudget,
    reserves: Vec<ByteBudget>,
    free: Arc<Mutex<Vec<usize>>>,
    slots: Arc<Semaphore>,
    pool: BufferPool,
}

/// The right to write a long content.
pub(super) struct Slot {
    reserve: usize,
    free: Arc<Mutex<Vec<usize>>>,
    _permit: OwnedSemaphorePermit,
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.free.lock().unwrap_or_else(PoisonError::into_inner).push(self.reserve);
    }
}

impl Windows {
    /// `chunk_max`: the most bytes that one content keeps back.
    pub fn new(total: u64, chunk_max: u64, pool: BufferPool) -> Self {
        // A chunk that ends in the middle of one window and began in the middle of another, and the read-ahead.
        let reserve = chunk_max.max(WINDOW_MAX as u64) + (1 + READ_AHEAD) as u64 * WINDOW_LENGTH as u64;
        let slots = (total * 3 / 4 / reserve).clamp(1, SLOTS_MAX);
        let common = total.saturating_sub(slots * reserve).max(2 * WINDOW_LENGTH as u64);
        Self {
            common: ByteBudget::new(common),
            reserves: (0..slots).map(|_| ByteBudget::new(reserve)).collect(),
            free: Arc::new(Mutex::new((0..slots as usize).collect())),
            slots: Arc::new(Semaphore::new(slots as usize)),
            pool,
        }
    }

    /// Waits for the right to write a long content.
    pub async fn slot(&self) -> Result<Slot, Closed> {
        let permit = Arc::clone(&self.slots).acquire_owned().await.map_err(|_| Closed)?;
        let reserve = self.free.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let reserve = reserve.expect("there are as many reserves as permits");
        Ok(Slot { reserve, free: Arc::clone(&self.free), _permit: permit })
    }

    /// A buffer of that length, at most `WINDOW_MAX`, if memory is free now.
    pub fn try_take(&self, length: usize) -> Option<Window> {
        let length = length.min(WINDOW_MAX);
        self.common.try_take(BufferPool::cost(length)).map(|permit| self.window(length, permit))
    }

    /// The same, when memory is free.
    pub async fn take(&self, slot: Option<&Slot>, length: usize) -> Result<Window, Closed> {
        let length = length.min(WINDOW_MAX);
        let budget = slot.map_or(&self.common, |slot| &self.reserves[slot.reserve]);
        let permit = budget.take(BufferPool::cost(length)).await?;
        Ok(self.window(length, permit))
    }

    fn window(&self, length: usize, permit: Permit) -> Window {
        Window { buffer: self.pool.take_full(length), _permit: permit }
    }

    pub fn close(&self) {
        self.common.close();
        self.slots.close();
        self.reserves.iter().for_each(ByteBudget::close);
    }
}
