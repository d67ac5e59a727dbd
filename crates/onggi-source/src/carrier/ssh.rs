//! Commands on hosts over SSH, and the system's own `ssh` as their carrier: how it is called, what it may trust, and what its
//! words mean.
//!
//! A command travels as one text that the host's login shell reads, so every argument is quoted for a POSIX shell here.

use std::ffi::OsString;
use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use async_trait::async_trait;
use std::sync::Arc;

use super::built_in::BuiltIn;
use super::process::{Launch, Launcher, Running};
use crate::source::{Result, SourceError};

/// How a host is called and what proves that it is the right one.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Call {
    pub(crate) address: String,
    pub(crate) port: Option<u16>,
    pub(crate) user: Option<String>,
    pub(crate) key: Option<PathBuf>,
    pub(crate) certificate: Option<PathBuf>,
    pub(crate) jump: Option<String>,
    /// Instead of the user's own configuration.
    pub(crate) config: Option<PathBuf>,
    /// Files of known keys; the first takes what a known host announces, if `follows` is set.
    pub(crate) known: Vec<PathBuf>,
    /// The same for the host to go through, beside those that the user knows.
    pub(crate) known_of_jump: Vec<PathBuf>,
    /// The names under which an approved key of it stands.
    pub(crate) names: String,
    /// The name under which its key is known; else its address.
    pub(crate) alias: Option<String>,
    /// Keys that a host proves to have beside a known one are known from then on.
    pub(crate) follows: bool,
    /// The system's file of known keys counts, too.
    pub(crate) system: bool,
    pub(crate) seconds: u64,
}

/// Quotes an argument for a POSIX shell.
pub(crate) fn quote(argument: &str) -> String {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_./=:@%+,".contains(&byte);
    if !argument.is_empty() && argument.bytes().all(is_plain) {
        return argument.to_owned();
    }
    format!("'{}'", argument.replace('\'', "'\\''"))
}

/// An argument list as one text.
pub(crate) fn shell_text<'a>(arguments: impl IntoIterator<Item = &'a str>) -> String {
    arguments.into_iter().map(quote).collect::<Vec<_>>().join(" ")
}

impl Call {
    /// Program and arguments that run `command` on the host.
    pub(crate) fn arguments(&self, command: &str) -> Vec<OsString> {
        let mut words = self.options();
        if let Some(jump) = &self.jump {
            words.extend(["-o".to_owned(), format!("ProxyCommand={}", self.through(jump))]);
        }
        if let Some(alias) = &self.alias {
            words.extend(["-o".to_owned(), format!("HostKeyAlias={alias}")]);
        }
        if let Some(port) = self.port {
            words.extend(["-p".to_owned(), port.to_string()]);
        }
        words.extend(["--".to_owned(), self.address.clone(), command.to_owned()]);
        words.into_iter().map(OsString::from).collect()
    }

    fn options(&self) -> Vec<String> {
        let mut words = vec!["ssh".to_owned(), "-T".to_owned()];
        let known: Vec<_> = self.known.iter().map(|file| format!("\"{}\"", file.display())).collect();
        let mut set = |option: &str, value: &str| words.extend(["-o".to_owned(), format!("{option}={value}")]);
        set("BatchMode", "yes");
        set("ConnectTimeout", &self.seconds.to_string());
        set("ServerAliveInterval", "15");
        set("ServerAliveCountMax", "3");
        set("ClearAllForwardings", "yes");
        set("ForwardAgent", "no");
        set("ControlMaster", "no");
        set("ControlPath", "none");
        set("StrictHostKeyChecking", "yes");
        set("UserKnownHostsFile", &known.join(" "));
        set("UpdateHostKeys", if self.follows { "yes" } else { "no" });
        set("Ciphers", "^aes256-gcm@openssh.com,aes128-gcm@openssh.com");
        if !self.system {
            set("GlobalKnownHostsFile", "none");
        }
        if let Some(key) = &self.key {
            set("IdentitiesOnly", "yes");
            set("IdentityFile", &format!("\"{}\"", key.display()));
        }
        if let Some(certificate) = &self.certificate {
            set("CertificateFile", &format!("\"{}\"", certificate.display()));
        }
        if let Some(user) = &self.user {
            set("User", user);
        }
        if let Some(config) = &self.config {
            words.extend(["-F".to_owned(), config.display().to_string()]);
        }
        words
    }

    /// The host to go through is held to the same rules, and may also be one that the user knows.
    fn through(&self, jump: &str) -> String {
        let call = self.of_jump(jump, Some("~/.ssh/known_hosts".into()));
        let mut words = call.options();
        if let Some(port) = call.port {
            words.extend(["-p".to_owned(), format!("{port}")]);
        }
        words.extend(["-W", "[%h]:%p", "--", &call.address].map(ToOwned::to_owned));
        shell_text(words.iter().map(String::as_str))
    }

