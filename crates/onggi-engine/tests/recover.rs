//! What a dead run left is found, thawed, and stored or removed; nothing of others is touched.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]
#![expect(clippy::disallowed_methods, reason = "tokio's clock is paused here: nobody waits")]

#[path = "backup/bed.rs"]
#[expect(dead_code, reason = "shared with the tests of backups")]
mod bed;

use bed::{Bed, SECOND, Wish, bench, check, filled, source, stored, system};
use onggi_engine::{recover::How, report::UnitOutcome};
use onggi_source::{
    Purpose, Source, Stop,
    fake::{FakeOptions, FakeSource, FakeSystem},
    faults::Fault,
};
use std::time::Duration;

#[tokio::test(start_paused = true)]
async fn what_a_dead_run_left_is_stored_under_its_own_name() {
    let (bed, system) = (Bed::new().await, system("web"));
    let (dead, next, source) = (bench("r1"), bench("r2"), source(&system));
    source.freeze(&dead.cx, &source.unit()).await.unwrap();
    drop(source.capture(&dead.cx, &source.unit(), None).await.unwrap()); // dies frozen
    let recovery = bed.recover(&next.cx, &source, &|_| true).await;
    assert!(recovery.settled.iter().all(|one| one.how == How::LeftAlone), "{:?}", recovery.settled);
    assert_eq!(system.locks().len(), 2);
    let recovery = bed.recover(&next.cx, &source, &|_| false).await;
    assert!(recovery.problems.is_empty(), "{recovery:#?}");
    assert!(system.locks().is_empty());
    let snapshots = bed.snapshots().await;
    assert!(snapshots.len() == 1 && snapshots[0].has_tag("run:r1"));
    assert_eq!(recovery.stored.len(), 1);
    assert!(source.remnants(&next.cx).await.unwrap().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_crash_after_commit_is_seen_in_the_repository_alone() {
    let (bed, system, dead) = (Bed::new().await, system("web"), bench("r1"));
    let source = source(&system);
    stored(&bed.one(&dead.cx, &source, &source.unit()).await);
    let release = system.faults().calls().iter().position(|call| call == "web keep").unwrap();
    let second = FakeSystem::new("web");
    filled(second.clone()).faults().at(release, Fault::Gone);
    let source = self::source(&second);
    let unit = source.unit();
    tokio::select! {
        biased;
        report = bed.one(&dead.cx, &source, &unit) => panic!("{report:?}"),
        () = second.faults().gone() => {}
    }
    second.faults().clear();
    let recovery = bed.recover(&bench("r2").cx, &source, &|_| false).await;
    assert!(recovery.settled.iter().all(|one| one.how == How::Kept), "{:?}", recovery.settled);
    assert_eq!(bed.snapshots().await.len(), 2, "not stored twice");
    assert!(second.images()[0].is_base);
}

#[tokio::test(start_paused = true)]
async fn a_time_limit_keeps_the_image_and_the_next_run_stores_it() {
    let (bed, system, next) = (Bed::new().await, system("web"), bench("r2"));
    let slow = FakeOptions { slow: (Duration::ZERO, 3000 * SECOND), ..FakeOptions::default() };
    let source = FakeSource::new(&system, slow);
    let wish = Wish { time_limit: Some(1000 * SECOND), ..Wish::default() };
    let report = bed.one_with(&bench("r1").cx, &source, &source.unit(), &wish).await;
    check(&report, UnitOutcome::Stopped, 8);
    assert_eq!(system.images().len(), 1);
    tokio::time::sleep(3000 * SECOND).await;
    let recovery = bed.recover(&next.cx, &source, &|_| false).await;
    assert_eq!(recovery.stored.len(), 1, "{recovery:#?}");
    assert!(bed.snapshots().await[0].has_tag("run:r1"));
}

#[tokio::test(start_paused = true)]
async fn what_others_made_is_shown_and_left_alone() {
    let (bed, system) = (Bed::new().await, system("web"));
    system.lock_foreign("db");
    system.image_foreign();
    let before = system.describe();
    let recovery = bed.recover(&bench("r1").cx, &source(&system), &|_| false).await;
    assert!(!recovery.settled.is_empty() && recovery.settled.iter().all(|one| one.how == How::Shown), "{recovery:#?}");
    assert_eq!(system.describe(), before);
}

#[tokio::test(start_paused = true)]
async fn recovery_removes_what_a_drill_made_and_never_what_a_restore_made() {
    for (purpose, how, left) in [(Purpose::Restore, How::Shown, 1), (Purpose::Drill, How::Dropped, 0)] {
        let (bed, system, next) = (Bed::new().await, system("web"), bench("r2"));
        let source = source(&system);
        let dead = next.cx.for_run(&"r1".into(), purpose);
        drop(source.capture(&dead, &source.unit(), None).await.unwrap());
        let recovery = bed.recover(&next.cx, &source, &|_| false).await;
        assert!(recovery.settled.iter().all(|one| one.how == how), "{recovery:#?}");
        assert_eq!(system.images().len(), left, "{purpose:?}");
    }
}

/// Every call of a run fails, or is the last of its process: afterwards the next process leaves no lock, no half-made
/// thing, and a snapshot exists if and only if the run said so or the image was whole.
#[tokio::test(start_paused = true)]
async fn whatever_fails_the_next_run_finds_order() {
    let probe = system("web");
    let bed = Bed::new().await;
    stored(&bed.one(&bench("r0").cx, &source(&probe), &source(&probe).unit()).await);
    let calls = probe.faults().calls();
    for fault in [Fault::Error, Fault::ErrorButDone, Fault::Gone, Fault::GoneButDone, Fault::Stop(Stop::Cancelled)] {
        for (at, call) in calls.iter().enumerate() {
            let what = format!("{fault:?} at {call}");
            let (bed, system, first) = (Bed::new().await, system("web"), bench("r1"));
            system.faults().stops(first.stop.clone());
            system.faults().at(at, fault);
            let source = source(&system);
            let unit = source.unit();
            let report = tokio::select! {
                biased;
                report = bed.one(&first.cx, &source, &unit) => Some(report),
                () = system.faults().gone() => None,
            };
            system.faults().clear();
            let said = report.as_ref().is_some_and(|report| report.snapshot.is_some());
            assert_eq!(said, report.is_some() && !bed.snapshots().await.is_empty(), "{what}: {report:#?}");
            bed.recover(&bench("r2").cx, &source, &|_| false).await;
            assert!(system.locks().is_empty(), "{what}: {:?}", system.locks());
            assert!(source.remnants(&bench("r3").cx).await.unwrap().is_empty(), "{what}");
            assert!(bed.snapshots().await.len() <= 1, "{what}: stored twice");
            stored(&bed.one(&bench("r4").cx, &source, &unit).await);
        }
    }
}
