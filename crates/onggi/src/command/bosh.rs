//! `onggi bosh`: what runs that died left on the machines of a platform, settled by hand.

use std::ffi::OsString;

use clap::Subcommand;
use onggi_engine::exit::Exit;
use onggi_engine::recover::{self, How, Recovery};
use onggi_repo::lock::LockKind;
use onggi_source::bosh::native::{AutoCleanup, Bosh, BoshConfig};
use onggi_source::{Purpose, Remnant, SourceConfig, Surroundings};
use serde_json::json;

use super::backup;
use crate::escape::escape_text;
use crate::failure::Failure;
use crate::member;
use crate::session::Session;
use crate::watcher::show_problem;

/// Settles what runs that died left on the machines of a BOSH platform.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  onggi bosh resume director\n  onggi bosh cleanup cf")]
pub struct Args {
    #[command(subcommand)]
    pub verb: Verb,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Verb {
    Cleanup(Cleanup),
    Resume(Resume),
}

/// Unlocks all jobs that a run of this onggi locked before it died, and removes its artifacts, marks and users.
///
/// Nothing is stored. What another program or another onggi left stays; `onggi bbr … backup-cleanup` takes that away.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  onggi bosh cleanup cf")]
pub struct Cleanup {
    /// A source of kind bosh.
    #[arg(value_name = "SOURCE")]
    pub source: String,
}

/// Carries away what a run of this onggi could not, without locking anything again.
///
/// The next backup does the same before it begins, unless the source says `auto-cleanup: never`. What is not whole, or has
/// lain there for longer than `drain.keep`, is unlocked and removed.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  onggi bosh resume director")]
pub struct Resume {
    /// A source of kind bosh.
    #[arg(value_name = "SOURCE")]
    pub source: String,
}

/// Does it.
pub async fn run(args: Args, session: &Session) -> Result<Exit, Failure> {
    match args.verb {
        Verb::Cleanup(args) => {
            let source = open(&args.source, session).await?;
            let cx = session.run(Purpose::Backup).context;
            let is_alive = |remnant: &Remnant| recover::is_alive(&cx, remnant);
            Ok(show(&recover::discard(&cx, &source, &is_alive).await, session))
        }
        Verb::Resume(args) => {
            let wanted = backup::Args { what: vec![OsString::from(&args.source)], ..backup::Args::default() };
            let mut selected = member::select(&wanted, session).await?;
            for planned in &mut selected.planned {
                planned.source = Box::new(open(&args.source, session).await?);
            }
            let settle = async |opened: &_| {
                let settled = backup::settle_only(&wanted, &selected, session, opened).await?;
                Ok(show(&settled, session))
            };
            session.with_own_end(LockKind::Shared, settle).await
        }
    }
}

/// The source, settling whatever the configuration says of doing so by itself.
async fn open(name: &str, session: &Session) -> Result<Bosh, Failure> {
    let of_kind = |source: &SourceConfig| match source {
        SourceConfig::Bosh(config) => Some((**config).clone()),
        _ => None,
    };
    let (config, surroundings): (BoshConfig, Surroundings) =
        member::only_source(session, Some(name), "bosh", of_kind).await?;
    Ok(Bosh::new(BoshConfig { auto_cleanup: AutoCleanup::Own, ..config }, surroundings))
}

fn show(recovery: &Recovery, session: &Session) -> Exit {
    let mut exit = Exit::Done;
    for settled in &recovery.settled {
        let (word, id) = match &settled.how {
            How::LeftAlone => ("at work", None),
            How::Shown => ("left", None),
            How::Kept => ("released", None),
            How::Stored(id) => ("stored", Some(id.to_string())),
            How::Dropped => ("removed", None),
            How::Waits(_) => ("waits", None),
        };
        if matches!(settled.how, How::LeftAlone | How::Shown | How::Waits(_)) {
            exit = Exit::Partial;
        }
        let name = &settled.unit.name;
        if session.output.is_json() {
            let document = json!({
                "message_type": "settled", "unit": settled.unit.id.as_str(), "name": name, "what": settled.what,
                "how": word, "snapshot_id": id,
            });
            session.output.json(document);
            continue;
        }
        let id = id.map(|id| format!(" as snapshot {}", id.get(..8).unwrap_or(&id))).unwrap_or_default();
        session.output.data(format_args!("{word:<8}  {}: {}{id}", escape_text(name), escape_text(&settled.what)));
    }
    for problem in &recovery.problems.first {
        show_problem(&session.output, problem, "recover");
        exit = exit.and(Exit::Partial);
    }
    exit
}
