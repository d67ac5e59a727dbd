//! This machine and its user: the environment, read once; where files of onggi lie; who writes.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use onggi_engine::open::Habits;
use onggi_repo::{Compute, Environment, Host};
use onggi_storage::Clock;
use onggi_storage::clock::SystemClock;

use crate::failure::Failure;

/// What a process knows of its surroundings.
#[derive(Debug, Clone)]
pub struct Machine {
    /// The environment, as far as it is text.
    pub variables: BTreeMap<String, String>,
    /// Where relative paths start.
    pub directory: PathBuf,
    /// Who writes.
    pub host: Host,
    home: PathBuf,
    clock: Arc<dyn Clock>,
}

impl Machine {
    /// Reads it all.
    pub fn read() -> Result<Self, Failure> {
        let variables: BTreeMap<String, String> = std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
            .filter(|(_, value)| !value.is_empty())
            .collect();
        let directory = std::env::current_dir().map_err(|error| Failure::local("find the working folder", &error))?;
        let uid = rustix::process::geteuid().as_raw();
        let home =
            variables.get("HOME").map_or_else(|| PathBuf::from(if uid == 0 { "/root" } else { "/" }), PathBuf::from);
        let host = Host {
            hostname: rustix::system::uname().nodename().to_string_lossy().into_owned(),
            username: ["USER", "LOGNAME"]
                .iter()
                .find_map(|name| variables.get(*name))
                .cloned()
                .unwrap_or_else(|| user_name(uid)),
            pid: std::process::id(),
            uid,
            gid: rustix::process::getegid().as_raw(),
        };
        Ok(Self { variables, directory, host, home, clock: Arc::new(SystemClock) })
    }

    /// A variable that is set and not empty; of several names the first.
    pub fn variable(&self, names: &[&'static str]) -> Option<&str> {
        names.iter().find_map(|name| self.variables.get(*name)).map(String::as_str)
    }

    /// For storages of the configuration.
    pub fn habits(&self) -> Habits {
        Habits { variables: self.variables.clone(), home: self.home.clone(), user: self.host.username.clone() }
    }

    /// For repositories.
    pub fn environment(&self) -> Environment {
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        Environment { clock: self.clock(), host: self.host.clone(), compute: Compute::new(threads) }
    }

    /// Where the program for hosts may lie: beside this one, or where packages put it.
    pub fn programs(&self) -> Vec<PathBuf> {
        let own = std::env::current_exe().ok().and_then(|own| Some(own.parent()?.to_owned()));
        let beside =
            own.into_iter().flat_map(|folder| [folder.join("onggi-node"), folder.join("../lib/onggi/onggi-node")]);
        let named = self.variable(&["ONGGI_NODE_PROGRAM"]).map(PathBuf::from);
        named.into_iter().chain(beside).chain([PathBuf::from("/usr/lib/onggi/onggi-node")]).collect()
    }

    /// Time and randomness.
    pub fn clock(&self) -> Arc<dyn Clock> {
        Arc::clone(&self.clock)
    }

    /// An absolute path for one that may start here or at home.
    pub fn absolute(&self, path: &Path) -> PathBuf {
        self.directory.join(path)
    }

    /// A path as people write it: `~` for home.
    pub fn shown(&self, path: &str) -> String {
        match Path::new(path).strip_prefix(&self.home) {
            Ok(below) if self.home.components().count() > 1 => format!("~/{}", below.display()),
            _ => path.to_owned(),
        }
    }

    /// Where the home of the user is.
    #[cfg(feature = "sftp")]
    pub fn home(&self) -> &Path {
        &self.home
    }

    /// Where the program of this name is found, as a shell would.
    pub fn program(&self, name: &str) -> Option<PathBuf> {
        let path = self.variables.get("PATH")?;
        std::env::split_paths(path).map(|folder| folder.join(name)).find(|file| file.is_file())
    }

    /// The configuration of those who name none: the machine's, or else the user's.
    pub fn config_file(&self) -> Option<PathBuf> {
        let own = self.config_folder().join("onggi.yaml");
        [PathBuf::from("/etc/onggi/onggi.yaml"), own].into_iter().find(|path| path.exists())
    }

    /// The repository of those who name none.
    pub fn default_repository(&self) -> PathBuf {
        if self.is_root() {
            PathBuf::from("/var/lib/onggi/repo")
        } else {
            self.under("XDG_DATA_HOME", ".local/share").join("repo")
        }
    }

    /// Its password.
    pub fn default_password_file(&self) -> PathBuf {
        self.config_folder().join("repo.key")
    }

    /// Run journals and marks.
    pub fn state_folder(&self) -> PathBuf {
        if self.is_root() { PathBuf::from("/var/lib/onggi") } else { self.under("XDG_STATE_HOME", ".local/state") }
    }

    /// What can be thrown away.
    pub fn cache_folder(&self) -> PathBuf {
        if self.is_root() { PathBuf::from("/var/cache/onggi") } else { self.under("XDG_CACHE_HOME", ".cache") }
    }

    fn config_folder(&self) -> PathBuf {
        if self.is_root() { PathBuf::from("/etc/onggi") } else { self.under("XDG_CONFIG_HOME", ".config") }
    }

    /// A folder of onggi below one of the user's.
    fn under(&self, variable: &'static str, usual: &str) -> PathBuf {
        let base = self.variable(&[variable]).map(PathBuf::from).filter(|path| path.is_absolute());
        base.unwrap_or_else(|| self.home.join(usual)).join("onggi")
    }

    /// Root without folders of its own: who sets `XDG_*` as root wants them used.
    fn is_root(&self) -> bool {
        self.host.uid == 0 && !self.variables.keys().any(|name| name.starts_with("XDG_") && name.ends_with("_HOME"))
    }
}

/// The name of a user in /etc/passwd, or the number.
fn user_name(uid: u32) -> String {
    let table = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
    let wanted = uid.to_string();
    let named = table.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)? == wanted).then(|| name.to_owned())
    });
    named.unwrap_or(wanted)
}
