//! The suite that every source passes, over its fake: whatever fails and whenever, what the run made is gone or found
//! again, nothing of others is touched, and what was stored comes back.

use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;

use crate::bench::Bench;
use crate::context::{Context, Destination, Purpose, Stop};
use crate::faults::{Fault, Faults};
use crate::item::{Content, Item, Version};
use crate::path::TreePath;
use crate::recorder::{RecordedTree, Recorder};
use crate::source::{Image, Items, Outcome, Pushed, RestoreRequest, Result, Source, SourceError, Unit};

/// A fake system with a source over it, made anew for each rule.
#[async_trait]
pub trait Bed: Send + Sync {
    /// A new instance of the source, as another process would build it.
    fn source(&self) -> Box<dyn Source>;

    /// Script and record of the calls on the system.
    fn faults(&self) -> Faults;

    /// All of the system that a run could change, as text.
    fn describe(&self) -> String;

    /// Puts there what another tool or another run made. `false`: there is nothing of that kind.
    fn leave_foreign(&self) -> bool;

    /// Whether what `leave_foreign` put there still lies there.
    fn foreign_is_there(&self) -> bool;

    /// What a restore is asked with.
    fn options(&self) -> serde_json::Value {
        serde_json::Value::Null
    }

    /// Whether one capture can be read only once, because its content flows.
    fn flows(&self) -> bool {
        false
    }
}

/// Which part of a run was the last that was begun.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Before,
    Window,
    Drain,
    Release,
}

/// Runs all rules; `make` makes a fresh bed, equal each time.
pub async fn check<B: Bed>(make: impl Fn() -> B) {
    every_fault_leaves_nothing(&make).await;
    settling_without_cause_changes_nothing(&make()).await;
    what_others_made_survives(&make()).await;
    two_readings_are_equal(&make()).await;
    what_the_sink_refuses_ends_the_reading(&make).await;
    equal_versions_are_not_read(&make()).await;
    a_restore_proves_and_goes(&make()).await;
    one_seed_makes_the_same_calls(&make).await;
}

/// For every call and every way to fail at it: `thaw` and `release` by a second instance leave the system as it was.
async fn every_fault_leaves_nothing<B: Bed>(make: &impl Fn() -> B) {
    let bed = make();
    let before = bed.describe();
    let bench = Bench::new("r1");
    let mut phase = Phase::Before;
    back_up(&bench.cx, &*bed.source(), &RecordedTree::default(), &mut phase).await.expect("a run without faults");
    let (calls, after) = (bed.faults().calls(), bed.describe());
    let stop = Fault::Stop(Stop::Cancelled);
    for fault in [Fault::Error, Fault::ErrorButDone, stop, Fault::Gone, Fault::GoneButDone] {
        for (number, call) in calls.iter().enumerate() {
            let bed = make();
            assert_eq!(bed.describe(), before, "each bed is equal");
            let (ended, phase) = fail_at(&bed, number, fault).await;
            if matches!(fault, Fault::Error | Fault::ErrorButDone) {
                assert!(ended.is_some_and(|ended| ended.is_err()), "{fault:?} at {call} was swallowed");
            }
            let expected = if phase == Phase::Release { &after } else { &before };
            assert_eq!(bed.describe(), *expected, "after {fault:?} at {call}");
            let left = bed.source().remnants(&Bench::new("r2").cx).await.expect("remnants can be listed");
            assert!(left.is_empty(), "after {fault:?} at {call}: {left:?}");
        }
    }
}

/// A run with one fault, settled by a second instance. `None`: the process died.
async fn fail_at(bed: &dyn Bed, number: usize, fault: Fault) -> (Option<Result<()>>, Phase) {
    let bench = Bench::new("r1");
    let faults = bed.faults();
    faults.at(number, fault);
    faults.stops(bench.stop.clone());
    let (source, mut phase) = (bed.source(), Phase::Before);
    let parent = RecordedTree::default();
    let ended = tokio::select! {
        biased;
        ended = back_up(&bench.cx, &*source, &parent, &mut phase) => Some(ended.map(drop)),
        () = faults.gone() => None,
    };
    faults.clear();
    drop(source);
    settle(bed, &bench.cx, phase).await;
    (ended, phase)
}

