//! What is sent: frames from all threads through one bounded queue, at the rate that the hub and the node allow.

use std::io::{self, BufWriter, Write as _};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use onggi_node::Answer;

/// Frames that may wait to be sent; each has at most a quarter of a mebibyte of content.
const QUEUE_FRAMES: usize = 32;
/// Bytes of short frames that are handed to the system in one go.
const TOGETHER_BYTES: usize = 64 << 10;
/// Bytes that are handed to the system in one go while a rate is kept.
const STEP_BYTES: usize = 16 << 10;

/// The way to the hub, for every thread.
#[derive(Clone)]
pub(super) struct Out {
    frames: SyncSender<Vec<u8>>,
    rate: Arc<AtomicU64>,
}

/// Nobody listens any more.
pub(super) struct Gone;

impl Out {
    /// The way, and its other end.
    pub(super) fn new() -> (Self, Sender) {
        let (frames, queue) = sync_channel(QUEUE_FRAMES);
        let rate = Arc::new(AtomicU64::new(0));
        (Self { frames, rate: rate.clone() }, Sender { queue, rate })
    }

    pub(super) fn send(&self, answer: &Answer, compress: bool) -> Result<(), Gone> {
        self.send_frames(answer.encode(compress))
    }

    /// Sends frames that were put together before.
    pub(super) fn send_frames(&self, frames: Vec<u8>) -> Result<(), Gone> {
        self.frames.send(frames).map_err(|_| Gone)
    }

    /// Bytes per second from now on; 0: as many as can be.
    pub(super) fn limit(&self, rate: u64) {
        self.rate.store(rate, Ordering::Relaxed);
    }
}

/// Writes frames to stdout.
pub(super) struct Sender {
    queue: Receiver<Vec<u8>>,
    rate: Arc<AtomicU64>,
}

impl Sender {
    /// Sends until nobody sends or listens.
    pub(super) fn run(self) -> io::Result<()> {
        // what waits goes together: each write wakes the host's server, the hub's client and the hub
        let mut out = BufWriter::with_capacity(TOGETHER_BYTES, io::stdout().lock());
        let mut bucket = Bucket { full_at: Instant::now() };
        while let Ok(mut frame) = self.queue.recv() {
            loop {
                for piece in frame.chunks(STEP_BYTES) {
                    let rate = self.rate.load(Ordering::Relaxed);
                    std::thread::sleep(bucket.take(Instant::now(), piece.len(), rate));
                    out.write_all(piece)?;
                    if rate > 0 {
                        out.flush()?;
                    }
                }
                let Ok(next) = self.queue.try_recv() else { break };
                frame = next;
            }
            out.flush()?;
        }
        Ok(())
    }
}

/// What was not used before may be made up for, but no more than so much.
const BURST: Duration = Duration::from_millis(500);

/// Lets so many bytes go in a second.
struct Bucket {
    /// When all that was taken will have been earned.
    full_at: Instant,
}

impl Bucket {
    /// How long to wait before so many bytes may go.
    fn take(&mut self, now: Instant, bytes: usize, rate: u64) -> Duration {
        if rate == 0 {
            return Duration::ZERO;
        }
        let burst = now.checked_sub(BURST).unwrap_or(now);
        self.full_at = self.full_at.max(burst) + Duration::from_secs_f64(bytes as f64 / rate as f64);
        self.full_at.saturating_duration_since(now)
    }
}

/// How much a stream may send; the hub adds to it.
#[derive(Default)]
pub(super) struct Credit {
    state: Mutex<Account>,
    changed: Condvar,
}

#[derive(Default)]
struct Account {
    bytes: u64,
    is_cancelled: bool,
}

impl Credit {
    pub(super) fn of(bytes: u64) -> Self {
        Self { state: Mutex::new(Account { bytes, is_cancelled: false }), changed: Condvar::new() }
    }

    pub(super) fn add(&self, bytes: u64) {
        let mut account = self.account();
        account.bytes = account.bytes.saturating_add(bytes);
        self.changed.notify_all();
    }

    pub(super) fn cancel(&self) {
        self.account().is_cancelled = true;
        self.changed.notify_all();
    }

    pub(super) fn is_cancelled(&self) -> bool {
        self.account().is_cancelled
    }

    /// Waits until there is some, and takes these bytes: the last piece may overdraw. `false`: nobody wants more.
    pub(super) fn take(&self, bytes: u64) -> bool {
        let mut account = self.account();
        while account.bytes == 0 && !account.is_cancelled {
            account = self.changed.wait(account).unwrap_or_else(PoisonError::into_inner);
        }
        account.bytes = account.bytes.saturating_sub(bytes);
        !account.is_cancelled
    }

    fn account(&self) -> MutexGuard<'_, Account> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    /// Bytes that go between two seconds, if there is always something to send and the rate changes at the fourth.
    fn sent(rates: [u64; 2], from: u64, to: u64) -> u64 {
        let start = Instant::now();
        let (mut now, mut bytes) = (start, 0);
        let mut bucket = Bucket { full_at: start };
        while now < start + Duration::from_secs(to) {
            let rate = if now < start + Duration::from_secs(4) { rates[0] } else { rates[1] };
            now += bucket.take(now, STEP_BYTES, rate);
            if now >= start + Duration::from_secs(from) {
                bytes += STEP_BYTES as u64;
            }
        }
        bytes
    }

    #[test]
    fn a_rate_holds_within_a_tenth_and_a_new_one_at_once() {
        for (rates, from, to, expected) in [
            ([5 * MIB, 5 * MIB], 0, 10, 50 * MIB),
            ([5 * MIB, MIB], 5, 15, 10 * MIB),
            ([MIB, 20 * MIB], 5, 15, 200 * MIB),
            ([MIB, 20 * MIB], 4, 6, 40 * MIB),
        ] {
            let sent = sent(rates, from, to);
            assert!(sent.abs_diff(expected) <= expected / 10, "{sent} bytes at {rates:?} from {from} to {to}");
        }
    }

    #[test]
    fn what_was_not_used_is_made_up_for_half_a_second_at_most() {
        let start = Instant::now();
        let mut bucket = Bucket { full_at: start };
        let later = start + Duration::from_mins(1);
        let free = (0..1000).take_while(|_| bucket.take(later, STEP_BYTES, MIB).is_zero()).count() as u64;
        assert_eq!(free, MIB / 2 / STEP_BYTES as u64);
    }
}
