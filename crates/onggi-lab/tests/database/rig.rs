//! A home, a repository and a configuration for one source of kind `database`.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Command, Output};

use onggi_lab::program;
use onggi_lab::service::Database;
use serde_json::Value;
use tempfile::TempDir;

pub struct Rig(TempDir);

impl Rig {
    pub fn new() -> Self {
        let rig = Self(tempfile::tempdir().unwrap());
        fs::create_dir(rig.path("home")).unwrap();
        rig.put_secret("repository.password", "of this place");
        // a scratch server's user must be able to enter
        fs::set_permissions(rig.0.path(), fs::Permissions::from_mode(0o711)).unwrap();
        rig
    }

    /// With a source that logs in to this server.
    pub fn over(server: &Database, preset: &str, more: &str) -> Self {
        let rig = Self::new();
        rig.log_in(server, preset, more);
        rig
    }

    /// Makes the repository and the source.
    pub fn log_in(&self, server: &Database, preset: &str, more: &str) {
        self.put_secret("database.password", &server.password());
        let connect = format!("{{ host: 127.0.0.1, port: {}, user: {},", server.port(), server.user());
        let password = self.path("database.password");
        let connect = format!("{connect} password: \"file:{}\" }}", password.display());
        self.configure(&format!("preset: {preset}\n    server: db1\n    connect: {connect}\n    {more}"));
        self.run(&["init"]);
    }

    pub fn configure(&self, keys: &str) {
        let text = format!("version: 1\nsources:\n  {}:\n    kind: database\n    {keys}\n", self.source());
        fs::write(self.path("onggi.yaml"), text).unwrap();
    }

    fn put_secret(&self, name: &str, secret: &str) {
        fs::write(self.path(name), secret).unwrap();
        fs::set_permissions(self.path(name), fs::Permissions::from_mode(0o600)).unwrap();
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Changes the server's password for onggi.
    pub fn forget_password(&self) {
        self.put_secret("database.password", "a wrong one");
    }

    /// A folder of tools in which this one is a script; the others are the installed ones.
    pub fn tools_with(&self, installed: &str, name: &str, script: &str) -> String {
        let folder = self.path("tools");
        fs::create_dir_all(&folder).unwrap();
        for entry in fs::read_dir(installed).unwrap().map(Result::unwrap) {
            let link = folder.join(entry.file_name());
            if entry.file_name() != name && !link.exists() {
                std::os::unix::fs::symlink(entry.path(), link).unwrap();
            }
        }
        let text = format!("#!/bin/bash\nset -e\nreal() {{ {installed}/{name} \"$@\"; }}\n{script}\n");
        let _ = fs::remove_file(folder.join(name)); // a link would lead to the installed one
        fs::write(folder.join(name), text).unwrap();
        fs::set_permissions(folder.join(name), fs::Permissions::from_mode(0o755)).unwrap();
        folder.display().to_string()
    }

    /// onggi with these arguments, of which `billing` stands for the source.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let source = self.source();
        let arguments = arguments.iter().map(|word| if *word == "billing" { source.as_str() } else { word });
        let mut command = Command::new(program::onggi());
        command.env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default());
        command.env("HOME", self.path("home")).env("TZ", "UTC").current_dir(self.0.path());
        command.arg("--config").arg(self.path("onggi.yaml")).arg("--repo").arg(self.path("repository"));
        command.arg("--password-file").arg(self.path("repository.password")).args(arguments);
        command
    }

    pub fn try_run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }

    /// What it wrote; it must end well.
    #[track_caller]
    pub fn run(&self, arguments: &[&str]) -> String {
        let output = self.try_run(arguments);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{arguments:?}: {said}");
        String::from_utf8(output.stdout).unwrap() + &said
    }

    /// It must fail and say this.
    #[track_caller]
    pub fn check_fails(&self, arguments: &[&str], expected: &str) {
        let output = self.try_run(arguments);
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && said.contains(expected), "{arguments:?}: {said}");
    }

    /// Backs up, and answers how much was new, in bytes as they lie in the repository.
    #[track_caller]
    pub fn back_up(&self) -> u64 {
        let before = self.stored_bytes();
        self.run(&["backup", "billing"]);
        self.stored_bytes() - before
    }

    pub fn stored_bytes(&self) -> u64 {
        fn below(folder: PathBuf) -> u64 {
            let entries = fs::read_dir(folder).unwrap().map(Result::unwrap);
            entries
                .map(|entry| match entry.metadata().unwrap() {
                    metadata if metadata.is_dir() => below(entry.path()),
                    metadata => metadata.len(),
                })
                .sum()
        }
        below(self.path("repository"))
    }

    pub fn snapshots(&self) -> usize {
        let output = self.try_run(&["snapshots", "--json"]);
        let all: Value = serde_json::from_slice(&output.stdout).unwrap();
        all.as_array().unwrap().len()
    }

    /// Every private file of this source: those of root lie in one place for all.
    pub fn private_files(&self) -> Vec<PathBuf> {
        let places = [self.path("home/.local/state/onggi/marks"), PathBuf::from("/var/lib/onggi/marks")];
        let files = places.iter().flat_map(fs::read_dir).flatten().map(|entry| entry.unwrap().path());
        let of_this = format!("\"{}\"", self.source());
        files.filter(|path| fs::read_to_string(path).is_ok_and(|text| text.contains(&of_this))).collect()
    }

    /// The source's name, which no other test has.
    pub fn source(&self) -> String {
        let name = self.0.path().file_name().unwrap().to_string_lossy();
        format!("billing-{}", name.trim_start_matches('.').to_lowercase())
    }
}

/// Runs a client of the server; it must end well.
#[track_caller]
pub fn output(command: &mut Command) -> String {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}
