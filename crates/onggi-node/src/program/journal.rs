//! Tells the node's own journal what a hub asked for and does not get. Whoever holds the hub's key cannot keep that quiet.

use std::collections::HashSet;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

/// Refusals that one run may put into the journal.
const LINES_MAX: usize = 100;
/// Of security and authorization, a notice, in syslog's numbers.
const PRIORITY: u8 = 4 << 3 | 5;

/// The way to the system's log.
#[derive(Default)]
pub(super) struct Journal {
    socket: Option<UnixDatagram>,
    told: Mutex<Told>,
}

#[derive(Default)]
struct Told {
    run: String,
    refused: HashSet<Vec<u8>>,
}

impl Journal {
    /// To this socket; where nothing listens, nothing is told.
    pub(super) fn open(path: &Path) -> Self {
        let connected = UnixDatagram::unbound().and_then(|socket| {
            socket.connect(path)?;
            socket.set_nonblocking(true)?; // a full log must not stop a backup
            Ok(socket)
        });
        Self { socket: connected.ok(), told: Mutex::default() }
    }

    /// Which run it is, as the hub says.
    pub(super) fn of_run(&self, run: &[u8]) {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        told.run = run.escape_ascii().take(100).map(char::from).collect();
    }

    /// Each refusal once.
    pub(super) fn refused(&self, what: &str, name: &[u8]) {
        let Some(socket) = &self.socket else { return };
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        if told.refused.len() >= LINES_MAX || !told.refused.insert([what.as_bytes(), b" ", name].concat()) {
            return;
        }
        let (run, pid) = (&told.run, std::process::id());
        let line = format!("<{PRIORITY}>onggi-node[{pid}]: run {run}: refused to {what} \"{}\"", name.escape_ascii());
        let _ = socket.send(line.as_bytes()); // the hub is told in any case
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_is_told_once_and_in_one_line() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        let log = UnixDatagram::bind(&path).unwrap();
        let journal = Journal::open(&path);
        journal.of_run(b"run\n1");
        for _ in 0..2 {
            journal.refused("read", b"/root\nx");
        }
        journal.refused("run", b"id");
        let next = || {
            let mut buffer = [0; 500];
            let length = log.recv(&mut buffer).unwrap();
            String::from_utf8_lossy(&buffer[..length]).into_owned()
        };
        assert!(next().ends_with("run run\\n1: refused to read \"/root\\nx\""));
        assert!(next().ends_with("refused to run \"id\""));
        Journal::open(Path::new("/no/such/socket")).refused("read", b"/");
    }
}
