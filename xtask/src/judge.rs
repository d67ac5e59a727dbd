//! `cargo xtask judge`: a real program judges ours. Both perform the same acts on systems of their own; whatever differs and
//! is not listed as meant is an error.
//!
//! No test asks for it: these programs are not part of what a machine that guards the tree installs, and nothing there may
//! be skipped. What a judge found is held by tests that need no judge.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Result, ensure};

use crate::workspace::{Profile, build, run as execute};

/// Who judges, and what.
#[derive(clap::Args)]
pub struct Arguments {
    /// The real `bbr`, which judges `onggi bbr`
    #[arg(long, value_name = "PATH", required_unless_present = "jcloud")]
    bbr: Option<PathBuf>,
    /// The original JCloud script, which judges `onggi jcloud` on the lab's cloud
    #[arg(long, value_name = "PATH")]
    jcloud: Option<PathBuf>,
    /// Only acts whose name holds this
    #[arg(long, value_name = "TEXT")]
    only: Option<String>,
}

/// Judges.
pub fn run(arguments: &Arguments) -> Result<()> {
    if let Some(bbr) = &arguments.bbr {
        judge(arguments, "judge-bosh", "--bbr", bbr)?;
    }
    if let Some(script) = &arguments.jcloud {
        judge(arguments, "judge-openstack", "--script", script)?;
    }
    Ok(())
}

fn judge(arguments: &Arguments, verb: &str, flag: &str, real: &Path) -> Result<()> {
    ensure!(real.is_file(), "{} is no file: the real program is named here", real.display());
    let programs = build(&["onggi", "onggi-lab"], Profile::Dev)?;
    let mut command = Command::new(programs.join("onggi-lab"));
    command.arg(verb).arg(programs.join("onggi")).arg(flag).arg(real);
    if let Some(only) = &arguments.only {
        command.args(["--only", only]);
    }
    execute(&mut command)
}
