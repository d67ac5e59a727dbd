//! The fleet: who a host is, how a hub enters it, what is read there and what travels; judged by the real OpenSSH, rsync and
//! restic. Each test is one fact.
//!
//! Without sshd or the rights of root a test says on stderr that it is skipped; with CI=true it fails.
#![expect(clippy::unwrap_used, reason = "a test's helpers fail like the test")]

mod bed;
mod content;
mod device;
mod economy;
mod hanging;
mod import;
mod kill;
mod level;
mod login;
mod operation;
mod place;
mod restore;
mod server;
mod trust;

/// Who connects.
const ENGINE: &str = "openssh";
