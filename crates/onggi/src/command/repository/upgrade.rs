//! `onggi repository upgrade`: from version 1 of the format to version 2.

use onggi_engine::exit::Exit;
use onggi_repo::lock::LockKind;
use onggi_repo::upgrade::{Upgraded, VERSION};
use serde_json::json;

use crate::failure::Failure;
use crate::session::Session;

/// Gives an old repository the present version of the format, which compresses.
///
/// Repositories that restic before 0.14 made have version 1. onggi reads them and writes none. The structure is verified
/// first and data stays as it is; restic before 0.14 cannot read the repository afterwards.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  onggi repository upgrade --dry-run\n  onggi repository upgrade")]
pub struct Args {
    /// Say what would be done; change nothing.
    #[arg(short = 'n', long)]
    pub dry_run: bool,
}

/// Asks and upgrades.
pub async fn run(args: Args, session: &Session) -> Result<Exit, Failure> {
    session
        .with_uncached(LockKind::Exclusive, async |opened| {
            let version = opened.repo.config().version;
            if args.dry_run {
                tell(session, version, version, &format!("version {version}, would become {}", VERSION.max(version)));
                return Ok(Exit::Done);
            }
            if version < VERSION {
                let question = "Upgrade? restic before 0.14 will not read this repository any more.";
                session.consent("upgrade the repository", question).await?;
            }
            let upgraded = opened.repo.upgrade(&opened.lock).await;
            match upgraded.map_err(|error| Failure::repository("upgrade the repository", &error))? {
                Upgraded::Already => tell(session, version, version, &format!("version {version} already")),
                Upgraded::Done => tell(session, version, VERSION, &format!("version {version} became {VERSION}")),
            }
            Ok(Exit::Done)
        })
        .await
}

fn tell(session: &Session, before: u32, version: u32, text: &str) {
    if session.output.is_json() {
        session.output.json(json!({"version_before": before, "version": version}));
    } else {
        session.output.data(text);
    }
}
