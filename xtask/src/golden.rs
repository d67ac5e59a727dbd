//! `cargo xtask golden`: a small repository of this release, committed so that every later one must read it.
//!
//! Each folder of testdata/golden holds `repository/`, `password` and `expected.txt`: what a restore of the newest
//! snapshot must bring back. The test `golden` of onggi-lab opens all of them.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::workspace::{Profile, build, root, run as execute};

/// Who writes it.
#[derive(clap::Args)]
pub struct Arguments {
    /// Let this restic write the repository instead of onggi
    #[arg(long)]
    restic: Option<PathBuf>,
    /// The folder's name below testdata/golden [default: v and the version of onggi]
    #[arg(long)]
    name: Option<String>,
}

/// Writes one golden repository.
pub fn run(arguments: &Arguments) -> Result<()> {
    let programs = build(&["onggi", "onggi-lab"], Profile::Dev)?;
    let name = arguments.name.clone().unwrap_or_else(|| format!("v{}", env!("CARGO_PKG_VERSION")));
    let folder = root().join("testdata/golden").join(&name);
    ensure!(!folder.exists(), "{} is there already; a golden repository is never rewritten", folder.display());
    fs::create_dir_all(&folder).context("create the folder")?;
    let password = folder.join("password");
    fs::write(&password, "golden\n").context("write the password")?;
    fs::set_permissions(&password, fs::Permissions::from_mode(0o600))?;
    let source = std::env::temp_dir().join(format!("onggi-golden-{}", std::process::id()));
    let writer = arguments.restic.clone().unwrap_or_else(|| programs.join("onggi"));
    let result = fill(&writer, &programs.join("onggi-lab"), &folder, &source);
    fs::remove_dir_all(&source).context("remove the temporary folder")?;
    result
}

/// Three snapshots with a change between each; the first is forgotten and the repository pruned.
fn fill(writer: &Path, lab: &Path, folder: &Path, source: &Path) -> Result<()> {
    let program = |words: &[&str]| {
        let mut command = Command::new(writer);
        command.arg("--repo").arg(folder.join("repository")).arg("--password-file").arg(folder.join("password"));
        command.env("HOME", source.with_extension("home")).args(words);
        command
    };
    let onggi = writer.file_name().is_some_and(|name| name == "onggi");
    execute(&mut program(if onggi { &["--yes", "init"] } else { &["init"] }))?;
    for turn in ["1", "2", "3"] {
        execute(Command::new(lab).args(["golden-source", "--turn", turn]).arg(source))?;
        execute(program(&["backup", "--host", "golden", "."]).current_dir(source))?;
    }
    let forget: &[&str] = &["forget", "--keep-last", "2", "--prune"];
    let repository: &[&str] = if onggi { &["--yes", "repository"] } else { &[] };
    execute(&mut program(&[repository, forget].concat()))?;
    let expected = Command::new(lab).arg("describe").arg(source).output().context("describe the source")?;
    ensure!(expected.status.success(), "the source cannot be described");
    fs::write(folder.join("expected.txt"), expected.stdout).context("write expected.txt")?;
    println!("wrote {}", folder.display());
    Ok(())
}
