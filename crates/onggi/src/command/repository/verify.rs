//! `onggi repository verify`: reads a repository back and proves it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use onggi_engine::exit::Exit;
use onggi_repo::Repository;
use onggi_repo::lock::LockKind;
use onggi_repo::verify::{ReadData, VerifyCounters, VerifyReport};
use serde_json::json;

use crate::failure::Failure;
use crate::figure;
use crate::progress::Position;
use crate::record;
use crate::session::Session;
use crate::watcher::{Watcher, show_problem};

/// Reads the repository back and proves it: structure always, data as much as asked for.
///
/// Exit code 4: damage was found. As `check`, the word of restic, it ends with 1 then.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  onggi repository verify\n  onggi repository verify --read-data\n  \
    onggi repository verify --read-data-subset 1/7")]
pub struct Args {
    /// Read all data.
    #[arg(long, conflicts_with = "read_data_subset")]
    pub read_data: bool,
    /// Read a part of the data: 2/7 for the second of seven parts, 5% or 10G for a random one.
    #[arg(long, value_name = "PART")]
    pub read_data_subset: Option<ReadData>,
    /// The cache is never asked when verifying.
    #[arg(long, hide = true)]
    pub with_cache: bool,
}

/// Which word was used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Word {
    /// Ours: damage is exit code 4.
    Verify,
    /// restic's: damage is exit code 1.
    Check,
}

/// Verifies.
pub async fn run(args: Args, session: &Session, word: Word) -> Result<Exit, Failure> {
    let data = match (args.read_data, args.read_data_subset) {
        (true, _) => ReadData::All,
        (false, Some(part)) => part,
        (false, None) => ReadData::None,
    };
    session
        .with_uncached(LockKind::Shared, async |opened| {
            let counters = Arc::new(VerifyCounters::default());
            let watcher = Watcher::new(&session.output, "verify");
            let seen = Arc::clone(&counters);
            watcher.measure(move || position(&seen));
            let ticker = watcher.draw();
            let report = opened.repo.verify(&opened.lock, data, &counters).await;
            drop(ticker);
            let report = report.map_err(|error| Failure::repository("verify", &error))?;
            show(&report, session);
            note(&opened.repo, &report, session);
            Ok(match (report.is_damaged(), word) {
                (false, _) => Exit::Done,
                (true, Word::Verify) => Exit::Damaged,
                (true, Word::Check) => Exit::Failed,
            })
        })
        .await
}

/// For who judges the copies later. That it cannot be noted changes nothing in what was found.
fn note(repo: &Repository, report: &VerifyReport, session: &Session) {
    let noted = json!({
        "at": session.now().to_string(),
        "repository": repo.id().to_string(),
        "bytes_read": report.bytes_read,
        "faults": report.problems.len() + report.more_problems,
    });
    if record::append(session, record::VERIFICATIONS, &noted).is_err() {
        session
            .output
            .detail("note: the state folder cannot be written, so that nobody will know of this verification");
    }
}

fn position(counters: &VerifyCounters) -> Position {
    let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
    let known = |counter: &AtomicU64| Some(load(counter)).filter(|total| *total > 0);
    Position {
        bytes: load(&counters.bytes),
        bytes_total: known(&counters.bytes_total),
        items: load(&counters.trees) + load(&counters.packs),
        ..Position::default()
    }
}

fn show(report: &VerifyReport, session: &Session) {
    let output = &session.output;
    for problem in &report.problems {
        show_problem(output, &problem.clone().into(), "verify");
    }
    for hint in &report.hints {
        output.detail(format_args!("note: {hint}"));
    }
    let problems = (report.problems.len() + report.more_problems) as u64;
    if output.is_json() {
        let broken: Vec<_> =
            report.problems.iter().filter(|one| one.class.starts_with("pack")).map(|one| &one.what).collect();
        output.json(json!({
            "message_type": "summary",
            "num_errors": problems,
            "broken_packs": broken,
            "suggest_repair_index": report.problems.iter().any(|one| one.class.starts_with("index")),
            "suggest_prune": report.unused_blobs > 0,
            "snapshots": report.snapshots,
            "packs": report.packs,
            "blobs": report.blobs,
            "packs_read": report.packs_read,
            "bytes_read": report.bytes_read,
        }));
        return;
    }
    let dot = output.dot();
    output.talk(format_args!(
        "  {}{dot}{}{dot}{}{dot}{} read      {}",
        figure::counted(report.snapshots as u64, "snapshot", "snapshots"),
        figure::counted(report.packs as u64, "pack", "packs"),
        figure::counted(report.blobs as u64, "blob", "blobs"),
        figure::bytes(report.bytes_read),
        if problems == 0 { "no damage found".to_owned() } else { figure::counted(problems, "fault", "faults") },
    ));
    match problems {
        0 if report.bytes_read == 0 => output.suggest("onggi repository verify --read-data-subset 5%"),
        0 => {}
        _ => output.say("hint: onggi repository repair --help"),
    }
}
