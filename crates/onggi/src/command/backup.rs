//! `onggi backup`: paths of this machine, a stream, or configured sources, now.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::ValueHint;
use futures::future::join_all;
use jiff::tz::TimeZone;
use onggi_engine::backup::{ATTEMPTS_DEFAULT, History, Job, Member, Parents, UnitPlan, back_up};
use onggi_engine::edge::Leases;
use onggi_engine::exit::Exit;
use onggi_engine::recover::{self, Recovery, recover};
use onggi_engine::report::{ReportProblem, RunReport, UnitOutcome, UnitReport};
use onggi_repo::lock::LockKind;
use onggi_source::{Context, Purpose, Remnant, Unit};
use serde_json::{Value, json};
use tokio::sync::Semaphore;

use super::filter::Filter;
use crate::escape::escape_text;
use crate::failure::Failure;
use crate::figure;
use crate::member::{self, Planned, Selected};
use crate::output::Verbosity;
use crate::query;
use crate::session::{Opened, Run, Session};
use crate::value::{Moment, Size};
use crate::watcher::{Watcher, show_problem};

/// Backs up paths of this machine, a command's output, or configured sources.
///
/// An argument that is the name of a configured source means that source; `./name` forces a path. An interrupted run
/// goes on where it stood: repeat the command.
#[derive(Debug, Default, clap::Args)]
#[command(after_help = "Examples:\n  onggi backup ~/Documents\n  onggi backup /etc /srv --tag nightly \
    --exclude '*.tmp' --one-file-system\n  onggi backup --stdin-from-command --stdin-filename db.sql -- pg_dump shop\n  \
    onggi backup director etcd/main")]
pub struct Args {
    /// Paths, or SOURCE or SOURCE/UNIT of the configuration; with --stdin-from-command the command.
    #[arg(value_name = "PATH|SOURCE", value_hint = ValueHint::AnyPath)]
    pub what: Vec<OsString>,
    /// Do everything but write; say what would be stored.
    #[arg(short = 'n', long)]
    pub dry_run: bool,
    /// Tags of the new snapshot.
    #[arg(long, value_name = "TAG,…", value_delimiter = ',')]
    pub tag: Vec<String>,
    /// Host name of the new snapshot [default: this machine's].
    #[arg(short = 'H', long, value_name = "HOST")]
    pub host: Option<String>,
    /// Time of the new snapshot: `2026-11-03 22:08:41` [default: now].
    #[arg(long, value_name = "TIME")]
    pub time: Option<Moment>,
    /// Compare with this snapshot [default: the newest of the same host and paths].
    #[arg(long, value_name = "SNAPSHOT", conflicts_with = "force")]
    pub parent: Option<String>,
    /// Read every file, as if there were no earlier snapshot.
    #[arg(short = 'f', long)]
    pub force: bool,
    #[command(flatten)]
    pub selection: Selection,
    #[command(flatten)]
    pub stdin: Stdin,
}

/// What of the paths is taken.
#[derive(Debug, Default, clap::Args)]
pub struct Selection {
    /// Leave out what matches; `!pattern` takes back.
    #[arg(short = 'e', long, value_name = "PATTERN")]
    pub exclude: Vec<String>,
    /// The same, whatever the case.
    #[arg(long, value_name = "PATTERN")]
    pub iexclude: Vec<String>,
    /// Patterns from a file, one per line.
    #[arg(long, value_name = "FILE")]
    pub exclude_file: Vec<PathBuf>,
    /// The same, whatever the case.
    #[arg(long, value_name = "FILE")]
    pub iexclude_file: Vec<PathBuf>,
    /// Leave out what is beside a file of this name; `NAME:HEADER` if it begins like that.
    #[arg(long, value_name = "NAME[:HEADER]")]
    pub exclude_if_present: Vec<String>,
    /// Leave out folders marked as caches by a CACHEDIR.TAG.
    #[arg(long)]
    pub exclude_caches: bool,
    /// Leave out larger files: 500M.
    #[arg(long, value_name = "SIZE")]
    pub exclude_larger_than: Option<Size>,
    /// Stay on the file system of each path.
    #[arg(short = 'x', long)]
    pub one_file_system: bool,
    /// Paths from a file, one per line.
    #[arg(long, value_name = "FILE")]
    pub files_from: Vec<PathBuf>,
    /// Paths from a file, separated by NUL bytes.
    #[arg(long, value_name = "FILE")]
    pub files_from_raw: Vec<PathBuf>,
    /// Store access times too.
    #[arg(long)]
    pub with_atime: bool,
}

