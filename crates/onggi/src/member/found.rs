//! The units of what was selected, ready for the engine.

use std::sync::{Arc, Mutex, PoisonError};

use onggi_engine::backup::{Parents, UnitPlan};
use onggi_engine::exit::Exit;
use onggi_engine::report::ReportProblem;
use onggi_engine::sources::SourceFault;
use onggi_repo::format::Compression;
use onggi_source::{Context, Monitor, Problem, Progress, Source, SourceError, Unit};

use super::{Planned, Selected, digest};
use crate::cli;
use crate::command::backup::Args;
use crate::escape::escape_text;
use crate::failure::Failure;
use crate::session::{Opened, Session};
use crate::watcher::show_problem;

/// One unit, ready for the engine.
pub struct Member<'a> {
    /// Its source.
    pub source: &'a dyn Source,
    /// The unit.
    pub unit: Unit,
    /// What the engine must know beside.
    pub plan: UnitPlan,
    /// It is backed up apart from the others: with how many like it at once.
    pub apart: Option<usize>,
}

/// What is to be done, as far as it could be found out.
pub struct Discovered<'a> {
    /// Each unit.
    pub members: Vec<Member<'a>>,
    /// Why some of it cannot be done.
    pub failures: Vec<Failure>,
    /// What the sources said before. The run says most of it again.
    pub problems: Vec<ReportProblem>,
}

/// Keeps problems until it is known whether the run tells them too.
#[derive(Default)]
struct Kept(Mutex<Vec<ReportProblem>>);

impl Monitor for Kept {
    fn problem(&self, problem: Problem) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(problem.into());
    }

    fn progress(&self, _progress: Progress) {}
}

/// Asks each source for its units. A source that cannot be asked is a failure if it is the only one.
pub async fn discover<'a>(
    selected: &'a Selected,
    args: &Args,
    parents: &Parents,
    opened: &Opened,
    session: &Session,
    cx: &Context,
) -> Result<Discovered<'a>, Failure> {
    let kept = Arc::new(Kept::default());
    let cx = &cx.with_monitor(kept.clone());
    let mut members = Vec::new();
    let mut failures: Vec<Failure> = selected.faults.iter().map(fault).collect();
    for planned in &selected.planned {
        let name = &planned.plan.source;
        let found = match units(planned, cx).await {
            Ok(found) => found,
            Err(error) => {
                failures.push(
                    Failure::new(Exit::from(&error), format!("ask {} for its units", escape_text(name))).chain(&error),
                );
                continue;
            }
        };
        let is_missing = |wanted: &&String| !found.iter().any(|unit| is_called(unit, wanted));
        for wanted in planned.only.iter().flatten().filter(is_missing) {
            let what = format!("back up {}/{}", escape_text(name), escape_text(wanted));
            failures.push(Failure::new(Exit::Failed, what).because("there is no such unit"));
        }
        for unit in found {
            let plan = complete(planned, &unit, args, parents, opened, session)?;
            members.push(Member { source: &*planned.source, unit, plan, apart: planned.apart });
        }
    }
    let problems = std::mem::take(&mut *kept.0.lock().unwrap_or_else(PoisonError::into_inner));
    match (members.is_empty(), failures.pop()) {
        (true, Some(last)) => {
            for problem in &problems {
                show_problem(&session.output, problem, "archival");
            }
            for failure in &failures {
                failure.report(&session.output);
            }
            Err(last)
        }
        (_, last) => Ok(Discovered { members, failures: failures.into_iter().chain(last).collect(), problems }),
    }
}

fn fault(fault: &SourceFault) -> Failure {
    let failure = Failure::usage("use the configured sources").because(fault);
    match fault {
        SourceFault::WithoutAdapter(..) => failure,
        _ => failure.hint("onggi config check"),
    }
}

async fn units(planned: &Planned, cx: &Context) -> Result<Vec<Unit>, SourceError> {
    if planned.apart.is_none() {
        planned.source.preflight(cx).await?; // of a fleet each unit proves it for itself
    }
    let mut found = planned.source.discover(cx).await?;
    if let Some(only) = &planned.only {
        found.retain(|unit| only.iter().any(|wanted| is_called(unit, wanted)));
    }
    Ok(found)
}

/// Whether a word of the command line means a unit.
fn is_called(unit: &Unit, word: &str) -> bool {
    unit.id.as_str() == word || unit.name == word
}

/// What the engine must know of one unit of a source.
pub fn complete(
    planned: &Planned,
    unit: &Unit,
    args: &Args,
    parents: &Parents,
    opened: &Opened,
    session: &Session,
) -> Result<UnitPlan, Failure> {
    let plan = &planned.plan;
    let journal = session.private_folder(&format!("journal/{}", plan.kind))?;
    let name = digest(&format!("{}\0{}\0{}", opened.repo.id(), plan.source, unit.id), 16);
    Ok(UnitPlan {
        hostname: match (planned.apart, &args.host) {
            (Some(_), None) => unit.name.clone(),
            (_, host) => host.clone().unwrap_or_else(|| plan.hostname.clone()),
        },
        compression: match session.globals.compression {
            None => plan.compression,
            Some(cli::Compression::Auto) => Compression::DEFAULT,
            Some(cli::Compression::Off) => Compression::Off,
            Some(cli::Compression::Max) => Compression::Level(19),
        },
        rate: session.globals.limit_rate.map(|rate| rate.0).or(plan.rate),
        parents: parents.clone(),
        time: args.time.as_ref().map(|moment| moment.0.timestamp()),
        journal: (!args.dry_run).then(|| journal.join(name)),
        ..plan.clone()
    })
}
