//! Kind `openstack` over a real OpenStack, with onggi's own program: what is stored are the disks that the cloud has, what
//! is restored runs, and nothing is left behind.
//!
//! What the contract's acceptance asks for, and what shows it; `s/` are the unit tests of `onggi-source/src/openstack`:
//!
//! | nr | shown by |
//! |---|---|
//! | 1, 2, 3 | `story::servers_are_stored_…`: disks of image-backed servers against QEMU, marks, journal, second backup |
//! | 4 | `story::…a_killed_run_…` (its image); the other moments by `s/tests` at each call of a cloud in memory |
//! | 5 to 8, 10 to 13, 15, 17, 18, 20 | not shown |
//! | 9 | `s/download` over a store whose answers break off, with and without ranges |
//! | 14 | `s/tests`: a server with a volume beside its root, in memory |
//! | 16 | `story::…a_new_server_runs_…`; in place, `replace` and other roots are not shown |
//! | 19 | not shown; names, list and settings by `s/jcloud` and the unit tests of `onggi-engine/src/jcloud` |
//! | 21 | `onggi-source/tests/image`, `image_memory` |
//! | nothing of others | `s/tests`: the suite of all sources with a foreign image, `s/jcloud` |
#![expect(clippy::unwrap_used, reason = "a test's helpers fail like the test")]

mod rig;
mod story;
