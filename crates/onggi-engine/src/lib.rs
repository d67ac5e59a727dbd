//! Where sources and repositories meet: configuration, backup, restore. It decides; what touches the world is in
//! `edge`.

pub mod config;
pub mod exit;
pub mod node;
pub mod report;
pub mod restore;
mod sabotage;
pub mod watch;
pub mod window;
