//! onggi's program beside real clusters of etcd, with etcdctl and etcdutl as judges.
//!
//! What the contract asks for, and what shows it; `u/` is the unit tests of `onggi-source/src/etcd`, `f/` its
//! `tests/etcd_file.rs`:
//!
//! | contract | shown by |
//! |---|---|
//! | snapshots over mTLS of 1 and 3 members, taken by `etcdutl` unchanged | `capture::a_snapshot_is_the_stream_…` |
//! | the revision is the file's own, while others write | `capture::the_revision_is_that_of_the_file_…` |
//! | truncation, flips in each layer, a missing trailer; memory | `f/a_cut_file_…`, `f/a_changed_byte_…`, `u/tests::a_stream_that_is_not_whole_…`, `tests/etcd_memory.rs`, fuzz target `bolt` |
//! | HashKV offline equals the members' | `f/the_hashes_are_those_…`, `capture::a_snapshot_is_the_stream_…`, `drill` |
//! | own restore of 1 and 3 members, 3.4 and 3.5, restart | `restore::a_lost_cluster_comes_back_…` |
//! | a learner that is added and promoted | `restore::a_member_that_is_added_later_…` |
//! | files equal to those of `etcdutl` | `restore::what_is_written_is_what_etcdutl_would_write`, `u/restore` |
//! | deltas, onggi killed, any revision | `delta::what_is_replayed_…`, `delta::a_cluster_is_restored_to_any_revision_…` |
//! | a compaction under the watcher | `delta::a_compaction_under_the_watcher_…` |
//! | NOSPACE restores writable; an old watcher is told | `restore::a_full_cluster_…`, `restore::a_watcher_that_was_ahead_…` |
//! | a slow repository, the size of the source's database | `capture::a_slow_repository_…` |
//! | 1 % hot writes and a compaction add little | `capture::few_hot_writes_…` |
//! | two of three members down | `capture::two_of_three_members_down_…` |
//! | distinct errors for role, authority, dead endpoint | `capture::whoever_is_not_let_in_…` |
//! | the CronJob | `cronjob`, `u/cronjob`, `onggi/tests/cli` |
//! | certificates and keys | `pki`, `u/pki` |
//! | retention never breaks a chain | `retention_never_breaks_a_chain` of `onggi-repo` |
//! | databases: round trips, killed tools, what a second run adds, passwords, slow repositories | `tests/database` |
//! | speed beside etcdctl and etcdutl | `cargo xtask bench --etcd`, docs/measurements.md |
#![expect(clippy::unwrap_used, reason = "a test's helpers fail like the test")]

mod capture;
mod cronjob;
mod database;
mod delta;
mod drill;
mod pki;
mod place;
mod restore;