/// As the engine does with a dead run: what was committed is kept, all else goes.
async fn settle(bed: &dyn Bed, cx: &Context, phase: Phase) {
    let (cx, source) = (Bench::new("r2").cx.for_run(&cx.run, cx.purpose), bed.source());
    let unit = the_unit(&cx, &*source).await;
    source.thaw(&cx, &unit).await.expect("thaw by a second instance");
    let outcome = if phase == Phase::Release { Outcome::Kept } else { Outcome::Dropped };
    source.release(&cx, &unit, outcome).await.expect("release by a second instance");
}

async fn the_unit(cx: &Context, source: &dyn Source) -> Unit {
    let mut units = source.discover(cx).await.expect("units can be listed");
    assert_eq!(units.len(), 1, "a bed has one unit");
    units.remove(0)
}

/// One backup in the engine's order, for one unit.
async fn back_up(cx: &Context, source: &dyn Source, parent: &RecordedTree, phase: &mut Phase) -> Result<RecordedTree> {
    source.preflight(cx).await?;
    let unit = source.discover(cx).await?.pop().ok_or(SourceError::Gone)?;
    *phase = Phase::Window;
    let frozen = source.freeze(cx, &unit).await;
    let captured = match frozen {
        Ok(()) => source.capture(cx, &unit, None).await,
        Err(error) => Err(error),
    };
    let mut capture = match captured {
        Ok(capture) => capture,
        Err(error) => {
            source.thaw(&cx.for_cleanup(std::time::Duration::from_mins(10)), &unit).await?;
            return Err(error);
        }
    };
    let sink = Recorder::over(cx, parent);
    let live = source.capabilities().image == Image::Live;
    let cleanup = cx.for_cleanup(std::time::Duration::from_mins(10));
    if !live {
        source.thaw(&cleanup, &unit).await?;
    }
    *phase = Phase::Drain;
    let drained = capture.items(cx, &sink).await;
    drop(capture);
    if live {
        source.thaw(&cleanup, &unit).await?;
    }
    let promises = sink.broken_promises();
    assert!(promises.is_empty(), "{promises:?}");
    let tree = sink.commit(drained?)?;
    *phase = Phase::Release;
    source.release(cx, &unit, Outcome::Kept).await?;
    Ok(tree)
}

/// `thaw` and `release`, twice and without a run, change nothing.
async fn settling_without_cause_changes_nothing(bed: &dyn Bed) {
    let (before, bench, source) = (bed.describe(), Bench::new("r1"), bed.source());
    let unit = the_unit(&bench.cx, &*source).await;
    for purpose in [Purpose::Backup, Purpose::Restore, Purpose::Drill] {
        let cx = bench.cx.for_run(&bench.cx.run, purpose);
        for outcome in [Outcome::Kept, Outcome::Dropped, Outcome::Kept] {
            source.thaw(&cx, &unit).await.expect("thaw without freeze");
            source.release(&cx, &unit, outcome).await.expect("release without capture");
        }
    }
    assert_eq!(bed.describe(), before);
}

/// Neither a good run nor the settling of a dead one touches what bears another mark.
async fn what_others_made_survives(bed: &dyn Bed) {
    if !bed.leave_foreign() {
        return;
    }
    let (bench, mut phase) = (Bench::new("r1"), Phase::Before);
    let _ = back_up(&bench.cx, &*bed.source(), &RecordedTree::default(), &mut phase).await; // it may be busy
    settle(bed, &bench.cx, Phase::Window).await;
    assert!(bed.foreign_is_there());
}

/// `items` twice on one capture gives equal trees; a content that flows says that it cannot.
async fn two_readings_are_equal(bed: &dyn Bed) {
    let (bench, source) = (Bench::new("r1"), bed.source());
    let unit = the_unit(&bench.cx, &*source).await;
    let mut capture = source.capture(&bench.cx, &unit, None).await.expect("a capture");
    let first = Recorder::new(&bench.cx);
    let facts = capture.items(&bench.cx, &first).await.expect("items");
    let first = first.commit(facts).expect("whole");
    let second = Recorder::new(&bench.cx);
    match capture.items(&bench.cx, &second).await {
        Ok(facts) => assert_eq!(second.commit(facts).expect("whole"), first),
        Err(error) => assert!(bed.flows() && matches!(error, SourceError::Incomplete(_)), "{error}"),
    }
}

