//! A real sshd on loopback, brought up by `lab/sshd/up` for one test.

use onggi_storage::{clock::SystemClock, sftp::SftpOptions};
use std::{
    fs,
    io::Write,
    path::{Path, PathBuf},
    process::{Command, Output},
    sync::Arc,
};
use tempfile::TempDir;

/// A running server with a folder for a repository; both go with the test.
pub struct Server {
    state: TempDir,
    /// Where repositories of this test are.
    pub place: TempDir,
    pub port: u16,
    user: String,
}

impl Server {
    /// `None`, loudly, if there is no sshd on this machine. With `CI=true` that is a failure.
    pub fn start(arguments: &[&str]) -> Option<Self> {
        let state = tempfile::tempdir().unwrap();
        if let Err(reason) = bring_up(state.path(), arguments) {
            skip("SFTP against a real sshd", &reason);
            return None;
        }
        let env = fs::read_to_string(state.path().join("env")).unwrap();
        let value = |name: &str| env.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('=')).unwrap();
        let (port, user) = (value("SSHD_PORT").parse().unwrap(), value("SSHD_USER").to_owned());
        Some(Self { state, place: tempfile::tempdir().unwrap(), port, user })
    }

    pub fn file(&self, name: &str) -> PathBuf {
        self.state.path().join(name)
    }

    /// Enters with the first key, into a folder that is not there yet.
    pub fn options(&self) -> SftpOptions {
        SftpOptions {
            host: "127.0.0.1".into(),
            port: self.port,
            user: self.user.clone(),
            path: self.repository().to_str().unwrap().into(),
            identity_files: vec![self.file("client_ed25519")],
            identity_passphrase: None,
            agent: None,
            password: None,
            known_hosts: vec![self.file("known_hosts")],
            host_key: None,
            clock: Arc::new(SystemClock),
        }
    }

    pub fn repository(&self) -> PathBuf {
        self.place.path().join("above/repository")
    }

    /// Ends the server and all its sessions.
    pub fn stop(&self) {
        down(self.state.path());
    }

    /// Starts it again, at the same port.
    pub fn restart(&self) {
        bring_up(self.state.path(), &["--port", &self.port.to_string()]).unwrap();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Says that a test is skipped, past the harness, which would keep it to itself. With `CI=true` nothing may be skipped.
#[expect(clippy::disallowed_methods, reason = "a test's environment, not the product's")]
pub fn skip(what: &str, reason: &str) {
    assert!(std::env::var("CI").as_deref() != Ok("true"), "{what}: {reason}");
    let mut stderr = std::io::stderr();
    writeln!(stderr, "SKIPPED: {what}: {reason}").unwrap();
}

fn bring_up(state: &Path, arguments: &[&str]) -> Result<(), String> {
    let output = script("up").arg(state).args(arguments).output().map_err(|error| error.to_string())?;
    if output.status.success() { Ok(()) } else { Err(said(&output)) }
}

fn down(state: &Path) {
    let output = script("down").arg(state).output().unwrap();
    assert!(output.status.success(), "{}", said(&output));
}

fn script(name: &str) -> Command {
    Command::new(Path::new(env!("CARGO_MANIFEST_DIR")).join("../../lab/sshd").join(name))
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).trim().to_owned()
}
