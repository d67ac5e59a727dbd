//! `onggi repository stats`: how large things are.

use onggi_engine::exit::Exit;
use onggi_repo::lock::LockKind;
use onggi_repo::stats::Stats;
use serde_json::json;

use super::super::filter::Filter;
use crate::failure::Failure;
use crate::figure;
use crate::query::{self, Found};
use crate::session::Session;
use crate::watcher::show_problem;

/// Shows how large snapshots and the repository are.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  onggi repository stats\n  onggi repository stats latest --host web-1 --json")]
pub struct Args {
    /// Only these.
    #[arg(value_name = "SNAPSHOT")]
    pub snapshots: Vec<String>,
    #[command(flatten)]
    pub filter: Filter,
}

/// Counts and shows.
pub async fn run(args: Args, session: &Session) -> Result<Exit, Failure> {
    let queries = session.queries(&args.snapshots)?;
    session
        .with(LockKind::Reading, async |opened| {
            let (all, exit) = opened.snapshots(session).await?;
            let chosen: Vec<Found> = if queries.is_empty() {
                all.iter().filter(|(_, snapshot)| args.filter.takes(snapshot)).cloned().collect()
            } else {
                let named = queries.iter().map(|which| query::choose(which, &all, &args.filter).cloned());
                named.collect::<Result<_, _>>().map_err(|error| Failure::not_one(&error))?
            };
            let counted = opened.repo.stats(&chosen).await;
            let (stats, problems) = counted.map_err(|error| Failure::repository("count", &error))?;
            for problem in &problems {
                show_problem(&session.output, &problem.clone().into(), "stats");
            }
            show(&stats, session);
            Ok(if problems.is_empty() { exit } else { exit.and(Exit::Damaged) })
        })
        .await
}

fn show(stats: &Stats, session: &Session) {
    let output = &session.output;
    if output.is_json() {
        let ratio =
            if stats.stored_bytes == 0 { 1.0 } else { stats.plaintext_bytes as f64 / stats.stored_bytes as f64 };
        output.json(json!({
            "total_size": stats.restore_bytes,
            "total_file_count": stats.files,
            "total_blob_count": stats.blobs,
            "snapshots_count": stats.snapshots,
            "total_uncompressed_size": stats.plaintext_bytes,
            "compression_ratio": ratio,
            "stored_size": stats.stored_bytes,
            "pack_count": stats.packs,
            "pack_size": stats.pack_bytes,
        }));
        return;
    }
    let of = |count: u64, one, many| figure::counted(count, one, many);
    output.data(format_args!("snapshots       {}", figure::count(stats.snapshots as u64)));
    output.data(format_args!(
        "to restore      {} in {}",
        figure::bytes(stats.restore_bytes),
        of(stats.files, "file", "files")
    ));
    output.data(format_args!(
        "different data  {} in {}, stored in {}",
        figure::bytes(stats.plaintext_bytes),
        of(stats.blobs, "blob", "blobs"),
        figure::bytes(stats.stored_bytes)
    ));
    output.data(format_args!(
        "repository      {} in {}",
        figure::bytes(stats.pack_bytes),
        of(stats.packs as u64, "pack", "packs")
    ));
}
