//! The source over a platform in memory.

use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;

use super::Bosh;
use super::config::BoshConfig;
use super::fake::FakePlatform;
use super::mark::Marks;
use crate::bench::{Bench, surroundings};
use crate::conformance::{self, Bed};
use crate::context::{Context, Destination, Purpose};
use crate::faults::Faults;
use crate::recorder::{RecordedTree, Recorder};
use crate::source::{Base, Outcome, RestoreRequest, Source, SourceError, Step, Unit};

struct PlatformBed {
    platform: FakePlatform,
    state: tempfile::TempDir,
    keys: &'static str,
}

impl PlatformBed {
    fn new(keys: &'static str) -> Self {
        Self { platform: FakePlatform::default(), state: tempfile::tempdir().unwrap(), keys }
    }

    fn bosh(&self) -> Bosh {
        let config: BoshConfig = serde_saphyr::from_str(&format!(
            "mode: deployment\ndirector: {{url: \"https://d\", client: c, client-secret: \"env:S\"}}\n{}",
            self.keys
        ))
        .unwrap();
        assert_eq!(config.faults(), []);
        Bosh::over(config, Marks::new(&surroundings("cf", self.state.path())), Box::new(self.platform.clone()))
    }

    fn unit() -> Unit {
        Unit { id: "uuid/cf".into(), name: "cf".to_owned() }
    }
}

#[async_trait]
impl Bed for PlatformBed {
    fn source(&self) -> Box<dyn Source> {
        Box::new(self.bosh())
    }

    fn faults(&self) -> Faults {
        self.platform.faults.clone()
    }

    fn describe(&self) -> String {
        let marks = Marks::new(&surroundings("cf", self.state.path()));
        let marks = marks.remnants(Timestamp::UNIX_EPOCH, Duration::MAX).unwrap();
        format!("{} {marks:?}", self.platform.describe())
    }

    fn leave_foreign(&self) -> bool {
        self.platform.state().beside.insert("x".to_owned(), "foreign".to_owned());
        true
    }

    fn foreign_is_there(&self) -> bool {
        self.platform.state().beside.contains_key("x")
    }
}

#[tokio::test(start_paused = true)]
async fn it_passes_the_suite_of_all_sources() {
    // With more at once the order of calls is the threads' affair, and one seed makes the same calls no more.
    conformance::check(|| PlatformBed::new("drain: {parallel-max: 1}")).await;
}

/// One backup, as far as its items are stored.
async fn back_up(bed: &PlatformBed, run: &str, parent: &RecordedTree) -> RecordedTree {
    let (bench, source, unit) = (Bench::new(run), bed.bosh(), PlatformBed::unit());
    let base = parent.facts.last().map(|facts| Base { snapshot: "s".into(), facts: facts.clone() });
    source.freeze(&bench.cx, &unit).await.unwrap();
    let mut capture = source.capture(&bench.cx, &unit, base.as_ref()).await.unwrap();
    source.thaw(&bench.cx, &unit).await.unwrap();
    let sink = Recorder::over(&bench.cx, parent);
    let facts = capture.items(&bench.cx, &sink).await.unwrap();
    drop(capture);
    source.release(&bench.cx, &unit, Outcome::Kept).await.unwrap();
    sink.commit(facts).unwrap()
}

fn meta(tree: &RecordedTree) -> String {
    let found = tree.items.iter().find(|(path, _)| path.as_bytes() == b"bosh/cf/_meta/metadata");
    String::from_utf8(found.unwrap().1.content.to_vec()).unwrap()
}

