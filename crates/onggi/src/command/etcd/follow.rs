//! `onggi etcd follow`: stores every change of a cluster.

use std::time::Duration;

use onggi_engine::backup::{History, Member, UnitPlan, back_up};
use onggi_engine::exit::Exit;
use onggi_engine::report::{UnitOutcome, UnitReport};
use onggi_repo::lock::LockKind;
use onggi_source::etcd::Etcd;
use onggi_source::etcd::delta::capture::{Flush, Follower};
use onggi_source::{Context, Purpose, Source as _, SourceConfig};
use serde_json::json;

use crate::escape::escape_text;
use crate::failure::Failure;
use crate::figure;
use crate::member;
use crate::session::{Opened, Session};
use crate::value::Span;
use crate::watcher::{Watcher, show_problem};

/// Pause after a failure, before the cluster or the repository is tried again.
const AGAIN: Duration = Duration::from_secs(30);
/// How long the last delta may take when the end was asked for.
const LAST: Duration = Duration::from_mins(1);

/// Stores every change of a cluster from now on, so that it can be restored to any revision.
///
/// A full snapshot begins each chain, and deltas continue it; what cannot be continued, because the cluster has compacted
/// it meanwhile or was replaced, is a full again. Runs until it is asked to end, and then stores what it has gathered.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  onggi etcd follow etcd\n  onggi etcd follow etcd --flush 1m")]
pub struct Follow {
    /// A source of kind etcd.
    #[arg(value_name = "SOURCE")]
    pub source: String,
    /// How long changes are gathered before they are stored; they are stored earlier if they are many.
    #[arg(long, value_name = "DURATION", default_value = "5m")]
    pub flush: Span,
}

/// Follows it.
pub async fn run(args: Follow, session: &Session) -> Result<Exit, Failure> {
    let act = || format!("follow {}", escape_text(&args.source));
    let surroundings = member::surroundings(session, &args.source).await?;
    let config = session.config().await?;
    let config = config.ok_or_else(|| Failure::usage(act()).because("there is no configuration"))?;
    let configured = config.source(&args.source, surroundings.clone());
    let configured = configured.map_err(|error| Failure::usage(act()).because(error))?;
    let SourceConfig::Etcd(etcd) = &configured.config.source else {
        return Err(Failure::usage(act()).because("it is not of kind etcd"));
    };
    let flush = Flush { after: args.flush.0, full_every: etcd.full_every.0, ..Flush::DEFAULT };
    let follower = Follower::new(Etcd::new(etcd.clone(), surroundings), flush);
    let plan = configured.plan();
    let cx = session.run(Purpose::Backup).context;
    loop {
        let run = session.run(Purpose::Backup);
        let stored = async |opened: &Opened| store(&follower, &plan, session, &run.context, opened).await;
        let stored = session.with_own_end(LockKind::Shared, stored).await;
        if let Some(exit) = session.interrupt.exit() {
            return Ok(exit);
        }
        if let Err(failure) = stored {
            failure.report(&session.output);
            cx.sleep(AGAIN).await.map_err(|stop| Failure::new(Exit::from(stop), act()).because(stop))?;
        } else if let Err(failure) = wait(&follower, &cx, &act).await {
            let Some(exit) = session.interrupt.exit() else { return Err(failure) };
            store_last(&follower, &plan, session).await?;
            return Ok(exit);
        }
    }
}

/// Stores what was gathered until the end was asked for.
async fn store_last(follower: &Follower, plan: &UnitPlan, session: &Session) -> Result<Exit, Failure> {
    let cx = session.run(Purpose::Backup).context.for_cleanup(LAST);
    let stored = async |opened: &Opened| store(follower, plan, session, &cx, opened).await;
    session.with_last(LockKind::Shared, stored).await
}

/// Until there is something to be stored; the repository is not locked meanwhile.
async fn wait(follower: &Follower, cx: &Context, act: &impl Fn() -> String) -> Result<(), Failure> {
    let stopped = |stop| Failure::new(Exit::from(stop), act()).because(stop);
    match follower.gather(cx).await {
        Ok(true) => Ok(()),
        Ok(false) => cx.check().map_err(stopped),
        Err(_) => {
            cx.check().map_err(stopped)?;
            cx.sleep(Duration::from_secs(1)).await.map_err(stopped)
        }
    }
}

/// Stores a full or a delta, whichever is next.
async fn store(
    follower: &Follower,
    plan: &UnitPlan,
    session: &Session,
    cx: &Context,
    opened: &Opened,
) -> Result<Exit, Failure> {
    let act = || format!("follow {}", escape_text(&plan.source));
    let history = History::load(&opened.repo).await;
    let history = history.map_err(|error| Failure::repository("read the snapshots", &error))?;
    let units = follower.discover(cx).await;
    let units = units.map_err(|error| Failure::new(Exit::from(&error), act()).chain(&error))?;
    let job = opened.job(session, &history, Watcher::new(&session.output, "backup"))?;
    let members: Vec<_> = units.iter().map(|unit| Member { source: follower, unit, plan }).collect();
    let report = back_up(cx, &job, &members).await;
    for unit in &report.units {
        show(unit, session)?;
    }
    Ok(Exit::Done)
}

fn show(unit: &UnitReport, session: &Session) -> Result<(), Failure> {
    let output = &session.output;
    for problem in &unit.problems.first {
        show_problem(output, problem, "backup");
    }
    if unit.outcome == UnitOutcome::Unchanged {
        return Ok(()); // the watch goes on
    }
    let Some(snapshot) = &unit.snapshot else {
        let failure = Failure::new(unit.exit, format!("back up {}", escape_text(&unit.name)));
        return Err(unit.causes.iter().fold(failure, Failure::because));
    };
    let bytes = unit.figures.total_bytes_processed;
    if output.is_json() {
        output.json_now(json!({"message_type": "stored", "snapshot_id": snapshot, "bytes": bytes}));
    } else {
        let id = snapshot.get(..8).unwrap_or(snapshot);
        output.data(format_args!("stored {}  snapshot {id}", figure::bytes(bytes)));
    }
    Ok(())
}
