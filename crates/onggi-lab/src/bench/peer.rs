//! The measured programs: how each says create, back up, restore, verify.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use super::Step;
use crate::measure::shown;

const PASSWORD: &str = "bench";
/// What of our own environment must not reach a measured program.
const SETTINGS: [&str; 6] =
    ["RESTIC_REPOSITORY", "RESTIC_PASSWORD", "ONGGI_CONFIG", "XDG_CONFIG_HOME", "XDG_CACHE_HOME", "XDG_STATE_HOME"];

/// A program and its dialect.
#[derive(Clone, Debug)]
pub struct Peer {
    dialect: Dialect,
    program: PathBuf,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Dialect {
    Onggi,
    Restic,
    Rustic,
    Borg,
}

impl Peer {
    /// Guesses the dialect from the file name, which begins with the program's name.
    pub fn of(program: &Path) -> Result<Self> {
        let name = program.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let known = [
            ("onggi", Dialect::Onggi),
            ("restic", Dialect::Restic),
            ("rustic", Dialect::Rustic),
            ("borg", Dialect::Borg),
        ];
        let found = known.into_iter().find(|(start, _)| name.starts_with(start));
        let (_, dialect) = found.with_context(|| format!("{name} is no program we know how to measure"))?;
        // One of them is started from another folder.
        let program = std::path::absolute(program).context("find the folder we are in")?;
        Ok(Self { dialect, program })
    }

    /// How reports call it.
    pub fn name(&self) -> &'static str {
        match self.dialect {
            Dialect::Onggi => "onggi",
            Dialect::Restic => "restic",
            Dialect::Rustic => "rustic",
            Dialect::Borg => "borg",
        }
    }

    /// What the program says of itself.
    pub fn version(&self) -> Result<String> {
        let argument = if self.dialect == Dialect::Restic { "version" } else { "--version" };
        let output = Command::new(&self.program).arg(argument).output().context("ask for a version")?;
        let line = String::from_utf8_lossy(&output.stdout).lines().next().unwrap_or_default().to_owned();
        Ok(line.split(" compiled").next().unwrap_or_default().to_owned())
    }

    /// Creates an empty repository; not measured.
    pub fn create(&self, repository: &Path) -> Result<()> {
        Self::remove(repository)?;
        let home = home(repository);
        std::fs::create_dir_all(&home).context("create an empty home")?;
        std::fs::write(home.join("password"), PASSWORD).context("write the password")?;
        std::fs::set_permissions(home.join("password"), Permissions::from_mode(0o600))?;
        let mut command = self.prepared(repository);
        match self.dialect {
            Dialect::Onggi => command.args(["--yes", "init"]),
            Dialect::Restic | Dialect::Rustic => command.arg("init"),
            Dialect::Borg => command.args(["init", "--encryption", "repokey"]),
        };
        let output = command.output().with_context(|| format!("start {}", self.program.display()))?;
        ensure!(output.status.success(), "{}: {}", shown(&command), String::from_utf8_lossy(&output.stderr));
        Ok(())
    }

    /// Removes a repository and the home that belongs to it, where they are.
    pub fn remove(repository: &Path) -> Result<()> {
        for old in [repository, &home(repository)] {
            if old.exists() {
                std::fs::remove_dir_all(old).with_context(|| format!("remove {}", old.display()))?;
            }
        }
        Ok(())
    }

    /// The command of a step.
    pub fn command(&self, step: Step, repository: &Path, source: &Path, target: &Path) -> Command {
        let mut command = self.prepared(repository);
        match self.dialect {
            Dialect::Onggi => onggi(&mut command, step, source, target),
            Dialect::Restic => restic(&mut command, step, source, target),
            Dialect::Rustic => rustic(&mut command, step, source, target),
            Dialect::Borg => borg(&mut command, step, source, target),
        }
        command
    }

    /// Where a restore into `target` puts the source's content.
    pub fn restored(target: &Path, source: &Path) -> PathBuf {
        target.join(source.strip_prefix("/").unwrap_or(source))
    }

    /// The program with its repository, its password and an empty home.
    fn prepared(&self, repository: &Path) -> Command {
        let home = home(repository);
        let password = home.join("password");
        let mut command = Command::new(&self.program);
        for name in SETTINGS {
            command.env_remove(name);
        }
        command.env("HOME", &home);
        match self.dialect {
            Dialect::Onggi | Dialect::Restic => command.arg("--repo").arg(repository).arg("--quiet"),
            Dialect::Rustic => command.arg("--repository").arg(repository).arg("--no-progress"),
            Dialect::Borg => return borg_environment(command, repository),
        };
        command.arg("--password-file").arg(password);
        command
    }
}

fn borg_environment(mut command: Command, repository: &Path) -> Command {
    command.env("BORG_PASSPHRASE", PASSWORD).env("BORG_REPO", repository);
    command
}

fn home(repository: &Path) -> PathBuf {
    repository.with_extension("home")
}

fn onggi(command: &mut Command, step: Step, source: &Path, target: &Path) {
    match step {
        Step::First | Step::Unchanged | Step::Changed | Step::Large => command.arg("backup").arg(source),
        Step::Reread => command.args(["backup", "--force"]).arg(source),
        Step::Restore => command.args(["restore", "latest", "--target"]).arg(target),
        Step::Verify => command.args(["repository", "verify"]),
        Step::VerifyData => command.args(["repository", "verify", "--read-data"]),
    };
}

fn restic(command: &mut Command, step: Step, source: &Path, target: &Path) {
    match step {
        Step::First | Step::Unchanged | Step::Changed | Step::Large => command.arg("backup").arg(source),
        Step::Reread => command.args(["backup", "--force"]).arg(source),
        Step::Restore => command.args(["restore", "latest", "--target"]).arg(target),
        Step::Verify => command.arg("check"),
        Step::VerifyData => command.args(["check", "--read-data"]),
    };
}

fn rustic(command: &mut Command, step: Step, source: &Path, target: &Path) {
    match step {
        Step::First | Step::Unchanged | Step::Changed | Step::Large => command.arg("backup").arg(source),
        Step::Reread => command.args(["backup", "--force"]).arg(source),
        Step::Restore => command.args(["restore", "latest"]).arg(target),
        Step::Verify => command.arg("check"),
        Step::VerifyData => command.args(["check", "--read-data"]),
    };
}

fn borg(command: &mut Command, step: Step, source: &Path, target: &Path) {
    let create = ["create", "--compression", "zstd,3"];
    match step {
        Step::First | Step::Large => command.args(create).arg("::first").arg(source),
        Step::Reread => command.args(create).args(["--files-cache", "disabled", "::again"]).arg(source),
        Step::Unchanged => command.args(create).arg("::unchanged").arg(source),
        Step::Changed => command.args(create).arg("::changed").arg(source),
        Step::Restore => {
            // It extracts into the current folder only.
            command.current_dir(target).args(["extract", "::changed"])
        }
        Step::Verify => command.args(["check", "--archives-only"]),
        Step::VerifyData => command.args(["check", "--verify-data"]),
    };
}
