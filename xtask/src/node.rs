//! `cargo xtask node`: the program for hosts as it is shipped, without anything that a host would have to bring. With musl
//! where that target is installed, else with glibc linked in.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::workspace::{cargo, metadata, run as execute};

/// The smaller one.
const MUSL: &str = "x86_64-unknown-linux-musl";
/// The one that every toolchain for this machine has.
const GLIBC: &str = "x86_64-unknown-linux-gnu";

/// Builds it and says where it is.
pub fn run() -> Result<()> {
    let target = if is_installed(MUSL) { MUSL } else { GLIBC };
    let mut build = cargo("build");
    build.args(["--profile", "dist", "--package", "onggi-node", "--bin", "onggi-node", "--target", target]);
    execute(build.env("RUSTFLAGS", "-C target-feature=+crt-static"))?;
    let folder =
        metadata(&[])?["target_directory"].as_str().map(PathBuf::from).context("cargo names a target folder")?;
    let program = folder.join(target).join("dist/onggi-node");
    execute(Command::new(&program).arg("--self-check"))?;
    let headers = std::fs::read(&program).context("read the program")?;
    // the name of the dynamic linker stands in every program that needs one
    ensure!(!headers.windows(9).any(|window| window == b"ld-linux-"), "{} is not static", program.display());
    println!("{}: {} bytes", program.display(), headers.len());
    Ok(())
}

fn is_installed(target: &str) -> bool {
    let root = Command::new("rustc").args(["--print", "sysroot"]).output();
    root.is_ok_and(|root| {
        let root = PathBuf::from(String::from_utf8_lossy(&root.stdout).trim());
        root.join("lib/rustlib").join(target).is_dir()
    })
}
