//! onggi and the other programs of the format on one repository, each the real binary.
//!
//! The programs come from `lab/peers/up` and the search path. Without them a test says on stderr that it is skipped; with
//! CI=true it fails.
//!
//! What the contract asks for, and what shows it; `r/` is `onggi-repo/tests`, `f/` the unit tests of its `format/`:
//!
//! | contract | shown by |
//! |---|---|
//! | `snapshots`, `ls`, `find`, `stats`, `diff` of restic | `write::restic_lists_…`, `write::restic_tells_two_snapshots_…` |
//! | `check --read-data` after each command; after kills; three backups at once | `write::restic_finds_no_fault_…`, `kill` |
//! | `restore` with all metadata, holes | `write::restic_restores_everything_…`, `write::current_restic_restores_holes_…` |
//! | `dump` of an image and as tar, `mount` | `write::restic_dumps_…`, `write::a_mount_of_restic_…` |
//! | parents both ways, nothing added | `write::restic_takes_a_snapshot_…`, `read::onggi_takes_a_snapshot_…`, `exact::the_second_program_…` |
//! | forget, prune, tag, rewrite, repair, keys, unlock, cat, migrate | `maintenance`, `lock::a_lock_that_stays_…` |
//! | `copy` both ways | `copy` |
//! | rustic: reads, writes, marks packs, sizes of its own | `rustic` |
//! | restic 0.11, 0.14, 0.18, current; version 1, upgraded | `read`, `maintenance::what_an_upgrade_left_…`; 0.9 and 0.16 are in no archive that a fresh machine asks |
//! | several keys, sizes of packs, no compression, foreign files | `read` |
//! | hot and cold parts of rustic | not shown: onggi reads one storage; the hot part alone is a repository of trees |
//! | vectors of chunks and of the cipher, trees byte by byte | `f/chunker`, `f/seal`, `f/blob::hello_takes_46_bytes`, `exact::trees_are_those_…` |
//! | locks both ways | `lock`, `r/lock` |
//! | marked packs against a writer that stopped; clocks an hour off | `r/prune`, `r/lock`: by a clock that tests move, not by stopping restic |
//! | power cuts at each call, damage in every kind of file | `r/crash`, `r/damage`, `tests/faults` |
//! | many files, long files, memory | `tests/memory.rs`, `r/model_archive`, `onggi-engine/tests/extents.rs`; 100 M blobs are not tried |
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]
#![expect(clippy::print_stderr, reason = "a test says what it leaves out")]

mod copy;
mod exact;
mod kill;
mod lock;
mod maintenance;
mod peer;
mod place;
mod read;
mod rustic;
mod write;
