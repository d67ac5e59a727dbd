//! Backup: where sources and repositories meet.
//!
//! One run of one group, from the recovery of what earlier runs left to the release of what this one made: window,
//! drains, commits, and exactly one place that releases. What is not committed and read back is never `Kept`.

mod base;
mod content;
mod drain;
mod error;
mod items;
mod lease;
mod manifest;
mod monitor;
mod proof;
mod rate;
mod tags;
mod trail;

pub use base::{History, Parents};
pub use error::UnitError;
pub use manifest::{Manifest, MemberName};
pub(crate) use tags::{is_good, is_of};

use crate::{
    edge::Leases,
    exit::Exit,
    report::{self, Figures, Problems, RunReport, UnitOutcome, UnitReport, seconds},
    sabotage,
    watch::{Event, Live, Watch},
    window::{Body, CLEANUP, Held, WindowReport, window},
};
use drain::{Drained, Filled};
use futures::{
    StreamExt,
    future::{BoxFuture, join_all},
    stream,
};
use monitor::UnitMonitor;
use onggi_repo::{
    Lock, RepoError, Repository, WriteBudget,
    format::{Compression, Snapshot, SnapshotId},
};
use onggi_source::{
    Base, Capture, Context, Image, Monitor, Outcome, Problem, Remnant, RunId, Source, SourceError, Stop, TreePath, Unit,
};
use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

/// How often a group is captured anew, each time in a new window, where nobody waits for the answer.
pub const ATTEMPTS_DEFAULT: u32 = 3;

/// In so many runs once, nothing is believed to be unchanged.
pub const FULL_READ_EVERY_DEFAULT: u32 = 30;

/// One member of a run: a unit of a configured source.
#[derive(Clone, Copy)]
pub struct Member<'a> {
    /// The source.
    pub source: &'a dyn Source,
    /// The unit.
    pub unit: &'a Unit,
    /// What the engine must know beside.
    pub plan: &'a UnitPlan,
}

/// What the engine must know of a unit that its source does not say.
#[derive(Debug, Clone)]
pub struct UnitPlan {
    /// The source's name in the configuration.
    pub source: String,
    /// The source's kind.
    pub kind: String,
    /// The snapshot's host name.
    pub hostname: String,
    /// The snapshot's paths, if they are known before the capture: they find the parent among snapshots of restic.
    pub paths: Vec<String>,
    /// Further tags, from the operator.
    pub tags: Vec<String>,
    /// Patterns that were left out, for the snapshot's record.
    pub excludes: Vec<String>,
    /// The virtual root below which `.onggi/manifest.json` is written; `None` for kinds whose trees equal restic's.
    pub manifest: Option<TreePath>,
    /// Where contents are cut, if not as the source says.
    pub chunker: Option<crate::config::Chunker>,
    /// How hard to compress.
    pub compression: Compression,
    /// The longest freeze of its group, where that is more than the job's.
    pub hold: Option<Duration>,
    /// In so many runs once, all is read that the source says is unchanged; 0 never.
    pub full_read_every: u32,
    /// The most that is read, in bytes per second.
    pub rate: Option<u64>,
    /// The longest that the unit may take.
    pub time_limit: Option<Duration>,
    /// What to compare with.
    pub parents: Parents,
    /// Time of the snapshot, if not that of the capture.
    pub time: Option<jiff::Timestamp>,
    /// Where the journal of an interrupted run is kept.
    pub journal: Option<PathBuf>,
}

/// What all units of a run share.
pub struct Job<'a> {
    /// Where to.
    pub repo: &'a Repository,
    /// Held by the caller, who releases it.
    pub lock: &'a Lock,
    /// The snapshots that are there.
    pub history: &'a History,
    /// The longest freeze.
    pub hold: Duration,
    /// How often the group is captured at most; [`ATTEMPTS_DEFAULT`] in schedules, 1 where somebody waits or what is
    /// captured can be read only once.
    pub attempts: u32,
    /// Units that are read at once, after the window.
    pub drains: usize,
    /// Memory of all archives of the repository at once.
    pub budget: WriteBudget,
    /// A private folder for spill files.
    pub spill: Option<PathBuf>,
    /// Reads and counts, but stores nothing.
    pub dry_run: bool,
    /// `onggi <version>`, for the snapshots.
    pub program_version: String,
    /// Who is at work on which unit; `None`: whoever backs up the same beside is no harm.
    pub leases: Option<&'a Leases>,
    /// Who watches.
    pub watch: Arc<dyn Watch>,
}

/// The default hold of a window.
pub const HOLD_DEFAULT: Duration = Duration::from_mins(5);

