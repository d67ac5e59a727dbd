//! The commands: one file each, with its arguments, what it does, and how it shows it.

pub mod completion;
pub mod man;
pub mod reference;

use clap::Subcommand;

use crate::cli::Cli;
use crate::failure::Failure;
use crate::output::Output;
use onggi_engine::exit::Exit;

/// All verbs and nouns, in the order of the help.
#[derive(Debug, Subcommand)]
pub enum Command {
    Completion(completion::Args),
    Man(man::Args),
    #[command(hide = true)]
    Reference(reference::Args),
}

/// Runs the chosen one.
pub fn run(cli: Cli, output: &Output) -> Result<Exit, Failure> {
    match cli.command {
        Command::Completion(args) => completion::run(&args, output),
        Command::Man(args) => man::run(&args, output),
        Command::Reference(reference::Args {}) => reference::run(output),
    }
}