#[tokio::test(start_paused = true)]
async fn what_is_unchanged_does_not_travel_and_keeps_its_hash() {
    let bed = PlatformBed::new("");
    let first = back_up(&bed, "r1", &RecordedTree::default()).await;
    assert_eq!(bed.platform.state().packed, 6);
    assert_eq!(bed.platform.state().unlocks, [true]);
    let calls = bed.platform.faults.calls().len();
    let second = back_up(&bed, "r2", &first).await;
    assert_eq!(bed.platform.state().packed, 6, "nothing travelled");
    let later = bed.platform.faults.calls().split_off(calls);
    assert!(!later.iter().any(|call| call == "sums"), "{later:?}");
    let hashes = |tree: &RecordedTree| {
        meta(tree).lines().filter(|line| line.contains("./")).map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(hashes(&second), hashes(&first));
    assert_eq!(hashes(&first).len(), 6);
}

#[tokio::test(start_paused = true)]
async fn with_incremental_never_all_travels_each_time() {
    let bed = PlatformBed::new("drain: {incremental: never}");
    let first = back_up(&bed, "r1", &RecordedTree::default()).await;
    back_up(&bed, "r2", &first).await;
    assert_eq!(bed.platform.state().packed, 12);
}

#[tokio::test(start_paused = true)]
async fn a_failed_backup_script_unlocks_and_tells_it_was_no_success() {
    let (bed, bench, unit) = (PlatformBed::new(""), Bench::new("r1"), PlatformBed::unit());
    let source = bed.bosh();
    source.freeze(&bench.cx, &unit).await.unwrap();
    let next = bed.platform.faults.calls().len();
    bed.platform.faults.at(next, crate::faults::Fault::ErrorButDone);
    assert!(source.capture(&bench.cx, &unit, None).await.is_err());
    source.thaw(&bench.cx, &unit).await.unwrap();
    assert_eq!(bed.platform.state().unlocks, [false]);
}

#[tokio::test(start_paused = true)]
async fn what_a_dead_run_made_is_carried_away_without_a_second_lock() {
    let (bed, bench, unit) = (PlatformBed::new(""), Bench::new("r1"), PlatformBed::unit());
    {
        let dead = bed.bosh();
        dead.freeze(&bench.cx, &unit).await.unwrap();
        dead.capture(&bench.cx, &unit, None).await.unwrap();
    }
    let next = bed.bosh();
    let remnants = next.remnants(&Bench::new("r2").cx).await.unwrap();
    assert_eq!((remnants.len(), remnants[0].complete), (1, true));
    next.thaw(&bench.cx, &unit).await.unwrap();
    assert_eq!(bed.platform.state().unlocks, [true]);
    let mut capture = next.reopen(&bench.cx, &remnants[0]).await.unwrap();
    let sink = Recorder::new(&bench.cx);
    let facts = capture.items(&bench.cx, &sink).await.unwrap();
    drop(capture);
    assert!(sink.commit(facts).unwrap().items.len() > 6);
    next.release(&bench.cx, &unit, Outcome::Kept).await.unwrap();
    assert_eq!(bed.platform.describe(), FakePlatform::default().describe());
    let calls = bed.platform.faults.calls();
    assert_eq!(calls.iter().filter(|call| *call == "lock").count(), 2, "one for each job");
}

#[tokio::test(start_paused = true)]
async fn what_is_stored_is_restored_by_the_scripts() {
    let bed = PlatformBed::new("");
    let stored = back_up(&bed, "r1", &RecordedTree::default()).await;
    let (bench, source) = (Bench::new("r9"), bed.bosh());
    let cx: Context = bench.cx.for_run(&"r9".into(), Purpose::Restore);
    let request =
        RestoreRequest { unit: PlatformBed::unit(), to: Destination::Origin, options: serde_json::Value::Null };
    let mut restore = source.restore(&cx, &request, &stored).await.unwrap();
    assert_eq!(restore.plan().steps[0], Step::Replace("db/0/blobstore, 3 files".to_owned()));
    restore.apply(&cx).await.unwrap();
    assert_eq!(restore.prove(&cx).await.unwrap().checks.len(), 2);
    drop(restore);
    source.release(&cx, &PlatformBed::unit(), Outcome::Kept).await.unwrap();
    let state = bed.platform.state();
    assert_eq!(state.restored["db"]["a b"], b"db");
    assert_eq!(state.restored["blobstore"]["sub/large"].len(), 200_000);
    assert!(state.store.is_empty() && state.users.is_empty() && state.locked.is_empty());
}

#[tokio::test(start_paused = true)]
async fn artifacts_of_another_program_are_refused_and_stay() {
    let (bed, bench) = (PlatformBed::new(""), Bench::new("r1"));
    assert!(bed.leave_foreign());
    let source = bed.bosh();
    let refused = source.freeze(&bench.cx, &PlatformBed::unit()).await;
    assert!(matches!(refused, Err(SourceError::Refused(text)) if text.contains("another program")));
    source.thaw(&bench.cx, &PlatformBed::unit()).await.unwrap();
    source.release(&bench.cx, &PlatformBed::unit(), Outcome::Dropped).await.unwrap();
    assert!(bed.foreign_is_there() && bed.platform.state().users.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_drain_that_goes_on_hashes_nothing_that_was_proved() {
    let (bed, bench, unit) = (PlatformBed::new("drain: {parallel-max: 1}"), Bench::new("r1"), PlatformBed::unit());
    let source = bed.bosh();
    source.freeze(&bench.cx, &unit).await.unwrap();
    let mut capture = source.capture(&bench.cx, &unit, None).await.unwrap();
    let first = Recorder::new(&bench.cx);
    let facts = capture.items(&bench.cx, &first).await.unwrap();
    let first = first.commit(facts).unwrap();
    drop(capture);
    // The process dies before it says so, and what it read is there.
    drop(source);
    let next = bed.bosh();
    let remnants = next.remnants(&Bench::new("r2").cx).await.unwrap();
    let mut capture = next.reopen(&bench.cx, &remnants[0]).await.unwrap();
    let calls = bed.platform.faults.calls().len();
    let sink = Recorder::over(&bench.cx, &first);
    let facts = capture.items(&bench.cx, &sink).await.unwrap();
    assert_eq!(facts.taken_at, first.facts[0].taken_at, "the moment of the capture");
    let later = bed.platform.faults.calls().split_off(calls);
    assert!(!later.iter().any(|call| call == "sums" || call == "pack"), "{later:?}");
    assert_eq!(meta(&sink.commit(facts).unwrap()), meta(&first));
}

#[tokio::test(start_paused = true)]
async fn what_is_left_is_alive_while_it_is_held_and_old_after_a_while() {
    let (bed, bench, unit) = (PlatformBed::new("drain: {keep: 1h}"), Bench::new("r1"), PlatformBed::unit());
    let source = bed.bosh();
    source.freeze(&bench.cx, &unit).await.unwrap();
    drop(source.capture(&bench.cx, &unit, None).await.unwrap());
    let other = bed.bosh();
    let left = other.remnants(&bench.cx).await.unwrap();
    assert!(left[0].seen_at > Timestamp::UNIX_EPOCH && left[0].complete, "{left:?}");
    assert!(matches!(other.thaw(&bench.cx, &unit).await, Err(SourceError::Busy(_))));
    drop(source);
    let left = other.remnants(&bench.cx).await.unwrap();
    assert!(left[0].seen_at == Timestamp::UNIX_EPOCH && left[0].complete, "{left:?}");
    bench.cx.world.sleep(Duration::from_secs(3601)).await;
    assert!(!other.remnants(&bench.cx).await.unwrap()[0].complete);
    let never = PlatformBed { keys: "auto-cleanup: never", ..bed };
    assert_eq!(never.bosh().remnants(&bench.cx).await.unwrap(), []);
}

#[tokio::test(start_paused = true)]
async fn what_another_length_or_time_has_is_hashed_again() {
    let bed = PlatformBed::new("");
    let mut first = back_up(&bed, "r1", &RecordedTree::default()).await;
    let facts = first.facts.last_mut().unwrap();
    facts.notes["files"]["db/0/db"]["./a b"][0] = 7.into();
    let calls = bed.platform.faults.calls().len();
    let second = back_up(&bed, "r2", &first).await;
    let later = bed.platform.faults.calls().split_off(calls);
    assert_eq!(later.iter().filter(|call| *call == "sums").count(), 1, "{later:?}");
    assert_eq!(second.facts.last().unwrap().notes["files"], back_up(&bed, "r3", &second).await.facts[0].notes["files"]);
}
