//! What passes is repeated, what does not is not, and a lost answer never turns into a wrong one.

use super::*;
use crate::{
    FileId,
    clock::TestClock,
    conformance,
    faulty::{Chance, Failure, Fault, Faulty, ListFault, Rule},
    memory::Memory,
    recording::{CallKind, Recording},
};

const SIX_BYTES: &str = "sixsix";

fn pack(number: u8) -> Handle {
    Handle::new(FileType::Pack, FileId([number; 32]))
}

struct Bench {
    memory: Memory,
    clock: TestClock,
    recording: Arc<Recording>,
    retry: Retry,
}

/// Pack 1 is there; then the rule applies.
async fn bench(rule: Rule) -> Bench {
    let memory = Memory::new();
    memory.create(pack(1), SIX_BYTES.into()).await.unwrap();
    over(memory.clone(), Arc::new(Faulty::new(Arc::new(memory.far_away())).with(rule)))
}

fn over(memory: Memory, storage: Arc<dyn Storage>) -> Bench {
    let clock = TestClock::new(1);
    let recording = Arc::new(Recording::new(storage));
    let retry = Retry::new(recording.clone(), RetryLimits::STANDARD, Arc::new(clock.clone()));
    Bench { memory, clock, recording, retry }
}

#[tokio::test]
async fn a_retried_storage_is_a_storage() {
    conformance::check(&over(Memory::new(), Arc::new(Memory::new())).retry).await;
    conformance::check_absent(&over(Memory::new(), Arc::new(Memory::absent())).retry).await;
}

#[tokio::test]
async fn a_disk_of_this_machine_that_is_gone_is_given_up_soon() {
    let faulty = Faulty::new(Arc::new(Memory::new())).with(Rule::new(Fault::Error(Failure::Faulty)).always());
    let bench = over(Memory::new(), Arc::new(faulty));
    assert!(matches!(bench.retry.stat(pack(1)).await, Err(StorageError::Faulty(_))));
    assert!(bench.clock.elapsed() <= Duration::from_secs(10), "{:?}", bench.clock.elapsed());
}

#[tokio::test]
async fn faults_that_pass_do_not_show() {
    for seed in 0..50 {
        let faulty =
            Faulty::new(Arc::new(Memory::new().far_away())).with_chance(Chance::tolerable(seed).percent(50, 25));
        let retry = over(Memory::new(), Arc::new(faulty)).retry;
        for number in 0..20 {
            retry.create(pack(number), SIX_BYTES.into()).await.unwrap();
            assert_eq!(retry.read(pack(number), Some(0..3)).await.unwrap(), "six", "seed {seed}");
            assert_eq!(retry.stat(pack(number)).await.unwrap().size, 6, "seed {seed}");
        }
        for number in 0..10 {
            retry.remove(pack(number)).await.unwrap();
        }
        let files: Vec<_> = retry.list(FileType::Pack).try_collect().await.unwrap();
        let handles: Vec<_> = files.into_iter().map(|info| info.handle).collect();
        assert_eq!(handles, (10..20).map(pack).collect::<Vec<_>>(), "seed {seed}");
    }
}

#[tokio::test]
async fn an_error_that_passes_is_repeated() {
    for failure in [Failure::Unreachable, Failure::Busy(None), Failure::Faulty] {
        let bench = bench(Rule::new(Fault::Error(failure)).times(3)).await;
        assert_eq!(bench.retry.read(pack(1), None).await.unwrap(), SIX_BYTES);
        assert_eq!((bench.retry.repeated(), bench.clock.sleeps().len()), (3, 3));
    }
}

