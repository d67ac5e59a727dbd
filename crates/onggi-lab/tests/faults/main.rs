//! The real program under real signals and real power cuts. What it acknowledged must be there, and the same command,
//! given again, must end well. A sample runs with all tests; `cargo xtask reliability` runs as many as it is told.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "totals are data, what is skipped is talk")]

mod kill;
mod power_cut;
mod rig;