/// Backs up units as of one window. A single unit is a group of one. Earlier runs' remnants are the caller's to settle
/// first, with [`recover`](crate::recover::recover).
pub async fn back_up(cx: &Context, job: &Job<'_>, members: &[Member<'_>]) -> RunReport {
    let (started_at, started) = (cx.world.now(), cx.world.elapsed());
    let mut units: Vec<_> = members.iter().map(|member| UnitRun::new(job, *member)).collect();
    let (results, window) = match lease::take(cx, job, &units) {
        Ok(_held) => {
            for unit in units.iter_mut().filter(|unit| unit.member.source.capabilities().chains) {
                unit.base = job.history.base(job.repo, &unit.member).await;
            }
            run_until_done(cx, job, members, &units).await
        }
        Err(results) => (results, WindowReport::default()),
    };
    let took = cx.world.elapsed().saturating_sub(started);
    let reports = results.into_iter().zip(&units).enumerate();
    let units = reports.map(|(index, (result, unit))| unit.report(result, index, &window, took)).collect();
    RunReport {
        schema: 1,
        run: cx.run.to_string(),
        started_at,
        ended_at: cx.world.now(),
        units,
        problems: Problems::default(),
    }
}

/// One window after the other, until one brings something or no other would.
async fn run_until_done(
    cx: &Context,
    job: &Job<'_>,
    members: &[Member<'_>],
    units: &[UnitRun<'_>],
) -> (Vec<UnitResult>, WindowReport) {
    let mut attempt = 0;
    loop {
        attempt += 1;
        let (results, window) = run_once(cx, job, members, units).await;
        let again = results.iter().all(|result| result.as_ref().is_err_and(UnitError::is_worth_another_window));
        if !again || attempt >= job.attempts || !window.failed_thaws.is_empty() {
            return (results, window);
        }
        if cx.sleep(Duration::from_secs(10 << attempt)).await.is_err() {
            return (results, window);
        }
        for unit in units {
            unit.monitor.forget_attempt();
        }
    }
}

/// A unit during its run.
struct UnitRun<'a> {
    member: Member<'a>,
    /// Problems of the window; those of the items have a fresh list for each attempt.
    monitor: Arc<UnitMonitor>,
    live: Arc<Live>,
    /// What its capture may continue; looked up before anything is frozen.
    base: Option<Base>,
}

impl<'a> UnitRun<'a> {
    fn new(job: &Job<'_>, member: Member<'a>) -> Self {
        let live = Arc::new(Live::default());
        let name = member.unit.name.clone();
        job.watch.event(Event::Started { name: name.clone(), live: Arc::clone(&live) });
        let monitor = Arc::new(UnitMonitor::new(name, Arc::clone(&job.watch), Arc::clone(&live)));
        Self { member, monitor, live, base: None }
    }

    fn report(
        &self,
        result: Result<Drained, UnitError>,
        index: usize,
        window: &WindowReport,
        took: Duration,
    ) -> UnitReport {
        let Member { unit, plan, .. } = self.member;
        let mut report = UnitReport {
            source: plan.source.clone(),
            unit: unit.id.to_string(),
            name: unit.name.clone(),
            outcome: UnitOutcome::Failed,
            exit: Exit::Failed,
            snapshot: None,
            parent: None,
            taken_at: None,
            causes: Vec::new(),
            problems: self.monitor.take_problems(),
            passed: self.monitor.passed(),
            figures: Figures::default(),
            bytes_read: 0,
            frozen_seconds: window.frozen.map(seconds),
            seconds: seconds(took),
        };
        match result {
            Ok(drained) => drained.tell(&mut report),
            Err(error) if error.is_unchanged() => {
                let is_clean = report.problems.is_empty();
                report.exit = if is_clean { Exit::Done } else { Exit::Partial };
                report.outcome = UnitOutcome::Unchanged;
                report.parent = self.base.as_ref().map(|base| base.snapshot.to_string());
            }
            Err(error) => {
                report.exit = error.exit();
                report.outcome = if error.stop().is_some() { UnitOutcome::Stopped } else { UnitOutcome::Failed };
                report.causes = report::causes(&error);
                if sabotage::DISCARDED_CAPTURE_IS_GREEN.is_on() {
                    (report.exit, report.outcome) = (Exit::Done, UnitOutcome::Stored);
                }
            }
        }
        for (_, problem) in window.failed_thaws.iter().filter(|(at, _)| *at == index) {
            report.problems.push(problem.clone());
            report.exit = report.exit.and(Exit::Freeze);
            if report.outcome == UnitOutcome::Stored {
                report.outcome = UnitOutcome::StoredWithProblems;
            }
        }
        self.monitor.ended();
        report
    }
}

type UnitResult = Result<Drained, UnitError>;

/// A captured unit; of a live one the items are there already.
struct Captured<'a> {
    capture: Box<dyn Capture + 'a>,
    filled: Option<Result<Filled, UnitError>>,
}

