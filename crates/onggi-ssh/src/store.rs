//! Our own file of known hosts, and the queue of keys that wait for a person's word. One line per key, in the form that
//! `ssh` reads too; rewritten whole, so that a reader sees the old lines or the new ones.

use crate::error::text;
use crate::known_hosts::KnownHosts;
use jiff::Timestamp;
use russh::keys::PublicKey;
use rustix::fs::{FlockOperation, flock};
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

/// Keys that wait at most; an attacker must not fill a disk with them.
const WAITING_MAX: usize = 1000;

/// The two files of a state folder: `hosts.known` and `hosts.waiting`.
#[derive(Debug, Clone)]
pub struct Store {
    folder: PathBuf,
}

/// A key that somebody must look at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Waiting {
    /// The host as a line names it.
    pub host: String,
    /// What it showed.
    pub key: PublicKey,
    /// When and where: free text.
    pub seen: String,
}

impl Store {
    /// The files of this folder; nothing is touched.
    pub fn new(folder: impl Into<PathBuf>) -> Self {
        Self { folder: folder.into() }
    }

    /// The file of what is known, for `ssh` and for [`Trust::Files`](crate::Trust::Files).
    pub fn known(&self) -> PathBuf {
        self.folder.join("hosts.known")
    }

    /// What is known.
    pub fn load(&self) -> io::Result<KnownHosts> {
        let mut known = KnownHosts::default();
        known.add(&self.known(), &read(&self.known())?);
        Ok(known)
    }

    /// The keys that wait.
    pub fn waiting(&self) -> io::Result<Vec<Waiting>> {
        Ok(read(&self.queue())?.lines().filter_map(Waiting::parse).collect())
    }

    /// Puts a key into the queue; answers whether it was not there.
    pub fn ask(&self, host: &str, key: &PublicKey, at: Timestamp, address: &str) -> io::Result<bool> {
        let _held = self.hold()?;
        let mut waiting = self.waiting()?;
        if waiting.len() >= WAITING_MAX || waiting.iter().any(|other| other.is(host, key)) {
            return Ok(false);
        }
        let seen = format!("{} {address}", at.strftime("%Y-%m-%dT%H:%M:%SZ"));
        waiting.push(Waiting { host: host.to_owned(), key: key.clone(), seen });
        write(&self.queue(), &lines(&waiting))?;
        Ok(true)
    }

    /// Makes a key the host's, beside those that it has, and takes it out of the queue.
    pub fn trust(&self, host: &str, key: &PublicKey) -> io::Result<()> {
        let _held = self.hold()?;
        let known = read(&self.known())?;
        let line = format!("{host} {}", text(key));
        if !known.lines().any(|other| other == line) {
            write(&self.known(), &format!("{}{line}\n", ended(&known)))?;
        }
        let mut waiting = self.waiting()?;
        waiting.retain(|other| !other.is(host, key));
        write(&self.queue(), &lines(&waiting))
    }

    /// Makes an authority believed for all hosts that fit the pattern.
    pub fn trust_authority(&self, pattern: &str, key: &PublicKey) -> io::Result<()> {
        self.trust(&format!("@cert-authority {pattern}"), key)
    }

    /// Makes exactly these keys the host's: what it proved to have gone over to.
    pub fn replace(&self, host: &str, keys: &[PublicKey]) -> io::Result<()> {
        let _held = self.hold()?;
        let known = read(&self.known())?;
        let others = known.lines().filter(|line| line.split_ascii_whitespace().next() != Some(host));
        let own = keys.iter().map(|key| format!("{host} {}", text(key)));
        let all: String = others.map(str::to_owned).chain(own).map(|line| line + "\n").collect();
        if all == known { Ok(()) } else { write(&self.known(), &all) }
    }

    fn queue(&self) -> PathBuf {
        self.folder.join("hosts.waiting")
    }

    /// One writer at a time; the lock ends with the file.
    fn hold(&self) -> io::Result<File> {
        DirBuilder::new().recursive(true).mode(0o700).create(&self.folder)?;
        let lock = OpenOptions::new().create(true).append(true).mode(0o600).open(self.folder.join("hosts.lock"))?;
        flock(&lock, FlockOperation::LockExclusive)?;
        Ok(lock)
    }
}

