//! `onggi repository unlock`: removes what dead processes left locked.

use onggi_engine::exit::Exit;
use onggi_repo::Unlock;

use crate::escape::escape_prose;
use crate::failure::Failure;
use crate::figure;
use crate::session::Session;

/// Removes locks whose holders are gone.
///
/// A lock is taken for left behind after 30 minutes without renewal, or when its process on this machine is dead.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  onggi repository unlock\n  onggi repository unlock --remove-all --yes")]
pub struct Args {
    /// All locks, whoever holds them. Those who do stop at once.
    #[arg(long)]
    pub remove_all: bool,
}

/// Removes them.
pub async fn run(args: Args, session: &Session) -> Result<Exit, Failure> {
    if args.remove_all {
        session.consent("remove all locks", "Remove the locks of others too? What they are doing ends.").await?;
    }
    let which = if args.remove_all { Unlock::All } else { Unlock::Stale };
    session
        .with_unlocked(async |repo| {
            let removed = repo.unlock(which).await.map_err(|error| Failure::repository("remove locks", &error))?;
            for holder in &removed {
                session.output.talk(format_args!("removed the lock of {}", escape_prose(&holder.to_string())));
            }
            session.output.talk(format_args!("{} removed", figure::counted(removed.len() as u64, "lock", "locks")));
            Ok(Exit::Done)
        })
        .await
}
