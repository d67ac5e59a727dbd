//! A home with a repository, and onggi run in it.

use onggi_lab::program;
use serde_json::Value;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Command, Output};
use tempfile::TempDir;

/// A home of its own.
pub struct Place(TempDir);

impl Place {
    /// With a password and an empty repository.
    pub fn new() -> Self {
        let place = Self(tempfile::tempdir().unwrap());
        fs::create_dir(place.path("home")).unwrap();
        place.secret("password", "of this place");
        place.run(&["init"]);
        place
    }

    /// Something in it.
    pub fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// A file that only its owner reads.
    pub fn secret(&self, name: &str, text: &str) {
        fs::write(self.path(name), text).unwrap();
        fs::set_permissions(self.path(name), fs::Permissions::from_mode(0o600)).unwrap();
    }

    /// onggi with these words.
    pub fn onggi(&self, words: &[&str]) -> Command {
        let mut command = Command::new(program::onggi());
        command.env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default());
        // root's own folders would be this machine's
        command.env("XDG_STATE_HOME", self.path("home/.local/state"));
        command.env("HOME", self.path("home")).env("TZ", "UTC").current_dir(self.0.path());
        command.arg("--repo").arg(self.path("repository")).arg("--password-file").arg(self.path("password"));
        command.args(words);
        command
    }

    /// What it says, whatever its end.
    pub fn ask(&self, words: &[&str]) -> Output {
        self.onggi(words).output().unwrap()
    }

    /// What it says on stdout when all goes well.
    #[track_caller]
    pub fn run(&self, words: &[&str]) -> String {
        let output = self.ask(words);
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "{words:?}\n{said}{}", String::from_utf8_lossy(&output.stderr));
        said
    }

    /// The JSON documents, one a line.
    #[track_caller]
    pub fn documents(&self, words: &[&str]) -> Vec<Value> {
        let words = [&["--json"], words].concat();
        self.run(&words).lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}
