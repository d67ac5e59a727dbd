//! BOSH: its Directors, and what they deploy.

pub mod director;
