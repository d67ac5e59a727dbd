//! `onggi repository`: what is done to a repository as a whole.

pub mod forget;
pub mod key;
pub mod list;
pub mod prune;
pub mod repair;
pub mod stats;
pub mod unlock;
pub mod upgrade;
pub mod verify;

use clap::Subcommand;
use onggi_engine::exit::Exit;

use crate::failure::Failure;
use crate::session::Session;

/// Looks after repositories: verify, forget, prune, keys, repair.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  onggi repository verify --read-data-subset 10%\n  \
    onggi repository forget --keep-daily 7 --prune")]
pub struct Args {
    #[command(subcommand)]
    pub verb: Verb,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Verb {
    List(list::Args),
    #[command(visible_alias = "check")]
    Verify(verify::Args),
    Forget(Box<forget::Args>),
    Prune(prune::Args),
    Unlock(unlock::Args),
    Repair(repair::Args),
    Upgrade(upgrade::Args),
    Stats(stats::Args),
    Key(key::Args),
}

/// Does it.
pub async fn run(args: Args, session: &Session) -> Result<Exit, Failure> {
    match args.verb {
        Verb::Verify(args) => verify::run(args, session, verify::Word::Verify).await,
        Verb::Forget(args) => forget::run(*args, session).await,
        Verb::List(args) => list::run(args, session).await,
        Verb::Prune(args) => prune::run(args, session).await,
        Verb::Repair(args) => repair::run(args, session).await,
        Verb::Upgrade(args) => upgrade::run(args, session).await,
        Verb::Stats(args) => stats::run(args, session).await,
        Verb::Unlock(args) => unlock::run(args, session).await,
        Verb::Key(args) => key::run(args, session).await,
    }
}
