//! `cargo xtask ci`: every gate in order, stopping at the first that fails.

use std::process::Command;

use anyhow::Result;

use crate::workspace::{cargo, root, run as execute};
use crate::{deny, reference, test, tidy};

/// What ships is held to every lint. Tests and benches may unwrap, print, touch files and be as long-winded as they
/// like; what finds faults holds for them too.
const TEST_FREEDOMS: &[&str] = &[
    "clippy::pedantic",
    "clippy::style",
    "clippy::complexity",
    "clippy::perf",
    "clippy::unwrap_used",
    "clippy::print_stdout",
    "clippy::print_stderr",
    "clippy::disallowed_methods",
    "clippy::single_range_in_vec_init",
];

/// Runs all gates.
pub fn run() -> Result<()> {
    headline("format");
    execute(Command::new("cargo").current_dir(root()).args(["fmt", "--all", "--check"]))?;
    headline("lints");
    execute(cargo("clippy").args(["--workspace", "--lib", "--bins", "--", "--deny", "warnings"]))?;
    let tests = TEST_FREEDOMS.iter().flat_map(|lint| ["--allow", lint]);
    execute(cargo("clippy").args(["--workspace", "--all-targets", "--", "--deny", "warnings"]).args(tests))?;
    headline("tidy");
    tidy::run()?;
    headline("deny");
    deny::run()?;
    headline("documentation");
    execute(cargo("doc").args(["--workspace", "--no-deps"]).env("RUSTDOCFLAGS", "--deny warnings"))?;
    headline("reference");
    reference::run(&reference::Arguments { check: true })?;
    headline("tests");
    test::run(&test::Arguments::default())
}

fn headline(name: &str) {
    println!("\n=== {name}");
}
