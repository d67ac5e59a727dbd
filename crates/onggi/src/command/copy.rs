//! `onggi copy`: snapshots from one repository to another.

mod status;

use std::path::PathBuf;

use clap::Subcommand;
use onggi_engine::exit::Exit;
use onggi_repo::copy::{Copied, CopyPlan, plan_copy};
use onggi_repo::lock::{Lock, LockKind};
use serde_json::json;

use super::filter::Filter;
use crate::failure::Failure;
use crate::figure;
use crate::opening::{self, PasswordSource};
use crate::query::{self, Found};
use crate::session::{Opened, Session};
use crate::show::snapshot;
use crate::watcher::show_problem;

/// Copies snapshots to another repository, offsite for example.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  onggi copy run --from main --to offsite\n  onggi copy status")]
pub struct Args {
    #[command(subcommand)]
    pub verb: Verb,
}

/// What to do with copies.
#[derive(Debug, Subcommand)]
pub enum Verb {
    Run(Run),
    /// Says for each unit where its newest state lies, judged by the rule of copies 3-2-1-1-0.
    ///
    /// Three copies with the living system, on two kinds of media, one at another site, one that is immutable or offline,
    /// no faults in the last verification on this machine. The labels are those of the storages in the configuration.
    /// Exit code 3: the rule is broken somewhere.
    #[command(after_help = "Example:\n  onggi copy status")]
    Status,
}

/// Copies the snapshots that the other repository lacks.
///
/// What is there already is not copied again. Both share data only if the other one was made with
/// `onggi init --chunker-from`.
#[expect(clippy::struct_field_names, reason = "what is run is a copy of snapshots")]
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  onggi copy run --from main --to offsite\n  onggi copy run --from /srv/backup \
    --from-password-file a.key --to sftp:ann@nas:backup --password-file b.key latest")]
pub struct Run {
    /// Where from: an address or a name of the configuration.
    #[arg(long, value_name = "REPO", alias = "from-repo")]
    pub from: String,
    /// Where to [default: -r].
    #[arg(long, value_name = "REPO")]
    pub to: Option<String>,
    /// File with the password of the repository that is copied from [default: that of the other].
    #[arg(long, value_name = "FILE")]
    pub from_password_file: Option<PathBuf>,
    /// Only these.
    #[arg(value_name = "SNAPSHOT")]
    pub snapshots: Vec<String>,
    /// Say what would be copied; copy nothing.
    #[arg(short = 'n', long)]
    pub dry_run: bool,
    #[command(flatten)]
    pub filter: Filter,
}

/// Copies.
pub async fn run(args: Args, session: &Session) -> Result<Exit, Failure> {
    let args = match args.verb {
        Verb::Run(args) => args,
        Verb::Status => return status::run(session).await,
    };
    let from = session.place_at(Some(&args.from)).await?;
    let to = match &args.to {
        Some(text) => session.place_at(Some(text)).await?,
        None => session.place().await?.clone(),
    };
    if from.location == to.location {
        return Err(Failure::usage("copy snapshots").because("both are the same repository").hint("say --to"));
    }
    let queries = session.queries(&args.snapshots)?;
    let from_source = match &args.from_password_file {
        Some(path) => PasswordSource::file(&session.machine.absolute(path)),
        None => opening::password_source(&session.globals, &session.machine, &from),
    };
    let to_source = opening::password_source(&session.globals, &session.machine, &to);
    let source = session.open_place(&from, &from_source).await?;
    session
        .with_at(&source, LockKind::Shared, async |here| {
            let there = session.open_place(&to, &to_source).await?;
            session
                .with_at(&there, LockKind::Shared, async |there| copy(&args, &queries, here, there, session).await)
                .await
        })
        .await
}

async fn copy(
    args: &Run,
    queries: &[onggi_repo::Which],
    here: &Opened,
    there: &Opened,
    session: &Session,
) -> Result<Exit, Failure> {
    let (all, exit) = here.snapshots(session).await?;
    let (theirs, their_exit) = there.snapshots(session).await?;
    let chosen: Vec<Found> = if queries.is_empty() {
        all.iter().filter(|(_, snapshot)| args.filter.takes(snapshot)).cloned().collect()
    } else {
        let named = queries.iter().map(|which| query::choose(which, &all, &args.filter).cloned());
        named.collect::<Result<_, _>>().map_err(|error| Failure::not_one(&error))?
    };
    if !here.repo.cuts_like(&there.repo) {
        session.output.talk(
            "note: the two repositories cut contents differently, so later backups there share no data with these",
        );
    }
    let plan = plan_copy(chosen, &theirs);
    show_plan(&plan, args, session);
    if plan.copy.is_empty() || args.dry_run {
        return Ok(exit.and(their_exit));
    }
    let copied = copy_to(here, there, &there.lock, &plan).await?;
    for problem in &copied.problems {
        show_problem(&session.output, &problem.clone().into(), "copy");
    }
    show(&copied, session);
    let own = if copied.problems.is_empty() { Exit::Done } else { Exit::Partial };
    Ok(exit.and(their_exit).and(own))
}

async fn copy_to(here: &Opened, there: &Opened, their_lock: &Lock, plan: &CopyPlan) -> Result<Copied, Failure> {
    let copied = here.repo.copy_to(&here.lock, &there.repo, their_lock, plan).await;
    copied.map_err(|error| Failure::repository("copy snapshots", &error))
}

fn show_plan(plan: &CopyPlan, args: &Run, session: &Session) {
    let output = &session.output;
    if output.is_json() {
        if args.dry_run {
            let ids: Vec<_> = plan.copy.iter().map(|(id, _)| id.to_string()).collect();
            output.json(json!({"message_type": "plan", "copy": ids, "present": plan.present.len()}));
        }
        return;
    }
    for (id, one) in &plan.copy {
        let word = if args.dry_run { "would copy" } else { "copy" };
        output.talk(format_args!("{word} {}", snapshot::sentence(id, one)));
    }
    if !plan.present.is_empty() {
        output.talk(format_args!(
            "{} there already",
            figure::counted(plan.present.len() as u64, "snapshot", "snapshots")
        ));
    }
}

fn show(copied: &Copied, session: &Session) {
    let output = &session.output;
    if output.is_json() {
        let names =
            copied.snapshots.iter().map(|(here, there)| json!({"from": here.to_string(), "to": there.to_string()}));
        output.json(json!({
            "message_type": "summary",
            "snapshots": names.collect::<Vec<_>>(),
            "blobs": copied.blobs,
            "data_added_packed": copied.bytes,
            "problems": copied.problems.len(),
        }));
        return;
    }
    output.data(format_args!(
        "  {} copied      added {} in {}",
        figure::counted(copied.snapshots.len() as u64, "snapshot", "snapshots"),
        figure::bytes(copied.bytes),
        figure::counted(copied.blobs as u64, "blob", "blobs")
    ));
}
