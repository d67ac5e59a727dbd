//! `onggi repository forget`: drops snapshots by rules.

use onggi_engine::exit::Exit;
use onggi_repo::Which;
use onggi_repo::forget::{
    Action, Candidate, ForgetMax, ForgetOptions, ForgetPlan, GroupBy, GroupPlan, Rules, TrustedTime, Verdict,
    followers, plan_forget,
};
use onggi_repo::lock::LockKind;
use serde_json::{Value, json};

use super::super::filter::Filter;
use super::super::group::{self, parse_group_by};
use super::prune;
use crate::escape::escape_prose;
use crate::failure::Failure;
use crate::figure::{self, Table};
use crate::query;
use crate::session::{Opened, Session};
use crate::show::{node::moment, snapshot};
use crate::watcher::show_problem;

/// Forgets snapshots by rules, or those that are named.
///
/// For each group the rules say which snapshots are kept; every other one is removed. The plan is printed with the reason
/// for each. Space is freed by `prune`. Rules that would empty a group, or remove more than --forget-max, are refused.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  onggi repository forget --keep-daily 7 --keep-weekly 5 --dry-run\n  \
    onggi repository forget --host web-1 --keep-last 3 --yes\n  onggi repository forget 4f1c09ab --prune")]
pub struct Args {
    /// These snapshots, whatever the rules say.
    #[arg(value_name = "SNAPSHOT")]
    pub snapshots: Vec<String>,
    #[command(flatten)]
    pub keep: Keep,
    #[command(flatten)]
    pub filter: Filter,
    /// What makes a group: `unit`, or host, paths and/or tags, separated by commas.
    ///
    /// `unit` takes snapshots of one unit of a source together, all others by host and paths. Nothing: all are one group.
    #[arg(short = 'g', long, value_name = "GROUP,…", default_value = "unit", value_parser = parse_group_by)]
    pub group_by: GroupBy,
    /// Show the plan; remove nothing.
    #[arg(short = 'n', long)]
    pub dry_run: bool,
    /// Mark data that is no longer needed too, as `onggi repository prune` does.
    #[arg(long)]
    pub prune: bool,
    /// Most that one run may remove from a group: a number, a share, or `unlimited` [default: the larger of 10 and 25%].
    #[arg(long, value_name = "MAX", value_parser = parse_max)]
    pub forget_max: Option<Max>,
    /// Forget though the newest snapshot has shrunk to less than half.
    #[arg(long)]
    pub accept_shrunk: bool,
}

/// What is kept: each rule keeps the first snapshot of so many periods.
#[expect(clippy::struct_field_names, reason = "restic names these flags so")]
#[derive(Debug, clap::Args)]
pub struct Keep {
    /// The newest N snapshots.
    #[arg(short = 'l', long, value_name = "N")]
    pub keep_last: Option<String>,
    /// Units that say themselves how many of their last snapshots are kept: that many, in the place of --keep-last.
    ///
    /// A unit says so by the tag keep:N of its newest snapshot: a server of OpenStack has it of its metadata onggi_keep. Other
    /// rules stand beside it.
    #[arg(long)]
    pub keep_own: bool,
    /// One for each of the last N hours that have any.
    #[arg(long, value_name = "N")]
    pub keep_hourly: Option<String>,
    /// One for each of the last N days.
    #[arg(short = 'd', long, value_name = "N")]
    pub keep_daily: Option<String>,
    /// One for each of the last N weeks.
    #[arg(short = 'w', long, value_name = "N")]
    pub keep_weekly: Option<String>,
    /// One for each of the last N months.
    #[arg(short = 'm', long, value_name = "N")]
    pub keep_monthly: Option<String>,
    /// One for each of the last N years.
    #[arg(short = 'y', long, value_name = "N")]
    pub keep_yearly: Option<String>,
    /// All within this time before the newest: 2y5m7d3h.
    #[arg(long, value_name = "TIME")]
    pub keep_within: Option<String>,
    /// One for each hour within this time.
    #[arg(long, value_name = "TIME")]
    pub keep_within_hourly: Option<String>,
    /// One for each day within this time.
    #[arg(long, value_name = "TIME")]
    pub keep_within_daily: Option<String>,
    /// One for each week within this time.
    #[arg(long, value_name = "TIME")]
    pub keep_within_weekly: Option<String>,
    /// One for each month within this time.
    #[arg(long, value_name = "TIME")]
    pub keep_within_monthly: Option<String>,
    /// One for each year within this time.
    #[arg(long, value_name = "TIME")]
    pub keep_within_yearly: Option<String>,
    /// All that bear these tags.
    #[arg(long, value_name = "TAG,…")]
    pub keep_tag: Vec<String>,
}

