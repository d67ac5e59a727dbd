//! `cargo xtask reference`: docs/reference, written by the program from its own definitions.

use std::process::Command;

use anyhow::{Context, Result, bail, ensure};

use crate::workspace::{Profile, build, root, shown};

/// Page, and the words that make the program print it.
const PAGES: &[(&str, &[&str])] =
    &[("commands.md", &["reference"]), ("configuration.schema.json", &["config", "schema"])];

/// Write or compare.
#[derive(clap::Args)]
pub struct Arguments {
    /// Write nothing; fail if a page is stale
    #[arg(long)]
    pub check: bool,
}

/// Writes the pages, or says which are stale.
pub fn run(arguments: &Arguments) -> Result<()> {
    let program = build(&["onggi"], Profile::Dev)?.join("onggi");
    let folder = root().join("docs/reference");
    let mut stale = Vec::new();
    for (name, words) in PAGES {
        let mut command = Command::new(&program);
        let output = command.args(*words).output().with_context(|| format!("start {}", program.display()))?;
        ensure!(output.status.success(), "{}: {}", shown(&command), String::from_utf8_lossy(&output.stderr));
        let path = folder.join(name);
        if std::fs::read(&path).is_ok_and(|old| old == output.stdout) {
            continue;
        }
        if arguments.check {
            stale.push(*name);
        } else {
            std::fs::write(&path, &output.stdout).with_context(|| format!("write {}", path.display()))?;
            println!("wrote {}", path.display());
        }
    }
    if !stale.is_empty() {
        bail!("docs/reference is stale: {}; run cargo xtask reference", stale.join(", "));
    }
    Ok(())
}