/// Whichever push or leave the sink refuses, `items` answers with its error.
async fn what_the_sink_refuses_ends_the_reading<B: Bed>(make: &impl Fn() -> B) {
    for number in 0.. {
        let (bench, bed) = (Bench::new("r1"), make());
        let source = bed.source();
        let unit = the_unit(&bench.cx, &*source).await;
        let mut capture = source.capture(&bench.cx, &unit, None).await.expect("a capture");
        let sink = Refusing { inner: Recorder::new(&bench.cx), left: AtomicUsize::new(number) };
        let ended = capture.items(&bench.cx, &sink).await;
        if !sink.has_refused() {
            assert!(ended.is_ok() && number > 0, "a reading without refusal after {number} calls");
            return;
        }
        let passed_on = matches!(ended, Err(SourceError::Stopped(Stop::Repository)));
        assert!(passed_on, "the refusal of call {number} was swallowed");
    }
}

/// Refuses the call with this number.
struct Refusing {
    inner: Recorder,
    left: AtomicUsize,
}

impl Refusing {
    /// Counts down; below 0 it wraps around to numbers that no run reaches.
    fn ask(&self) -> Result<()> {
        match self.left.fetch_sub(1, Ordering::Relaxed) {
            0 => Err(Stop::Repository.into()),
            _ => Ok(()),
        }
    }

    fn has_refused(&self) -> bool {
        self.left.load(Ordering::Relaxed) > usize::MAX / 2
    }
}

#[async_trait]
impl Items for Refusing {
    async fn push(&self, item: Item, content: Content<'_>) -> Result<Pushed> {
        self.ask()?;
        self.inner.push(item, content).await
    }

    async fn reuse(&self, item: &Item) -> Result<bool> {
        self.inner.reuse(item).await
    }

    async fn leave(&self, directory: &TreePath) -> Result<()> {
        self.ask()?;
        self.inner.leave(directory).await
    }
}

/// With a parent of the same state nothing is opened that has a version.
async fn equal_versions_are_not_read(bed: &dyn Bed) {
    let (bench, source) = (Bench::new("r1"), bed.source());
    let mut phase = Phase::Before;
    let parent = back_up(&bench.cx, &*source, &RecordedTree::default(), &mut phase).await.expect("a first run");
    let next = Bench::new("r2");
    let unit = the_unit(&next.cx, &*source).await;
    let mut capture = source.capture(&next.cx, &unit, None).await.expect("a capture");
    let sink = Recorder::over(&next.cx, &parent);
    capture.items(&next.cx, &sink).await.expect("items");
    let versioned = |path: &&TreePath| parent.items[*path].item.version != Version::Unknown;
    let opened = sink.opened();
    assert_eq!(opened.iter().find(versioned), None, "opened although its version is equal");
}

/// What was stored, restored to a throw-away place, proves, and then goes.
async fn a_restore_proves_and_goes(bed: &dyn Bed) {
    let source = bed.source();
    let (bench, mut phase) = (Bench::new("r1"), Phase::Before);
    let stored = back_up(&bench.cx, &*source, &RecordedTree::default(), &mut phase).await.expect("a backup");
    let before = bed.describe();
    for to in source.capabilities().destinations {
        let cx = bench.cx.for_run(&"r9".into(), Purpose::Drill);
        let unit = the_unit(&cx, &*source).await;
        let request = RestoreRequest { unit: unit.clone(), to: *to, options: bed.options() };
        let mut restore = source.restore(&cx, &request, &stored).await.expect("a plan");
        assert!(!restore.plan().steps.is_empty());
        assert_eq!(bed.describe(), before, "a plan changes nothing");
        if *to != Destination::Scratch {
            continue;
        }
        restore.apply(&cx).await.expect("a restore");
        let proof = restore.prove(&cx).await.expect("a proof");
        assert!(!proof.checks.is_empty());
        drop(restore);
        source.release(&cx, &unit, Outcome::Dropped).await.expect("release");
        assert_eq!(bed.describe(), before, "a drill leaves nothing");
    }
}

async fn one_seed_makes_the_same_calls<B: Bed>(make: &impl Fn() -> B) {
    let run = async || {
        let (bed, bench) = (make(), Bench::with_seed("r1", 42));
        let mut phase = Phase::Before;
        back_up(&bench.cx, &*bed.source(), &RecordedTree::default(), &mut phase).await.expect("a backup");
        bed.faults().calls()
    };
    assert_eq!(run().await, run().await);
}
