//! The onggi program that tests drive: the real binary, never the library.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// The path of the program: `ONGGI_PROGRAM` if set, else built now from this tree. Once per test process.
pub fn onggi() -> &'static Path {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    PROGRAM.get_or_init(|| std::env::var_os("ONGGI_PROGRAM").map_or_else(|| build("onggi"), PathBuf::from))
}

/// The program that is sent to hosts: `ONGGI_NODE_PROGRAM` if set, else built now.
pub fn onggi_node() -> &'static Path {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    PROGRAM.get_or_init(|| std::env::var_os("ONGGI_NODE_PROGRAM").map_or_else(|| build("onggi-node"), PathBuf::from))
}

fn build(name: &str) -> PathBuf {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    // What cargo tells of this test's package would make build scripts of dependencies run again.
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        if text.starts_with("CARGO_MANIFEST_") || text.starts_with("CARGO_PKG_") {
            command.env_remove(&name);
        }
    }
    let output = command
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .args(["build", "--locked", "--package", name, "--bin", name, "--message-format", "json"])
        .output()
        .expect("cargo starts");
    assert!(output.status.success(), "{name} does not build: {}", String::from_utf8_lossy(&output.stderr));
    let messages = String::from_utf8_lossy(&output.stdout);
    let mut programs = messages.lines().filter_map(|line| {
        let message: serde_json::Value = serde_json::from_str(line).ok()?;
        Some(PathBuf::from(message["executable"].as_str()?))
    });
    programs.next_back().expect("cargo names the program it built")
}