/// Most that one run may remove from a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Max(Option<ForgetMax>);

fn parse_max(text: &str) -> Result<Max, String> {
    let refusal = || format!("`{text}` is not a number, a share such as 50%, or `unlimited`");
    if text == "unlimited" {
        return Ok(Max(None));
    }
    let max = match text.strip_suffix('%') {
        Some(share) => {
            let percent = share.parse().ok().filter(|percent| *percent <= 100).ok_or_else(refusal)?;
            ForgetMax { percent, count: 0 }
        }
        None => ForgetMax { percent: 0, count: text.parse().map_err(|_| refusal())? },
    };
    Ok(Max(Some(max)))
}

/// Plans, shows, asks and forgets.
pub async fn run(args: Args, session: &Session) -> Result<Exit, Failure> {
    let rules = rules(&args.keep)?;
    let queries = session.queries(&args.snapshots)?;
    let kind = if args.dry_run { LockKind::Reading } else { LockKind::Exclusive };
    session
        .with(kind, async |opened| {
            let (candidates, problems) =
                opened.repo.forget_candidates().await.map_err(|error| Failure::repository("list snapshots", &error))?;
            for problem in &problems {
                show_problem(&session.output, &problem.clone().into(), "forget");
            }
            let exit = if problems.is_empty() { Exit::Done } else { Exit::Damaged };
            let plan = if queries.is_empty() {
                by_rules(&args, &rules, candidates, session)?
            } else {
                named(&queries, candidates)?
            };
            show(&plan, session);
            Ok(exit.and(apply(&args, &plan, opened, session).await?))
        })
        .await
}

fn rules(keep: &Keep) -> Result<Rules, Failure> {
    let mut rules = Rules::default();
    let counted = [
        ("last", &keep.keep_last),
        ("hourly", &keep.keep_hourly),
        ("daily", &keep.keep_daily),
        ("weekly", &keep.keep_weekly),
        ("monthly", &keep.keep_monthly),
        ("yearly", &keep.keep_yearly),
        ("within", &keep.keep_within),
        ("within-hourly", &keep.keep_within_hourly),
        ("within-daily", &keep.keep_within_daily),
        ("within-weekly", &keep.keep_within_weekly),
        ("within-monthly", &keep.keep_within_monthly),
        ("within-yearly", &keep.keep_within_yearly),
    ];
    let given = counted.into_iter().filter_map(|(name, value)| Some((name, value.as_ref()?)));
    for (name, value) in given.chain(keep.keep_tag.iter().map(|value| ("tag", value))) {
        rules.add(name, value).map_err(|error| {
            Failure::usage(format!("read --keep-{name} {value}")).because(error).hint("onggi repository forget --help")
        })?;
    }
    Ok(rules)
}

fn by_rules(args: &Args, rules: &Rules, candidates: Vec<Candidate>, session: &Session) -> Result<ForgetPlan, Failure> {
    let now = session.now();
    let options = ForgetOptions {
        group_by: args.group_by,
        trusted: TrustedTime::Written,
        max: args.forget_max.map_or(Some(ForgetMax::DEFAULT), |max| max.0),
        is_shrinking_fine: args.accept_shrunk,
        is_own_count_heard: args.keep.keep_own,
        ..ForgetOptions::at(now)
    };
    let taken = candidates.into_iter().filter(|candidate| args.filter.takes(&candidate.snapshot)).collect();
    plan_forget(rules, taken, &options).map_err(|error| {
        Failure::repository("plan what to forget", &error).hint("say what is kept, for example --keep-daily 7")
    })
}

