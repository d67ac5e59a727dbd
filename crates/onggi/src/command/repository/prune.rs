//! `onggi repository prune`: frees the space of what no snapshot needs.

use std::time::Duration;

use onggi_engine::exit::Exit;
use onggi_repo::lock::LockKind;
use onggi_repo::prune::{Care, GRACE_MIN, MaxUnused, PruneOptions, PrunePlan, Pruned};
use serde_json::json;

use crate::failure::Failure;
use crate::figure;
use crate::session::{Opened, Session};
use crate::value::{Size, Span};

/// Frees the space of data that no snapshot needs, in two steps a day or more apart.
///
/// The first run marks, a later one looks again and removes what is still unneeded. Until then everything can be brought
/// back. Anything odd, such as listings that differ, refuses (exit code 5).
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  onggi repository prune --dry-run\n  onggi repository prune\n  \
    onggi repository prune --max-unused 10% --max-repack-size 20G")]
pub struct Args {
    /// Show the plan; change nothing.
    #[arg(short = 'n', long)]
    pub dry_run: bool,
    /// How much unneeded data may stay in packs that are partly needed: 5%, 2G or `unlimited`.
    #[arg(long, value_name = "LIMIT", default_value = "5%", value_parser = parse_unused)]
    pub max_unused: MaxUnused,
    /// Move at most so much data in one run.
    #[arg(long, value_name = "SIZE")]
    pub max_repack_size: Option<Size>,
    /// Move what is not compressed, too, and compress it: after an upgrade, or where compression was off. What does not
    /// shrink stays as it is.
    #[arg(long)]
    pub repack_uncompressed: bool,
    /// How long what is marked stays, at least a day.
    #[arg(long, value_name = "DURATION", default_value = "24h")]
    pub grace: Span,
    /// Remove at once, without the day in between. Nothing else may use the repository.
    #[arg(long)]
    pub instant: bool,
}

fn parse_unused(text: &str) -> Result<MaxUnused, String> {
    if text == "unlimited" {
        return Ok(MaxUnused::Unlimited);
    }
    if let Some(share) = text.strip_suffix('%') {
        let share = share.parse::<f64>().ok().filter(|share| (0.0..=100.0).contains(share));
        return share.map(MaxUnused::Percent).ok_or_else(|| format!("`{text}` is not a share such as 5%"));
    }
    text.parse::<Size>().map(|size| MaxUnused::Bytes(size.0))
}

impl Args {
    /// As `forget --prune` runs it.
    pub fn usual(dry_run: bool) -> Self {
        Self {
            dry_run,
            max_unused: MaxUnused::Percent(5.0),
            max_repack_size: None,
            repack_uncompressed: false,
            grace: Span(GRACE_MIN),
            instant: false,
        }
    }

    fn options(&self) -> PruneOptions {
        PruneOptions {
            max_unused: self.max_unused,
            repack_bytes_max: self.max_repack_size.map(|size| size.0),
            grace: self.grace.0.max(GRACE_MIN),
            is_instant: self.instant,
            care: Care { compresses_data: self.repack_uncompressed, ..Care::default() },
            ..PruneOptions::default()
        }
    }
}

/// Plans, shows, asks and prunes.
pub async fn run(args: Args, session: &Session) -> Result<Exit, Failure> {
    if args.grace.0 < GRACE_MIN {
        return Err(Failure::usage("prune")
            .because("what is marked stays at least a day")
            .hint("leave --grace out; --instant removes at once"));
    }
    session.with_uncached(LockKind::Exclusive, async |opened| prune(&args, opened, session).await).await
}

/// The same under a lock that is held already.
pub async fn prune(args: &Args, opened: &Opened, session: &Session) -> Result<Exit, Failure> {
    let failed = |error| Failure::repository("plan what to prune", &error);
    opened.repo.load_index().await.map_err(failed)?;
    let plan = opened.repo.plan_prune(&opened.lock, &args.options()).await.map_err(failed)?;
    show(&plan, args, session);
    if plan.is_empty() || args.dry_run {
        return Ok(Exit::Done);
    }
    if args.instant {
        let question =
            format!("Remove {} at once, without a day to change your mind?", figure::bytes(plan.freed_bytes));
        session.consent("prune at once", &question).await?;
    } else if !plan.remove.is_empty() {
        session.consent("prune", &format!("Remove {} for good?", packs(plan.remove.len()))).await?;
    }
    let pruned = opened.repo.prune(&opened.lock, &plan).await.map_err(|error| Failure::repository("prune", &error))?;
    finish(&pruned, &plan, args.grace.0, session);
    Ok(Exit::Done)
}

fn packs(count: usize) -> String {
    figure::counted(count as u64, "pack", "packs")
}

fn show(plan: &PrunePlan, args: &Args, session: &Session) {
    let output = &session.output;
    if output.is_json() {
        let unused = plan.left_bytes + plan.freed_bytes;
        output.json(json!({
            "message_type": "summary",
            "dry_run": args.dry_run,
            "bytes": {
                "used": plan.used_bytes,
                "unused": unused,
                "total": plan.used_bytes + unused,
                "repack": plan.repacked_bytes,
                "remove_total": plan.freed_bytes,
                "remaining": plan.used_bytes + plan.left_bytes,
                "remaining_unused": plan.left_bytes,
            },
            "packfiles": {
                "total": plan.packs_seen,
                "keep": plan.kept,
                "repack": plan.repack.len(),
                "unreferenced": plan.unreferenced.len(),
                "unused": plan.mark.len(),
                "remove": plan.remove.len(),
                "remove_total": plan.remove.len(),
                "mark": plan.mark.len(),
                "recover": plan.recover.len(),
                "waiting": plan.waiting.len(),
                "drop": plan.drop.len(),
            },
        }));
        return;
    }
    let would = if args.dry_run { "would be " } else { "" };
    for (count, what) in [
        (plan.remove.len(), format!("{would}removed: marked before, and still not needed")),
        (plan.mark.len() + plan.unreferenced.len(), format!("{would}marked: not needed any more")),
        (plan.repack.len(), format!("{would}moved: partly needed ({})", figure::bytes(plan.repacked_bytes))),
        (plan.recover.len(), format!("{would}brought back: needed again")),
        (plan.drop.len(), format!("{would}dropped from the index: not there, and not needed")),
        (plan.waiting.len(), "marked before, in their day of grace".to_owned()),
    ] {
        if count > 0 {
            output.data(format_args!("  {} {what}", packs(count)));
        }
    }
    output.data(format_args!("  {} kept, {} needed", packs(plan.kept), figure::bytes(plan.used_bytes)));
}

fn finish(pruned: &Pruned, plan: &PrunePlan, grace: Duration, session: &Session) {
    let output = &session.output;
    if pruned.held > 0 {
        output.talk(format_args!("{} held by an object lock; a later prune looks again", packs(pruned.held)));
    }
    if pruned.held_indexes > 0 {
        let files = figure::counted(pruned.held_indexes as u64, "index file", "index files");
        output.talk(format_args!("{files} held by an object lock, with all that they announce"));
    }
    if pruned.marked > 0 {
        output.talk(format_args!(
            "{} marked; the space is free after the next `onggi repository prune` in {} or later",
            packs(pruned.marked),
            figure::duration(grace)
        ));
    }
    if pruned.removed > 0 {
        output.talk(format_args!("{} removed, {} free", packs(pruned.removed), figure::bytes(plan.freed_bytes)));
    }
}