/// One stream as one file.
#[expect(clippy::struct_field_names, reason = "restic names these flags so")]
#[derive(Debug, Default, clap::Args)]
pub struct Stdin {
    /// Store what comes in on stdin as one file.
    #[arg(long, conflicts_with_all = ["stdin_from_command", "what"])]
    pub stdin: bool,
    /// Store what a command writes as one file; stored only if it ends with status 0.
    #[arg(long)]
    pub stdin_from_command: bool,
    /// Name of that file.
    #[arg(long, value_name = "NAME", default_value = "stdin")]
    pub stdin_filename: String,
    /// Store the stream even if it is empty.
    #[arg(long)]
    pub allow_empty: bool,
}

/// Backs up.
pub async fn run(args: Args, session: &Session) -> Result<Exit, Failure> {
    let selected = member::select(&args, session).await?;
    let run = session.run(Purpose::Backup);
    let work = async |opened: &Opened| back_up_all(&args, &selected, session, opened, &run).await;
    tokio::select! {
        ended = session.with_own_end(LockKind::Shared, work) => ended,
        never = selected.approach(&run.context) => match never {},
    }
}

async fn back_up_all(
    args: &Args,
    selected: &Selected,
    session: &Session,
    opened: &Opened,
    run: &Run,
) -> Result<Exit, Failure> {
    opened.repo.check_version().map_err(|error| Failure::repository("back up", &error))?;
    let history =
        History::load(&opened.repo).await.map_err(|error| Failure::repository("read the snapshots", &error))?;
    for problem in &history.problems.first {
        show_problem(&session.output, problem, "read");
    }
    let parents = parents(args, &history)?;
    let found = member::discover(selected, args, &parents, opened, session, &run.context).await?;
    let watcher = Watcher::new(&session.output, "backup");
    let leases = Leases::new(session.machine.state_folder().join("leases"));
    let job = Job {
        leases: selected.is_configured().then_some(&leases),
        attempts: if selected.is_configured() { ATTEMPTS_DEFAULT } else { 1 },
        drains: 2,
        dry_run: args.dry_run,
        ..opened.job(session, &history, watcher.clone())?
    };
    for planned in &selected.planned {
        let complete = |unit: &Unit| member::complete(planned, unit, args, &parents, opened, session);
        let recovery = settle(planned, &complete, &job, &run.context).await;
        for settled in &recovery.settled {
            let (name, what) = (escape_text(&settled.unit.name), escape_text(&settled.what));
            session.output.detail(format_args!("left by an earlier run: {name}: {what}: {:?}", settled.how));
        }
        for problem in &recovery.problems.first {
            show_problem(&session.output, problem, "recover");
        }
    }
    let ticker = watcher.draw();
    let report = back_up_members(&run.context, &job, &found.members).await;
    drop(ticker);
    for unit in &report.units {
        show(unit, &report, args, session);
    }
    if let Some(id) = report.units.iter().rev().find_map(|unit| unit.snapshot.as_deref()) {
        session.output.suggest(format_args!("onggi ls {}", short(id)));
    }
    let is_told = |problem: &ReportProblem| report.units.iter().any(|unit| unit.problems.first.contains(problem));
    let untold: Vec<_> = found.problems.iter().filter(|problem| !is_told(problem)).collect();
    for problem in &untold {
        show_problem(&session.output, problem, "archival");
    }
    found.failures.iter().for_each(|failure| failure.report(&session.output));
    let others = found.failures.iter().map(Failure::exit).chain(untold.iter().map(|_| Exit::Partial));
    let exit = Exit::of_units(report.units.iter().map(|unit| unit.exit).chain(others)).and(report.exit());
    // A stop that the operator asked for is told as the signal it was.
    Ok(session.interrupt.exit().filter(|_| exit != Exit::Done).unwrap_or(exit))
}

