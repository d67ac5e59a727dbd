//! `onggi drill`: rehearses a restore, proves it, times it, and leaves nothing.

use clap::Subcommand;
use onggi_engine::exit::Exit;
use onggi_repo::format::Snapshot;
use onggi_repo::lock::LockKind;
use onggi_source::{Destination, Purpose};
use serde_json::{Value, json};

use super::restore::source::{Wanted, open, request, restore};
use super::restore::{database, etcd};
use crate::escape::{escape_prose, escape_text};
use crate::failure::Failure;
use crate::figure::{self, Table};
use crate::query;
use crate::record;
use crate::session::Session;
use crate::show::snapshot;

/// Rehearses restores: what was never restored is a hope.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  onggi drill run etcd\n  onggi drill list")]
pub struct Args {
    #[command(subcommand)]
    pub verb: Verb,
}

/// What to do with drills.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Restores a snapshot to a throw-away place, proves that it works, and removes it.
    #[command(after_help = "Examples:\n  onggi drill run etcd\n  onggi drill run 4f1c09ab")]
    Run(Run),
    /// Lists the drills of this machine.
    #[command(after_help = "Example:\n  onggi drill list")]
    List,
}

/// What to rehearse.
#[derive(Debug, clap::Args)]
pub struct Run {
    /// A source, of which the newest snapshot is taken, or a snapshot.
    #[arg(value_name = "SOURCE|SNAPSHOT")]
    pub what: String,
}

/// Does it.
pub async fn run(args: Args, session: &Session) -> Result<Exit, Failure> {
    match args.verb {
        Verb::Run(args) => rehearse(args, session).await,
        Verb::List => list(session),
    }
}

async fn rehearse(args: Run, session: &Session) -> Result<Exit, Failure> {
    session
        .with_own_end(LockKind::Reading, async |opened| {
            let (all, exit) = opened.snapshots(session).await?;
            let of_source = onggi_repo::format::tag("source", &args.what);
            // Of documents alone nothing can be started.
            let is_meant = |snapshot: &Snapshot| {
                snapshot.has_tag(&of_source) && !snapshot.has_tag(onggi_source::openstack::CONFIGURATION)
            };
            let newest = all.iter().rev().find(|(_, snapshot)| is_meant(snapshot));
            let found = if let Some(found) = newest {
                found
            } else {
                let which = session.queries(std::slice::from_ref(&args.what))?.remove(0);
                query::choose(&which, &all, &super::filter::Filter::default())
                    .map_err(|error| Failure::not_one(&error))?
            };
            session.output.talk(format_args!("rehearse snapshot {}", snapshot::sentence(&found.0, &found.1)));
            let chained = open(session, opened, &all, found).await?;
            if !chained.source.capabilities().destinations.contains(&Destination::Scratch) {
                return Err(Failure::usage(format!("rehearse {}", escape_text(&chained.name)))
                    .because("its kind has no throw-away place to restore to"));
            }
            let request = request(
                &chained,
                Destination::Scratch,
                (&etcd::Flags::default(), &database::Flags::default()),
                None,
                session,
            )?;
            let run = session.run(Purpose::Drill);
            let began_at = session.now();
            let done =
                restore(session, &run.context, &chained, &request, Wanted { shows_only: false, proves: true }).await;
            let checks =
                done.as_ref().ok().and_then(Option::as_ref).map(|proof| proof.checks.clone()).unwrap_or_default();
            let record = json!({
                "message_type": "drill",
                "at": began_at.to_string(),
                "source": chained.name,
                "unit": chained.unit.id.as_str(),
                "snapshot": found.0.to_string(),
                "seconds": run.elapsed().as_secs_f64(),
                "result": if done.is_ok() { "proved" } else { "failed" },
                "checks": checks,
            });
            record::append(session, record::DRILLS, &record)?;
            done?;
            show(session, &record, run.elapsed());
            Ok(exit)
        })
        .await
}

fn show(session: &Session, record: &Value, took: std::time::Duration) {
    let output = &session.output;
    if output.is_json() {
        return output.json(record.clone());
    }
    for check in record["checks"].as_array().into_iter().flatten().filter_map(Value::as_str) {
        output.data(format_args!("proved  {}", escape_prose(check)));
    }
    output.talk(format_args!("  restored and proved in {}", figure::duration(took)));
}

fn list(session: &Session) -> Result<Exit, Failure> {
    let records = record::read(session, record::DRILLS)?;
    if session.output.is_json() {
        session.output.json(Value::Array(records));
        return Ok(Exit::Done);
    }
    let mut table = Table::new(&["Time", "Source", "Snapshot", "Result", "Seconds"]);
    for record in &records {
        let text = |name: &str| escape_text(record[name].as_str().unwrap_or_default()).into_owned();
        let id = text("snapshot").chars().take(8).collect();
        let seconds = format!("{:.1}", record["seconds"].as_f64().unwrap_or(0.0));
        table.row(vec![text("at"), text("source"), id, text("result"), seconds]);
    }
    table.lines().iter().for_each(|line| session.output.data(line));
    Ok(Exit::Done)
}
