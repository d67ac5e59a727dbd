//! The only source of time and randomness: what waits, ages or draws lots takes an `Arc<dyn Clock>`, so that a test
//! can decide all of it and one seed replays a run.

use async_trait::async_trait;
use jiff::Timestamp;
use std::{fmt, time::Duration};

/// Time and randomness as an argument.
///
/// Durations are measured with [`elapsed`](Self::elapsed), never by subtracting two [`now`](Self::now): the wall clock
/// jumps. Waiting has two forms. [`sleep`](Self::sleep) is for work that has nothing else to do, as between two
/// attempts; a test's clock answers it by moving on at once. [`reach`](Self::reach) is for what runs beside work: a
/// limit on a call, a task that wakes now and then; a test's clock never moves because of it.
#[async_trait]
pub trait Clock: fmt::Debug + Send + Sync {
    /// The wall clock: for display and for records, not for measuring.
    fn now(&self) -> Timestamp;
    /// The time since an arbitrary fixed instant, never going back; a suspended machine's time counts.
    fn elapsed(&self) -> Duration;
    /// Waits that long.
    async fn sleep(&self, duration: Duration);
    /// Waits until [`elapsed`](Self::elapsed) is at least `elapsed`.
    async fn reach(&self, elapsed: Duration);
    /// Fills the buffer with unpredictable bytes.
    fn fill_random(&self, buffer: &mut [u8]);
}

/// A random number below `bound`, or 0 if that is 0; its bias is below 2^-32 for bounds of 32 bits.
pub fn random_below(clock: &dyn Clock, bound: u64) -> u64 {
    let mut bytes = [0; 8];
    clock.fill_random(&mut bytes);
    u64::from_le_bytes(bytes).checked_rem(bound).unwrap_or(0)
}

/// The machine's clock and the kernel's randomness.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

#[async_trait]
impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "the one place")]
    fn now(&self) -> Timestamp {
        Timestamp::now()
    }

    fn elapsed(&self) -> Duration {
        // `std::time::Instant` stands still while the machine is suspended; a lock gets stale nevertheless.
        #[cfg(target_os = "linux")]
        let id = rustix::time::ClockId::Boottime;
        #[cfg(not(target_os = "linux"))]
        let id = rustix::time::ClockId::Monotonic;
        rustix::time::clock_gettime(id).try_into().unwrap_or_default()
    }

    #[expect(clippy::disallowed_methods, reason = "the one place")]
    async fn sleep(&self, duration: Duration) {
        tokio::time::sleep(duration).await;
    }

    /// Looks at least once a minute, since tokio's timer does not count suspended time.
    async fn reach(&self, elapsed: Duration) {
        while let Some(left) = elapsed.checked_sub(self.elapsed()).filter(|left| !left.is_zero()) {
            self.sleep(left.min(Duration::from_mins(1))).await;
        }
    }

    /// Asks the kernel each time: no state that a fork or a cloned virtual machine could repeat.
    #[expect(clippy::disallowed_methods, reason = "the one place")]
    fn fill_random(&self, buffer: &mut [u8]) {
        getrandom::fill(buffer).expect("the kernel gives randomness");
    }
}

#[cfg(any(test, feature = "testing"))]
pub use testing::TestClock;

#[cfg(any(test, feature = "testing"))]
mod testing {
    use super::Clock;
    use async_trait::async_trait;
    use jiff::{SignedDuration, Timestamp};
    use rand_chacha::{
        ChaCha8Rng,
        rand_core::{RngCore, SeedableRng},
    };
    use std::{
        fmt,
        sync::{Arc, Mutex, MutexGuard, PoisonError},
        time::Duration,
    };
    use tokio::sync::watch;

    /// A clock that only moves when told to or slept on; seeded randomness. Clones share one time.
    #[derive(Clone)]
    pub struct TestClock {
        shared: Arc<Shared>,
    }

    struct Shared {
        elapsed: watch::Sender<Duration>,
        state: Mutex<State>,
    }

    struct State {
        now: Timestamp,
        random: ChaCha8Rng,
        sleeps: Vec<Duration>,
    }

    impl TestClock {
        /// A clock at noon of 2026-09-01 UTC.
        pub fn new(seed: u64) -> Self {
            Self::at("2026-09-01T12:00:00Z".parse().expect("a valid instant"), seed)
        }

