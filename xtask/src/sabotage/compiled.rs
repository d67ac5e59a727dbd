//! The sabotaged build: every test program of the crates that ship, with all switches in them.

use std::path::PathBuf;

use anyhow::{Context, Result};
use serde_json::Value;

use super::{VARIABLE, folder, switch};
use crate::workspace::{cargo, messages, root};

/// Nothing of these ships: their tests judge the tree, or need other programs and minutes.
const LEFT_OUT: [&str; 2] = ["onggi-lab", "xtask"];

/// They damage every place of a repository, or stop at every call to the storage, and take longer than all others of their
/// package together: asked last.
const SLOWEST: [&str; 2] = ["damage", "crash"];

/// Compiling is most of the time that all trials take.
const OPTIMIZE_LESS: &str = "profile.dev.package.onggi-repo.opt-level=1";

/// One test program.
pub struct Program {
    /// `onggi-repo lib`, `onggi-repo crash`.
    pub name: String,
    pub package: String,
    pub path: PathBuf,
}

impl Program {
    /// Where cargo would run it.
    pub fn home(&self) -> PathBuf {
        root().join("crates").join(&self.package)
    }
}

/// Builds all of them. The whole workspace is built, because a part of it would need dependencies with fewer features.
pub fn programs() -> Result<Vec<Program>> {
    // A copy, because a build of xtask would replace the wrapper while it is in use.
    let wrapper = folder().join("compiler");
    std::fs::copy(std::env::current_exe()?, &wrapper).context("copy the wrapper")?;
    let mut command = cargo("test");
    command.args(["--workspace", "--no-run", "--lib", "--bins", "--tests"]);
    // The dependencies are those of every build. Our own crates have other names behind a wrapper, and the programs that
    // would lie where those without a fault do go to a folder of their own.
    command.env("CARGO_BUILD_BUILD_DIR", root().join("target")).arg("--target-dir").arg(folder().join("build"));
    command.args(["--config", OPTIMIZE_LESS]).env("RUSTC_WORKSPACE_WRAPPER", &wrapper).env(VARIABLE, switch());
    let mut programs: Vec<_> = messages(&mut command)?.iter().filter_map(program).collect();
    programs.retain(|program| !LEFT_OUT.contains(&&program.package[..]));
    programs.sort_by_key(|program| {
        let slowness = SLOWEST.iter().position(|slow| program.name.ends_with(slow));
        (slowness, program.package.clone(), !program.name.ends_with(" lib"), program.name.clone())
    });
    Ok(programs)
}

fn program(message: &Value) -> Option<Program> {
    if message["profile"]["test"] != true {
        return None;
    }
    let path = PathBuf::from(message["executable"].as_str()?);
    let manifest = PathBuf::from(message["manifest_path"].as_str()?);
    let package = manifest.parent()?.file_name()?.to_string_lossy().into_owned();
    let target = &message["target"];
    let kind = target["kind"][0].as_str()?;
    let what = if kind == "lib" { kind } else { target["name"].as_str()? };
    Some(Program { name: format!("{package} {what}"), package, path })
}
