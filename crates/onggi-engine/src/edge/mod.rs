//! What touches the world: files of configuration, secrets, leases. Everything else in this crate is given what it needs.

mod files;
mod lease;
mod secret;

pub use files::SystemFiles;
pub use lease::{Lease, Leases};
pub use secret::{Keeper, SecretError, fetch};
