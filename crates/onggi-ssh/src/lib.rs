//! SSH connections: which host it is, who we are, what runs there. Shared by storages and sources, which know nothing of
//! each other; everything of `russh` that both need is here, so that a breaking release of it touches one crate.
//!
//! A host is believed only as [`known_hosts`] says; russh's own check of such files accepts revoked keys and is never
//! called. Nothing here asks the environment, reads a clock or waits with a limit: callers hand in the time and bound
//! each call.

mod authenticate;
mod cipher;
pub mod error;
pub mod exec;
mod forward;
mod fresh;
pub mod known_hosts;
pub mod login;
pub mod pipe;
pub mod store;

pub use authenticate::private_key;
pub use error::{HostError, LoginError, SshError};
pub use fresh::fresh_key;
pub use login::{Login, Session, Trust, host_name, login, login_over, shown_key};
pub use pipe::{Event, Opened, Pipe};
pub use russh::keys::{HashAlg, PrivateKey, PublicKey};
