//! Kind `openstack` over a real OpenStack, with onggi's own program: what is stored are the disks that the cloud has, what
//! is restored runs, and nothing is left behind.
//!
//! What the contract's acceptance asks for, and what shows it; `s/` are the unit tests of `onggi-source/src/openstack`:
//!
//! | nr | shown by |
//! |---|---|
//! | 1, 2, 3 | `story::servers_are_stored_…`: disks of image-backed servers against QEMU, marks, journal, second backup |
//! | 4 | `story::…a_killed_run_…` (image), `kill` (volume, its image); the other moments by `s/tests` at each call of a cloud in memory |
//! | 5 | `fault::…a_compute_service_that_stands_still_…` |
//! | 6 | not shown: Glance killed in an upload is a matter of a moment that no test meets for certain |
//! | 7 | `fault::…an_image_that_is_too_large_…` |
//! | 8 | not shown |
//! | 9 | `s/download` over a store whose answers break off, with and without ranges |
//! | 10 | not shown |
//! | 11 | `jcloud::a_time_limit_…`, with two servers |
//! | 12 | `fault::…states_…`: locked, paused, suspended, in error; stopped, shelved and rescued are not shown |
//! | 13 | `fault::…a_full_quota_…`; a second volume is not shown |
//! | 14 | `s/tests`: a server with a volume beside its root, in memory |
//! | 15 | not shown |
//! | 16 | `story::…a_new_server_runs_…`, `restore` (in place, image to volume); `replace` is not shown |
//! | 17 | `restore`, with kernel and ramdisk that the other project sees |
//! | 18 | `fault::who_cannot_enter_…` |
//! | 19 | `jcloud`, into the script's folder and into a repository; the script itself is not run beside |
//! | 20 | `restore::…restic_reads_…` |
//! | 21 | `onggi-source/tests/image`, `image_memory` |
//! | nothing of others | `guard` |
//! | a project's configuration | `project` |
//! | hosts of a fleet out of the cloud | `inventory` |
#![expect(clippy::unwrap_used, reason = "a test's helpers fail like the test")]

/// `cargo xtask test` leaves these out by this name and runs them beside all others.
mod real_cloud {
    mod fault;
    mod guard;
    mod inventory;
    mod jcloud;
    mod kill;
    mod project;
    mod restore;
    mod rig;
    mod story;
}
