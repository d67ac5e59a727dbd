//! Kind `database` over real servers, with onggi's own program: what is dumped comes back, what is not whole is not
//! stored, and no password is ever seen.
#![expect(clippy::unwrap_used, reason = "a test's helpers fail like the test")]

mod drill;
mod mariadb;
mod physical;
mod postgres;
mod rig;
mod sqlite;