#[tokio::test]
async fn an_answer_that_will_not_change_is_not_repeated() {
    for failure in [Failure::Denied, Failure::Full] {
        let bench = bench(Rule::new(Fault::Error(failure))).await;
        bench.retry.read(pack(1), None).await.unwrap_err();
        assert_eq!(bench.recording.take().len(), 1);
    }
    let bench = bench(Rule::new(Fault::Done)).await;
    assert!(matches!(bench.retry.read(pack(2), None).await, Err(StorageError::NotFound(_))));
    assert!(matches!(bench.retry.read(pack(1), Some(0..7)).await, Err(StorageError::Short(..))));
    assert!(matches!(bench.retry.create(pack(1), "x".into()).await, Err(StorageError::AlreadyExists(_))));
    assert!(matches!(bench.retry.remove(pack(2)).await, Err(StorageError::NotFound(_))));
    assert_eq!(bench.recording.take().len(), 4);
}

#[tokio::test]
async fn the_budget_ends_the_attempts() {
    let bench = bench(Rule::new(Fault::Error(Failure::Unreachable)).always()).await;
    let error = bench.retry.stat(pack(1)).await.unwrap_err();
    assert!(matches!(error, StorageError::Unreachable(_)), "the last error is the answer");
    let slept: Duration = bench.clock.sleeps().iter().sum();
    assert!(slept <= RetryLimits::STANDARD.budget);
    assert!(slept + RetryLimits::STANDARD.longest_wait >= RetryLimits::STANDARD.budget, "{slept:?}");
    assert!(bench.recording.take().len() < 100);
}

#[tokio::test]
async fn waits_grow_up_to_their_bound_and_differ() {
    let bench = bench(Rule::new(Fault::Error(Failure::Unreachable)).always()).await;
    bench.retry.stat(pack(1)).await.unwrap_err();
    let sleeps = bench.clock.sleeps();
    for (number, slept) in sleeps.iter().enumerate() {
        let bound = Duration::from_millis(500) * 2_u32.pow(number.min(10) as u32);
        assert!(*slept <= bound.min(Duration::from_mins(1)), "wait {number} is {slept:?}");
    }
    assert!(sleeps.iter().any(|slept| *slept > Duration::from_secs(20)));
    assert!(sleeps.windows(2).any(|pair| pair[1] < pair[0]), "full jitter: {sleeps:?}");
}

#[tokio::test]
async fn a_busy_storage_is_given_the_time_it_asks_for() {
    let bench = bench(Rule::new(Fault::Error(Failure::Busy(Some(90))))).await;
    bench.retry.stat(pack(1)).await.unwrap();
    assert!(bench.clock.sleeps()[0] >= Duration::from_secs(90));
}

#[tokio::test]
async fn a_storage_that_asks_for_more_than_the_budget_fails_at_once() {
    let bench = bench(Rule::new(Fault::Error(Failure::Busy(Some(u64::MAX))))).await;
    assert!(matches!(bench.retry.stat(pack(1)).await, Err(StorageError::Busy(..))));
    assert_eq!(bench.clock.sleeps(), []);
}

#[tokio::test]
async fn a_create_whose_answer_was_lost_is_compared_not_sent_again() {
    let bench = bench(Rule::new(Fault::ErrorButDone(Failure::Unreachable)).on(CallKind::Create)).await;
    bench.retry.create(pack(7), SIX_BYTES.into()).await.unwrap();
    let expected = ["create pack 07070707 6", "stat pack 07070707", "read pack 07070707"];
    assert_eq!(bench.recording.take_texts(), expected);
    assert_eq!(bench.memory.files().len(), 2);
}

#[tokio::test]
async fn a_create_that_was_not_done_is_sent_again() {
    let bench = bench(Rule::new(Fault::Error(Failure::Unreachable)).on(CallKind::Create)).await;
    bench.retry.create(pack(7), SIX_BYTES.into()).await.unwrap();
    let expected = ["create pack 07070707 6", "stat pack 07070707", "create pack 07070707 6"];
    assert_eq!(bench.recording.take_texts(), expected);
}

