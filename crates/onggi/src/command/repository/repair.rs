//! `onggi repository repair`: mends what can be mended, with a plan first. What is damaged moves to the quarantine;
//! nothing is deleted but spare copies of keys that are gone.

use clap::Subcommand;
use onggi_engine::exit::Exit;
use onggi_repo::format::PackId;
use onggi_repo::lock::LockKind;
use onggi_repo::repair::{CopyFault, IndexRepair, PackRepair, SnapshotRepair};
use serde_json::{Value, json};

use crate::failure::Failure;
use crate::figure;
use crate::query;
use crate::session::{Opened, Session};
use crate::watcher::show_problem;

use super::super::filter::Filter;

/// Mends a damaged repository: the index, packs, snapshots, in this order.
///
/// Each verb shows its plan first. Damaged files are moved aside, not deleted. After repairing packs, a new backup of what
/// is still there often brings the lost data back.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  onggi repository repair index\n  onggi repository repair packs 3f2a…\n  \
    onggi repository repair snapshots --dry-run")]
pub struct Args {
    #[command(subcommand)]
    pub verb: Verb,
}

/// What to mend.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Reads the packs' headers again where the index does not match them.
    #[command(after_help = "Example:\n  onggi repository repair index --dry-run")]
    Index(OfIndex),
    /// Saves what is good in damaged packs.
    #[command(after_help = "Example:\n  onggi repository repair packs 3f2a8c01")]
    Packs(OfPacks),
    /// Makes snapshots without what is lost.
    #[command(after_help = "Example:\n  onggi repository repair snapshots --forget")]
    Snapshots(OfSnapshots),
    /// Mends the spare copies of config and keys, and from them their originals.
    #[command(after_help = "Example:\n  onggi repository repair copies --dry-run")]
    Copies(OfCopies),
}

/// Of spare copies.
#[derive(Debug, clap::Args)]
pub struct OfCopies {
    /// Show the plan; change nothing.
    #[arg(short = 'n', long)]
    pub dry_run: bool,
}

/// Of the index.
#[derive(Debug, clap::Args)]
pub struct OfIndex {
    /// Show the plan; change nothing.
    #[arg(short = 'n', long)]
    pub dry_run: bool,
}

/// Of packs.
#[derive(Debug, clap::Args)]
pub struct OfPacks {
    /// Ids of the damaged packs, or their beginnings, as `verify` names them.
    #[arg(value_name = "PACK", required = true)]
    pub packs: Vec<String>,
    /// Show the plan; change nothing.
    #[arg(short = 'n', long)]
    pub dry_run: bool,
}

/// Of snapshots.
#[derive(Debug, clap::Args)]
pub struct OfSnapshots {
    /// Only these.
    #[arg(value_name = "SNAPSHOT")]
    pub snapshots: Vec<String>,
    /// Forget the old ones when the new ones are there.
    #[arg(long)]
    pub forget: bool,
    /// Show the plan; change nothing.
    #[arg(short = 'n', long)]
    pub dry_run: bool,
    #[command(flatten)]
    pub filter: Filter,
}

/// Plans, shows, asks and mends.
pub async fn run(args: Args, session: &Session) -> Result<Exit, Failure> {
    session
        .with_uncached(LockKind::Exclusive, async |opened| match &args.verb {
            Verb::Index(args) => index(args, opened, session).await,
            Verb::Packs(args) => packs(args, opened, session).await,
            Verb::Snapshots(args) => snapshots(args, opened, session).await,
            Verb::Copies(args) => copies(args, opened, session).await,
        })
        .await
}

async fn index(args: &OfIndex, opened: &Opened, session: &Session) -> Result<Exit, Failure> {
    let failed = |error| Failure::repository("repair the index", &error);
    let plan = opened.repo.plan_repair_index(&opened.lock).await.map_err(failed)?;
    let IndexRepair { announce, drop, damaged, problems, .. } = &plan;
    for problem in problems {
        show_problem(&session.output, &problem.clone().into(), "repair");
    }
    let lines = [
        (announce.len(), "pack", "packs", "announced anew from their headers"),
        (drop.len(), "pack", "packs", "dropped: they are gone"),
        (damaged.len(), "index file", "index files", "moved to the quarantine: unreadable"),
    ];
    show(&lines, session, json!({"announce": announce.len(), "drop": drop.len(), "damaged": damaged.len()}));
    let exit = if problems.is_empty() { Exit::Done } else { Exit::Damaged };
    if plan.is_empty() || args.dry_run {
        return Ok(exit);
    }
    session.consent("repair the index", "Repair the index?").await?;
    opened.repo.repair_index(&opened.lock, &plan).await.map_err(failed)?;
    session.output.talk("the index is repaired");
    session.output.suggest("onggi repository verify");
    Ok(exit)
}