        /// A clock at an instant.
        pub fn at(now: Timestamp, seed: u64) -> Self {
            let state = State { now, random: ChaCha8Rng::seed_from_u64(seed), sleeps: Vec::new() };
            Self { shared: Arc::new(Shared { elapsed: watch::Sender::new(Duration::ZERO), state: Mutex::new(state) }) }
        }

        /// Lets time pass, on the wall and measured.
        pub fn advance(&self, duration: Duration) {
            self.jump(SignedDuration::try_from(duration).expect("tests last less than an age"));
            self.shared.elapsed.send_modify(|elapsed| *elapsed += duration);
        }

        /// Sets the wall clock forward or back; measured time does not notice.
        pub fn jump(&self, by: SignedDuration) {
            let mut state = self.state();
            state.now = state.now.checked_add(by).expect("tests stay within the calendar");
        }

        /// Every `sleep` so far, in order.
        pub fn sleeps(&self) -> Vec<Duration> {
            self.state().sleeps.clone()
        }

        fn state(&self) -> MutexGuard<'_, State> {
            self.shared.state.lock().unwrap_or_else(PoisonError::into_inner)
        }
    }

    #[async_trait]
    impl Clock for TestClock {
        fn now(&self) -> Timestamp {
            self.state().now
        }

        fn elapsed(&self) -> Duration {
            *self.shared.elapsed.borrow()
        }

        async fn sleep(&self, duration: Duration) {
            self.state().sleeps.push(duration);
            self.advance(duration);
            tokio::task::yield_now().await;
        }

        async fn reach(&self, elapsed: Duration) {
            let mut seen = self.shared.elapsed.subscribe();
            // Fails only when the sender is gone, and this clock holds it.
            drop(seen.wait_for(|now| *now >= elapsed).await);
        }

        fn fill_random(&self, buffer: &mut [u8]) {
            self.state().random.fill_bytes(buffer);
        }
    }

    impl fmt::Debug for TestClock {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.debug_struct("TestClock").field("now", &self.now()).finish_non_exhaustive()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use jiff::SignedDuration;

    const HOUR: Duration = Duration::from_hours(1);

    #[tokio::test]
    async fn sleeping_moves_a_test_clock_at_once() {
        let clock = TestClock::new(1);
        let before = clock.now();
        clock.sleep(HOUR).await;
        assert_eq!(clock.now().duration_since(before), SignedDuration::from_hours(1));
        assert_eq!(clock.elapsed(), HOUR);
        assert_eq!(clock.sleeps(), [HOUR]);
    }

    #[tokio::test]
    async fn reaching_waits_for_others_to_move_a_test_clock() {
        let clock = TestClock::new(1);
        let other = clock.clone();
        let waiter = tokio::spawn(async move { other.reach(2 * HOUR).await });
        clock.advance(HOUR);
        tokio::task::yield_now().await;
        assert!(!waiter.is_finished());
        clock.advance(HOUR);
        waiter.await.unwrap();
    }

    #[tokio::test]
    async fn a_jump_of_the_wall_clock_is_not_measured() {
        let clock = TestClock::new(1);
        clock.jump(SignedDuration::from_hours(-5));
        assert_eq!(clock.now().to_string(), "2026-09-01T07:00:00Z");
        assert_eq!(clock.elapsed(), Duration::ZERO);
    }

    #[test]
    fn a_seed_replays_its_randomness() {
        let draw = |seed| random_below(&TestClock::new(seed), u64::MAX);
        assert_eq!(draw(7), draw(7));
        assert_ne!(draw(7), draw(8));
        assert_eq!(random_below(&TestClock::new(7), 0), 0);
    }

    #[tokio::test]
    async fn the_system_clock_goes_forward() {
        let clock = SystemClock;
        let start = clock.elapsed();
        clock.reach(start + Duration::from_millis(2)).await;
        clock.sleep(Duration::from_millis(1)).await;
        assert!(clock.elapsed() >= start + Duration::from_millis(2));
        let (mut one, mut two) = ([0; 32], [0; 32]);
        clock.fill_random(&mut one);
        clock.fill_random(&mut two);
        assert_ne!(one, two);
    }
}
