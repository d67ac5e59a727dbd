//! `cargo xtask sabotage`: builds each deliberate fault of reliability's list in and insists that a test fails.
//!
//! The faults are `cfg(sabotage = "SBnn")` switches. Only this project's crates are compiled with one, through a wrapper
//! around the compiler, so that a fault costs no build of the dependencies.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

use anyhow::{Context, Result, bail, ensure};

use crate::workspace::{cargo, root};

/// The variable that tells the wrapper which fault to compile in.
const VARIABLE: &str = "ONGGI_SABOTAGE";

/// Which faults.
#[derive(clap::Args)]
pub struct Arguments {
    /// Their names, such as SB04; none: all that are in the code
    faults: Vec<String>,
}

/// Tries the faults one by one.
pub fn run(arguments: &Arguments) -> Result<()> {
    let known = in_the_code()?;
    let mut missed = Vec::new();
    let chosen = known.iter().filter(|(fault, _)| arguments.faults.is_empty() || arguments.faults.contains(fault));
    for (fault, package) in chosen {
        let found = !passes(fault, package)?;
        println!("{fault} in {package}: {}", if found { "found" } else { "MISSED" });
        if !found {
            missed.push(fault.clone());
        }
    }
    ensure!(missed.is_empty(), "no test finds {}", missed.join(", "));
    Ok(())
}

/// Runs the tests of a package with the fault in it.
fn passes(fault: &str, package: &str) -> Result<bool> {
    let folder = root().join("target/sabotage").join(fault);
    fs::create_dir_all(&folder).with_context(|| format!("create {}", folder.display()))?;
    // A wrapper of its own path makes cargo build the crates anew for each fault, and share the dependencies.
    let wrapper = folder.join("compiler");
    fs::copy(std::env::current_exe()?, &wrapper).context("copy the wrapper")?;
    let mut command = cargo("test");
    command.args(["--package", package, "--no-fail-fast", "--quiet", "--target-dir"]);
    command
        .arg(root().join("target/sabotage/build"))
        .args(["--features", "testing"].iter().filter(|_| package != "onggi-engine"));
    command.env("RUSTC_WORKSPACE_WRAPPER", &wrapper).env(VARIABLE, fault);
    let log = fs::File::create(folder.join("log")).context("create a log")?;
    let status = command.stdout(log.try_clone()?).stderr(Stdio::from(log)).status().context("start cargo")?;
    let told = fs::read_to_string(folder.join("log")).context("read the log")?;
    if !status.success() && !told.contains("test result: FAILED") {
        bail!("{fault} does not compile; see {}", folder.join("log").display());
    }
    Ok(status.success())
}

/// Every fault that a source file names, and the package it is in.
fn in_the_code() -> Result<BTreeMap<String, String>> {
    let mut faults = BTreeMap::new();
    for package in fs::read_dir(root().join("crates")).context("list crates")? {
        let package = package?;
        let mut files = Vec::new();
        sources(&package.path().join("src"), &mut files)?;
        for file in files {
            let text = fs::read_to_string(&file).with_context(|| format!("read {}", file.display()))?;
            for rest in text.split("sabotage = \"").skip(1) {
                if let Some((fault, _)) = rest.split_once('"').filter(|(fault, _)| fault.starts_with("SB")) {
                    faults.insert(fault.to_owned(), package.file_name().to_string_lossy().into_owned());
                }
            }
        }
    }
    Ok(faults)
}

fn sources(folder: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    for entry in fs::read_dir(folder).with_context(|| format!("list {}", folder.display()))? {
        let path = entry?.path();
        if path.is_dir() {
            sources(&path, files)?;
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    Ok(())
}

/// Stands between cargo and the compiler if cargo started us so: then the arguments are the compiler and its own.
pub fn wrapped_compiler() -> Option<ExitCode> {
    let fault = std::env::var(VARIABLE).ok()?;
    std::env::var_os("RUSTC_WORKSPACE_WRAPPER")?;
    let mut arguments = std::env::args_os().skip(1);
    let compiler = arguments
        .next()
        .filter(|first| Path::new(first).file_stem().is_some_and(|name| name == "rustc" || name == "clippy-driver"))?;
    let status = Command::new(compiler).args(arguments).arg("--cfg").arg(format!("sabotage=\"{fault}\"")).status();
    Some(if status.is_ok_and(|status| status.success()) { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
