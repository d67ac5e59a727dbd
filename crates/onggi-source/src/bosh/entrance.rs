//! How a director is entered by its own user, and what is thought of the key that it shows.
//!
//! A key that is seen for the first time is taken down; another one later is a warning. Whoever wants more says so and is
//! let in only where the key was known before.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use jiff::Timestamp;
use onggi_ssh::known_hosts::{KnownHosts, Verdict};
use onggi_ssh::store::Store;
use onggi_ssh::{Login, PublicKey, Trust, host_name, private_key};

use super::fault::Fault;
use super::instance::{Target, Witness};
use super::platform::{Level, Talk};
use crate::chain::chain;

/// What it takes to enter a director.
pub struct Entrance<'a> {
    /// Its name or address.
    pub host: &'a str,
    /// Of its SSH server.
    pub port: u16,
    /// Who logs in.
    pub user: &'a str,
    /// The private key, as text.
    pub key: &'a str,
    /// The folder with our own file of known hosts.
    pub state: &'a Path,
    /// Other files of known hosts.
    pub known: Vec<PathBuf>,
    /// Only a key that is known already will do.
    pub is_strict: bool,
    /// The moment at which it happens.
    pub now: Timestamp,
}

impl Entrance<'_> {
    /// The one instance of a director.
    pub fn target(self, talk: &Arc<dyn Talk>) -> Result<Target, Fault> {
        let key = private_key(self.key)
            .map_err(|error| Fault::Finding { name: self.host.to_owned(), cause: chain(&error).into() })?;
        let store = Store::new(self.state);
        let files: Vec<PathBuf> = [store.known()].into_iter().chain(self.known).collect();
        let trust = if self.is_strict { Trust::Files } else { Trust::Any }(files.clone());
        let login = Login::new(self.host, self.port, self.user, trust, self.now);
        let login = Login { keys: vec![Arc::new(key)], ..login };
        Ok(Target::director(login, Some(witness(self.host, self.port, store, files, talk))))
    }
}

fn witness(host: &str, port: u16, store: Store, files: Vec<PathBuf>, talk: &Arc<dyn Talk>) -> Witness {
    let (host, talk) = (host.to_owned(), Arc::clone(talk));
    Arc::new(move |key: &PublicKey| {
        let name = host_name(&host, port);
        match judge(&files, &host, port, key) {
            Verdict::Known => {}
            Verdict::Unknown => match store.trust(&name, key) {
                Ok(()) => talk.say(Level::Debug, &format!("the host key of {name} is known from now on")),
                Err(error) => talk.say(Level::Warn, &format!("the host key of {name} cannot be taken down: {error}")),
            },
            _ => {
                let file = store.known();
                let line = format!("the host key of {name} is not the one that is known; see {}", file.display());
                talk.say(Level::Warn, &line);
            }
        }
    })
}

fn judge(files: &[PathBuf], host: &str, port: u16, key: &PublicKey) -> Verdict {
    let mut known = KnownHosts::default();
    for file in files {
        // a file that cannot be read makes no host known
        known.add(file, &std::fs::read_to_string(file).unwrap_or_default());
    }
    known.judge(host, port, key)
}
