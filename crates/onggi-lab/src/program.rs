//! The onggi program that tests drive: the real binary, never the library.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;

use serde_json::Value;

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

/// How a program ended, and all that it said.
#[derive(Debug)]
pub struct Ended {
    /// Its exit status; `None` if a signal ended it.
    pub code: Option<i32>,
    /// Its standard output.
    pub out: String,
    /// Its standard error.
    pub err: String,
}

impl Ended {
    /// Of what was gathered from it.
    pub fn of(output: Output) -> Self {
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        Self { code: output.status.code(), out: text(output.stdout), err: text(output.stderr) }
    }

    /// It ended like this.
    #[expect(clippy::return_self_not_must_use, reason = "many callers want only the assertion")]
    #[track_caller]
    pub fn expect(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "{}\n{}", self.out, self.err);
        self
    }

    /// The last document of a backup.
    pub fn summary(&self) -> Value {
        let mut documents = self.out.lines().rev().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        documents.find(|one| one["message_type"] == "summary").unwrap_or_else(|| panic!("{self:?}"))
    }

    /// Whether a problem of this class is told.
    pub fn tells(&self, class: &str) -> bool {
        format!("{}{}", self.out, self.err).contains(class)
    }
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
        let message: Value = serde_json::from_str(line).ok()?;
        Some(PathBuf::from(message["executable"].as_str()?))
    });
    programs.next_back().expect("cargo names the program it built")
}
