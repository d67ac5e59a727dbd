//! What can be said of a restore to a host.

use std::path::PathBuf;

use onggi_source::hosts::RestoreOptions;

/// Flags of hosts.
#[derive(Debug, Default, clap::Args)]
#[group(id = "hosts-flags")]
#[command(next_help_heading = "With --to source, of a host")]
pub struct Flags {
    /// Who logs in there, with the operator's own key; by sudo, if that is not root [default: root].
    #[arg(long, value_name = "USER", requires = "to")]
    pub login: Option<String>,
}

impl Flags {
    /// As the adapter takes them; `target` is a directory of the host.
    pub fn options(&self, target: Option<PathBuf>, in_place: bool, path: &[u8]) -> RestoreOptions {
        RestoreOptions {
            target: target.map(|target| target.to_string_lossy().into_owned()),
            login: self.login.clone(),
            in_place,
            path: String::from_utf8_lossy(path).into_owned(),
        }
    }
}
