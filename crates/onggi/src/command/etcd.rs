//! `onggi etcd`: what a cluster of etcd has beyond backup and restore.

mod cronjob;
mod follow;
mod kubectl;
mod pki;

use clap::Subcommand;
use onggi_engine::exit::Exit;

use crate::failure::Failure;
use crate::session::Session;

/// Follows every change of an etcd cluster, brings back its control plane's keys, and writes jobs that back it up.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  onggi etcd follow etcd\n  \
    onggi etcd pki latest --target /root/pki")]
pub struct Args {
    #[command(subcommand)]
    pub verb: Verb,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Verb {
    Follow(follow::Follow),
    Pki(pki::Pki),
    Cronjob(Box<cronjob::Args>),
}

/// Does it.
pub async fn run(args: Args, session: &Session) -> Result<Exit, Failure> {
    match args.verb {
        Verb::Follow(args) => follow::run(args, session).await,
        Verb::Pki(args) => pki::run(args, session).await,
        Verb::Cronjob(args) => cronjob::run(*args, session).await,
    }
}
