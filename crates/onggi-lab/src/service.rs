//! Real services on loopback, brought up by the scripts of `lab/` for one test and ended with it.

use crate::peer;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use tempfile::TempDir;

/// An OpenSSH server that lets one key in and keeps files in a folder of this test.
pub struct Sshd {
    service: Service,
    place: TempDir,
}

/// An S3 service with one empty bucket.
pub struct ObjectStore {
    service: Service,
}

impl Sshd {
    /// Starts one, or says that the test is skipped.
    #[track_caller]
    pub fn start() -> Option<Self> {
        Self::start_with(&[])
    }

    /// Starts one with further arguments of `lab/sshd/up`.
    #[track_caller]
    pub fn start_with(arguments: &[&str]) -> Option<Self> {
        let place = tempfile::tempdir().expect("a temporary folder");
        Some(Self { service: Service::start_with("sshd", arguments)?, place })
    }

    /// Stops it, keeping its keys, and starts it again on its port with these arguments.
    pub fn restart(&self, arguments: &[&str]) {
        let port = self.port();
        self.service.stop();
        let mut up = script("sshd", "up");
        let up = up.arg(self.service.state.path()).args(["--port", &port]).args(arguments);
        assert!(up.output().is_ok_and(|output| output.status.success()), "lab/sshd/up on the same port");
    }

    /// One of the files that its script made: keys, log.
    pub fn file(&self, name: &str) -> PathBuf {
        self.service.state.path().join(name)
    }

    /// Who may log in.
    pub fn user(&self) -> String {
        self.service.value("SSHD_USER")
    }

    /// The address of a folder below it: `sftp://user@127.0.0.1:port//…/name`.
    pub fn url(&self, name: &str) -> String {
        format!("sftp://{}@127.0.0.1:{}/{}", self.service.value("SSHD_USER"), self.port(), self.path(name).display())
    }

    /// Where that folder is on this machine.
    pub fn path(&self, name: &str) -> PathBuf {
        self.place.path().join(name)
    }

    /// The port it listens on.
    pub fn port(&self) -> String {
        self.service.value("SSHD_PORT")
    }

    /// A private key that it lets in.
    pub fn key(&self) -> PathBuf {
        self.service.state.path().join("client_ed25519")
    }

    /// The lines by which a client knows it.
    pub fn known_hosts(&self) -> PathBuf {
        self.service.state.path().join("known_hosts")
    }

    /// Fills `home/.ssh` so that clients which read it enter without a question.
    ///
    /// # Panics
    /// If the files cannot be written.
    pub fn introduce(&self, home: &Path) {
        let folder = home.join(".ssh");
        fs::create_dir_all(&folder).expect("create .ssh");
        // Copies keep their mode, which keeps others out.
        fs::copy(self.key(), folder.join("id_ed25519")).expect("copy the key");
        fs::copy(self.known_hosts(), folder.join("known_hosts")).expect("copy known_hosts");
    }
}

impl ObjectStore {
    /// Starts one, or says that the test is skipped.
    #[track_caller]
    pub fn start() -> Option<Self> {
        Some(Self { service: Service::start("object-store")? })
    }

    /// The address of a prefix in its bucket, as restic and onggi write it: `s3:http://127.0.0.1:port/bucket/prefix`.
    pub fn url(&self, prefix: &str) -> String {
        format!("s3:{}/{}/{prefix}", self.service.value("S3_ENDPOINT"), self.service.value("S3_BUCKET"))
    }

    /// The variables that carry the key.
    pub fn variables(&self) -> [(&'static str, String); 2] {
        ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"].map(|name| (name, self.service.value(name)))
    }
}

/// What `lab/<name>/up` started.
struct Service {
    name: &'static str,
    state: TempDir,
}

impl Service {
    #[track_caller]
    fn start(name: &'static str) -> Option<Self> {
        Self::start_with(name, &[])
    }

    #[track_caller]
    fn start_with(name: &'static str, arguments: &[&str]) -> Option<Self> {
        let state = tempfile::tempdir().expect("a temporary folder");
        let output = script(name, "up").arg(state.path()).args(arguments).output().expect("the lab's script starts");
        if !output.status.success() {
            peer::skip(&format!("lab/{name}/up: {}", String::from_utf8_lossy(&output.stderr).trim()));
            return None;
        }
        Some(Self { name, state })
    }

    /// One line of the file `env` that the script wrote.
    fn value(&self, name: &str) -> String {
        let env = fs::read_to_string(self.state.path().join("env")).expect("the script wrote it");
        let line = env.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
        line.unwrap_or_else(|| panic!("lab/{}/up tells no {name}", self.name)).to_owned()
    }

    fn stop(&self) {
        let stopped = script(self.name, "down").arg(self.state.path()).status();
        assert!(stopped.is_ok_and(|status| status.success()), "lab/{}/down fails", self.name);
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        self.stop();
    }
}

fn script(service: &str, name: &str) -> Command {
    Command::new(Path::new(env!("CARGO_MANIFEST_DIR")).join("../../lab").join(service).join(name))
}
