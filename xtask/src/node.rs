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
    execute(build.env("RUSTFLAGS", "-C target-feature=+crt-static -C strip=symbols"))?;
    let folder =
        metadata(&[])?["target_directory"].as_str().map(PathBuf::from).context("cargo names a target folder")?;
    let program = folder.join(target).join("dist/onggi-node");
    execute(Command::new(&program).arg("--self-check"))?;
    let bytes = std::fs::read(&program).context("read the program")?;
    ensure!(is_static(&bytes), "{} is not static", program.display());
    println!("{}: {} bytes", program.display(), bytes.len());
    Ok(())
}

/// Whether an ELF program of 64 bits asks for no other program to load it. The name of the dynamic linker proves nothing:
/// it also stands in a C library that is linked in.
fn is_static(program: &[u8]) -> bool {
    const INTERPRETER: usize = 3;
    let number = |at: usize, length: usize| -> Option<usize> {
        let bytes = program.get(at..at.checked_add(length)?)?;
        Some(bytes.iter().rev().fold(0, |number, byte| number << 8 | usize::from(*byte)))
    };
    let headers = || Some((number(32, 8)?, number(54, 2)?, number(56, 2)?));
    headers().is_some_and(|(start, length, count)| {
        (0..count).all(|header| number(start + header * length, 4).is_some_and(|kind| kind != INTERPRETER))
    })
}

fn is_installed(target: &str) -> bool {
    let root = Command::new("rustc").args(["--print", "sysroot"]).output();
    root.is_ok_and(|root| {
        let root = PathBuf::from(String::from_utf8_lossy(&root.stdout).trim());
        root.join("lib/rustlib").join(target).is_dir()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A program with one header of this kind.
    fn program(kind: u8) -> Vec<u8> {
        let mut bytes = vec![0; 64 + 56];
        (bytes[32], bytes[54], bytes[56], bytes[64]) = (64, 56, 1, kind);
        bytes
    }

    #[test]
    fn a_program_that_names_its_loader_is_not_static() {
        assert!(is_static(&program(1)));
        assert!(!is_static(&program(3)));
        assert!(!is_static(b"\x7fELF"));
        let own = std::env::current_exe().and_then(std::fs::read).unwrap();
        assert!(!is_static(&own), "a test is linked to the system's C library");
    }
}
