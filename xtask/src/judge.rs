//! `cargo xtask judge --bbr PATH`: the real `bbr` judges `onggi bbr`. Both perform the same acts on instances of their own;
//! whatever differs and is not listed as meant is an error.
//!
//! No test asks for it: the program is not part of what a machine that guards the tree installs, and nothing there may be
//! skipped. What the judge found is held by tests that need no judge.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Result, ensure};

use crate::workspace::{Profile, build, run as execute};

/// Who judges, and what.
#[derive(clap::Args)]
pub struct Arguments {
    /// The real `bbr`
    #[arg(long, value_name = "PATH")]
    bbr: PathBuf,
    /// Only acts whose name holds this
    #[arg(long, value_name = "TEXT")]
    only: Option<String>,
}

/// Judges.
pub fn run(arguments: &Arguments) -> Result<()> {
    ensure!(arguments.bbr.is_file(), "{} is no program: --bbr names the real bbr", arguments.bbr.display());
    let programs = build(&["onggi", "onggi-lab"], Profile::Dev)?;
    let mut command = Command::new(programs.join("onggi-lab"));
    command.arg("judge-bosh").arg(programs.join("onggi")).arg("--bbr").arg(&arguments.bbr);
    if let Some(only) = &arguments.only {
        command.args(["--only", only]);
    }
    execute(&mut command)
}
