//! What a backup promises, over a fake system and a repository in memory: what is green is stored, what is stored is
//! whole, what was frozen is thawed, and nothing of others is touched.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]
#![expect(clippy::disallowed_methods, reason = "tokio's clock is paused here: nobody waits")]

#[path = "backup/bed.rs"]
#[expect(dead_code, reason = "shared with the tests of recovery")]
mod bed;

use bed::{Bed, SECOND, Wish, bench, check, filled, source, stored, system};
use onggi_engine::{
    backup::{Manifest, Parents},
    edge::Leases,
    report::UnitOutcome,
};
use onggi_source::{
    Base, Capabilities, Capture, Context, Image, Outcome, Remnant, Result, Source, Stop, TreePath, Unit,
    bench::Bench,
    careless::{Careless, Carelessness},
    fake::{FakeContents, FakeOptions, FakeSource, FakeSystem, FakeVersions},
    faults::{Fault, Faults},
};
use std::time::Duration;

// ---- one unit ----

#[tokio::test(start_paused = true)]
async fn what_is_stored_is_what_was_there() {
    let (bed, bench, system) = (Bed::new().await, bench("r1"), system("web"));
    for contents in [FakeContents::At, FakeContents::Stream, FakeContents::Inline] {
        let source = FakeSource::new(&system, FakeOptions { contents, ..FakeOptions::default() });
        let wish = Wish { parents: Parents::Nothing, ..Wish::default() };
        stored(&bed.one_with(&bench.cx, &source, &source.unit(), &wish).await);
        for (path, file) in system.files() {
            assert_eq!(bed.content(&path.to_string()).await, file.content, "{path}");
        }
    }
    let snapshot = bed.snapshots().await.pop().unwrap();
    assert_eq!(snapshot.tags, ["onggi", "kind:fake", "source:source-of-web", "unit:web", "run:r1"]);
    assert_eq!((snapshot.hostname.as_str(), snapshot.paths.as_slice()), ("web", &["/".to_owned()][..]));
}

#[tokio::test(start_paused = true)]
async fn an_unreadable_file_is_a_problem_and_the_rest_is_stored() {
    let (bed, bench, system) = (Bed::new().await, bench("r1"), system("web"));
    system.edit("a/two", |file| file.readable = false);
    let report = bed.one(&bench.cx, &source(&system), &source(&system).unit()).await;
    check(&report, UnitOutcome::StoredWithProblems, 3);
    assert_eq!(report.problems.count, 1);
    assert_eq!(report.problems.first[0].path.as_deref(), Some("a/two"));
    assert!(bed.node("a/two").await.is_none() && bed.node("a/one").await.is_some());
    assert!(bed.node(".onggi/errors.json").await.is_some());
    assert!(bed.snapshots().await[0].has_tag("partial"));
}

#[tokio::test(start_paused = true)]
async fn unchanged_files_are_not_opened() {
    for versions in [FakeVersions::Stat, FakeVersions::Token] {
        let (bed, system) = (Bed::new().await, system("web"));
        let source = FakeSource::new(&system, FakeOptions { versions, ..FakeOptions::default() });
        stored(&bed.one(&bench("r1").cx, &source, &source.unit()).await);
        let before = system.faults().calls().len();
        system.put("a/three", "three");
        let report = bed.one(&bench("r2").cx, &source, &source.unit()).await;
        stored(&report);
        let opened: Vec<_> = system.faults().calls().split_off(before);
        let opened: Vec<_> = opened.into_iter().filter(|call| call.contains("open")).collect();
        assert_eq!(opened, ["web open a/three"], "{versions:?}");
        // The manifest is a file too, and always new.
        assert_eq!((report.figures.files_unmodified, report.figures.files_new), (3, 1));
    }
}