async fn packs(args: &OfPacks, opened: &Opened, session: &Session) -> Result<Exit, Failure> {
    let failed = |error| Failure::repository("repair packs", &error);
    opened.repo.load_index().await.map_err(failed)?;
    let ids = args.packs.iter().map(|start| pack_of(start, opened)).collect::<Result<Vec<_>, _>>()?;
    let plan: PackRepair = opened.repo.plan_repair_packs(&opened.lock, &ids).await.map_err(failed)?;
    let (mut good, mut elsewhere, mut lost) = (0, 0, 0);
    for pack in &plan.packs {
        good += pack.good.len();
        elsewhere += pack.elsewhere.len();
        lost += pack.lost.len();
    }
    let lines = [
        (plan.packs.len(), "pack", "packs", "moved to the quarantine"),
        (good, "blob", "blobs", "saved into new packs"),
        (elsewhere, "blob", "blobs", "damaged here, good in another pack"),
        (lost, "blob", "blobs", "lost"),
    ];
    show(&lines, session, json!({"packs": plan.packs.len(), "good": good, "elsewhere": elsewhere, "lost": lost}));
    let exit = if lost == 0 { Exit::Done } else { Exit::Partial };
    if plan.packs.is_empty() || args.dry_run {
        return Ok(exit);
    }
    session.consent("repair packs", "Repair these packs?").await?;
    opened.repo.repair_packs(&opened.lock, &plan).await.map_err(failed)?;
    session.output.talk("the packs are repaired");
    if lost > 0 {
        session.output.suggest("onggi backup (of what is still there), then onggi repository repair snapshots");
    }
    Ok(exit)
}

/// The pack whose id begins like this.
fn pack_of(start: &str, opened: &Opened) -> Result<PackId, Failure> {
    let act = || format!("repair pack {start}");
    if let Ok(id) = start.parse() {
        return Ok(id);
    }
    let known = opened.repo.index().all_packs().into_iter().map(|pack| pack.id);
    let fitting: Vec<PackId> = known.filter(|id| start.len() >= 4 && id.to_string().starts_with(start)).collect();
    match fitting.as_slice() {
        [one] => Ok(*one),
        [] => Err(Failure::new(Exit::Failed, act())
            .because("there is no such pack")
            .hint("onggi repository verify --read-data")),
        _ => Err(Failure::new(Exit::Failed, act()).because("several packs begin like that").hint("give more digits")),
    }
}

async fn snapshots(args: &OfSnapshots, opened: &Opened, session: &Session) -> Result<Exit, Failure> {
    let failed = |error| Failure::repository("repair snapshots", &error);
    let queries = session.queries(&args.snapshots)?;
    let (all, _) = opened.snapshots(session).await?;
    let chosen = if queries.is_empty() {
        all.iter().filter(|(_, snapshot)| args.filter.takes(snapshot)).cloned().collect()
    } else {
        let named = queries.iter().map(|which| query::choose(which, &all, &args.filter).cloned());
        named.collect::<Result<_, _>>().map_err(|error| Failure::not_one(&error))?
    };
    let plan: SnapshotRepair = opened.repo.plan_repair_snapshots(&opened.lock, chosen).await.map_err(failed)?;
    for problem in &plan.lost {
        show_problem(&session.output, &problem.clone().into(), "repair");
    }
    let lines = [
        (plan.snapshots.len(), "snapshot", "snapshots", "made anew without what is lost"),
        (plan.hopeless.len(), "snapshot", "snapshots", "lost altogether"),
    ];
    let figures = json!({"snapshots": plan.snapshots.len(), "hopeless": plan.hopeless.len(), "lost": plan.lost.len()});
    show(&lines, session, figures);
    let exit = if plan.hopeless.is_empty() && plan.lost.is_empty() { Exit::Done } else { Exit::Partial };
    if plan.snapshots.is_empty() || args.dry_run {
        return Ok(exit);
    }
    session.consent("repair snapshots", "Make these snapshots anew?").await?;
    let repaired = opened.repo.repair_snapshots(&opened.lock, &plan, args.forget).await.map_err(failed)?;
    for (old, new) in repaired {
        session.output.talk(format_args!("snapshot {} is repaired as {}", old.short(), new.short()));
    }
    Ok(exit)
}

async fn copies(args: &OfCopies, opened: &Opened, session: &Session) -> Result<Exit, Failure> {
    let failed = |error| Failure::repository("repair spare copies", &error);
    let plan = opened.repo.plan_repair_copies(&opened.lock).await.map_err(failed)?;
    for copy in &plan.copies {
        session.output.detail(format_args!("{copy}"));
    }
    let [differ, originals, orphans, worthless] =
        [CopyFault::Differs, CopyFault::OriginalLost, CopyFault::Orphan, CopyFault::Worthless]
            .map(|fault| plan.count(fault));
    let lines = [
        (differ, "copy", "copies", "written anew: not what the original is"),
        (originals, "original", "originals", "written anew from the copy: lost or damaged"),
        (orphans, "copy", "copies", "removed: of a key that is gone"),
        (worthless, "copy", "copies", "moved to the quarantine: damaged like the original"),
    ];
    let figures = json!({"rewrite": differ, "restore": originals, "remove": orphans, "quarantine": worthless});
    show(&lines, session, figures);
    if plan.copies.is_empty() || args.dry_run {
        return Ok(Exit::Done);
    }
    session.consent("repair spare copies", "Repair the spare copies?").await?;
    opened.repo.repair_copies(&opened.lock, &plan).await.map_err(failed)?;
    session.output.talk("the spare copies are repaired");
    Ok(Exit::Done)
}

fn show(lines: &[(usize, &str, &str, &str)], session: &Session, mut figures: Value) {
    let output = &session.output;
    if output.is_json() {
        figures["message_type"] = "plan".into();
        output.json(figures);
        return;
    }
    for (count, one, many, what) in lines.iter().filter(|(count, ..)| *count > 0) {
        output.data(format_args!("  {} {what}", figure::counted(*count as u64, one, many)));
    }
    if lines.iter().all(|(count, ..)| *count == 0) {
        output.talk("nothing to repair");
    }
}
