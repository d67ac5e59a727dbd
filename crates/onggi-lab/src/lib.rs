//! The test lab: what spans crates or needs real programs and services. Never shipped; nothing that is depends on it.

pub mod bench;
pub mod bosh;
pub mod compare;
pub mod corpus;
pub mod describe;
pub mod director;
pub mod fleet;
pub mod fuzz;
pub mod measure;
pub mod openstack;
pub mod peer;
pub mod program;
pub mod relay;
pub mod service;
