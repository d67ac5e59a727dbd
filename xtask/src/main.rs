//! All automation of the project, one file per command: `cargo xtask <command>`.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a program for people at a terminal")]

mod bench;
mod ci;
mod demo;
mod deny;
mod golden;
mod judge;
mod ledger;
mod node;
mod reference;
mod reliability;
mod sabotage;
mod test;
mod tidy;
mod workspace;

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(name = "cargo xtask", about = "Automation of the onggi tree", max_term_width = 100)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Runs the main job once on an embedded default: create, back up, list, restore, compare
    Demo(demo::Arguments),
    /// Runs every test, with the programs and services they need
    Test(test::Arguments),
    /// Runs all gates as the machine that guards the tree does: format, lints, tidy, deny, docs, tests
    Ci,
    /// Checks what no compiler checks: crate edges, file heads, lengths, words, links, changelog
    Tidy,
    /// Checks licenses, banned and doubled crates, sources; advisories where a database is at hand
    Deny,
    /// Writes docs/reference from the program's own definitions; with --check only compares
    Reference(reference::Arguments),
    /// Writes the golden repository of this release
    Golden(golden::Arguments),
    /// Builds the program for hosts as it is shipped: static, so that it runs on any Linux
    Node,
    /// Measures onggi beside restic, rustic and borg
    Bench(bench::Arguments),
    /// Asks a real program of the same contract whether onggi can be told from it
    Judge(judge::Arguments),
    /// Runs the long forms of kills, power cuts, crash points and fuzzing
    Reliability(reliability::Arguments),
    /// Builds deliberate faults in, one by one, and insists that a test finds each
    Sabotage(sabotage::Arguments),
}

fn main() -> ExitCode {
    if let Some(code) = sabotage::wrapped_compiler() {
        return code;
    }
    match run(Arguments::parse().command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command) -> Result<()> {
    match command {
        Command::Demo(arguments) => demo::run(&arguments),
        Command::Test(arguments) => test::run(&arguments),
        Command::Ci => ci::run(),
        Command::Tidy => tidy::run(),
        Command::Deny => deny::run(),
        Command::Reference(arguments) => reference::run(&arguments),
        Command::Golden(arguments) => golden::run(&arguments),
        Command::Node => node::run(),
        Command::Bench(arguments) => bench::run(&arguments),
        Command::Judge(arguments) => judge::run(&arguments),
        Command::Reliability(arguments) => reliability::run(&arguments),
        Command::Sabotage(arguments) => sabotage::run(&arguments),
    }
}
