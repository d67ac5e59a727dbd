//! The stack as a whole: it is a storage, and leaves out what a local folder does not need.

use super::*;
use crate::{
    FileType, Handle,
    clock::TestClock,
    conformance,
    faulty::{Chance, Failure, Fault, Faulty, Rule},
    memory::Memory,
    recording::Recording,
};

fn options() -> StackOptions {
    StackOptions::new(Arc::new(TestClock::new(1)))
}

fn limited() -> Limits {
    let rate = RatePlan::constant(Rate::BytesPerSecond(1_000_000));
    Limits { up: rate.clone(), down: rate, connections: Some(3) }
}

#[tokio::test]
async fn the_whole_stack_is_a_storage() {
    let folder = tempfile::tempdir().unwrap();
    let cache = Some(CacheOptions { root: folder.path().into(), bytes_max: 1 << 20 });
    let stack = Stack::over(Arc::new(Memory::new().far_away()), StackOptions { limits: limited(), cache, ..options() });
    stack.identify(FileId([1; 32]));
    conformance::check(&*stack.storage()).await;
    conformance::check(&*stack.uncached()).await;
    assert_eq!(stack.storage().properties().connections, 3);
    assert!(stack.cache_statistics().unwrap().misses > 0);
}

#[tokio::test]
async fn a_local_folder_is_opened_by_its_address() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("repository");
    let location = Location::parse(path.to_str().unwrap()).unwrap();
    let cache = Some(CacheOptions { root: folder.path().join("cache"), bytes_max: 1 << 20 });
    let stack = Stack::open(&location, StackOptions { cache, ..options() }).await.unwrap();
    conformance::check_absent(&*stack.storage()).await;
    assert_eq!((stack.cache_statistics(), stack.repeated()), (None, 0));
    assert!(!folder.path().join("cache").exists());
}

#[tokio::test]
async fn a_silent_storage_is_given_up_and_asked_again() {
    let clock = TestClock::new(1);
    let faulty = Faulty::new(Arc::new(Memory::new().far_away())).with(Rule::new(Fault::Hang));
    let stack = Stack::over(Arc::new(faulty), StackOptions::new(Arc::new(clock.clone())));
    let storage = stack.storage();
    let call = tokio::spawn(async move { storage.create(Handle::Config, "x".into()).await });
    while !call.is_finished() {
        tokio::task::yield_now().await;
        clock.advance(Duration::from_secs(1));
    }
    call.await.unwrap().unwrap();
    assert_eq!(stack.repeated(), 1);
}

#[tokio::test]
async fn repeated_bytes_count_against_the_rate() {
    let rule = Rule::new(Fault::Error(Failure::Busy(Some(0)))).times(9);
    let recording = Arc::new(Recording::new(Arc::new(Faulty::new(Arc::new(Memory::new().far_away())).with(rule))));
    let clock = TestClock::new(1);
    let retry = RetryLimits { first_wait: Duration::ZERO, ..RetryLimits::STANDARD };
    let options = StackOptions { limits: limited(), retry, ..StackOptions::new(Arc::new(clock.clone())) };
    let stack = Stack::over(recording.clone(), options);
    stack.storage().create(Handle::Config, vec![0; 1_000_000].into()).await.unwrap();
    assert_eq!(recording.take().len(), 10);
    assert_eq!(clock.elapsed().as_secs(), 9);
}

#[tokio::test]
async fn opening_is_repeated_while_the_storage_cannot_be_reached() {
    let clock = TestClock::new(1);
    let left = std::sync::atomic::AtomicU32::new(3);
    let open = async || match left.fetch_sub(1, std::sync::atomic::Ordering::Relaxed) {
        0 => Ok("open"),
        _ => Err(Failure::Unreachable.error()),
    };
    assert_eq!(retry::open(RetryLimits::STANDARD, &clock, open).await.unwrap(), "open");
    let refused = async || Err::<(), _>(Failure::Denied.error());
    retry::open(RetryLimits::STANDARD, &clock, refused).await.unwrap_err();
    assert_eq!(clock.sleeps().len(), 3);
}

#[tokio::test]
async fn faults_that_pass_do_not_show_above_the_stack() {
    for seed in 100..120 {
        let faulty =
            Faulty::new(Arc::new(Memory::new().far_away())).with_chance(Chance::tolerable(seed).percent(60, 20));
        let stack = Stack::over(Arc::new(faulty), StackOptions { limits: limited(), ..options() });
        let storage = stack.storage();
        for number in 0..30 {
            let handle = Handle::new(FileType::Index, FileId([number; 32]));
            storage.create(handle.clone(), vec![number; 1000].into()).await.unwrap();
            assert_eq!(storage.read(handle, Some(0..1000)).await.unwrap(), vec![number; 1000], "seed {seed}");
        }
    }
}

#[cfg(not(feature = "s3"))]
#[tokio::test]
async fn a_kind_that_was_left_out_is_named() {
    let location = Location::parse("s3:host/bucket").unwrap();
    let error = Stack::open(&location, options()).await.unwrap_err();
    assert!(error.to_string().contains("no s3: storages"), "{error}");
}
