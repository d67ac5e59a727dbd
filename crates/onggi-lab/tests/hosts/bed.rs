//! A hub with a repository, and what it says of a run.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use onggi_lab::peer;
use onggi_lab::program::{self, Ended};
use serde_json::Value;
use tempfile::TempDir;

use super::ENGINE;
use super::server::Server;

/// A hub: a home, a configuration, a repository. Below `data` lies what hosts of a test have.
pub struct Hub {
    place: TempDir,
}

impl Hub {
    pub fn new() -> Self {
        let hub = Self { place: tempfile::tempdir().unwrap() };
        // a host's other users are users of this machine
        fs::set_permissions(hub.place.path(), fs::Permissions::from_mode(0o755)).unwrap();
        for folder in ["home", "data", "bin"] {
            fs::create_dir(hub.path(folder)).unwrap();
        }
        fs::write(hub.path("password"), "secret-of-the-repository").unwrap();
        fs::set_permissions(hub.path("password"), fs::Permissions::from_mode(0o600)).unwrap();
        assert_eq!(hub.onggi("init").code, Some(0));
        hub
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.place.path().join(name)
    }

    pub fn write(&self, name: &str, content: impl AsRef<[u8]>) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }

    /// One source `fleet` with these keys below `connect` and beside it, and hosts by name with their keys.
    pub fn configure(&self, connect: &str, keys: &str, hosts: &[(&str, String)]) {
        let hosts: String = hosts.iter().map(|(name, keys)| format!("  {name}: {{ {keys} }}\n")).collect();
        self.write("nodes.yaml", format!("hosts:\n{hosts}"));
        let inventory = self.path("nodes.yaml");
        self.configure_raw(&format!("[{{ file: {} }}]", inventory.display()), connect, keys);
    }

    pub fn configure_raw(&self, inventory: &str, connect: &str, keys: &str) {
        let keys: String = keys.lines().map(|line| format!("    {}\n", line.trim())).collect();
        let source = format!("version: 1\nsources:\n  fleet:\n    kind: hosts\n    inventory: {inventory}\n");
        self.write("onggi.yaml", format!("{source}    connect: {{ engine: {ENGINE}, {connect} }}\n{keys}"));
    }

    /// The usual: one host `n1` at this server, known by its key, and all of `data`.
    pub fn configure_one(&self, server: &Server, keys: &str) {
        let data = self.path("data");
        self.configure(&pinned(server), &format!("paths: [{}]\n{keys}", data.display()), &[("n1", listed(server))]);
    }

    pub fn command(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        let path = std::env::var("PATH").unwrap();
        command.env_clear().env("PATH", format!("{}:{path}:/usr/sbin:/sbin", self.path("bin").display()));
        command.env("HOME", self.path("home")).env("TZ", "UTC").current_dir(self.place.path());
        for name in ["STATE", "CACHE", "CONFIG", "DATA"] {
            command.env(format!("XDG_{name}_HOME"), self.path(&format!("home/{}", name.to_lowercase())));
        }
        let own = self.path("program");
        command.env("ONGGI_NODE_PROGRAM", if own.exists() { &own } else { program::onggi_node() });
        command.env("RESTIC_PASSWORD_FILE", self.path("password")).env("RESTIC_REPOSITORY", self.path("repository"));
        command
    }

    pub fn onggi_command(&self, line: &str) -> Command {
        let mut command = self.command(program::onggi());
        command.arg("--repo").arg(self.path("repository")).arg("--password-file").arg(self.path("password"));
        if self.path("onggi.yaml").exists() {
            command.arg("--config").arg(self.path("onggi.yaml"));
        }
        command.args(line.split(' ').map(|word| match word.strip_prefix('@') {
            Some(name) => self.path(name).into_os_string(),
            None => word.into(),
        }));
        command
    }

    pub fn onggi(&self, line: &str) -> Ended {
        Ended::of(self.onggi_command(line).output().unwrap())
    }

    /// Runs the one configured source.
    pub fn back_up(&self) -> Ended {
        self.onggi("backup fleet --json")
    }

    /// The same, and it must be without fault.
    #[track_caller]
    pub fn back_up_well(&self) -> Value {
        let ended = self.back_up();
        assert_eq!(ended.code, Some(0), "{ended:?}");
        ended.summary()
    }

    /// The snapshots, oldest first.
    pub fn snapshots(&self) -> Vec<Value> {
        let ended = self.onggi("snapshots --json");
        assert_eq!(ended.code, Some(0), "{ended:?}");
        serde_json::from_str(&ended.out).unwrap()
    }

    /// The tree of `data` in the newest snapshot; those above it change with what a test does beside.
    pub fn tree(&self) -> String {
        let mut tree = self.snapshots().last().unwrap()["tree"].as_str().unwrap().to_owned();
        for name in self.path("data").iter().skip(1) {
            let listed = self.cat(&["blob", &tree]);
            let nodes = listed["nodes"].as_array().unwrap();
            let node = nodes.iter().find(|node| node["name"] == name.to_str().unwrap()).unwrap();
            node["subtree"].as_str().unwrap().clone_into(&mut tree);
        }
        tree
    }

    /// What restic shows of the repository.
    pub fn cat(&self, what: &[&str]) -> Value {
        let restic = peer::newest("restic").expect("asked for at the test's start");
        let ended = Ended::of(self.command(&restic).arg("cat").args(what).output().unwrap());
        assert_eq!(ended.code, Some(0), "{ended:?}");
        serde_json::from_str(&ended.out).unwrap()
    }

    /// A program for hosts that no other test sends: its digest is its own.
    pub fn own_program(&self) {
        let mut bytes = fs::read(program::onggi_node()).unwrap();
        bytes.extend_from_slice(self.place.path().as_os_str().as_encoded_bytes());
        self.write("program", bytes);
        fs::set_permissions(self.path("program"), fs::Permissions::from_mode(0o755)).unwrap();
    }

    /// Puts a program in the way of one of the system.
    pub fn shadow(&self, name: &str, script: &str) {
        self.write(&format!("bin/{name}"), script);
        fs::set_permissions(self.path(&format!("bin/{name}")), fs::Permissions::from_mode(0o755)).unwrap();
    }

    /// Lets an operator in by this key, which is not the hub's: what is to stand below `connect`.
    pub fn operator(&self, key: &Path) -> String {
        if ENGINE == "builtin" {
            self.write("home/.ssh/id_ed25519", fs::read(key).unwrap());
            fs::set_permissions(self.path("home/.ssh/id_ed25519"), fs::Permissions::from_mode(0o600)).unwrap();
            return String::new();
        }
        self.write("ssh-config", format!("IdentitiesOnly yes\nIdentityFile {}\n", key.display()));
        format!(", config: {}", self.path("ssh-config").display())
    }

    /// Keeps what goes to and from this host in `sent` and `received`.
    pub fn listen_in(&self, server: &Server) {
        let (sent, received) = (self.path("sent"), self.path("received"));
        let (sent, received) = (sent.display(), received.display());
        if ENGINE == "builtin" {
            // there is no program in between, so the host's own shell listens
            let command = format!(
                "eval \\\"$SSH_ORIGINAL_COMMAND\\\" < <(tee -a {sent} 2>/dev/null) > >(tee -a {received} 2>/dev/null)"
            );
            let line = format!("command=\"{command}\" {}\n", server.public("client"));
            return fs::write(server.path("authorized"), line).unwrap();
        }
        let script =
            format!("#!/bin/bash\ntee -a {sent} | /usr/bin/ssh \"$@\" | tee -a {received}\nexit ${{PIPESTATUS[1]}}\n");
        self.shadow("ssh", &script);
    }

    /// Bytes that came from hosts since the last question.
    pub fn received(&self) -> u64 {
        let length = fs::metadata(self.path("received")).map_or(0, |status| status.len());
        fs::remove_file(self.path("received")).ok();
        length
    }
}

/// How the usual host is reached.
pub fn pinned(server: &Server) -> String {
    format!("user: root, key: {}, trust: pinned", server.path("client").display())
}

/// How the usual host stands in the inventory.
pub fn listed(server: &Server) -> String {
    format!("address: 127.0.0.1, port: {}, host-key: \"{}\"", server.port, server.public("host"))
}