/// Members of one group stand or fall together; those apart are each a group of their own, many at once.
async fn back_up_members(cx: &Context, job: &Job<'_>, members: &[member::Member<'_>]) -> RunReport {
    fn of<'a>(unit: &'a member::Member<'_>) -> Member<'a> {
        Member { source: unit.source, unit: &unit.unit, plan: &unit.plan }
    }
    let (apart, together): (Vec<_>, Vec<_>) = members.iter().partition(|unit| unit.apart.is_some());
    let group: Vec<_> = together.into_iter().map(of).collect();
    if apart.is_empty() {
        return back_up(cx, job, &group).await;
    }
    let mut reports = Vec::new();
    if !group.is_empty() {
        reports.push(back_up(cx, job, &group).await);
    }
    let room = Semaphore::new(apart.iter().filter_map(|unit| unit.apart).min().unwrap_or(1).max(1));
    let shares = |unit: &member::Member<'_>| -> Vec<((String, String), usize)> {
        let shares = unit.source.shares(&unit.unit).into_iter();
        shares.map(|(name, at_once)| ((unit.plan.source.clone(), name), at_once)).collect()
    };
    let shared: BTreeMap<_, _> =
        apart.iter().copied().flat_map(shares).map(|(name, at_once)| (name, Semaphore::new(at_once))).collect();
    let (room, shared) = (&room, &shared);
    let alone = apart.into_iter().map(|unit| {
        let mut names: Vec<_> = shares(unit).into_iter().map(|(name, _)| name).collect();
        // in one order for all, so that nobody waits for whoever waits for him; who waits takes no room
        names.sort();
        Box::pin(async move {
            let mut held = Vec::new();
            for name in &names {
                held.push(shared[name].acquire().await.expect("never closed"));
            }
            let _room = room.acquire().await.expect("never closed");
            back_up(cx, job, &[of(unit)]).await
        })
    });
    reports.extend(join_all(alone).await);
    let mut reports = reports.into_iter();
    let first = reports.next().expect("there is a unit apart");
    reports.fold(first, |mut all, one| {
        all.ended_at = all.ended_at.max(one.ended_at);
        all.units.extend(one.units);
        all.problems.append(one.problems);
        all
    })
}

/// What earlier runs left in a source goes first.
async fn settle(
    planned: &Planned,
    complete: &dyn Fn(&Unit) -> Result<UnitPlan, Failure>,
    job: &Job<'_>,
    cx: &Context,
) -> Recovery {
    // What is stored now is of the moment that was captured. Without a journal it is only read again.
    let plan = |unit: &Unit| {
        let plan = complete(unit).unwrap_or_else(|_| planned.plan.clone());
        UnitPlan { time: None, ..plan }
    };
    let is_alive = |remnant: &Remnant| recover::is_alive(cx, remnant);
    recover(cx, job, &*planned.source, &plan, &is_alive).await
}

/// Settles what earlier runs left in sources, and backs nothing up.
pub async fn settle_only(
    args: &Args,
    selected: &Selected,
    session: &Session,
    opened: &Opened,
) -> Result<Recovery, Failure> {
    opened.repo.check_version().map_err(|error| Failure::repository("go on", &error))?;
    let history =
        History::load(&opened.repo).await.map_err(|error| Failure::repository("read the snapshots", &error))?;
    let watcher = Watcher::new(&session.output, "backup");
    let job = opened.job(session, &history, watcher)?;
    let run = session.run(Purpose::Backup);
    let mut all = Recovery::default();
    for planned in &selected.planned {
        let complete = |unit: &Unit| member::complete(planned, unit, args, &Parents::Newest, opened, session);
        let one = settle(planned, &complete, &job, &run.context).await;
        all.settled.extend(one.settled);
        all.problems.append(one.problems);
    }
    Ok(all)
}

