//! `cargo xtask ci`: every gate in order, stopping at the first that fails.

use std::process::Command;

use anyhow::Result;

use crate::workspace::{cargo, root, run as execute};
use crate::{deny, reference, test, tidy};

/// Runs all gates.
pub fn run() -> Result<()> {
    headline("format");
    execute(Command::new("cargo").current_dir(root()).args(["fmt", "--all", "--check"]))?;
    headline("lints");
    execute(cargo("clippy").args(["--workspace", "--all-targets", "--", "--deny", "warnings"]))?;
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
