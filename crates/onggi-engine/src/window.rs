//! The window: freezes units in order, lets their images be fixed, and thaws them in reverse, in every case and in time.
//!
//! One function for one unit or a group of any kinds. It is the only place that calls `freeze` and `thaw` of a run, so
//! no way out of a run leads past the thaw.

use crate::{report::ReportProblem, sabotage};
use futures::future::BoxFuture;
use onggi_source::{Context, Result, Source, Stop, Unit};
use std::{
    sync::atomic::{AtomicUsize, Ordering::Relaxed},
    time::Duration,
};

/// What is beside a call that does not end: from the hold's limit to the thaw next to it.
pub const GRACE: Duration = Duration::from_secs(10);
/// The longest that a thaw or release may take.
pub const CLEANUP: Duration = Duration::from_mins(10);
/// How often a failed thaw is tried again.
const THAW_RETRIES: usize = 3;

/// A unit with its source.
#[derive(Clone, Copy)]
pub struct Held<'a> {
    /// What it belongs to.
    pub source: &'a dyn Source,
    /// Which one.
    pub unit: &'a Unit,
}

/// What is done inside a window. Boxed: what borrows through a closure cannot be shown to be `Send` otherwise.
pub type Body<'b, T> = Box<dyn FnOnce(Context) -> BoxFuture<'b, Result<T>> + Send + 'b>;

/// What the window saw.
#[derive(Debug, Default)]
pub struct WindowReport {
    /// From the first freeze to the last thaw, if anything was frozen.
    pub frozen: Option<Duration>,
    /// Which unit's freeze failed.
    pub failed_freeze: Option<usize>,
    /// Units that could not be thawed, each with its cause.
    pub failed_thaws: Vec<(usize, ReportProblem)>,
}

/// Freezes all in order, runs the body, thaws in reverse all whose freeze was called.
///
/// Where a member freezes, the body's context ends after `hold`; calls that still run `GRACE` later are thawed beside,
/// and once more when they end. Where none freezes there is no limit.
pub async fn window<T>(
    cx: &Context,
    members: &[Held<'_>],
    hold: Duration,
    body: Body<'_, T>,
) -> (Result<T>, WindowReport) {
    let freezes = members.iter().any(|member| member.source.capabilities().freezes);
    let inside = if freezes { cx.within(hold, Stop::FreezeLimit) } else { cx.clone() };
    let (called, failed) = (AtomicUsize::new(0), AtomicUsize::new(usize::MAX));
    let started = cx.world.elapsed();
    let work = async {
        for (index, member) in members.iter().enumerate() {
            if !sabotage::FAILED_FREEZE_NOT_THAWED.is_on() {
                called.store(index + 1, Relaxed);
            }
            member.source.freeze(&inside, member.unit).await.inspect_err(|_| failed.store(index, Relaxed))?;
            called.store(index + 1, Relaxed);
        }
        body(inside.clone()).await
    };
    tokio::pin!(work);
    let late = async {
        if freezes {
            cx.world.reach(started + hold + GRACE).await;
        } else {
            std::future::pending::<()>().await;
        }
    };
    let result = tokio::select! {
        biased;
        result = &mut work => result,
        () = late => {
            // While the work still runs: the bound comes first. What fails now is tried again below.
            drop(thaw_all(cx, members, called.load(Relaxed)).await);
            work.await.and(Err(Stop::FreezeLimit.into()))
        }
    };
    let failed_thaws = thaw_all(cx, members, called.load(Relaxed)).await;
    let frozen = freezes.then(|| cx.world.elapsed().saturating_sub(started));
    let failed_freeze = Some(failed.load(Relaxed)).filter(|index| *index < members.len());
    (result, WindowReport { frozen, failed_freeze, failed_thaws })
}

async fn thaw_all(cx: &Context, members: &[Held<'_>], called: usize) -> Vec<(usize, ReportProblem)> {
    let mut failed = Vec::new();
    for (index, member) in members.iter().enumerate().take(called).rev() {
        if let Err(error) = thaw(cx, *member).await {
            let text = format!("{} is still frozen: {error}", member.unit.name);
            failed.push((index, ReportProblem { class: "thaw-failed".into(), path: None, text }));
        }
    }
    failed
}

/// Thaws one unit under a context of its own that neither stop nor deadline of the run reaches.
pub(crate) async fn thaw(cx: &Context, member: Held<'_>) -> Result<()> {
    let cx = cx.for_cleanup(CLEANUP);
    let mut thawed = member.source.thaw(&cx, member.unit).await;
    for _ in 0..THAW_RETRIES {
        if thawed.is_ok() || cx.sleep(Duration::from_secs(1)).await.is_err() {
            break;
        }
        thawed = member.source.thaw(&cx, member.unit).await;
    }
    thawed
}
