//! The real program under real signals and real power cuts. What it acknowledged must be there, and the same command,
//! given again, must end well. A sample runs with all tests; `cargo xtask reliability` runs as many as it is told.

mod kill;
mod power_cut;
mod rig;