impl Waiting {
    fn parse(line: &str) -> Option<Self> {
        let mut words = line.splitn(4, ' ');
        let (host, kind, key) = (words.next()?, words.next()?, words.next()?);
        let key = PublicKey::from_openssh(&format!("{kind} {key}")).ok()?;
        Some(Self { host: host.to_owned(), key, seen: words.next().unwrap_or_default().to_owned() })
    }

    fn is(&self, host: &str, key: &PublicKey) -> bool {
        self.host == host && self.key.key_data() == key.key_data()
    }
}

fn lines(waiting: &[Waiting]) -> String {
    let line = |one: &Waiting| format!("{} {} {}\n", one.host, text(&one.key), one.seen);
    waiting.iter().map(line).collect()
}

fn ended(text: &str) -> String {
    if text.is_empty() || text.ends_with('\n') { text.to_owned() } else { format!("{text}\n") }
}

fn read(path: &Path) -> io::Result<String> {
    match fs::read(path) {
        Ok(bytes) => Ok(String::from_utf8_lossy(&bytes).into_owned()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(String::new()),
        Err(error) => Err(error),
    }
}

/// The new lines are on the disk before they take the name.
fn write(path: &Path, text: &str) -> io::Result<()> {
    let new = path.with_extension("new");
    let mut file = OpenOptions::new().create(true).truncate(true).write(true).mode(0o600).open(&new)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    fs::rename(&new, path)?;
    path.parent().map_or(Ok(()), |folder| File::open(folder)?.sync_all())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::known_hosts::Verdict;
    use std::os::unix::fs::PermissionsExt as _;

    const ONE: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJdD7y3aLq454yWBdwLWbieU1ebz9/cu7/QEXn9OIeZJ";
    const TWO: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIA6rWI3G1sz07DnfFlrouTcysQlj2P+jpNSOEWD9OJ3X";

    fn key(text: &str) -> PublicKey {
        PublicKey::from_openssh(text).unwrap()
    }

    fn store() -> (tempfile::TempDir, Store) {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::new(folder.path().join("state"));
        (folder, store)
    }

    #[test]
    fn a_waiting_key_is_unknown_until_it_is_trusted() {
        let (_folder, store) = store();
        let at = Timestamp::UNIX_EPOCH;
        assert!(store.ask("[n1]:2222", &key(ONE), at, "10.0.0.1").unwrap());
        assert!(!store.ask("[n1]:2222", &key(ONE), at, "10.0.0.2").unwrap(), "once");
        assert_eq!(store.waiting().unwrap()[0].seen, "1970-01-01T00:00:00Z 10.0.0.1");
        assert_eq!(store.load().unwrap().judge("n1", 2222, &key(ONE)), Verdict::Unknown);
        store.trust("[n1]:2222", &key(ONE)).unwrap();
        assert_eq!(store.load().unwrap().judge("n1", 2222, &key(ONE)), Verdict::Known);
        assert_eq!(store.waiting().unwrap(), []);
    }

    #[test]
    fn trusting_twice_writes_one_line() {
        let (_folder, store) = store();
        store.trust("n1", &key(ONE)).unwrap();
        let first = fs::read_to_string(store.known()).unwrap();
        store.trust("n1", &key(&format!("{ONE} a comment"))).unwrap();
        assert_eq!(fs::read_to_string(store.known()).unwrap(), first);
        assert_eq!(first, format!("n1 {ONE}\n"));
        assert_eq!(fs::metadata(store.known()).unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn a_rotation_touches_one_host() {
        let (_folder, store) = store();
        store.trust("n1", &key(ONE)).unwrap();
        store.trust("n2", &key(ONE)).unwrap();
        store.replace("n1", &[key(TWO)]).unwrap();
        assert_eq!(fs::read_to_string(store.known()).unwrap(), format!("n2 {ONE}\nn1 {TWO}\n"));
    }
}
