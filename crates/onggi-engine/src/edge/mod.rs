//! What touches the world: files of configuration, secrets. Everything else in this crate is given what it needs.

mod files;
mod secret;

pub use files::SystemFiles;
pub use secret::{Keeper, SecretError, fetch};
