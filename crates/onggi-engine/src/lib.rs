//! Where sources and repositories meet: configuration, backup, restore. It decides; what touches the world is in
//! `edge`.

pub mod backup;
pub mod config;
pub mod exit;
pub mod node;
pub mod recover;
pub mod report;
pub mod restore;
mod sabotage;
pub mod watch;
pub mod window;

pub(crate) use report::chain;
