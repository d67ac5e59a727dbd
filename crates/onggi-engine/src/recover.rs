//! Settles what earlier runs left in a system: locks, images, half-made things. The marks there and the repository say
//! all that is needed; nothing of another tool, and nothing that a restore made, is ever touched.

use crate::{
    backup::{Job, Member, UnitError, UnitPlan, close, resume},
    report::{Problems, ReportProblem},
    window::{CLEANUP, Held, thaw},
};
use jiff::SignedDuration;
use onggi_repo::format::{Snapshot, SnapshotId};
use onggi_source::{Context, Outcome, Purpose, Remnant, Source, SourceError, Unit};
use std::time::Duration;

/// What became of one remnant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settled {
    /// Whose it is.
    pub unit: Unit,
    /// What it is, in the source's words.
    pub what: String,
    /// What was done.
    pub how: How,
}

/// What was done with a remnant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum How {
    /// Its run is alive.
    LeftAlone,
    /// Another tool's, or what a restore made: the operator decides.
    Shown,
    /// Its run had stored it: helpers were removed, what serves the next capture stays.
    Kept,
    /// It was whole: now it is stored, under its own run.
    Stored(SnapshotId),
    /// It was of no more use and is removed.
    Dropped,
    /// It could not be settled now; the next run tries again.
    Waits(String),
}

/// What a recovery did.
#[derive(Debug, Default)]
pub struct Recovery {
    /// Each remnant.
    pub settled: Vec<Settled>,
    /// Snapshots that were made of images left behind; add them to the history.
    pub stored: Vec<(SnapshotId, Snapshot)>,
    /// What could not be settled.
    pub problems: Problems,
}

/// How long a remnant without a sign of life counts as alive, where no catalog knows better.
pub const ALIVE_FOR: Duration = Duration::from_mins(30);

/// Whether a remnant's run may still be at work, by the age of its last sign of life.
pub fn is_alive(cx: &Context, remnant: &Remnant) -> bool {
    let age = cx.world.now().duration_since(remnant.seen_at);
    age < SignedDuration::try_from(ALIVE_FOR).unwrap_or(SignedDuration::MAX)
}

/// Settles the remnants of a source. `plan` says what the engine must know of a unit; `is_alive` whether its run is.
pub async fn recover(
    cx: &Context,
    job: &Job<'_>,
    source: &dyn Source,
    plan: &dyn Fn(&Unit) -> UnitPlan,
    is_alive: &dyn Fn(&Remnant) -> bool,
) -> Recovery {
    let mut recovery = Recovery::default();
    for remnant in listed(cx, source, &mut recovery).await {
        let how = settle(cx, job, source, plan, is_alive(&remnant), &remnant, &mut recovery).await;
        recovery.took(remnant, how);
    }
    recovery
}

/// Removes what dead runs left in a source, restores too, and stores nothing of it.
pub async fn discard(cx: &Context, source: &dyn Source, is_alive: &dyn Fn(&Remnant) -> bool) -> Recovery {
    let mut recovery = Recovery::default();
    for remnant in listed(cx, source, &mut recovery).await {
        let how = match &remnant.mark {
            None => How::Shown,
            Some(_) if is_alive(&remnant) => How::LeftAlone,
            Some((run, purpose)) => {
                let (cx, unit) = (cx.for_run(run, *purpose), &remnant.unit);
                match thawed(&cx, source, unit).await {
                    Ok(()) => released(&cx, source, unit, Outcome::Dropped, How::Dropped).await,
                    Err(waits) => waits,
                }
            }
        };
        recovery.took(remnant, how);
    }
    recovery
}

/// What lies in the source; what cannot be listed is told.
async fn listed(cx: &Context, source: &dyn Source, recovery: &mut Recovery) -> Vec<Remnant> {
    match source.remnants(cx).await {
        Ok(remnants) => remnants,
        Err(SourceError::Unsupported(_)) => Vec::new(),
        Err(error) => {
            recovery.problem(format!("what earlier runs left could not be listed: {error}"));
            Vec::new()
        }
    }
}

impl Recovery {
    fn took(&mut self, remnant: Remnant, how: How) {
        if let How::Waits(reason) = &how {
            self.problem(format!("{}: {}: {reason}", remnant.unit.name, remnant.what));
        }
        self.settled.push(Settled { unit: remnant.unit, what: remnant.what, how });
    }

    fn problem(&mut self, text: String) {
        self.problems.push(ReportProblem { class: "recovery-waits".into(), path: None, text });
    }
}

async fn settle(
    cx: &Context,
    job: &Job<'_>,
    source: &dyn Source,
    plan: &dyn Fn(&Unit) -> UnitPlan,
    is_alive: bool,
    remnant: &Remnant,
    recovery: &mut Recovery,
) -> How {
    let unit = &remnant.unit;
    let (run, purpose) = match &remnant.mark {
        _ if is_alive && remnant.mark.is_some() => return How::LeftAlone,
        None | Some((_, Purpose::Restore)) => return How::Shown,
        Some((run, purpose)) => (run, *purpose),
    };
    let cx = cx.for_run(run, purpose);
    if let Err(waits) = thawed(&cx, source, unit).await {
        return waits;
    }
    let plan = plan(unit);
    if job.history.has(&plan.source, &unit.id, run) {
        return released(&cx, source, unit, Outcome::Kept, How::Kept).await;
    }
    if !remnant.complete || purpose != Purpose::Backup {
        return released(&cx, source, unit, Outcome::Dropped, How::Dropped).await;
    }
    let member = Member { source, unit, plan: &plan };
    let stored = match source.reopen(&cx, remnant).await {
        Ok(capture) => resume(&cx, job, member, capture).await,
        // What cannot be reached now is whole all the same.
        Err(error) if error.is_transient() => return How::Waits(error.to_string()),
        Err(error) => Err(UnitError::Capture(unit.name.clone(), error)),
    };
    match stored {
        Ok((id, snapshot)) => {
            recovery.stored.push((id, snapshot));
            How::Stored(id)
        }
        Err(error) if error.leaves_image() => How::Waits(crate::chain(&error)),
        Err(error) => {
            tracing::warn!(unit = unit.name, error = crate::chain(&error), "what a run left cannot be stored");
            released(&cx, source, unit, Outcome::Dropped, How::Dropped).await
        }
    }
}

/// Nothing of the unit is held any more; or what becomes of it then.
async fn thawed(cx: &Context, source: &dyn Source, unit: &Unit) -> Result<(), How> {
    let thawed = thaw(cx, Held { source, unit }).await;
    thawed.map_err(|error| How::Waits(format!("it could not be thawed: {error}")))
}

async fn released(cx: &Context, source: &dyn Source, unit: &Unit, outcome: Outcome, how: How) -> How {
    match close(&cx.for_cleanup(CLEANUP), source, unit, outcome).await {
        Ok(()) => how,
        Err(error) => How::Waits(format!("it could not be released: {error}")),
    }
}
