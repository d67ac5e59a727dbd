//! What touches the world: files of configuration, secrets, leases, rsync. Everything else in this crate is given what it needs.

mod files;
mod lease;
mod rsync;
mod secret;

pub use files::SystemFiles;
pub use lease::{Lease, Leases};
pub use rsync::{Rsync, RsyncError};
pub use secret::{Keeper, SecretError, fetch};
