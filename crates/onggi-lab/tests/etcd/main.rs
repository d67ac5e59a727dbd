//! onggi's program beside real clusters of etcd, with etcdctl and etcdutl as judges.
#![expect(clippy::unwrap_used, reason = "a test's helpers fail like the test")]

mod capture;
mod cronjob;
mod database;
mod delta;
mod drill;
mod pki;
mod place;
mod proxy;
mod restore;
