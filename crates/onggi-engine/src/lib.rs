//! Where sources and repositories meet: configuration, backup, restore. It decides; what touches the world is in
//! `edge`.

pub mod config;
