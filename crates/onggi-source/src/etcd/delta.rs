//! What happens between two fulls: every change of every revision, as a watch delivers it.
//!
//! [`capture`] follows a cluster, [`segment`] is the file that a delta is stored as, `replay` reads those of a chain in
//! order.

pub mod capture;
pub(super) mod replay;
pub mod segment;
#[cfg(test)]
mod tests;
