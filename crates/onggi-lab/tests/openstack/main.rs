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
//! | 6 | `fault::an_image_whose_upload_ended_with_glance_…` |
//! | 7 | `fault::…an_image_that_is_too_large_…` |
//! | 8 | `token` |
//! | 9 | `cut`, with and without ranges; `s/download` over a store whose answers break off anywhere |
//! | a disk is stored while its image arrives | `cut`; `s/arriving`: who waits, and what is refused in the end |
//! | 10 | `jcloud::a_bandwidth_limit_…`, never faster; how much slower is not asserted |
//! | 11 | `jcloud::a_time_limit_…`, with two servers |
//! | 12 | `fault::…states_…` |
//! | 13 | `fault::…a_full_quota_…`, `volume::a_volume_beside_…` |
//! | 14 | `volume::a_volume_beside_…` |
//! | 15 | `volume::a_server_that_would_be_frozen_twice_…` |
//! | 16 | `story::…a_new_server_runs_…`, `restore` (in place, replaced, image to volume) |
//! | 17 | `restore`, with kernel and ramdisk that the other project sees |
//! | 18 | `fault::who_cannot_enter_…` |
//! | 19 | `jcloud`, into the script's folder, by rsync too, and into a repository; the script itself is not run beside |
//! | 20 | `restore::…restic_reads_…` |
//! | 21 | `onggi-source/tests/image`, `image_memory` |
//! | nothing of others | `guard` |
//! | a project's configuration | `project` |
//! | hosts of a fleet out of the cloud | `inventory` |
#![expect(clippy::unwrap_used, reason = "a test's helpers fail like the test")]

/// `cargo xtask test` leaves these out by this name and runs them beside all others.
mod real_cloud {
    mod cut;
    mod fault;
    mod guard;
    mod inventory;
    mod jcloud;
    mod kill;
    mod project;
    mod restore;
    mod rig;
    mod story;
    mod token;
    mod volume;
}