#[tokio::test]
async fn a_create_that_the_storage_refused_to_begin_is_sent_again_without_a_look() {
    let bench = bench(Rule::new(Fault::Error(Failure::Busy(None))).on(CallKind::Create)).await;
    bench.retry.create(pack(7), SIX_BYTES.into()).await.unwrap();
    assert_eq!(bench.recording.take_texts(), ["create pack 07070707 6", "create pack 07070707 6"]);
}

#[tokio::test]
async fn a_create_that_left_broken_content_is_told_and_not_believed() {
    for fault in [Fault::Prefix(Failure::Unreachable), Fault::Zeros(Failure::Unreachable)] {
        let bench = bench(Rule::new(fault).on(CallKind::Create)).await;
        let answer = bench.retry.create(pack(7), SIX_BYTES.into()).await;
        assert!(matches!(answer, Err(StorageError::AlreadyExists(_))), "{answer:?}");
    }
}

#[tokio::test]
async fn a_local_create_is_repeated_since_that_makes_it_durable() {
    let memory = Memory::new();
    let rule = Rule::new(Fault::ErrorButDone(Failure::Faulty)).on(CallKind::Create);
    let bench = over(memory.clone(), Arc::new(Faulty::new(Arc::new(memory)).with(rule)));
    bench.retry.create(pack(7), SIX_BYTES.into()).await.unwrap();
    assert_eq!(bench.recording.take_texts(), ["create pack 07070707 6", "create pack 07070707 6"]);
}

#[tokio::test]
async fn a_removal_whose_answer_was_lost_is_done() {
    let bench = bench(Rule::new(Fault::ErrorButDone(Failure::Unreachable))).await;
    bench.retry.remove(pack(1)).await.unwrap();
    assert_eq!(bench.memory.files(), []);
}

#[tokio::test]
async fn a_short_body_is_repeated_and_never_accepted() {
    let once = bench(Rule::new(Fault::ShortBody)).await;
    assert_eq!(once.retry.read(pack(1), Some(0..6)).await.unwrap(), SIX_BYTES);
    assert_eq!(once.retry.repeated(), 1);
    let always = bench(Rule::new(Fault::ShortBody).always()).await;
    assert!(matches!(always.retry.read(pack(1), Some(0..6)).await, Err(StorageError::Faulty(_))));
}

#[tokio::test]
async fn a_list_is_complete_or_an_error() {
    for (fault, complete) in [
        (ListFault::Fails, true),
        (ListFault::BreaksOff(0), true),
        (ListFault::BreaksOff(1), true),
        (ListFault::Duplicated, true),
        (ListFault::TwoSizes, true),
        (ListFault::Reversed, true),
    ] {
        let bench = bench(Rule::new(Fault::List(fault))).await;
        bench.memory.create(pack(2), "x".into()).await.unwrap();
        let files: Vec<_> = bench.retry.list(FileType::Pack).try_collect().await.unwrap();
        let handles: Vec<_> = files.into_iter().map(|info| info.handle).collect();
        assert_eq!(handles == [pack(1), pack(2)], complete, "{fault:?}: {handles:?}");
    }
}

#[tokio::test]
async fn a_list_that_keeps_failing_is_an_error_and_not_empty() {
    for fault in [ListFault::Fails, ListFault::BreaksOff(1), ListFault::TwoSizes] {
        let bench = bench(Rule::new(Fault::List(fault)).always()).await;
        let items: Vec<_> = bench.retry.list(FileType::Pack).collect().await;
        assert!(matches!(items[..], [Err(_)]), "{fault:?}: {items:?}");
    }
}

#[tokio::test]
async fn a_place_that_is_not_there_is_not_an_empty_list() {
    let bench = over(Memory::new(), Arc::new(Memory::absent()));
    let items: Vec<_> = bench.retry.list(FileType::Snapshot).collect().await;
    assert!(matches!(items[..], [Err(StorageError::NoPlace(_))]), "{items:?}");
    assert_eq!(bench.clock.sleeps(), []);
}