/// One window and what follows it.
async fn run_once(
    cx: &Context,
    job: &Job<'_>,
    members: &[Member<'_>],
    units: &[UnitRun<'_>],
) -> (Vec<UnitResult>, WindowReport) {
    let held: Vec<Held<'_>> = members.iter().map(|member| Held { source: member.source, unit: member.unit }).collect();
    let failed_capture = AtomicUsize::new(usize::MAX);
    let failed = &failed_capture;
    let body: Body<'_, Vec<Captured<'_>>> =
        Box::new(move |inside| Box::pin(async move { capture_all(&inside, job, members, units, failed).await }));
    let hold = members.iter().filter_map(|member| member.plan.hold).fold(job.hold, Duration::max);
    let (captured, window) = window(cx, &held, hold, body).await;
    let results = match captured {
        Ok(captured) => {
            let drains =
                captured.into_iter().zip(units).map(|(captured, unit)| finish(cx, job, members, unit, captured));
            let drains: Vec<_> = drains.map(Box::pin).collect();
            stream::iter(drains).buffered(job.drains.max(1)).collect().await
        }
        Err(error) => {
            let of_capture = Some(failed_capture.load(Relaxed)).filter(|index| *index < units.len());
            let failed =
                Failed { index: window.failed_freeze.or(of_capture), is_freeze: window.failed_freeze.is_some() };
            fail_all(cx, units, error, failed).await
        }
    };
    (results, window)
}

/// Captures all side by side, then reads the live ones, all inside the window.
async fn capture_all<'a>(
    inside: &Context,
    job: &Job<'_>,
    members: &[Member<'a>],
    units: &[UnitRun<'_>],
    failed: &AtomicUsize,
) -> onggi_source::Result<Vec<Captured<'a>>> {
    let (mut inside, stop) = inside.stoppable();
    inside.is_prompt = members.len() == 1;
    let (inside, stop) = (&inside, &stop);
    let mut captures: Vec<BoxFuture<'_, onggi_source::Result<Box<dyn Capture + 'a>>>> = Vec::new();
    for (member, unit) in members.iter().zip(units) {
        captures.push(Box::pin(async move {
            let cx = inside.with_monitor(unit.monitor.clone());
            let captured = capture(&cx, *member, unit.base.as_ref()).await;
            if captured.is_err() {
                stop.send_if_modified(|stop| stop.replace(Stop::Group).is_none());
            }
            captured
        }));
    }
    let mut captured = Vec::new();
    let mut first: Option<SourceError> = None;
    for (index, result) in join_all(captures).await.into_iter().enumerate() {
        match result {
            Ok(capture) => captured.push(Captured { capture, filled: None }),
            // The cause, not those whom it stopped.
            Err(error) if first.is_none() || matches!(first, Some(SourceError::Stopped(Stop::Group))) => {
                failed.store(index, Relaxed);
                first = Some(error);
            }
            Err(_) => {}
        }
    }
    if let Some(error) = first {
        return Err(error);
    }
    for (unit, captured) in units.iter().zip(&mut captured) {
        if unit.member.source.capabilities().image == Image::Live {
            captured.filled = Some(drain::fill(inside, job, members, unit, &mut *captured.capture).await);
        }
    }
    Ok(captured)
}

async fn capture<'a>(
    cx: &Context,
    member: Member<'a>,
    base: Option<&Base>,
) -> onggi_source::Result<Box<dyn Capture + 'a>> {
    let first = member.source.capture(cx, member.unit, base).await;
    match first {
        Err(SourceError::BaseLost(reason)) => {
            tracing::info!(unit = member.unit.name, reason, "base is lost, capturing a full");
            member.source.capture(cx, member.unit, None).await
        }
        Err(error) if sabotage::CAPTURE_REPEATED.is_on() && error.is_transient() => {
            member.source.capture(cx, member.unit, base).await
        }
        other => other,
    }
}

