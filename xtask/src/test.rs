//! `cargo xtask test`: every test, with the programs and services they need.
//!
//! Each `lab/<name>/up` brings one of them; what cannot come is named, and the tests that need it say that they skip.
//! With CI=true nothing may be missing.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::workspace::{self, Profile, cargo, in_ci, root, run as execute};

/// What of the tests.
#[derive(clap::Args, Default)]
pub struct Arguments {
    /// Bring up no programs and services
    #[arg(long)]
    without_lab: bool,
    /// Passed on to cargo test: a name to filter by, or `-- --nocapture`
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    rest: Vec<String>,
}

/// Runs the tests.
pub fn run(arguments: &Arguments) -> Result<()> {
    let lab = if arguments.without_lab { Lab::none() } else { Lab::up()? };
    let result = tests(arguments);
    lab.down();
    result?;
    for name in &lab.missing {
        eprintln!("SKIPPED: the tests that need lab/{name}, which did not come up");
    }
    Ok(())
}

fn tests(arguments: &Arguments) -> Result<()> {
    let programs = workspace::build(&["onggi"], Profile::Dev)?;
    let mut command = cargo("test");
    command.arg("--workspace").args(&arguments.rest).env("ONGGI_PROGRAM", programs.join("onggi"));
    execute(&mut command)
}

/// What lab/ brought up, to be taken down again.
struct Lab {
    up: Vec<PathBuf>,
    missing: Vec<String>,
}

impl Lab {
    fn none() -> Self {
        Self { up: Vec::new(), missing: Vec::new() }
    }

    fn up() -> Result<Self> {
        let mut lab = Self::none();
        let mut folders: Vec<PathBuf> = match root().join("lab").read_dir() {
            Ok(entries) => entries.filter_map(|entry| Some(entry.ok()?.path())).collect(),
            Err(_) => Vec::new(),
        };
        folders.retain(|folder| folder.join("up").is_file());
        folders.sort();
        for folder in folders {
            let name = folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
            println!("lab/{name}/up");
            let status = Command::new(folder.join("up")).current_dir(root()).status();
            if status.with_context(|| format!("start lab/{name}/up"))?.success() {
                lab.up.push(folder);
                continue;
            }
            if in_ci() {
                lab.down();
                bail!("lab/{name}/up failed, and nothing may be skipped here");
            }
            lab.missing.push(name);
        }
        Ok(lab)
    }

    /// Takes down in reverse order; a failure here hides no result of the tests.
    fn down(&self) {
        for folder in self.up.iter().rev().filter(|folder| folder.join("down").is_file()) {
            let status = Command::new(folder.join("down")).current_dir(root()).status();
            if !status.is_ok_and(|status| status.success()) {
                eprintln!("{} failed; look for what still runs", folder.join("down").display());
            }
        }
    }
}
