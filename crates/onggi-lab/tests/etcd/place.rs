//! A home with a repository and a configuration of sources, and onggi run in it.

use onggi_lab::program;
use onggi_lab::service::EtcdCluster;
use serde_json::{Value, json};
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use tempfile::TempDir;

/// How a command ended and what it said.
#[derive(Debug)]
pub struct Done {
    pub code: Option<i32>,
    pub out: String,
    pub err: String,
}

impl Done {
    #[track_caller]
    pub fn ends(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "{}{}", self.out, self.err);
        self
    }

    /// Takes a failure that says this.
    #[track_caller]
    pub fn says(self, text: &str) -> Self {
        assert!(self.err.contains(text), "{text:?} is not in: {}", self.err);
        self
    }

    #[track_caller]
    pub fn json(&self) -> Value {
        self.out.lines().last().and_then(|line| serde_json::from_str(line).ok()).unwrap_or_else(|| {
            serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error}: {}{}", self.out, self.err))
        })
    }
}

pub struct Place(TempDir);

impl Place {
    /// A place with an empty repository and these sources.
    pub fn new(sources: &Value) -> Self {
        let place = Self(tempfile::tempdir().unwrap());
        fs::create_dir(place.path("home")).unwrap();
        place.secret("password", "of this place");
        let config = json!({
            "version": 1,
            "storages": { "disk": { "kind": "local", "path": place.path("repository") } },
            "repositories": { "main": { "storage": "disk", "password": place.secret("password", "of this place") } },
            "sources": sources,
        });
        // JSON is YAML.
        fs::write(place.path("onggi.yaml"), config.to_string()).unwrap();
        place.onggi("init").ends(0);
        place
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// A file that only its owner reads, as a reference.
    pub fn secret(&self, name: &str, text: &str) -> String {
        let path = self.path(name);
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        format!("file:{}", path.display())
    }

    pub fn command(&self, line: &str) -> Command {
        let mut command = Command::new(program::onggi());
        command.env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default());
        for (variable, folder) in [("XDG_STATE_HOME", "state"), ("XDG_CACHE_HOME", "cache")] {
            command.env(variable, self.path("home").join(folder));
        }
        command.env("HOME", self.path("home")).env("TZ", "UTC").arg("--config").arg(self.path("onggi.yaml"));
        command.args(line.split_ascii_whitespace());
        command
    }

    pub fn onggi(&self, line: &str) -> Done {
        Self::run(self.command(line))
    }

    /// Runs onggi where the programs of a folder are found too.
    pub fn onggi_with(&self, folder: &Path, line: &str) -> Done {
        let path = std::env::var_os("PATH").unwrap_or_default();
        let folders = std::iter::once(folder.to_owned()).chain(std::env::split_paths(&path));
        let mut command = self.command(line);
        command.env("PATH", std::env::join_paths(folders).unwrap());
        Self::run(command)
    }

    fn run(mut command: Command) -> Done {
        let output = command.output().unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        Done { code: output.status.code(), out: text(output.stdout), err: text(output.stderr) }
    }

    /// Names of what onggi has noted on this machine.
    pub fn state(&self) -> Vec<String> {
        let marks = fs::read_dir(self.path("home/state/onggi/marks"));
        marks.into_iter().flatten().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    }

    /// The notes of the newest snapshot, and its file, restored by onggi.
    pub fn newest(&self, source: &str) -> (Value, PathBuf) {
        let target = self.path("restored");
        let _ = fs::remove_dir_all(&target);
        self.onggi(&format!("restore latest --target {}", target.display())).ends(0);
        let root = target.join("etcd").join(source);
        let manifest = fs::read(root.join(".onggi/manifest.json")).unwrap();
        let manifest: Value = serde_json::from_slice(&manifest).unwrap();
        (manifest["facts"]["notes"].clone(), root.join("snapshot.db"))
    }

    /// The tags of the newest snapshot.
    pub fn tags(&self) -> Vec<String> {
        let snapshots = self.onggi("snapshots --json").ends(0).json();
        let newest = snapshots.as_array().and_then(|all| all.last()).unwrap();
        newest["tags"].as_array().unwrap().iter().map(|tag| tag.as_str().unwrap().to_owned()).collect()
    }
}

/// A source with endpoints and certificates of this cluster.
pub fn source(cluster: &EtcdCluster, more: Value) -> Value {
    let mut source = json!({
        "kind": "etcd",
        "endpoints": cluster.endpoints(),
        "tls": tls(cluster, "etcd/ca", "etcd/healthcheck-client"),
    });
    let Value::Object(more) = more else { panic!("keys and values") };
    source.as_object_mut().unwrap().extend(more);
    source
}

/// The connection of a client that trusts this authority and shows this certificate.
pub fn tls(cluster: &EtcdCluster, authority: &str, client: &str) -> Value {
    let file = |name: String| cluster.pki(&name);
    json!({
        "ca": file(format!("{authority}.crt")),
        "cert": file(format!("{client}.crt")),
        "key": format!("file:{}", file(format!("{client}.key")).display()),
    })
}

/// What etcdutl says of a file.
pub fn snapshot_status(etcdutl: &Path, file: &Path) -> Value {
    let output = Command::new(etcdutl).args(["snapshot", "status", "-w", "json"]).arg(file).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}
