//! The commands: one file each, with its arguments, what it does, and how it shows it.

pub mod backup;
pub mod bbr;
pub mod bosh;
pub mod completion;
pub mod config;
pub mod copy;
pub mod diff;
pub mod disk;
pub mod drill;
pub mod etcd;
pub mod export;
pub mod filter;
pub mod find;
pub mod group;
pub mod hosts;
pub mod import;
pub mod init;
#[cfg(feature = "sftp")]
pub mod jcloud;
pub mod ls;
pub mod man;
#[cfg(feature = "mount")]
pub mod mount;
pub mod openstack;
pub mod reference;
pub mod repository;
pub mod restore;
pub mod snapshots;
pub mod source;

use std::sync::Arc;

use clap::Subcommand;
use onggi_engine::exit::Exit;

use crate::cli::Cli;
use crate::failure::Failure;
use crate::output::Output;
use crate::session::Session;

use repository::verify::Word;

/// All verbs and nouns, in the order of the help.
#[derive(Debug, Subcommand)]
pub enum Command {
    Init(init::Args),
    Backup(Box<backup::Args>),
    Snapshots(snapshots::Args),
    Ls(ls::Args),
    Find(find::Args),
    Diff(diff::Args),
    Restore(Box<restore::Args>),
    #[cfg(feature = "mount")]
    Mount(mount::Args),
    Repository(repository::Args),
    Copy(copy::Args),
    Import(import::Args),
    Export(export::Args),
    Source(source::Args),
    Hosts(hosts::Args),
    Drill(drill::Args),
    Etcd(etcd::Args),
    Openstack(openstack::Args),
    #[cfg(feature = "sftp")]
    Jcloud(jcloud::Args),
    Bosh(bosh::Args),
    Bbr(bbr::Args),
    Config(config::Args),
    Completion(completion::Args),
    Man(man::Args),
    // What restic has at the top, for hands and programs that know it so.
    #[command(hide = true)]
    Check(repository::verify::Args),
    #[command(hide = true)]
    Forget(Box<repository::forget::Args>),
    #[command(hide = true)]
    Prune(repository::prune::Args),
    #[command(hide = true)]
    Stats(repository::stats::Args),
    #[command(hide = true)]
    Repair(repository::repair::Args),
    #[command(hide = true)]
    Unlock(repository::unlock::Args),
    #[command(hide = true)]
    Key(repository::key::Args),
    #[command(hide = true)]
    Reference(reference::Args),
}

/// Runs the chosen one.
pub async fn run(cli: Cli, output: &Arc<Output>) -> Result<Exit, Failure> {
    let command = match cli.command {
        Command::Completion(args) => return Ok(completion::run(&args, output)),
        Command::Man(args) => return man::run(&args, output),
        Command::Reference(reference::Args {}) => return Ok(reference::run(output)),
        command => command,
    };
    let session = &Session::new(cli.globals, output)?;
    match command {
        Command::Init(args) => init::run(args, session).await,
        Command::Backup(args) => backup::run(*args, session).await,
        Command::Snapshots(args) => snapshots::run(args, session).await,
        Command::Ls(args) => ls::run(args, session).await,
        Command::Diff(args) => diff::run(args, session).await,
        Command::Copy(args) => copy::run(args, session).await,
        Command::Import(args) => import::run(args, session).await,
        Command::Export(args) => export::run(args, session).await,
        Command::Source(args) => source::run(args, session).await,
        Command::Hosts(args) => hosts::run(args, session).await,
        Command::Drill(args) => drill::run(args, session).await,
        Command::Etcd(args) => etcd::run(args, session).await,
        Command::Openstack(args) => openstack::run(args, session).await,
        #[cfg(feature = "sftp")]
        Command::Jcloud(args) => jcloud::run(&args, session).await,
        Command::Bosh(args) => bosh::run(args, session).await,
        Command::Config(args) => config::run(&args, session),
        Command::Find(args) => find::run(args, session).await,
        Command::Restore(args) => restore::run(*args, session).await,
        #[cfg(feature = "mount")]
        Command::Mount(args) => mount::run(args, session).await,
        Command::Repository(args) => repository::run(args, session).await,
        Command::Check(args) => repository::verify::run(args, session, Word::Check).await,
        Command::Forget(args) => repository::forget::run(*args, session).await,
        Command::Prune(args) => repository::prune::run(args, session).await,
        Command::Stats(args) => repository::stats::run(args, session).await,
        Command::Repair(args) => repository::repair::run(args, session).await,
        Command::Unlock(args) => repository::unlock::run(args, session).await,
        Command::Key(args) => repository::key::run(args, session).await,
        Command::Bbr(_) | Command::Completion(_) | Command::Man(_) | Command::Reference(_) => {
            unreachable!("answered above")
        }
    }
}
