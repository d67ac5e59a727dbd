//! The mean rate holds for every pattern of calls, and nobody waits longer than it asks for.

use super::{bucket::BURST_BYTES_MIN, *};
use crate::{FileId, clock::TestClock, conformance, memory::Memory};
use futures::{TryStreamExt, future::join_all};
use jiff::{civil::time, tz::TimeZone};
use proptest::prelude::*;
use std::time::Duration;

fn pack(number: u8) -> Handle {
    Handle::new(FileType::Pack, FileId([number; 32]))
}

fn limits(up: Rate, down: Rate) -> Limits {
    Limits { up: RatePlan::constant(up), down: RatePlan::constant(down), connections: None }
}

fn limit(limits: Limits) -> (TestClock, Limit) {
    let clock = TestClock::new(1);
    (clock.clone(), Limit::new(Arc::new(Memory::new()), limits, Arc::new(clock)))
}

#[tokio::test]
async fn a_limited_storage_is_a_storage() {
    for (rate, connections) in
        [(Rate::Unlimited, 1), (Rate::BytesPerSecond(50_000), 1), (Rate::BytesPerSecond(1_000_000), 4)]
    {
        let limits = Limits { connections: Some(connections), ..limits(rate, rate) };
        conformance::check(&limit(limits).1).await;
    }
    let absent =
        Limit::new(Arc::new(Memory::absent()), limits(Rate::Unlimited, Rate::Unlimited), Arc::new(TestClock::new(1)));
    conformance::check_absent(&absent).await;
}

#[tokio::test]
async fn bytes_in_both_directions_take_their_time() {
    const MIB: u64 = 1024 * 1024;
    let (clock, limit) = limit(limits(Rate::BytesPerSecond(MIB), Rate::BytesPerSecond(2 * MIB)));
    let content = Bytes::from(vec![1; MIB as usize]);
    for number in 0..11 {
        limit.create(pack(number), content.clone()).await.unwrap();
    }
    assert_eq!(clock.elapsed(), Duration::from_secs(10), "the first was saved up");
    for number in 0..11 {
        limit.read(pack(number), Some(0..MIB)).await.unwrap();
    }
    assert_eq!(clock.elapsed(), Duration::from_millis(14_500));
    clock.advance(Duration::from_mins(1));
    let start = clock.elapsed();
    for number in 0..5 {
        limit.read(pack(number), None).await.unwrap();
    }
    let waited = clock.elapsed().checked_sub(start).unwrap();
    assert!((1_000..=1_001).contains(&waited.as_millis()), "whole files are paid for by the next: {waited:?}");
}

#[tokio::test]
async fn bytes_that_did_not_come_are_not_paid_for() {
    let (clock, limit) = limit(limits(Rate::Unlimited, Rate::BytesPerSecond(BURST_BYTES_MIN)));
    for _ in 0..100 {
        limit.read(pack(1), Some(0..BURST_BYTES_MIN)).await.unwrap_err();
    }
    assert_eq!(clock.elapsed(), Duration::ZERO);
}

#[tokio::test]
async fn without_limits_nothing_waits() {
    let (clock, limit) = limit(limits(Rate::Unlimited, Rate::Unlimited));
    for number in 0..50 {
        limit.create(pack(number), vec![0; 100_000].into()).await.unwrap();
    }
    assert_eq!(clock.sleeps(), []);
}

#[tokio::test]
async fn the_rate_follows_the_time_of_day() {
    let seoul = TimeZone::get("Asia/Seoul").unwrap();
    // 12:00 UTC is 21:00 in Seoul: one hour of nothing, then the night, without limit until 6:00.
    let closed = RateWindow { from: time(20, 0, 0, 0), until: time(22, 0, 0, 0), rate: Rate::BytesPerSecond(0) };
    let night = RateWindow { from: time(22, 0, 0, 0), until: time(6, 0, 0, 0), rate: Rate::Unlimited };
    let otherwise = Rate::BytesPerSecond(BURST_BYTES_MIN);
    let up = RatePlan { windows: vec![closed, night], otherwise, time_zone: seoul };
    let (clock, limit) = limit(Limits { up, ..limits(Rate::Unlimited, Rate::Unlimited) });
    let content = Bytes::from(vec![0; 2 * BURST_BYTES_MIN as usize]);
    // One burst was saved up and pays for the first; the second waits for ten o'clock.
    limit.create(pack(1), content.clone()).await.unwrap();
    limit.create(pack(2), content.clone()).await.unwrap();
    assert_eq!(clock.elapsed(), Duration::from_hours(1));
    for number in 3..20 {
        limit.create(pack(number), content.clone()).await.unwrap();
    }
    assert_eq!(clock.elapsed(), Duration::from_hours(1), "at night nothing waits");
    clock.advance(Duration::from_hours(8) + Duration::from_secs(1));
    let morning = clock.elapsed();
    for number in 20..31 {
        limit.create(pack(number), content.clone()).await.unwrap();
    }
    let waited = clock.elapsed().checked_sub(morning).unwrap();
    assert!((19..=20).contains(&waited.as_secs()), "{waited:?}");
}