fn parents(args: &Args, history: &History) -> Result<Parents, Failure> {
    if args.force {
        return Ok(Parents::Nothing);
    }
    let Some(text) = &args.parent else { return Ok(Parents::Newest) };
    let which = query::parse(text, &TimeZone::system()).map_err(|error| Failure::no_snapshot(&error))?;
    let chosen =
        query::choose(&which, &history.snapshots, &Filter::default()).map_err(|error| Failure::not_one(&error))?;
    Ok(Parents::Given(vec![chosen.0]))
}

fn show(unit: &UnitReport, report: &RunReport, args: &Args, session: &Session) {
    let output = &session.output;
    if output.is_json() {
        output.json(document(unit, report, args));
    }
    if unit.outcome == UnitOutcome::Unchanged {
        if !output.is_json() && output.says(Verbosity::Normal) {
            let since = unit.parent.as_deref().map(short).unwrap_or_default();
            output.data(format_args!("  {}: nothing has changed since snapshot {since}", escape_text(&unit.name)));
        }
        return;
    }
    if unit.snapshot.is_none() && !args.dry_run || unit.outcome == UnitOutcome::Failed {
        return show_failure(unit, session);
    }
    if output.is_json() || !output.says(Verbosity::Normal) {
        return;
    }
    let figures = &unit.figures;
    let mut left = vec![
        figure::counted(figures.total_files_processed, "file", "files"),
        figure::bytes(figures.total_bytes_processed),
        figure::duration(Duration::from_secs_f64(unit.seconds.max(0.0))),
    ];
    if !unit.problems.is_empty() {
        left.push(figure::counted(unit.problems.count, "problem", "problems"));
    }
    let added = format!("added {} (compressed)", figure::bytes(figures.data_added_packed));
    let snapshot = match &unit.snapshot {
        Some(id) => format!("snapshot {}", short(id)),
        None => "dry run: nothing was stored".to_owned(),
    };
    output.data(format_args!("  {}      {added}      {snapshot}", left.join(output.dot())));
    let passed: Vec<_> =
        unit.passed.iter().map(|(reason, count)| format!("{} {reason}", figure::count(*count))).collect();
    if !passed.is_empty() {
        output.detail(format_args!("  passed over: {}", passed.join(", ")));
    }
}

fn show_failure(unit: &UnitReport, session: &Session) {
    let mut failure = Failure::new(unit.exit, format!("back up {}", unit.name));
    for cause in &unit.causes {
        failure = failure.because(cause);
    }
    failure = match unit.outcome {
        UnitOutcome::Stopped => failure.hint("repeat the command: it goes on where it stood"),
        _ => match unit.exit {
            Exit::Full => failure.hint("free space there, or `onggi repository prune`; then repeat the command"),
            Exit::Locked if unit.problems.has("leased") => failure.hint("nothing is lost: the other run stores it"),
            Exit::Locked => failure.hint("wait with --lock-wait 10m"),
            _ => failure,
        },
    };
    failure.report(&session.output);
}

/// What `restic backup --json` ends with, and what onggi knows beside.
fn document(unit: &UnitReport, report: &RunReport, args: &Args) -> Value {
    let mut document = serde_json::to_value(unit.figures).expect("figures are plain data");
    let members = json!({
        "message_type": "summary",
        "dry_run": args.dry_run,
        "backup_start": report.started_at.to_string(),
        "backup_end": report.ended_at.to_string(),
        "total_duration": unit.seconds,
        "source": unit.source,
        "unit": unit.unit,
        "name": unit.name,
        "run": report.run,
        "bytes_read": unit.bytes_read,
        "outcome": unit.outcome,
        "problems": unit.problems.count,
        "exit": unit.exit,
    });
    if let (Value::Object(document), Value::Object(members)) = (&mut document, members) {
        document.extend(members);
        if let Some(id) = &unit.snapshot {
            document.insert("snapshot_id".to_owned(), id.as_str().into());
        }
        if let Some(parent) = &unit.parent {
            document.insert("parent".to_owned(), parent.as_str().into());
        }
    }
    document
}

fn short(id: &str) -> &str {
    id.get(..8).unwrap_or(id)
}
