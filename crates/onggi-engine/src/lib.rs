//! Where sources and repositories meet: configuration, backup, restore. It decides; what touches the world is in
//! `edge`.

pub mod config;
pub mod exit;
pub mod report;
mod sabotage;
pub mod watch;
pub mod window;
