//! The same fleet as in `hosts`, entered by the client that is built in: each fact about hosts holds whoever connects.
//!
//! Not here is what has nothing to do with who connects: devices, the import of a tree, and our matcher of known hosts beside
//! OpenSSH's, which `hosts` has.
#![expect(clippy::unwrap_used, reason = "a test's helpers fail like the test")]

#[path = "hosts/bed.rs"]
mod bed;
#[path = "hosts/content.rs"]
mod content;
#[path = "hosts/economy.rs"]
mod economy;
#[path = "hosts/hanging.rs"]
mod hanging;
#[path = "hosts/hostile.rs"]
mod hostile;
#[path = "hosts/kill.rs"]
mod kill;
#[path = "hosts/level.rs"]
mod level;
#[path = "hosts/login.rs"]
mod login;
#[path = "hosts/operation.rs"]
mod operation;
#[path = "hosts/restore.rs"]
mod restore;
#[path = "hosts/server.rs"]
mod server;

/// Who connects.
const ENGINE: &str = "builtin";
