//! Directors of BOSH as `onggi bbr` backs them up and restores them, over instances that are namespaces with a real SSH
//! server. Each test is one fact.
//!
//! Without root, namespaces, sshd or sudo a test says on stderr that it is skipped; with CI=true it fails.
#![expect(clippy::unwrap_used, reason = "a test's helpers fail like the test")]

mod artifact;
mod contract;
mod deployment;
mod failure;
mod jumpbox;
mod signal;
mod stream;
