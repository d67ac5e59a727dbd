//! A failed command as the operator sees it: the act, its causes, what to type; and which exit code that is.
//!
//! The only place where errors of the libraries become exit codes.

use std::error::Error;
use std::fmt::Display;
use std::io;

use onggi_repo::{BadQuery, RepoError};
use onggi_storage::StorageError;
use serde_json::json;

use crate::escape::escape_prose;
use crate::output::{Color, Output};
use onggi_engine::config::{Fault, Reach};
use onggi_engine::exit::Exit;
use onggi_engine::open::OpenError;

/// Why a command failed.
#[derive(Debug, Clone)]
pub struct Failure {
    exit: Exit,
    act: String,
    causes: Vec<String>,
    hints: Vec<String>,
}

impl Failure {
    /// A failure of this act; the act is in the present tense: `open repository /srv/backup`.
    pub fn new(exit: Exit, act: impl Into<String>) -> Self {
        Self { exit, act: act.into(), causes: Vec::new(), hints: Vec::new() }
    }

    /// The command line or the configuration is wrong.
    pub fn usage(act: impl Into<String>) -> Self {
        Self::new(Exit::Usage, act)
    }

    /// A file of this machine failed.
    pub fn local(act: impl Into<String>, error: &io::Error) -> Self {
        Self::new(exit_of_io(error), act).because(error)
    }

    /// An operation on a repository failed.
    pub fn repository(act: impl Into<String>, error: &RepoError) -> Self {
        let mut failure = Self::new(Exit::from(error), act).chain(error);
        if let Some(hint) = hint_of_repo(error) {
            failure = failure.hint(hint);
        }
        failure
    }

    /// A repository of the configuration cannot be reached.
    pub fn opening(act: impl Into<String>, error: &OpenError) -> Self {
        Self::new(error.exit(), act).chain(error)
    }

    /// The configuration is wrong: every fault, with its place.
    pub fn configuration(path: &std::path::Path, faults: &[Fault]) -> Self {
        let failure = Self::usage(format!("read the configuration {}", path.display()));
        faults.iter().filter(|fault| fault.reach == Reach::File).fold(failure, Self::because)
    }

    /// A text stands for no snapshot.
    pub fn no_snapshot(error: &BadQuery) -> Self {
        Self::usage("choose the snapshot").because(error)
    }

    /// No one snapshot is meant.
    pub fn not_one(error: &RepoError) -> Self {
        let exit = if matches!(error, RepoError::Missing(_)) { Exit::Failed } else { Exit::from(error) };
        Self::new(exit, "choose the snapshot").because(error).hint("`onggi snapshots` lists what is there")
    }

    /// Adds a cause of the last one.
    #[must_use]
    pub fn because(mut self, cause: impl Display) -> Self {
        let cause = cause.to_string();
        if self.causes.last() != Some(&cause) {
            self.causes.push(cause);
        }
        self
    }

    /// Adds an error and its sources as causes.
    #[must_use]
    pub fn chain(self, error: &dyn Error) -> Self {
        let mut failure = self.because(error);
        let mut next = error.source();
        while let Some(cause) = next {
            failure = failure.because(cause);
            next = cause.source();
        }
        failure
    }

    /// Says what to type.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hints.push(hint.into());
        self
    }

    /// The exit code that it means.
    pub fn exit(&self) -> Exit {
        self.exit
    }

    /// Tells the operator.
    pub fn report(&self, output: &Output) {
        if output.is_json() {
            output.json_talk(json!({
                "message_type": "exit_error",
                "code": self.exit.code(),
                "class": self.exit.kind(),
                "message": self.message(),
                "hint": self.hints.join("; "),
                "exit": { "code": self.exit.code(), "kind": self.exit.kind() },
            }));
            return;
        }
        output.say(format_args!("{} {}", output.paint(Color::Red, "error:"), escape_prose(&self.act)));
        for cause in &self.causes {
            output.say(format_args!("  because: {}", escape_prose(cause)));
        }
        for hint in &self.hints {
            output.say(format_args!("{} {}", output.paint(Color::Bold, "hint:"), escape_prose(hint)));
        }
    }

    /// Act and causes on one line.
    pub fn message(&self) -> String {
        let mut message = self.act.clone();
        for cause in &self.causes {
            message.push_str(": ");
            message.push_str(cause);
        }
        message
    }
}

fn exit_of_io(error: &io::Error) -> Exit {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Exit::Full,
        io::ErrorKind::PermissionDenied => Exit::Denied,
        _ => Exit::Failed,
    }
}

/// The exact remedy, where there is one.
fn hint_of_repo(error: &RepoError) -> Option<&'static str> {
    Some(match error {
        RepoError::NoRepository(_) | RepoError::Storage(_, StorageError::NoPlace(_)) => {
            "check -r; `onggi init` makes a new repository there"
        }
        RepoError::Locked(_) => {
            "wait with --lock-wait 10m; a lock of a dead process goes with `onggi repository unlock`"
        }
        RepoError::WrongPassword => "check --password-file, or type the twelve words of the recovery sheet joined by -",
        RepoError::Damaged { .. } => {
            "`onggi repository verify` names all damage; `onggi repository repair --help` mends"
        }
        RepoError::Newer { .. } => "use the onggi that wrote it, or a newer one",
        RepoError::Missing(_) => "`onggi snapshots` lists what is there",
        RepoError::Ambiguous(_) => "give more digits of the id",
        RepoError::AlreadyExists(_) => "use it as it is, or choose another place",
        RepoError::Unverified(_) => "repeat the backup; `onggi repository verify` names what is wrong",
        RepoError::Refused { guard: "version", .. } => "`onggi repository upgrade` gives it the present version",
        RepoError::LockLost(_) => "repeat the command; what was stored is used again",
        RepoError::Storage(_, StorageError::Full(_)) => {
            "free space there, or `onggi repository prune`; then repeat the command"
        }
        RepoError::Storage(_, StorageError::Denied(_)) => "check credentials and permissions of the storage",
        RepoError::Storage(_, StorageError::Identity(_)) => {
            "check the certificate or host key of the storage before anything else"
        }
        RepoError::Storage(_, StorageError::Unreachable(_) | StorageError::Busy(..)) => {
            "check the network, then repeat the command"
        }
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use onggi_storage::Handle;

    use super::*;

    #[track_caller]
    fn check(error: &RepoError, expected: Exit) {
        assert_eq!(Failure::repository("open", error).exit(), expected, "{error}");
    }

    #[test]
    fn each_error_has_the_code_of_the_table() {
        check(&RepoError::NoRepository("/x".into()), Exit::NoRepository);
        check(&RepoError::Locked(Vec::new()), Exit::Locked);
        check(&RepoError::WrongPassword, Exit::WrongKey);
        check(&RepoError::Refused { guard: "retention", reason: "x".into() }, Exit::Refused);
        let storage = |error| RepoError::Storage("read config".into(), error);
        check(&storage(StorageError::Full("x".into())), Exit::Full);
        check(&storage(StorageError::Denied("x".into())), Exit::Denied);
        check(&storage(StorageError::Identity("x".into())), Exit::Denied);
        check(&storage(StorageError::Unreachable("x".into())), Exit::Unreachable);
        check(&storage(StorageError::NotFound(Handle::Config)), Exit::Damaged);
    }

    #[test]
    fn a_message_is_one_sentence_and_says_nothing_twice() {
        let error = RepoError::Storage("read config".into(), StorageError::Full("disk".into()));
        let failure = Failure::repository("open repository /r", &error).because("disk");
        assert_eq!(failure.message(), "open repository /r: read config: storage is full: disk");
    }
}
