//! The fleet: who a host is, how a hub enters it, and what it takes from there; judged by the real OpenSSH.
#![expect(clippy::unwrap_used, reason = "a test's helpers fail like the test")]

mod device;
mod import;
mod place;
mod trust;