/// A plan for snapshots that are named one by one: the operator's word is the reason.
fn named(queries: &[Which], candidates: Vec<Candidate>) -> Result<ForgetPlan, Failure> {
    let all: Vec<_> = candidates.iter().map(|one| (one.id, one.snapshot.clone())).collect();
    let chosen = queries.iter().map(|which| query::choose(which, &all, &Filter::default()).map(|(id, _)| *id));
    let chosen = chosen.collect::<Result<Vec<_>, _>>().map_err(|error| Failure::not_one(&error))?;
    let lost = followers(&candidates, &chosen);
    let mut verdicts: Vec<Verdict> = candidates
        .into_iter()
        .filter(|one| chosen.contains(&one.id) || lost.contains(&one.id))
        .map(|candidate| {
            let reason = if chosen.contains(&candidate.id) { "named" } else { "it continues one that goes" };
            Verdict { candidate, action: Action::Forget, reasons: vec![reason.to_owned()] }
        })
        .collect();
    verdicts.reverse();
    let everything = GroupBy::Fields { host: false, paths: false, tags: false };
    let key = verdicts.first().map(|one| onggi_repo::forget::GroupKey::of(&one.candidate.snapshot, everything));
    let groups = key.into_iter().map(|key| GroupPlan { key, verdicts: std::mem::take(&mut verdicts), held: None });
    Ok(ForgetPlan { groups: groups.collect(), refusals: Vec::new() })
}

fn show(plan: &ForgetPlan, session: &Session) {
    let output = &session.output;
    if output.is_json() {
        output.json(plan.groups.iter().map(group_document).collect());
        return;
    }
    for group in &plan.groups {
        output.data(format_args!("snapshots of {}", snapshot::group(&group.key)));
        let mut table = Table::new(&["", "ID", "Time", "Host", "Reason"]);
        for verdict in &group.verdicts {
            let word = if verdict.action == Action::Keep { "keep" } else { "forget" };
            let Candidate { id, snapshot, .. } = &verdict.candidate;
            let host = escape_prose(&snapshot.hostname).into_owned();
            table.row(vec![word.to_owned(), id.short(), moment(snapshot.time), host, verdict.reasons.join(", ")]);
        }
        table.lines().iter().skip(1).for_each(|line| output.data(format_args!("  {line}")));
        if let Some(held) = &group.held {
            output.say(format_args!("held: {held}; --accept-shrunk forgets all the same"));
        }
    }
}

fn group_document(group: &GroupPlan) -> Value {
    let of = |action: Action| -> Vec<Value> {
        let taken = group.verdicts.iter().filter(|verdict| verdict.action == action);
        taken.map(|verdict| document(&verdict.candidate)).collect()
    };
    let kept = group.verdicts.iter().filter(|verdict| verdict.action == Action::Keep);
    let reasons: Vec<_> =
        kept.map(|verdict| json!({"snapshot": document(&verdict.candidate), "matches": verdict.reasons})).collect();
    let key = group::document(&group.key);
    json!({
        "tags": key["tags"],
        "host": key["hostname"],
        "paths": key["paths"],
        "keep": of(Action::Keep),
        "remove": of(Action::Forget),
        "reasons": reasons,
        "held": group.held,
    })
}

fn document(candidate: &Candidate) -> Value {
    Value::Object(snapshot::document(&candidate.id, &candidate.snapshot))
}

async fn apply(args: &Args, plan: &ForgetPlan, opened: &Opened, session: &Session) -> Result<Exit, Failure> {
    let output = &session.output;
    let count = plan.forgotten().len() as u64;
    let what = figure::counted(count, "snapshot", "snapshots");
    if count == 0 {
        output.talk("nothing to forget");
        return Ok(Exit::Done);
    }
    if !plan.refusals.is_empty() {
        let refused = Failure::new(Exit::Refused, format!("forget {what}"));
        let refused = plan
            .refusals
            .iter()
            .fold(refused, |refused, (guard, reason)| refused.because(format!("{guard}: {reason}")));
        return Err(refused.hint("if it is meant: --forget-max unlimited, or name the snapshots one by one"));
    }
    if args.dry_run {
        output.talk(format_args!("would forget {what}"));
        return Ok(Exit::Done);
    }
    session.consent(&format!("forget {what}"), &format!("Forget {what}?")).await?;
    let forgotten = opened.repo.forget(&opened.lock, plan).await;
    let forgotten = forgotten.map_err(|error| Failure::repository(format!("forget {what}"), &error))?;
    let snapshots = |count: usize| figure::counted(count as u64, "snapshot", "snapshots");
    output.talk(format_args!("{} forgotten", snapshots(forgotten.gone)));
    if forgotten.held > 0 {
        output.talk(format_args!("{} kept, because an object lock holds them", snapshots(forgotten.held)));
    }
    if args.prune {
        return prune::prune(&prune::Args::usual(false), opened, session).await;
    }
    output.suggest("onggi repository prune");
    Ok(Exit::Done)
}