#[tokio::test(start_paused = true)]
async fn a_file_with_another_token_is_read() {
    let (bed, system) = (Bed::new().await, system("web"));
    let source = FakeSource::new(&system, FakeOptions { versions: FakeVersions::Token, ..FakeOptions::default() });
    stored(&bed.one(&bench("r1").cx, &source, &source.unit()).await);
    system.put("a/two", "TWO");
    stored(&bed.one(&bench("r2").cx, &source, &source.unit()).await);
    assert_eq!(bed.content("a/two").await, b"TWO");
}

#[tokio::test(start_paused = true)]
async fn a_dry_run_stores_nothing_and_leaves_nothing() {
    let (bed, system) = (Bed::new().await, system("web"));
    let wish = Wish { dry_run: true, ..Wish::default() };
    let report = bed.one_with(&bench("r1").cx, &source(&system), &source(&system).unit(), &wish).await;
    check(&report, UnitOutcome::Stored, 0);
    assert_eq!(report.snapshot, None);
    assert!(report.figures.data_added > 0);
    assert!(bed.snapshots().await.is_empty() && system.images().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_unit_that_another_run_is_at_work_on_is_skipped_and_told() {
    let (bed, system) = (Bed::new().await, system("web"));
    let (source, folder) = (source(&system), tempfile::tempdir().unwrap());
    let leases = Leases::new(folder.path());
    let wish = Wish { leases: Some(leases.clone()), ..Wish::default() };
    let other = leases.take("source-of-web", "web", "run r0").unwrap().unwrap();
    let report = bed.one_with(&bench("r1").cx, &source, &source.unit(), &wish).await;
    check(&report, UnitOutcome::Failed, 11);
    assert!(report.problems.has("leased") && report.causes[0].contains("run r0"), "{report:#?}");
    assert!(system.faults().calls().is_empty(), "nobody asked the system anything");
    drop(other);
    stored(&bed.one_with(&bench("r2").cx, &source, &source.unit(), &wish).await);
    assert!(leases.take("source-of-web", "web", "run r3").unwrap().is_ok(), "given back at the end");
}

#[tokio::test(start_paused = true)]
async fn reading_keeps_to_its_rate() {
    let (bed, bench) = (Bed::new().await, bench("r1"));
    let system = FakeSystem::new("web");
    (0..100_u64).for_each(|n| system.put(&format!("f{n}"), n.to_le_bytes().repeat(1250)));
    let wish = Wish { rate: Some(100_000), ..Wish::default() };
    let started = bench.cx.world.elapsed();
    stored(&bed.one_with(&bench.cx, &source(&system), &source(&system).unit(), &wish).await);
    let took = bench.cx.world.elapsed().saturating_sub(started);
    assert!((9 * SECOND..11 * SECOND).contains(&took), "{took:?} for 1 MB at 100 kB/s");
}

// ---- torn attempts ----

#[tokio::test(start_paused = true)]
async fn a_careless_adapter_cannot_commit_a_torn_capture() {
    for how in [Carelessness::SwallowsErrors, Carelessness::DropsPushes(SECOND)] {
        let (bed, bench, system) = (Bed::new().await, bench("r1"), system("web"));
        let calls = system.faults().calls().len();
        if how == Carelessness::SwallowsErrors {
            (calls..calls + 60).for_each(|call| system.faults().at(call, Fault::Error));
        }
        let careless = Careless::new(source(&system), how);
        // So slow that a push is dropped half-way.
        let wish = Wish { rate: Some(100), ..Wish::default() };
        let report = bed.one_with(&bench.cx, &careless, &source(&system).unit(), &wish).await;
        assert!(report.snapshot.is_none(), "{how:?}: {report:#?}");
        assert_eq!(report.outcome, UnitOutcome::Failed, "{how:?}");
        assert!(bed.snapshots().await.is_empty());
    }
}

#[tokio::test(start_paused = true)]
async fn a_promise_that_is_broken_loses_nothing() {
    let (bed, bench, system) = (Bed::new().await, bench("r1"), system("web"));
    let careless = Careless::new(source(&system), Carelessness::LeavesTooEarly);
    let report = bed.one(&bench.cx, &careless, &source(&system).unit()).await;
    if report.snapshot.is_some() {
        for (path, file) in system.files() {
            assert_eq!(bed.content(&path.to_string()).await, file.content, "{path}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_lost_connection_is_taken_up_again_on_the_same_capture() {
    let (bed, bench, system) = (Bed::new().await, bench("r1"), system("web"));
    let probe = bed.one(&bench.cx, &source(&system), &source(&system).unit()).await;
    stored(&probe);
    let calls = system.faults().calls();
    let open = calls.iter().position(|call| call == "web open a/two").unwrap();
    system.faults().at(calls.len() + open, Fault::Error);
    stored(&bed.one(&Bench::new("r2").cx, &source(&system), &source(&system).unit()).await);
    let again: Vec<_> = system.faults().calls().split_off(calls.len());
    assert_eq!(again.iter().filter(|call| *call == "web capture").count(), 1);
    assert_eq!(again.iter().filter(|call| *call == "web list image").count(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_failed_capture_is_removed_before_it_is_made_again() {
    let (bed, bench, system) = (Bed::new().await, bench("r1"), system("web"));
    // lock db, lock api, capture: the answer is lost, the image is there.
    system.faults().at(2, Fault::ErrorButDone);
    stored(&bed.one(&bench.cx, &source(&system), &source(&system).unit()).await);
    let calls = system.faults().calls();
    let captures: Vec<_> =
        calls.iter().enumerate().filter(|(_, call)| *call == "web capture").map(|(at, _)| at).collect();
    let removed = calls.iter().position(|call| call == "web remove").unwrap();
    assert!(captures.len() == 2 && (captures[0]..captures[1]).contains(&removed), "{calls:?}");
    assert_eq!(system.images().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_file_that_changes_while_it_is_read_is_read_once_more_and_then_told() {
    let (bed, system) = (Bed::new().await, system("web"));
    let options = FakeOptions { parts: vec![], image: Image::Live, ..FakeOptions::default() };
    let source = Changing { source: FakeSource::new(&system, options), system: system.clone() };
    let report = bed.one(&bench("r1").cx, &source, &source.source.unit()).await;
    check(&report, UnitOutcome::StoredWithProblems, 3);
    assert_eq!(report.problems.first[0].class, "changed");
    let opened = system.faults().calls().iter().filter(|call| *call == "web open a/one").count();
    assert_eq!(opened, 2);
    assert!(bed.node("a/one").await.is_some());
}

/// A live system in which `a/one` is written each time that it was opened.
struct Changing {
    source: FakeSource,
    system: FakeSystem,
}

#[async_trait::async_trait]
impl Source for Changing {
    fn capabilities(&self) -> Capabilities {
        self.source.capabilities()
    }
    async fn preflight(&self, _: &Context) -> Result<()> {
        Ok(())
    }
    async fn discover(&self, _: &Context) -> Result<Vec<Unit>> {
        Ok(vec![])
    }
    async fn capture<'a>(&'a self, cx: &Context, unit: &Unit, base: Option<&Base>) -> Result<Box<dyn Capture + 'a>> {
        let capture = self.source.capture(cx, unit, base).await?;
        self.system.edit("a/one", |file| file.revision += 1000);
        Ok(Box::new(ChangingCapture { capture, system: self.system.clone() }))
    }
}

struct ChangingCapture<'a> {
    capture: Box<dyn Capture + 'a>,
    system: FakeSystem,
}

#[async_trait::async_trait]
impl Capture for ChangingCapture<'_> {
    async fn items(&mut self, cx: &Context, out: &dyn onggi_source::Items) -> Result<onggi_source::Facts> {
        let touch = Touch { out, system: &self.system };
        self.capture.items(cx, &touch).await
    }
}

struct Touch<'a> {
    out: &'a dyn onggi_source::Items,
    system: &'a FakeSystem,
}

#[async_trait::async_trait]
impl onggi_source::Items for Touch<'_> {
    async fn push(&self, item: onggi_source::Item, content: onggi_source::Content<'_>) -> Result<onggi_source::Pushed> {
        if item.path.as_bytes() == b"a/one" {
            self.system.edit("a/one", |file| file.revision += 1000);
        }
        self.out.push(item, content).await
    }
    async fn reuse(&self, item: &onggi_source::Item) -> Result<bool> {
        self.out.reuse(item).await
    }
    async fn leave(&self, directory: &TreePath) -> Result<()> {
        self.out.leave(directory).await
    }
}

// ---- freeze and thaw ----

#[tokio::test(start_paused = true)]
async fn a_freeze_that_fails_half_way_thaws_all_that_may_be_frozen() {
    let (bed, bench, system) = (Bed::new().await, bench("r1"), system("web"));
    let source = FakeSource::new(&system, FakeOptions { parts: vec!["a", "b", "c"], ..FakeOptions::default() });
    // The second lock is taken and says that it is not; then the first answer to the thaw is an error.
    system.faults().at(1, Fault::ErrorButDone);
    system.faults().at(2, Fault::Error);
    let report = bed.one(&bench.cx, &source, &source.unit()).await;
    stored(&report);
    let calls = system.faults().calls();
    let first =
        ["web lock a", "web lock b", "web unlock b", "web unlock b", "web unlock a", "web remove", "web lock a"];
    assert_eq!(calls[..7], first, "the next window follows");
    assert!(system.locks().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_group_thaws_in_reverse_order_and_a_failing_member_drops_all() {
    let faults = Faults::default();
    let (bed, bench) = (Bed::new().await, bench("r1"));
    let names = ["a", "b", "c"];
    let systems = names.map(|name| filled(FakeSystem::with_faults(name, faults.clone())));
    let options = |index: usize| FakeOptions { parts: vec![names[index]], ..FakeOptions::default() };
    let sources: Vec<_> =
        systems.iter().enumerate().map(|(index, system)| FakeSource::new(system, options(index))).collect();
    let units: Vec<_> = sources.iter().map(FakeSource::unit).collect();
    let members: Vec<(&dyn Source, &Unit)> = sources.iter().map(|s| s as &dyn Source).zip(&units).collect();
    // The second of three freezes fails, in all three windows.
    let fail = |at: usize| faults.at(at, Fault::ErrorButDone);
    fail(1);
    let report = bed.group(&bench.cx, &members, &Wish::default()).await;
    let calls = faults.calls();
    assert_eq!(calls[..4], ["a lock a", "b lock b", "b unlock b", "a unlock a"]);
    assert_eq!(report.exit().code(), 0, "the next window went well: {report:#?}");
    let locks: Vec<_> = calls[4..].iter().filter(|call| call.contains("lock")).cloned().collect();
    assert_eq!(locks, ["a lock a", "b lock b", "c lock c", "c unlock c", "b unlock b", "a unlock a"]);
    assert!(systems.iter().all(|system| system.locks().is_empty()));
}

#[tokio::test(start_paused = true)]
async fn a_group_stands_or_falls_as_one_and_names_the_cause() {
    let (bed, bench) = (Bed::new().await, bench("r1"));
    let systems = ["a", "b"].map(system);
    let sources = systems.each_ref().map(source);
    let units = sources.each_ref().map(FakeSource::unit);
    let members: Vec<(&dyn Source, &Unit)> = sources.iter().map(|s| s as &dyn Source).zip(&units).collect();
    for call in 0..200 {
        systems[1].faults().at(call, Fault::Error);
    }
    let report = bed.group(&bench.cx, &members, &Wish::default()).await;
    assert_eq!(report.exit().code(), 6, "{report:#?}");
    assert!(report.units[1].causes[0].starts_with("freeze b"), "{:?}", report.units[1].causes);
    assert!(report.units[0].causes[0].contains("left out with its group"));
    assert!(bed.snapshots().await.is_empty());
    assert!(systems[0].locks().is_empty() && systems[0].images().is_empty());
    assert_eq!(report.units[0].exit.code(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_group_is_recorded_in_each_manifest() {
    let (bed, bench) = (Bed::new().await, bench("r1"));
    let systems = ["a", "b"].map(system);
    let sources = systems.each_ref().map(source);
    let units = sources.each_ref().map(FakeSource::unit);
    let members: Vec<(&dyn Source, &Unit)> = sources.iter().map(|s| s as &dyn Source).zip(&units).collect();
    assert_eq!(bed.group(&bench.cx, &members, &Wish::default()).await.exit().code(), 0);
    for snapshot in bed.snapshots().await {
        let manifest = Manifest::of(&bed.repo, &snapshot).await.unwrap().unwrap();
        let names: Vec<_> = manifest.group.iter().map(|member| member.unit.name.clone()).collect();
        assert_eq!((names.as_slice(), manifest.run.as_str()), (&["a".to_owned(), "b".to_owned()][..], "r1"));
    }
}

#[tokio::test(start_paused = true)]
async fn a_cancel_while_frozen_thaws_and_removes() {
    let (bed, bench, system) = (Bed::new().await, bench("r1"), system("web"));
    system.faults().stops(bench.stop.clone());
    system.faults().at(2, Fault::Stop(Stop::Cancelled));
    let report = bed.one(&bench.cx, &source(&system), &source(&system).unit()).await;
    check(&report, UnitOutcome::Stopped, 130);
    assert!(system.locks().is_empty() && system.images().is_empty(), "release worked although the run was cancelled");
    assert!(bed.snapshots().await.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_hanging_capture_does_not_hold_the_lock_beyond_its_bound() {
    let (bed, bench, system) = (Bed::new().await, bench("r1"), system("web"));
    let deaf = Deaf(source(&system));
    let unit = deaf.0.unit();
    let hold = Duration::from_mins(5);
    let watch = async {
        tokio::time::sleep(hold + 11 * SECOND).await;
        system.locks().len()
    };
    let (report, locked) = tokio::join!(bed.one(&bench.cx, &deaf, &unit), watch);
    assert_eq!(locked, 0, "thawed beside the capture that still ran");
    check(&report, UnitOutcome::Stopped, 6);
    assert!(system.images().is_empty() && bed.snapshots().await.is_empty());
}

/// A source whose capture listens to nobody for more than an hour.
struct Deaf(FakeSource);

#[async_trait::async_trait]
impl Source for Deaf {
    fn capabilities(&self) -> Capabilities {
        self.0.capabilities()
    }
    async fn preflight(&self, _: &Context) -> Result<()> {
        Ok(())
    }
    async fn discover(&self, _: &Context) -> Result<Vec<Unit>> {
        Ok(vec![])
    }
    async fn freeze(&self, cx: &Context, unit: &Unit) -> Result<()> {
        self.0.freeze(cx, unit).await
    }
    async fn capture<'a>(&'a self, cx: &Context, unit: &Unit, base: Option<&Base>) -> Result<Box<dyn Capture + 'a>> {
        tokio::time::sleep(Duration::from_secs(4000)).await;
        self.0.capture(&cx.for_cleanup(SECOND), unit, base).await
    }
    async fn thaw(&self, cx: &Context, unit: &Unit) -> Result<()> {
        self.0.thaw(cx, unit).await
    }
    async fn release(&self, cx: &Context, unit: &Unit, outcome: Outcome) -> Result<()> {
        self.0.release(cx, unit, outcome).await
    }
    async fn remnants(&self, cx: &Context) -> Result<Vec<Remnant>> {
        self.0.remnants(cx).await
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_not_frozen_has_no_freeze_limit() {
    let (bed, bench, system) = (Bed::new().await, bench("r1"), system("web"));
    let options = FakeOptions { parts: vec![], slow: (1000 * SECOND, 3000 * SECOND), ..FakeOptions::default() };
    let source = FakeSource::new(&system, options);
    let wish = Wish { hold: SECOND, ..Wish::default() };
    let report = bed.one_with(&bench.cx, &source, &source.unit(), &wish).await;
    stored(&report);
    assert_eq!(report.frozen_seconds, None);
}

#[tokio::test(start_paused = true)]
async fn an_image_that_is_slow_to_read_does_not_hold_its_group() {
    let (bed, bench) = (Bed::new().await, bench("r1"));
    let systems = ["a", "b"].map(system);
    let slow = FakeOptions { parts: vec![], slow: (Duration::ZERO, 3000 * SECOND), ..FakeOptions::default() };
    let sources = [source(&systems[0]), FakeSource::new(&systems[1], slow)];
    let units = sources.each_ref().map(FakeSource::unit);
    let members: Vec<(&dyn Source, &Unit)> = sources.iter().map(|s| s as &dyn Source).zip(&units).collect();
    let wish = Wish { hold: 30 * SECOND, ..Wish::default() };
    let report = bed.group(&bench.cx, &members, &wish).await;
    assert_eq!(report.exit().code(), 0, "{report:#?}");
    assert!(report.units[0].frozen_seconds.unwrap() < 1.0);
}

#[tokio::test]
async fn a_live_image_is_read_inside_the_window() {
    let (bed, bench, system) = (Bed::new().await, bench("r1"), system("web"));
    let source = FakeSource::new(&system, FakeOptions { image: Image::Live, ..FakeOptions::default() });
    stored(&bed.one(&bench.cx, &source, &source.unit()).await);
    let calls = system.faults().calls();
    let at = |name: &str| calls.iter().position(|call| call == name).unwrap();
    assert!(at("web lock api") < at("web open a/one") && at("web open a/one") < at("web unlock api"), "{calls:?}");
}

#[tokio::test(start_paused = true)]
async fn a_thaw_that_fails_for_good_is_an_alarm_and_the_capture_is_kept() {
    let (bed, bench, system) = (Bed::new().await, bench("r1"), system("web"));
    (3..7).for_each(|call| system.faults().at(call, Fault::Error));
    let report = bed.one(&bench.cx, &source(&system), &source(&system).unit()).await;
    check(&report, UnitOutcome::StoredWithProblems, 6);
    assert!(report.snapshot.is_some() && report.problems.has("thaw-failed"), "{report:#?}");
}

// ---- chains ----

#[tokio::test(start_paused = true)]
async fn a_chained_capture_follows_its_base_and_a_lost_base_becomes_a_full() {
    let (bed, system) = (Bed::new().await, system("web"));
    let source = FakeSource::new(&system, FakeOptions { chains: true, ..FakeOptions::default() });
    for (run, content) in [("r1", "1"), ("r2", "2"), ("r3", "3")] {
        system.put("a/new", content);
        if run == "r3" {
            system.compact();
        }
        stored(&bed.one(&bench(run).cx, &source, &source.unit()).await);
    }
    let mut follows = Vec::new();
    let found = bed.repo.snapshots().await.unwrap().found;
    for (_, snapshot) in &found {
        follows.push(Manifest::of(&bed.repo, snapshot).await.unwrap().unwrap().facts.follows.map(|id| id.to_string()));
    }
    assert_eq!(follows, [None, Some(found[0].0.to_string()), None]);
    assert!(bed.node("a/two").await.is_some(), "a full has everything");
}

// ---- the machinery ----

#[tokio::test(start_paused = true)]
async fn two_runs_of_one_seed_make_the_same_calls() {
    let run = async || {
        let (bed, bench, system) = (Bed::new().await, bench("r1"), system("web"));
        stored(&bed.one(&bench.cx, &source(&system), &source(&system).unit()).await);
        system.faults().calls()
    };
    assert_eq!(run().await, run().await);
}

#[tokio::test]
async fn a_run_can_be_moved_between_threads() {
    fn is_send<T: Send>(future: T) {
        drop(future);
    }
    let (bed, bench, system) = (Bed::new().await, bench("r1"), system("web"));
    let (source, unit) = (source(&system), source(&system).unit());
    is_send(bed.one(&bench.cx, &source, &unit));
}
