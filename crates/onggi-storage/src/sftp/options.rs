//! Which machine, which folder, and how to enter it.

use crate::{Clock, Result, StorageError};
use onggi_ssh::{Login, Trust};
use secrecy::SecretString;
use std::{path::PathBuf, sync::Arc};

/// The address of a folder on another machine and what is needed to enter it.
///
/// Neither the environment nor `~/.ssh` is asked: what they say is for the engine to find and to put here.
#[derive(Debug, Clone)]
pub struct SftpOptions {
    /// The machine's name or address.
    pub host: String,
    /// Usually 22.
    pub port: u16,
    /// Who logs in there.
    pub user: String,
    /// The repository's folder; relative to the user's home if it does not start with a slash.
    pub path: String,
    /// Private keys, tried in this order. Others may not be able to read them.
    pub identity_files: Vec<PathBuf>,
    /// What opens those of them that are encrypted.
    pub identity_passphrase: Option<SecretString>,
    /// The socket of an agent whose keys are tried after the files.
    pub agent: Option<PathBuf>,
    /// Tried last.
    pub password: Option<SecretString>,
    /// Files that say which keys a host may show; those that do not exist are left out.
    pub known_hosts: Vec<PathBuf>,
    /// The one key to accept, as `SHA256:…` or as a line `ssh-ed25519 AAAA…`; then no file is asked.
    pub host_key: Option<String>,
    /// Measures how long to wait for a connection; gives the random ends of temporary names.
    pub clock: Arc<dyn Clock>,
}

impl SftpOptions {
    /// The storage's name for people.
    pub(super) fn location(&self) -> Result<String> {
        let bad = |what: &str| Err(StorageError::Address(what.into()));
        let is_name = |text: &str| {
            !text.is_empty() && !text.contains(|sign: char| sign.is_whitespace() || sign.is_control() || sign == '/')
        };
        if !is_name(&self.host) || self.host.starts_with('-') {
            return bad(&format!("not a host: {:?}", self.host));
        }
        if !is_name(&self.user) {
            return bad(&format!("not a user: {:?}", self.user));
        }
        if self.path.contains('\0') {
            return bad("the path has a zero byte");
        }
        let port = if self.port == 22 { String::new() } else { format!(":{}", self.port) };
        Ok(format!("sftp:{}@{}{port}:{}", self.user, self.host, self.path))
    }

    /// How to connect and enter.
    pub(super) fn login(&self) -> Login {
        let trust = self.host_key.clone().map_or_else(|| Trust::Files(self.known_hosts.clone()), Trust::Pinned);
        Login {
            identity_files: self.identity_files.clone(),
            identity_passphrase: self.identity_passphrase.clone(),
            agent: self.agent.clone(),
            password: self.password.clone(),
            ..Login::new(&self.host, self.port, &self.user, trust, self.clock.now())
        }
    }

    /// The path of the repository's folder as requests name it, without a slash at its end.
    pub(super) fn root(&self) -> String {
        match self.path.trim_end_matches('/') {
            "" if self.path.is_empty() => ".".into(),
            root => root.into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::SystemClock;

    #[test]
    fn the_location_names_who_where_and_what() {
        check("host", "me", "/srv/onggi", "sftp:me@host:2222:/srv/onggi");
        check("host", "me", "", "sftp:me@host:2222:");
    }

    #[test]
    fn what_is_no_address_is_refused() {
        for host in ["", "a b", "-oProxyCommand=x", "a/b"] {
            check(host, "me", "", "storage address is not valid: not a host");
        }
        check("host", "", "", "storage address is not valid: not a user");
        check("host", "me", "a\0", "storage address is not valid: the path has a zero byte");
    }

    #[test]
    fn the_root_of_the_file_system_and_the_home_are_folders_too() {
        for (path, root) in [("/", ""), ("", "."), ("a/b/", "a/b"), ("/a", "/a")] {
            assert_eq!(options("host", "me", path).root(), root, "{path}");
        }
    }

    #[track_caller]
    fn check(host: &str, user: &str, path: &str, expected: &str) {
        let seen = options(host, user, path).location().unwrap_or_else(|error| error.to_string());
        assert!(seen.starts_with(expected), "{seen}");
    }

    fn options(host: &str, user: &str, path: &str) -> SftpOptions {
        SftpOptions {
            host: host.into(),
            port: 2222,
            user: user.into(),
            path: path.into(),
            identity_files: Vec::new(),
            identity_passphrase: None,
            agent: None,
            password: None,
            known_hosts: Vec::new(),
            host_key: None,
            clock: Arc::new(SystemClock),
        }
    }
}
