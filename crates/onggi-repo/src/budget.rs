//! Memory that is counted before it is used: byte permits, and pools of buffers that are used again and again.
//!
//! Whatever grows with the input holds a permit of one of these budgets; their sum is the memory of a run.

use std::{
    fmt,
    ops::{Deref, DerefMut},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

const MIB: u64 = 1 << 20;

/// How much memory writing may use, in bytes, however many archives are written at once but for [`Self::BESIDE`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WriteBudget {
    /// Content that was read and is not yet hashed, compressed and sealed.
    pub windows: u64,
    /// Sealed blobs, open packs and packs on their way to the storage.
    pub packs: u64,
    /// Nodes of directories that are not complete; what is more goes to the spill file.
    pub trees: u64,
}

impl WriteBudget {
    /// 48 + 96 + 32 MiB: with code, index, idle buffers and what the allocator rounds up, a process stays below 256 MiB.
    pub const STANDARD: Self = Self { windows: 48 * MIB, packs: 96 * MIB, trees: 32 * MIB };
    /// What each archive adds that is written beside others: the reserve of one long content.
    pub const BESIDE: u64 = 12 * MIB;
    /// Bytes of buffers that may lie idle beside those in use. With less, buffers of one length are given back for the sake
    /// of another all the time, and the system clears each that it gives again.
    pub(crate) const IDLE: u64 = 32 * MIB;

    /// The sum.
    pub fn total(&self) -> u64 {
        self.windows + self.packs + self.trees
    }
}

impl fmt::Display for WriteBudget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [windows, packs, trees, total] = [self.windows, self.packs, self.trees, self.total()].map(|b| b / MIB);
        write!(f, "windows {windows} + packs {packs} + trees {trees} = {total} MiB")
    }
}

/// A number of bytes that may be in use at once.
#[derive(Debug, Clone)]
pub(crate) struct ByteBudget {
    semaphore: Arc<Semaphore>,
    total: usize,
}

/// The budget was closed because its run failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Closed;

impl ByteBudget {
    pub fn new(total: u64) -> Self {
        let total = usize::try_from(total).unwrap_or(usize::MAX).clamp(1, u32::MAX as usize);
        Self { semaphore: Arc::new(Semaphore::new(total)), total }
    }

    /// Waits for that many bytes. A request beyond the total gets the total: it then runs alone.
    pub async fn take(&self, bytes: usize) -> Result<Permit, Closed> {
        let permits = self.clamp(bytes);
        Arc::clone(&self.semaphore).acquire_many_owned(permits).await.map(Permit).map_err(|_| Closed)
    }

    /// Takes that many bytes if they are free now.
    pub fn try_take(&self, bytes: usize) -> Option<Permit> {
        Arc::clone(&self.semaphore).try_acquire_many_owned(self.clamp(bytes)).ok().map(Permit)
    }

    /// Wakes all who wait, and refuses from now on.
    pub fn close(&self) {
        self.semaphore.close();
    }

    #[expect(clippy::cast_possible_truncation, reason = "the total fits by construction")]
    fn clamp(&self, bytes: usize) -> u32 {
        bytes.min(self.total) as u32
    }
}

/// Bytes taken from a budget; given back when dropped.
#[derive(Debug)]
pub(crate) struct Permit(OwnedSemaphorePermit);

impl Permit {
    /// Gives back all but that many bytes.
    pub fn shrink(&mut self, bytes: usize) {
        let surplus = self.0.num_permits().saturating_sub(bytes);
        drop(self.0.split(surplus));
    }

    /// Adds the bytes of another permit of the same budget.
    pub fn merge(&mut self, other: Self) {
        self.0.merge(other.0);
    }
}

/// Buffers by powers of two, kept for use again: the allocator would give large ones back to the system each time, and
/// the system would clear them each time.
#[derive(Debug, Clone)]
pub(crate) struct BufferPool(Arc<Free>);

#[derive(Debug)]
struct Free {
    /// By the logarithm of the capacity.
    classes: [Mutex<Vec<Vec<u8>>>; CLASSES],
    /// Bytes of all buffers, those in use included.
    bytes: AtomicUsize,
    /// No buffer is kept while there are more than these.
    bytes_max: usize,
}

/// Smaller ones come from the allocator, which has them at hand without a lock.
const SMALL: usize = 1 << 10;
const CLASSES: usize = usize::BITS as usize;

impl BufferPool {
    /// A pool that keeps buffers as long as all of them, in use or idle, have at most that many bytes.
    pub fn new(bytes_max: u64) -> Self {
        let bytes_max = usize::try_from(bytes_max).unwrap_or(usize::MAX);
        let classes = std::array::from_fn(|_| Mutex::default());
        Self(Arc::new(Free { classes, bytes: AtomicUsize::new(0), bytes_max }))
    }

    /// Bytes of memory that a buffer for `len` bytes takes.
    pub fn cost(len: usize) -> usize {
        if len < SMALL { len } else { len.next_power_of_two() }
    }

    /// An empty buffer that can hold at least `len` bytes.
    pub fn take(&self, len: usize) -> Buffer {
        let mut buffer = self.take_used(len);
        buffer.bytes.clear();
        buffer
    }

    /// A buffer of `len` bytes that are to be overwritten: what it held before may still be there.
    pub fn take_full(&self, len: usize) -> Buffer {
        let mut buffer = self.take_used(len);
        buffer.bytes.resize(len, 0);
        buffer
    }

