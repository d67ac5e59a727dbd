//! Real services on loopback, brought up by the scripts of `lab/` for one test and ended with it.

use crate::peer;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
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

/// A database server with one administrator.
pub struct Database {
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

/// An etcd cluster with TLS on both sides, laid out as kubeadm lays out a control plane.
pub struct EtcdCluster {
    service: Service,
}

impl EtcdCluster {
    /// Starts one with these options of `lab/etcd/up`, or says that the test is skipped.
    #[track_caller]
    pub fn start(options: &str) -> Option<Self> {
        Some(Self { service: Service::start_with("etcd", &options.split_ascii_whitespace().collect::<Vec<_>>())? })
    }

    /// The members' client URLs.
    pub fn endpoints(&self) -> Vec<String> {
        self.service.value("ETCD_ENDPOINTS").split(',').map(ToOwned::to_owned).collect()
    }

    /// A file below `kubernetes/pki`.
    pub fn pki(&self, name: &str) -> PathBuf {
        Path::new(&self.service.value("ETCD_PKI")).join(name)
    }

    /// The static pod of the first member.
    pub fn manifest(&self) -> PathBuf {
        self.service.value("ETCD_MANIFEST").into()
    }

    /// The folder with everything of it: data, logs, arguments.
    pub fn state(&self) -> &Path {
        self.service.state.path()
    }

    /// One of the programs of its version: etcd, etcdctl, and from 3.5 on etcdutl.
    pub fn program(&self, name: &str) -> PathBuf {
        Path::new(&self.service.value("ETCD_BIN")).join(name)
    }

    /// Runs etcdctl on it with these words and this input, and returns what it says.
    ///
    /// # Panics
    /// If it fails.
    #[track_caller]
    pub fn ctl_with(&self, words: &[&str], input: &str) -> String {
        let mut command = Command::new(self.state().join("ctl"));
        command.args(words).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("etcdctl starts");
        child.stdin.take().expect("it is piped").write_all(input.as_bytes()).expect("etcdctl reads");
        let output = child.wait_with_output().expect("etcdctl ends");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "etcdctl {}: {said}", words.join(" "));
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// The same without input; words are separated by blanks.
    #[track_caller]
    pub fn ctl(&self, line: &str) -> String {
        self.ctl_with(&line.split_ascii_whitespace().collect::<Vec<_>>(), "")
    }

    /// Puts keys, each with its value, in transactions.
    #[track_caller]
    pub fn put<'a>(&self, pairs: impl IntoIterator<Item = (&'a str, &'a str)>) {
        let lines: Vec<_> = pairs.into_iter().map(|(key, value)| format!("put {key} {value}\n")).collect();
        for some in lines.chunks(500) {
            self.ctl_with(&["txn"], &format!("\n{}\n\n", some.concat()));
        }
    }

    /// How each member is, as etcdctl prints it.
    pub fn status(&self) -> serde_json::Value {
        serde_json::from_str(&self.ctl("endpoint status -w json")).expect("etcdctl prints JSON")
    }

    /// Ends a member at once; returns when it is gone.
    pub fn stop(&self, member: &str) {
        self.member(&["stop", member, "KILL"]);
    }

    /// Starts a member again, and awaits that it serves.
    pub fn restart(&self, member: &str) {
        self.start_member(member);
        self.await_service(member);
    }

    fn await_service(&self, member: &str) {
        let number: usize = member.trim_start_matches('m').parse().expect("a member's name is mN");
        let endpoint = &self.endpoints()[number - 1];
        for _ in 0..100 {
            let asked = Command::new(self.state().join("ctl")).args(["--endpoints", endpoint, "get", "/none"]).output();
            if asked.is_ok_and(|output| output.status.success()) {
                return;
            }
        }
        let log = fs::read_to_string(self.state().join(format!("log/{member}.log"))).unwrap_or_default();
        let last: Vec<_> = log.lines().rev().take(5).collect();
        panic!("{member} does not serve again; its last lines, latest first:\n{}", last.join("\n"));
    }

    /// Starts all members again, and awaits that each serves.
    pub fn restart_all(&self) {
        let members: Vec<_> = (1..=self.endpoints().len()).map(|number| format!("m{number}")).collect();
        for member in &members {
            self.start_member(member);
        }
        for member in &members {
            self.await_service(member);
        }
    }

    /// Starts a member with the arguments in its file; does not wait.
    pub fn start_member(&self, member: &str) {
        self.member(&["start", member]);
    }

    /// What etcdctl says, whether it fails or not.
    pub fn try_with(&self, words: &[&str], input: &str) -> String {
        let mut command = Command::new(self.state().join("ctl"));
        command.args(words).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("etcdctl starts");
        // One that needs no input may end before it is written.
        let _ = child.stdin.take().expect("it is piped").write_all(input.as_bytes());
        let output = child.wait_with_output().expect("etcdctl ends");
        String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned()
    }

    /// The same of a command that must fail.
    #[track_caller]
    pub fn fails(&self, line: &str) -> String {
        let said = self.try_with(&line.split_ascii_whitespace().collect::<Vec<_>>(), "");
        assert!(said.contains("Error") || said.contains("error"), "etcdctl {line} did not fail: {said}");
        said
    }

    fn member(&self, words: &[&str]) {
        let (act, rest) = words.split_first().expect("an act");
        let done = script("etcd", "member").arg(act).arg(self.state()).args(rest).status();
        assert!(done.is_ok_and(|status| status.success()), "lab/etcd/member {words:?}");
    }
}

impl Database {
    /// Starts a server of this kind, `postgres` or `mariadb`, or says that the test is skipped.
    #[track_caller]
    pub fn start(kind: &str) -> Option<Self> {
        Some(Self { service: Service::start_with("database", &[kind])? })
    }

    /// The port on 127.0.0.1.
    pub fn port(&self) -> String {
        self.service.value("DATABASE_PORT")
    }

    /// Its administrator.
    pub fn user(&self) -> String {
        self.service.value("DATABASE_USER")
    }

    /// The administrator's password.
    pub fn password(&self) -> String {
        self.service.value("DATABASE_PASSWORD")
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
