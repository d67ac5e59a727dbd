//! `cargo xtask sabotage`: switches each deliberate fault of reliability's list on and insists that a test fails.
//!
//! The faults are values in the `sabotage.rs` of each crate, off unless this project's crates are compiled with
//! `--cfg sabotage`. One build, in a folder of its own, has them all; a file says which one is on. A wrapper around the
//! compiler passes the flag, so that the dependencies are compiled as ever.

mod compiled;
mod trial;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context, Result, bail, ensure};

use crate::ledger;
use crate::workspace::root;
use compiled::Program;
use trial::{Found, Trials};

/// The variable that tells the wrapper and the crates which file names the fault that is on.
const VARIABLE: &str = "ONGGI_SABOTAGE";
/// What the lists of this project call a fault.
const PREFIX: &str = "SB";

/// Of the table in the ledger.
const HEAD: [&str; 4] = ["fault", "where", "what it does", "found by"];

/// Which faults.
#[derive(clap::Args)]
pub struct Arguments {
    /// Their names, such as SB04; none: all that are in the code
    faults: Vec<String>,
    /// Enter what found each of them into docs/reliability.md
    #[arg(long)]
    record: bool,
}

/// A switch in the code.
struct Fault {
    name: String,
    package: String,
    /// What its documentation says.
    text: String,
}

/// Tries the faults one by one.
pub fn run(arguments: &Arguments) -> Result<()> {
    let mut faults = in_the_code()?;
    faults.retain(|fault| arguments.faults.is_empty() || arguments.faults.contains(&fault.name));
    ensure!(!faults.is_empty(), "no such fault is in the code");
    fs::create_dir_all(folder()).with_context(|| format!("create {}", folder().display()))?;
    choose("none")?;
    let programs = compiled::programs()?;
    let mut trials = Trials::new(&programs);
    let mut missed = Vec::new();
    for fault in &faults {
        let found = trials.find(&fault.name, &fault.package)?;
        match &found {
            Some(Found { program, tests }) => println!("{}: {program}: {}", fault.name, tests.join(", ")),
            None => println!("{}: MISSED ({} in {})", fault.name, fault.text, fault.package),
        }
        missed.extend(found.is_none().then(|| fault.name.clone()));
        if arguments.record {
            ledger::replace("Sabotage", &HEAD, row(fault, found.as_ref()))?;
        }
    }
    println!("{} of {} faults found", faults.len() - missed.len(), faults.len());
    ensure!(missed.is_empty(), "no test finds {}", missed.join(", "));
    Ok(())
}

fn row(fault: &Fault, found: Option<&Found>) -> Vec<String> {
    let by = found.map_or_else(
        || "**nothing**".to_owned(),
        |found| match &found.tests[..] {
            [one] => format!("{}: `{one}`", found.program),
            [one, rest @ ..] => format!("{}: `{one}` and {} more", found.program, rest.len()),
            [] => format!("{}: as a whole", found.program),
        },
    );
    vec![fault.name.clone(), fault.package.clone(), fault.text.clone(), by]
}

/// Where the sabotaged build and the logs are.
fn folder() -> PathBuf {
    root().join("target/sabotage")
}

/// The file that names the fault that is on.
fn switch() -> PathBuf {
    folder().join("fault")
}

fn choose(fault: &str) -> Result<()> {
    fs::write(switch(), fault).context("name the fault")
}

/// Every fault that a `sabotage.rs` declares: its documentation, then `Fault("SBnn")` or `Fault::new("SBnn")`.
fn in_the_code() -> Result<Vec<Fault>> {
    let mut faults = Vec::new();
    for package in fs::read_dir(root().join("crates")).context("list crates")? {
        let package = package?;
        let Ok(text) = fs::read_to_string(package.path().join("src/sabotage.rs")) else { continue };
        let package = package.file_name().to_string_lossy().into_owned();
        let mut said = String::new();
        for line in text.lines() {
            if let Some(documentation) = line.strip_prefix("/// ") {
                documentation.trim_end_matches('.').clone_into(&mut said);
            } else if let Some(name) = line.split('"').nth(1).filter(|name| name.starts_with(PREFIX)) {
                faults.push(Fault { name: name.to_owned(), package: package.clone(), text: said.clone() });
            }
        }
    }
    faults.sort_by(|one, two| one.name.cmp(&two.name));
    if let Some(pair) = faults.windows(2).find(|pair| pair[0].name == pair[1].name) {
        bail!("{} is in {} and in {}", pair[0].name, pair[0].package, pair[1].package);
    }
    Ok(faults)
}

/// Stands between cargo and the compiler if cargo started us so: then the arguments are the compiler and its own.
pub fn wrapped_compiler() -> Option<ExitCode> {
    std::env::var_os(VARIABLE)?;
    std::env::var_os("RUSTC_WORKSPACE_WRAPPER")?;
    let mut arguments = std::env::args_os().skip(1);
    let compiler = arguments
        .next()
        .filter(|first| Path::new(first).file_stem().is_some_and(|name| name == "rustc" || name == "clippy-driver"))?;
    let status = Command::new(compiler).args(arguments).args(["--cfg", "sabotage"]).status();
    Some(if status.is_ok_and(|status| status.success()) { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
