//! What carries calls to systems; shared by the adapters, which never import each other.

pub(crate) mod built_in;
mod feed;
mod process;
#[cfg(any(test, feature = "testing"))]
mod scripted;
pub(crate) mod ssh;

pub(crate) use feed::{feed, lost};
pub use process::{Exit, Launch, Launcher, Running, SystemLauncher};
pub(crate) use process::{check_exits, output, run_for_text, run_to_end};
#[cfg(any(test, feature = "testing"))]
pub use scripted::{Program, ScriptedLauncher};
pub use ssh::Refusal;