#[tokio::test]
async fn windows_wrap_around_midnight() {
    let window = |from, until| RateWindow {
        from: time(from, 0, 0, 0),
        until: time(until, 0, 0, 0),
        rate: Rate::BytesPerSecond(7),
    };
    let plan = |window| RatePlan { windows: vec![window], ..RatePlan::constant(Rate::Unlimited) };
    let limited = |window: RateWindow, hour: i8| {
        let now = jiff::civil::date(2026, 9, 1).at(hour, 30, 0, 0).to_zoned(TimeZone::UTC).unwrap().timestamp();
        plan(window).at(now) != Rate::Unlimited
    };
    let hours = |window| (0..24).filter(|hour| limited(window, *hour)).collect::<Vec<_>>();
    assert_eq!(hours(window(8, 11)), [8, 9, 10]);
    assert_eq!(hours(window(22, 2)), [0, 1, 22, 23]);
    assert_eq!(hours(window(5, 5)).len(), 24);
}

#[tokio::test]
async fn no_more_calls_at_once_than_connections() {
    for connections in [1, 3] {
        let crowd = Arc::new(crowd::Crowd::default());
        let limits = Limits { connections: Some(connections), ..limits(Rate::Unlimited, Rate::Unlimited) };
        let limit = Limit::new(crowd.clone(), limits, Arc::new(TestClock::new(1)));
        assert_eq!(limit.properties().connections, connections);
        join_all((0..20).map(|number| limit.stat(pack(number)))).await;
        assert_eq!(crowd.most(), connections);
    }
}

#[tokio::test]
async fn other_calls_can_be_made_while_a_list_is_read() {
    let limits = Limits { connections: Some(1), ..limits(Rate::Unlimited, Rate::Unlimited) };
    let (_, limit) = limit(limits);
    for number in 0..3 {
        limit.create(pack(number), "x".into()).await.unwrap();
    }
    let mut list = limit.list(FileType::Pack);
    while let Some(info) = list.try_next().await.unwrap() {
        limit.stat(info.handle).await.unwrap();
    }
}

mod crowd {
    //! A storage that counts how many are in it at once.

    use super::*;
    use crate::StorageError;
    use std::sync::atomic::{AtomicUsize, Ordering};

    #[derive(Debug, Default)]
    pub struct Crowd {
        now: AtomicUsize,
        most: AtomicUsize,
    }

    impl Crowd {
        pub fn most(&self) -> usize {
            self.most.load(Ordering::Relaxed)
        }
    }

    #[async_trait]
    impl Storage for Crowd {
        fn properties(&self) -> Properties {
            Memory::new().properties()
        }
        async fn stat(&self, handle: Handle) -> Result<FileInfo> {
            let now = self.now.fetch_add(1, Ordering::Relaxed) + 1;
            self.most.fetch_max(now, Ordering::Relaxed);
            tokio::task::yield_now().await;
            self.now.fetch_sub(1, Ordering::Relaxed);
            Err(StorageError::NotFound(handle))
        }
        async fn prepare(&self) -> Result<()> {
            Ok(())
        }
        async fn create(&self, handle: Handle, _: Bytes) -> Result<()> {
            Err(StorageError::AlreadyExists(handle))
        }
        async fn read(&self, handle: Handle, _: Option<Range<u64>>) -> Result<Bytes> {
            Err(StorageError::NotFound(handle))
        }
        fn list(&self, _: FileType) -> BoxStream<'_, Result<FileInfo>> {
            stream::empty().boxed()
        }
        async fn remove(&self, handle: Handle) -> Result<()> {
            Err(StorageError::NotFound(handle))
        }
    }
}

proptest! {
    /// At any instant at most rate × time + burst + one request were let through; and a queue that is always full
    /// loses no time.
    #[test]
    fn a_bucket_keeps_its_rate_and_wastes_none(
        rate in 1_u64..50_000_000,
        requests in prop::collection::vec((0_u64..20_000_000, 0_u64..5_000), 1..40),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let clock = TestClock::new(1);
            let bucket = Bucket::new(RatePlan::constant(Rate::BytesPerSecond(rate)), Arc::new(clock.clone()));
            let (mut through, mut largest, mut idle) = (0_u64, 0, Duration::ZERO);
            for (bytes, pause_ms) in requests {
                let pause = Duration::from_millis(pause_ms);
                clock.advance(pause);
                idle += pause;
                bucket.take(bytes).await;
                through += bytes;
                largest = largest.max(bytes);
                let seconds = clock.elapsed().as_secs_f64();
                let allowed = seconds * rate as f64 + rate.max(BURST_BYTES_MIN) as f64 + largest as f64;
                assert!(through as f64 <= allowed * 1.000_001 + 1.0, "{through} of {allowed} bytes");
            }
            let needed = through as f64 / rate as f64 + idle.as_secs_f64();
            assert!(clock.elapsed().as_secs_f64() <= needed * 1.000_001 + 0.001, "no longer than the bytes take");
        });
    }
}
