//! `cargo xtask reliability`: the long forms of what every test run samples: kills, power cuts, crash points,
//! fuzzing.
//!
//! The tests print a line for each total; a figure in docs/reliability.md is the sum of such lines.

use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};

use crate::ledger::{self, Total};
use crate::workspace::{Profile, build, cargo, root, shown};

/// How much.
#[derive(clap::Args)]
pub struct Arguments {
    /// Kills of each command, power cuts of each file system, and kills in a fleet
    #[arg(long, default_value_t = 100)]
    faults: u32,
    /// Flipped bits of each file of a small repository
    #[arg(long, default_value_t = 2000)]
    flips: u32,
    /// Mutations of the corpus of each parser
    #[arg(long, default_value_t = 1_000_000)]
    mutations: u32,
    /// The program to kill; without it the one of a release build
    #[arg(long)]
    program: Option<PathBuf>,
    /// Seconds of coverage-guided fuzzing for each target; needs cargo-fuzz
    #[arg(long, default_value_t = 60)]
    fuzz_seconds: u32,
    /// Coverage-guided fuzzing and nothing else
    #[arg(long)]
    fuzz_only: bool,
    /// Run nothing, take the totals from what such a run said
    #[arg(long)]
    said: Option<PathBuf>,
    /// Add the totals to docs/reliability.md
    #[arg(long)]
    record: bool,
}

/// Runs all of it.
pub fn run(arguments: &Arguments) -> Result<()> {
    if let Some(said) = &arguments.said {
        let said = std::fs::read_to_string(said).with_context(|| format!("read {}", said.display()))?;
        return note(arguments, &said.lines().filter_map(Total::parse).collect::<Vec<_>>());
    }
    if !arguments.fuzz_only {
        long_tests(arguments)?;
    }
    if arguments.fuzz_seconds == 0 {
        return Ok(());
    }
    for target in fuzz_targets()? {
        timed(&target, &mut fuzz(&target, arguments.fuzz_seconds))?;
        let what = format!("seconds of coverage-guided fuzzing: {target}");
        note(arguments, &[Total { what, runs: u64::from(arguments.fuzz_seconds), struck: None }])?;
    }
    Ok(())
}

/// The tests that every run has, with more of everything.
fn long_tests(arguments: &Arguments) -> Result<()> {
    for (name, test) in [("crash points", "crash"), ("damage", "damage"), ("mutations", "fuzz")] {
        let mut command = long_form(test);
        command.env("ONGGI_FUZZ_MUTATIONS", arguments.mutations.to_string());
        command.env("ONGGI_DAMAGE_FLIPS", arguments.flips.to_string());
        note(arguments, &timed(name, &mut command)?)?;
    }
    let program = match &arguments.program {
        Some(program) => program.clone(),
        None => build(&["onggi"], Profile::Release)?.join("onggi"),
    };
    let mut faults = long_form("faults");
    faults.env("ONGGI_FAULT_RUNS", arguments.faults.to_string()).env("ONGGI_PROGRAM", program);
    note(arguments, &timed("kills and power cuts", &mut faults)?)?;
    for test in ["hosts", "hosts_builtin"] {
        let mut fleet = long_form(test);
        fleet.arg("kill::").env("ONGGI_FAULT_RUNS", arguments.faults.to_string());
        note(arguments, &timed("kills in a fleet", &mut fleet)?)?;
    }
    Ok(())
}

/// Enters what ran, after each method: a run that is cut short has still happened.
fn note(arguments: &Arguments, totals: &[Total]) -> Result<()> {
    if arguments.record { ledger::add(totals) } else { Ok(()) }
}

/// The whole workspace, because a part of it would need dependencies with fewer features.
fn long_form(test: &str) -> Command {
    let mut command = cargo("test");
    command.args(["--workspace", "--test", test, "--", "--nocapture", "--test-threads", "2"]);
    command
}

/// Runs a command to its end, shows what it says, and answers the totals in it.
fn timed(name: &str, command: &mut Command) -> Result<Vec<Total>> {
    println!("=== {name}");
    let started = Instant::now();
    let shown = shown(command);
    let mut child = command.stdout(Stdio::piped()).spawn().with_context(|| format!("start {shown}"))?;
    let mut totals = Vec::new();
    for line in BufReader::new(child.stdout.take().context("the output is piped")?).lines() {
        let line = line.with_context(|| format!("read what {shown} says"))?;
        println!("{line}");
        totals.extend(Total::parse(&line));
    }
    let status = child.wait().with_context(|| format!("wait for {shown}"))?;
    ensure!(status.success(), "{shown} ended with {status}");
    println!("=== {name}: {:.0} s", started.elapsed().as_secs_f64());
    Ok(totals)
}

/// The programs that `fuzz/Cargo.toml` names.
fn fuzz_targets() -> Result<Vec<String>> {
    let manifest = std::fs::read_to_string(root().join("fuzz/Cargo.toml")).context("read fuzz/Cargo.toml")?;
    let bins = manifest.split("[[bin]]").skip(1);
    let names: Vec<_> = bins.filter_map(|bin| bin.split('"').nth(1)).map(str::to_owned).collect();
    if names.is_empty() {
        bail!("fuzz/Cargo.toml names no target");
    }
    Ok(names)
}

fn fuzz(target: &str, seconds: u32) -> Command {
    let mut command = Command::new("cargo-fuzz");
    // The sanitizers are open to the pinned compiler, too, if it is told that one knows that they are unstable.
    command.current_dir(root()).env("RUSTC_BOOTSTRAP", "1").args(["fuzz", "run", target, "--"]);
    // Memory as promised for a parser, and the time after which an input counts as a hang.
    command.args([&format!("-max_total_time={seconds}"), "-rss_limit_mb=2048", "-timeout=5", "-verbosity=0"]);
    command.args(["-print_final_stats=1"]);
    command
}
