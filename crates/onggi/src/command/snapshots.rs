//! `onggi snapshots`: what there is to restore.

use std::collections::BTreeMap;
use std::collections::HashMap;

use onggi_engine::exit::Exit;
use onggi_repo::Which;
use onggi_repo::forget::{GroupBy, GroupKey};
use onggi_repo::format::Snapshot;
use onggi_repo::lock::LockKind;
use serde_json::{Value, json};

use super::filter::Filter;
use super::group::parse_group_by;
use crate::failure::Failure;
use crate::figure;
use crate::output::Output;
use crate::query::{self, Found};
use crate::session::Session;
use crate::show::snapshot;

/// Lists snapshots, oldest first.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  onggi snapshots\n  onggi snapshots --host web-1 --latest 3\n  onggi snapshots --group-by host,paths --json"
)]
pub struct Args {
    /// Only these.
    #[arg(value_name = "SNAPSHOT")]
    pub snapshots: Vec<String>,
    #[command(flatten)]
    pub filter: Filter,
    /// Only the newest N of each host and paths.
    #[arg(long, value_name = "N")]
    pub latest: Option<usize>,
    /// Group by host, paths and/or tags, separated by commas.
    #[arg(short = 'g', long, value_name = "GROUP,…", value_parser = parse_group_by)]
    pub group_by: Option<GroupBy>,
    /// One short line each.
    #[arg(long)]
    pub compact: bool,
}

/// Lists them.
pub async fn run(args: Args, session: &Session) -> Result<Exit, Failure> {
    let queries = session.queries(&args.snapshots)?;
    session
        .with(LockKind::Reading, async |opened| {
            let (all, exit) = opened.snapshots(session).await?;
            let mut chosen = choose(&all, &queries, &args.filter)?;
            if let Some(count) = args.latest {
                chosen = newest(chosen, count);
            }
            show(&chosen, &args, &session.output);
            Ok(exit)
        })
        .await
}

/// Those that are named, or all that the filter takes.
fn choose(all: &[Found], queries: &[Which], filter: &Filter) -> Result<Vec<Found>, Failure> {
    if queries.is_empty() {
        return Ok(all.iter().filter(|(_, snapshot)| filter.takes(snapshot)).cloned().collect());
    }
    let named = queries
        .iter()
        .map(|which| query::choose(which, all, filter).cloned().map_err(|error| Failure::not_one(&error)));
    named.collect()
}

/// The newest so many of each host and paths, in the order they had.
fn newest(all: Vec<Found>, count: usize) -> Vec<Found> {
    let key = |snapshot: &Snapshot| GroupKey::of(snapshot, GroupBy::HOST_AND_PATHS);
    let mut left: HashMap<GroupKey, usize> = HashMap::new();
    for (_, snapshot) in &all {
        *left.entry(key(snapshot)).or_default() += 1;
    }
    all.into_iter()
        .filter(|(_, snapshot)| {
            let left = left.entry(key(snapshot)).or_default();
            *left -= 1;
            *left < count
        })
        .collect()
}

fn show(chosen: &[Found], args: &Args, output: &Output) {
    let groups = args.group_by.map(|by| {
        let mut groups: BTreeMap<GroupKey, Vec<Found>> = BTreeMap::new();
        for found in chosen {
            groups.entry(GroupKey::of(&found.1, by)).or_default().push(found.clone());
        }
        groups
    });
    match (output.is_json(), groups) {
        (true, None) => output.json(documents(chosen)),
        (true, Some(groups)) => output.json(groups.iter().map(group_document).collect()),
        (false, None) => show_table(chosen, args.compact, output),
        (false, Some(groups)) => {
            for (key, members) in groups {
                output.data(format_args!("snapshots of {}", snapshot::group(&key)));
                show_table(&members, args.compact, output);
                output.data("");
            }
        }
    }
    if let Some((id, _)) = chosen.last() {
        output.suggest(format_args!("onggi ls {}", id.short()));
    } else {
        output.talk("no snapshots");
        output.suggest("onggi backup ~/Documents");
    }
}

fn show_table(chosen: &[Found], is_compact: bool, output: &Output) {
    if chosen.is_empty() {
        return;
    }
    for line in snapshot::table(chosen, is_compact) {
        output.data(line);
    }
    output.talk(figure::counted(chosen.len() as u64, "snapshot", "snapshots"));
}

fn documents(chosen: &[Found]) -> Value {
    chosen.iter().map(|(id, one)| Value::Object(snapshot::document(id, one))).collect()
}

fn group_document((key, members): (&GroupKey, &Vec<Found>)) -> Value {
    json!({ "group_key": super::group::document(key), "snapshots": documents(members) })
}
