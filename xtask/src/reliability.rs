//! `cargo xtask reliability`: the long forms of what every test run samples: kills, power cuts, crash points, fuzzing.
//!
//! It prints what ran and for how long; a figure in docs/reliability.md is one that this command printed.

use std::process::Command;
use std::time::Instant;

use anyhow::{Context, Result, bail};

use crate::workspace::{Profile, build, cargo, root, run as execute};

/// How much.
#[derive(clap::Args)]
pub struct Arguments {
    /// Kills of each command and power cuts of each file system
    #[arg(long, default_value_t = 100)]
    faults: u32,
    /// Seconds of coverage-guided fuzzing for each target; needs a nightly compiler and cargo-fuzz
    #[arg(long, default_value_t = 60)]
    fuzz_seconds: u32,
}

/// Runs all of it.
pub fn run(arguments: &Arguments) -> Result<()> {
    let program = build(&["onggi"], Profile::Release)?.join("onggi");
    timed("crash points", cargo("test").args(["--package", "onggi-repo", "--features", "testing", "--test", "crash"]))?;
    let mut faults = cargo("test");
    faults.args(["--package", "onggi-lab", "--test", "faults"]);
    faults.env("ONGGI_FAULT_RUNS", arguments.faults.to_string()).env("ONGGI_PROGRAM", program);
    timed("kills and power cuts", &mut faults)?;
    if arguments.fuzz_seconds > 0 {
        for target in fuzz_targets()? {
            timed(&target, &mut fuzz(&target, arguments.fuzz_seconds))?;
        }
    }
    Ok(())
}

fn timed(name: &str, command: &mut Command) -> Result<()> {
    println!("=== {name}");
    let started = Instant::now();
    if command.get_program() != "cargo-fuzz" {
        command.args(["--", "--nocapture", "--test-threads", "2"]);
    }
    execute(command)?;
    println!("=== {name}: {:.0} s", started.elapsed().as_secs_f64());
    Ok(())
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
    command.current_dir(root()).env("RUSTUP_TOOLCHAIN", "nightly").args(["fuzz", "run", target, "--"]);
    // Memory as promised for a parser, and the time after which an input counts as a hang.
    command.args([&format!("-max_total_time={seconds}"), "-rss_limit_mb=2048", "-timeout=5", "-verbosity=0"]);
    command.args(["-print_final_stats=1"]);
    command
}
