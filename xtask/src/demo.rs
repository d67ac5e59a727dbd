//! `cargo xtask demo`: the main job once, with the shipped program, on a repository in a temporary folder.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::workspace::{Profile, build, root, run as execute, shown};

/// What to back up.
#[derive(clap::Args)]
pub struct Arguments {
    /// The folder to back up [default: crates of this tree]
    folder: Option<PathBuf>,
    /// Keep the repository and what was restored, and say where they are
    #[arg(long)]
    keep: bool,
}

/// Creates a repository, backs up, lists, restores, compares.
pub fn run(arguments: &Arguments) -> Result<()> {
    let folder = match &arguments.folder {
        Some(folder) => folder.canonicalize().with_context(|| format!("find {}", folder.display()))?,
        None => root().join("crates"),
    };
    let programs = build(&["onggi", "onggi-lab"], Profile::Release)?;
    let home = std::env::temp_dir().join(format!("onggi-demo-{}", std::process::id()));
    fs::create_dir(&home).context("create a temporary folder")?;
    let result = story(&programs, &home, &folder);
    if arguments.keep {
        println!("\nkept: {}", home.display());
    } else {
        fs::remove_dir_all(&home).context("remove the temporary folder")?;
    }
    result
}

fn story(programs: &Path, home: &Path, folder: &Path) -> Result<()> {
    let out = home.join("out");
    let onggi = |words: &[&str]| {
        let mut command = Command::new(programs.join("onggi"));
        command.args(words);
        command
    };
    let folder_name = folder.to_str().context("the folder's name is text")?;
    let out_name = out.to_str().context("the temporary folder's name is text")?;
    for command in [
        onggi(&["--yes", "init"]),
        onggi(&["backup", folder_name]),
        onggi(&["backup", folder_name]),
        onggi(&["snapshots"]),
        onggi(&["repository", "verify", "--read-data"]),
        onggi(&["restore", "latest", "--target", out_name]),
    ] {
        tell(command, home)?;
    }
    let restored = out.join(folder.strip_prefix("/").unwrap_or(folder));
    ensure!(restored.is_dir(), "nothing was restored");
    let mut compare = Command::new(programs.join("onggi-lab"));
    compare.arg("compare").arg(folder).arg(&restored);
    tell(compare, home)
}

/// Shows a command and runs it with an empty home and none of our settings, so that also root's repository and
/// password lie below that home.
fn tell(mut command: Command, home: &Path) -> Result<()> {
    println!("\n$ {}", shown(&command));
    for (name, _) in std::env::vars_os() {
        if ["ONGGI_", "RESTIC_", "XDG_"].iter().any(|start| name.to_string_lossy().starts_with(start)) {
            command.env_remove(name);
        }
    }
    for place in ["CONFIG", "DATA", "STATE", "CACHE"] {
        command.env(format!("XDG_{place}_HOME"), home.join(place.to_lowercase()));
    }
    execute(command.env("HOME", home))
}
