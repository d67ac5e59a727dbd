//! onggi and the other programs of the format on one repository, each the real binary.
//!
//! The programs come from `lab/peers/up` and the search path. Without them a test says on stderr that it is skipped; with
//! CI=true it fails.
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
