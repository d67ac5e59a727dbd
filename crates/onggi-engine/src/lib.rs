//! Where sources and repositories meet: configuration, backup, restore. It decides; what touches the world is in
//! `edge`.

pub mod backup;
pub mod blobs;
pub mod budget;
pub mod config;
pub mod copies;
pub mod edge;
pub mod exit;
pub mod import;
#[cfg(feature = "sftp")]
pub mod jcloud;
pub mod missed;
pub mod node;
pub mod open;
pub mod recover;
pub mod report;
pub mod restore;
mod sabotage;
pub mod sources;
pub mod watch;
pub mod window;

pub(crate) use report::chain;