    /// How that host is called. `own` is the user's own file of known keys.
    pub(super) fn of_jump(&self, jump: &str, own: Option<PathBuf>) -> Self {
        let known = self.known_of_jump.iter().cloned().chain(own).collect();
        let (host, port) = match jump.rsplit_once(':') {
            Some((host, port)) if !host.contains(':') => (host, port.parse::<u16>().ok()),
            _ => (jump, None),
        };
        let (user, host) =
            host.split_once('@').map_or((self.user.clone(), host), |(user, host)| (Some(user.to_owned()), host));
        let address = host.to_owned();
        Self { address, port, known, jump: None, alias: None, follows: false, system: true, user, ..self.clone() }
    }
}

/// Starts commands on a host instead of here.
pub(crate) struct SshLauncher {
    pub(crate) call: Call,
    pub(crate) client: Client,
}

/// Who connects.
#[derive(Clone)]
pub(crate) enum Client {
    /// The system's `ssh`, which this starts.
    System(Arc<dyn Launcher>),
    /// Our own.
    BuiltIn(BuiltIn),
}

#[async_trait]
impl Launcher for SshLauncher {
    async fn start(&self, launch: &Launch) -> Result<Box<dyn Running>> {
        let text = |words: &Vec<OsString>| {
            let words: Option<Vec<&str>> = words.iter().map(|word| word.to_str()).collect();
            words.map(shell_text).ok_or(SourceError::Unsupported("a command that is no text"))
        };
        let stages = launch.stages.iter().map(text).collect::<Result<Vec<_>>>()?;
        let variables: Vec<String> = launch.environment.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let mut command = stages.join(" | ");
        if !variables.is_empty() {
            command = format!("env {} {command}", shell_text(variables.iter().map(String::as_str)));
        }
        let launcher = match &self.client {
            Client::System(launcher) => launcher,
            Client::BuiltIn(client) => return client.start(&self.call, &command, launch).await,
        };
        let there = Launch { stages: vec![self.call.arguments(&command)], ..Launch::new([Vec::<String>::new()]) };
        let there = Launch { takes_input: launch.takes_input, drops_output: launch.drops_output, ..there };
        launcher.start(&there).await
    }
}

/// What is in the way of a command on a host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// The host's key is not known.
    UnknownKey,
    /// It shows another key than the known one.
    ChangedKey,
    /// It shows a key that is revoked.
    RevokedKey,
    /// It does not let the user in.
    Login,
    /// It does not let the user become more.
    Become,
    /// Nobody answers.
    Unreachable,
}

/// Reads the words on standard error.
pub(crate) fn refusal(words: &str) -> Refusal {
    const SIGNS: &[(&str, Refusal)] = &[
        ("REVOKED HOST KEY", Refusal::RevokedKey),
        ("marked as revoked", Refusal::RevokedKey),
        ("IDENTIFICATION HAS CHANGED", Refusal::ChangedKey),
        ("host key is known for", Refusal::UnknownKey),
        ("Host key verification failed", Refusal::UnknownKey),
        ("Certificate invalid", Refusal::UnknownKey),
        ("Permission denied (", Refusal::Login),
        ("Too many authentication failures", Refusal::Login),
        ("sudo:", Refusal::Become),
    ];
    SIGNS.iter().find(|(sign, _)| words.contains(sign)).map_or(Refusal::Unreachable, |(_, refusal)| *refusal)
}

/// Writes a file of known keys, one line each, so that a reader sees all of it or the one before.
pub(crate) fn write_known(file: &Path, lines: &[String]) -> io::Result<()> {
    let text = lines.iter().fold(String::new(), |mut text, line| {
        let _ = writeln!(text, "{line}"); // a string takes everything
        text
    });
    if std::fs::read_to_string(file).is_ok_and(|now| now == text) {
        return Ok(());
    }
    let folder = file.parent().unwrap_or(Path::new("/"));
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    let draft = file.with_extension(format!("draft-{}", std::process::id()));
    let mut made = std::fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&draft)?;
    made.write_all(text.as_bytes())?;
    made.sync_all()?;
    std::fs::rename(&draft, file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_argument_is_more_than_one_word_to_a_shell() {
        for (argument, expected) in [("a-b/c", "a-b/c"), ("", "''"), ("a b", "'a b'"), ("it's $(x)", "'it'\\''s $(x)'")]
        {
            assert_eq!(quote(argument), expected);
        }
        assert_eq!(shell_text(["sh", "-c", "exit 0; x"]), "sh -c 'exit 0; x'");
    }

    #[test]
    fn words_of_ssh_are_understood() {
        for (words, expected) in [
            (
                "No ED25519 host key is known for x and you have requested strict checking. | Host key verification failed.",
                Refusal::UnknownKey,
            ),
            (
                "@ WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED! @ | Host key verification failed.",
                Refusal::ChangedKey,
            ),
            ("@ WARNING: REVOKED HOST KEY DETECTED! @", Refusal::RevokedKey),
            ("me@x: Permission denied (publickey).", Refusal::Login),
            ("sudo: a password is required", Refusal::Become),
            ("ssh: connect to host x port 22: Connection refused", Refusal::Unreachable),
            ("something new", Refusal::Unreachable),
        ] {
            assert_eq!(refusal(words), expected, "{words}");
        }
    }
}
