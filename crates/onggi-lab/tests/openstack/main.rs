//! Kind `openstack` over a real OpenStack, with onggi's own program: what is stored are the disks that the cloud has, what
//! is restored runs, and nothing is left behind.
#![expect(clippy::unwrap_used, reason = "a test's helpers fail like the test")]

mod rig;
mod story;