    fn take_used(&self, len: usize) -> Buffer {
        let capacity = Self::cost(len);
        let found = if len < SMALL { None } else { self.0.class(capacity).pop() };
        let bytes = found.unwrap_or_else(|| {
            self.0.make_room(capacity);
            self.0.bytes.fetch_add(capacity, Ordering::Relaxed);
            Vec::with_capacity(capacity)
        });
        Buffer { bytes, capacity, home: Arc::clone(&self.0) }
    }

    /// Gives idle buffers back to the system.
    pub fn trim(&self) {
        for class in &self.0.classes {
            let idle = std::mem::take(&mut *class.lock().unwrap_or_else(PoisonError::into_inner));
            let bytes: usize = idle.iter().map(Vec::capacity).sum();
            self.0.bytes.fetch_sub(bytes, Ordering::Relaxed);
        }
    }
}

impl Free {
    /// Gives idle buffers of other lengths back to the system, the longest first, until one more fits.
    fn make_room(&self, capacity: usize) {
        let is_full = || self.bytes.load(Ordering::Relaxed) + capacity > self.bytes_max;
        for class in self.classes.iter().rev() {
            // asked before the lock is taken: short buffers come by the ten thousand, and there is nearly always room
            if !is_full() {
                return;
            }
            let mut idle = class.lock().unwrap_or_else(PoisonError::into_inner);
            while is_full() {
                let Some(bytes) = idle.pop() else { break };
                self.bytes.fetch_sub(bytes.capacity(), Ordering::Relaxed);
            }
        }
    }

    fn class(&self, capacity: usize) -> MutexGuard<'_, Vec<Vec<u8>>> {
        self.classes[capacity.ilog2() as usize].lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A buffer that returns to its pool when dropped.
#[derive(Debug)]
pub(crate) struct Buffer {
    bytes: Vec<u8>,
    /// What it was made with; it may have grown since.
    capacity: usize,
    home: Arc<Free>,
}

impl Deref for Buffer {
    type Target = Vec<u8>;

    fn deref(&self) -> &Vec<u8> {
        &self.bytes
    }
}

impl DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut Vec<u8> {
        &mut self.bytes
    }
}

impl AsRef<[u8]> for Buffer {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        let bytes = std::mem::take(&mut self.bytes);
        let has_room = self.home.bytes.load(Ordering::Relaxed) <= self.home.bytes_max;
        if self.capacity >= SMALL && bytes.capacity() == self.capacity && has_room {
            self.home.class(self.capacity).push(bytes);
        } else {
            self.home.bytes.fetch_sub(self.capacity, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_standard_budget_leaves_room_below_256_mib() {
        assert_eq!(WriteBudget::STANDARD.to_string(), "windows 48 + packs 96 + trees 32 = 176 MiB");
    }

    #[tokio::test]
    async fn a_request_beyond_the_total_runs_alone() {
        let budget = ByteBudget::new(100);
        let permit = budget.take(1000).await.unwrap();
        assert!(budget.try_take(1).is_none());
        drop(permit);
        let mut permit = budget.take(60).await.unwrap();
        permit.shrink(10);
        permit.merge(budget.try_take(80).unwrap());
        assert!(budget.try_take(11).is_none());
        drop(permit);
        assert!(budget.try_take(100).is_some());
    }

    #[tokio::test]
    async fn closing_wakes_those_who_wait() {
        let budget = ByteBudget::new(1);
        let _permit = budget.take(1).await.unwrap();
        let (waited, ()) = tokio::join!(budget.take(1), async { budget.close() });
        assert_eq!(waited.unwrap_err(), Closed);
    }

    #[test]
    fn idle_buffers_make_room_for_those_of_another_length() {
        let pool = BufferPool::new(3 * SMALL as u64);
        drop((pool.take(SMALL), pool.take(SMALL)));
        assert_eq!(pool.0.bytes.load(Ordering::Relaxed), 2 * SMALL);
        let _large = pool.take(2 * SMALL);
        assert_eq!(pool.0.bytes.load(Ordering::Relaxed), 3 * SMALL);
    }

    #[test]
    fn a_full_buffer_has_its_length_and_an_empty_one_nothing() {
        let pool = BufferPool::new(2 * SMALL as u64);
        pool.take(SMALL).extend_from_slice(b"before");
        let full = pool.take_full(SMALL);
        assert_eq!((full.len(), &full[..6], full.capacity()), (SMALL, b"before".as_slice(), SMALL));
        drop(full);
        assert_eq!((pool.take_full(SMALL - 1).len(), pool.take(SMALL).len()), (SMALL - 1, 0));
    }

    #[test]
    fn buffers_come_back_up_to_a_limit() {
        const LEN: usize = 100_000;
        let cost = BufferPool::cost(LEN);
        let pool = BufferPool::new(2 * cost as u64);
        let three = [pool.take(LEN), pool.take(LEN), pool.take(LEN)];
        let addresses = three.each_ref().map(|buffer| buffer.as_ptr());
        drop(three);
        assert_eq!(pool.0.bytes.load(Ordering::Relaxed), 2 * cost);
        let again = pool.take(LEN);
        assert!(addresses.contains(&again.as_ptr()));
        assert_eq!(pool.take(SMALL - 1).capacity(), SMALL - 1);
        pool.trim();
        assert_eq!(pool.0.bytes.load(Ordering::Relaxed), cost);
    }
}
