//! Where the tree is, how its programs are built and how commands run in it.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

/// The top of the tree.
pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("xtask lies in the tree")
}

/// The cargo that runs us, in the top folder, with the committed lock file.
pub fn cargo(subcommand: &str) -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(root()).arg(subcommand).arg("--locked");
    for (name, _) in std::env::vars_os().filter(|(name, _)| is_of_a_package(&name.to_string_lossy())) {
        command.env_remove(name);
    }
    command
}

/// Whether cargo sets this variable to tell us of our own package. Build scripts of dependencies ask for such variables;
/// passed on, they would run again, and all that depends on them, whenever cargo is started in another way.
fn is_of_a_package(name: &str) -> bool {
    ["CARGO_MANIFEST_", "CARGO_PKG_"].iter().any(|prefix| name.starts_with(prefix))
}

/// Runs a command to its end; a status other than zero is an error that names the command.
pub fn run(command: &mut Command) -> Result<()> {
    let shown = shown(command);
    let status = command.status().with_context(|| format!("start {shown}"))?;
    ensure!(status.success(), "{shown} ended with {status}");
    Ok(())
}

/// Runs cargo as `run` does, and returns its messages of what it compiled.
pub fn messages(command: &mut Command) -> Result<Vec<Value>> {
    command.args(["--message-format", "json-render-diagnostics"]);
    let shown = shown(command);
    let output = command.stderr(Stdio::inherit()).output().with_context(|| format!("start {shown}"))?;
    ensure!(output.status.success(), "{shown} ended with {}", output.status);
    let messages = String::from_utf8(output.stdout).context("cargo speaks UTF-8")?;
    Ok(messages.lines().filter_map(|line| serde_json::from_str(line).ok()).collect())
}

/// A command as one would type it.
pub fn shown(command: &Command) -> String {
    let mut words = vec![command.get_program().to_string_lossy().into_owned()];
    words.extend(command.get_args().map(|word| word.to_string_lossy().into_owned()));
    words.join(" ")
}

/// What cargo knows of the tree and of everything it pulls on the given targets; without one, on any.
pub fn metadata(targets: &[String]) -> Result<Value> {
    let mut command = cargo("metadata");
    command.args(["--format-version", "1"]);
    for target in targets {
        command.args(["--filter-platform", target]);
    }
    let output = command.output().context("start cargo metadata")?;
    ensure!(output.status.success(), "cargo metadata: {}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).context("read the answer of cargo metadata")
}

/// Which build of the programs: quick to make, as shipped, or the fastest.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Profile {
    /// What tests use.
    Dev,
    /// What `cargo build --release` makes.
    Release,
    /// What is published and measured.
    Dist,
}

impl Profile {
    fn name(self) -> &'static str {
        match self {
            Self::Dev => "dev",
            Self::Release => "release",
            Self::Dist => "dist",
        }
    }

    fn folder(self) -> &'static str {
        match self {
            Self::Dev => "debug",
            Self::Release => "release",
            Self::Dist => "dist",
        }
    }
}

/// Builds the named packages' programs and returns the folder they lie in.
pub fn build(packages: &[&str], profile: Profile) -> Result<PathBuf> {
    let mut command = cargo("build");
    command.args(["--profile", profile.name(), "--bins"]);
    for package in packages {
        command.args(["--package", package]);
    }
    run(&mut command)?;
    let target =
        metadata(&[])?["target_directory"].as_str().map(PathBuf::from).context("cargo names a target folder")?;
    Ok(target.join(profile.folder()))
}

/// Whether a program of this name is in the search path or where Debian keeps daemons.
pub fn installed(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).chain(["/usr/sbin".into()]).any(|folder| folder.join(program).is_file())
}

/// Whether we may install packages.
pub fn is_root() -> bool {
    std::fs::metadata("/proc/self").is_ok_and(|metadata| std::os::unix::fs::MetadataExt::uid(&metadata) == 0)
}

/// Whether we guard the tree: then nothing may be skipped.
pub fn in_ci() -> bool {
    std::env::var("CI").is_ok_and(|value| value == "true" || value == "1")
}