/// Reads, commits and releases one unit after the window.
async fn finish(
    cx: &Context,
    job: &Job<'_>,
    members: &[Member<'_>],
    unit: &UnitRun<'_>,
    captured: Captured<'_>,
) -> UnitResult {
    let Captured { mut capture, filled } = captured;
    let member = unit.member;
    let mut limited = member.plan.time_limit.map_or(cx.clone(), |limit| cx.within(limit, Stop::TimeLimit));
    limited.rate = member.plan.rate;
    let filled = match filled {
        Some(filled) => filled,
        None => drain::fill(&limited, job, members, unit, &mut *capture).await,
    };
    drop(capture);
    let stored = match filled {
        Ok(filled) => drain::commit(&limited, job, unit, filled).await,
        Err(error) => Err(error),
    };
    settle(cx, unit, verdict(&stored)).await;
    stored
}

/// After a window that failed: nothing of anybody is stored.
async fn fail_all(cx: &Context, units: &[UnitRun<'_>], error: SourceError, failed: Failed) -> Vec<UnitResult> {
    let cause = error.to_string();
    let mut first = Some(error);
    let mut results = Vec::new();
    for (index, unit) in units.iter().enumerate() {
        let named = unit.member.unit;
        if !sabotage::CAPTURE_REPEATED.is_on() {
            settle(cx, unit, Some(Outcome::Dropped)).await;
        }
        let is_cause = failed.index.is_none_or(|at| at == index);
        results.push(Err(match first.take_if(|_| is_cause) {
            Some(error) if failed.is_freeze => UnitError::Freeze(named.name.clone(), error),
            Some(error) => UnitError::Capture(named.name.clone(), error),
            None => UnitError::Group(named.name.clone(), cause.clone()),
        }));
    }
    results
}

/// Who ended a window.
#[derive(Clone, Copy)]
struct Failed {
    index: Option<usize>,
    is_freeze: bool,
}

/// What becomes of an image: `None` leaves it at the source, for the next run to store or for the operator to look at.
fn verdict(stored: &UnitResult) -> Option<Outcome> {
    match stored {
        Ok(drained) if drained.is_dry() => Some(Outcome::Dropped),
        Ok(_) => Some(Outcome::Kept),
        Err(error) if error.leaves_image() => None,
        Err(_) => Some(Outcome::Dropped),
    }
}

/// The one place that releases, in a context of its own that the run's stop does not reach.
pub(crate) async fn close(
    cx: &Context,
    source: &dyn Source,
    unit: &Unit,
    outcome: Outcome,
) -> onggi_source::Result<()> {
    source.release(&cx.for_cleanup(CLEANUP), unit, outcome).await
}

/// Releases at the end of a run; what fails is a problem and stays a remnant.
async fn settle(cx: &Context, unit: &UnitRun<'_>, outcome: Option<Outcome>) {
    let Some(outcome) = outcome else { return };
    let Member { source, unit: named, .. } = unit.member;
    if let Err(error) = close(cx, source, named, outcome).await {
        let text = format!("{}: {error}", named.name);
        unit.monitor.problem(Problem { class: "release-failed", path: None, text });
    }
}

/// Stores an image that an earlier run left, under the mark of that run, and releases it if that went well.
pub(crate) async fn resume(
    cx: &Context,
    job: &Job<'_>,
    member: Member<'_>,
    mut capture: Box<dyn Capture + '_>,
) -> Result<(SnapshotId, Snapshot), UnitError> {
    let unit = UnitRun::new(job, member);
    let cx = &cx.with_monitor(unit.monitor.clone());
    let filled = drain::fill(cx, job, &[member], &unit, &mut *capture).await?;
    drop(capture);
    let drained = drain::commit(cx, job, &unit, filled).await?;
    let outcome = if drained.is_dry() { None } else { Some(Outcome::Kept) };
    settle(cx, &unit, outcome).await;
    unit.monitor.ended();
    let torn = || UnitError::Store(member.unit.name.clone(), RepoError::Torn("a dry run stores nothing".into()));
    drained.into_committed().ok_or_else(torn)
}

/// Stores an image that another tool made, under a run of its own; nothing of it is thawed or released.
pub(crate) async fn store_foreign(
    cx: &Context,
    job: &Job<'_>,
    member: Member<'_>,
    remnant: &Remnant,
) -> (UnitReport, Option<(SnapshotId, Snapshot)>) {
    let started = cx.world.elapsed();
    let unit = UnitRun::new(job, member);
    let run = RunId::new(format!("{}-{}", cx.run, remnant.what));
    let own = &cx.for_run(&run, cx.purpose).with_monitor(unit.monitor.clone());
    let read = async {
        let failed = |error| UnitError::Capture(member.unit.name.clone(), error);
        let mut capture = member.source.reopen(own, remnant).await.map_err(failed)?;
        let filled = drain::fill(own, job, &[member], &unit, &mut *capture).await?;
        drain::commit(own, job, &unit, filled).await
    };
    let drained = read.await;
    let committed = drained.as_ref().ok().and_then(Drained::committed);
    let took = cx.world.elapsed().saturating_sub(started);
    (unit.report(drained, 0, &WindowReport::default(), took), committed)
}
