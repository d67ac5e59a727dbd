//! How what is stored is shown: to people as lines, to programs with restic's field names.

pub mod node;
pub mod snapshot;
