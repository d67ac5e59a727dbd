//! What can go wrong, and what each fault means for the exit code and for what the operator must do next.

use std::error::Error;
use std::fmt;

use super::script::Script;
use super::{Artifact, STORE};
use crate::chain::chain;
use crate::context::Stop;

/// Anything that explains itself.
pub type Cause = Box<dyn Error + Send + Sync>;

/// One thing that failed. Its text says its own line only.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    /// An instance cannot be asked.
    #[error("cannot work on instance {instance}")]
    Instance {
        /// Which.
        instance: String,
        /// Why.
        #[source]
        cause: Cause,
    },
    /// The list of instances, or a login there, cannot be had.
    #[error("cannot find {name}")]
    Finding {
        /// The platform.
        name: String,
        /// Why.
        #[source]
        cause: Cause,
    },
    /// What a job says of itself cannot be understood.
    #[error("Error parsing metadata of job {job} on {instance}: {because}")]
    Metadata {
        /// Which.
        job: String,
        /// Where.
        instance: String,
        /// What is wrong.
        because: String,
    },
    /// A script ended with an error.
    #[error("Error attempting to run {script} script for job {job} on {instance}. Error: {how}")]
    Script {
        /// Which.
        script: Script,
        /// Of which job.
        job: String,
        /// Where.
        instance: String,
        /// What it said, and its exit code.
        how: String,
    },
    /// No job has the script that all is about.
    #[error("Deployment '{platform}' has no {script} scripts")]
    NoScripts {
        /// Its name.
        platform: String,
        /// Backup or restore.
        script: Script,
    },
    /// Another run is under way, or died.
    #[error("Directory {STORE} already exists on instance {0}")]
    Leftover(String),
    /// Jobs want to be locked before each other.
    #[error("job locking dependency graph is cyclic")]
    Cyclic,
    /// A job is of a time when metadata renamed artifacts.
    #[error("job {job} on {instance} has the discontinued metadata key restore_name")]
    RestoreName {
        /// Which.
        job: String,
        /// Where.
        instance: String,
    },
    /// The artifact directory cannot be made or written.
    #[error("artifact directory {path} cannot be written")]
    Directory {
        /// Which.
        path: String,
        /// Why.
        #[source]
        cause: std::io::Error,
    },
    /// What is to be restored cannot be read.
    #[error("Could not validate backup {path}")]
    Unreadable {
        /// Directory or archive.
        path: String,
        /// Why.
        #[source]
        cause: std::io::Error,
    },
    /// What is to be restored is not what was stored.
    #[error("Backup is corrupted: checksums of {file} don't match for {names}")]
    Corrupted {
        /// The archive.
        file: String,
        /// The names that differ.
        names: String,
    },
    /// An instance of the backup is not there.
    #[error(
        "Deployment '{platform}' does not match the structure of the provided backup: there is no instance {instance}"
    )]
    Structure {
        /// Its name.
        platform: String,
        /// Which is missing.
        instance: String,
    },
    /// A job wants to be restored, and the backup has nothing for it.
    #[error("{file} is missing in the backup: job {job} on {instance} restores from it")]
    Missing {
        /// The archive.
        file: String,
        /// Whose.
        job: String,
        /// Where.
        instance: String,
    },
    /// A job wants to be restored from an archive of which nobody knows whether it is whole.
    #[error("{file} has no checksums in the backup: job {job} on {instance} restores from it")]
    Unrecorded {
        /// The archive.
        file: String,
        /// Whose.
        job: String,
        /// Where.
        instance: String,
    },
    /// An artifact did not arrive.
    #[error("cannot copy backup of job {} from {instance}", .artifact.name())]
    Drain {
        /// Which.
        artifact: Artifact,
        /// From where.
        instance: String,
        /// Why.
        #[source]
        cause: Cause,
    },
    /// An artifact did not go out.
    #[error("cannot copy backup of job {} to {instance}", .artifact.name())]
    Upload {
        /// Which.
        artifact: Artifact,
        /// To where.
        instance: String,
        /// Why.
        #[source]
        cause: Cause,
    },
    /// Something was left on an instance.
    #[error("cannot clean up instance {instance}")]
    CleanUp {
        /// Where.
        instance: String,
        /// The clean-up was itself what was asked for.
        asked: bool,
        /// Why.
        #[source]
        cause: Cause,
    },
    /// The operator, a signal or a limit ended it.
    #[error("{0}")]
    Stopped(Stop),
}

impl Fault {
    /// Its part of the exit code.
    pub fn exit_bits(&self) -> u8 {
        match self {
            Self::Script { script: Script::PreBackupLock, .. } => 4,
            Self::Script { script, .. } if script.is_unlock() => 8,
            Self::CleanUp { asked: false, .. } => 16,
            _ => 1,
        }
    }

    /// Whether a backup with this fault leaves something that the clean-up command takes away.
    pub fn leaves_something(&self) -> bool {
        match self {
            Self::Leftover(_) | Self::Drain { .. } | Self::CleanUp { .. } => true,
            Self::Script { script, .. } => script.is_unlock(),
            _ => false,
        }
    }

    /// The fault with its causes, on one line.
    pub fn whole(&self) -> String {
        chain(self)
    }
}

/// All that failed in one run; never empty where it is an error.
#[derive(Debug, Default)]
pub struct Faults(pub Vec<Fault>);

impl Faults {
    /// The exit code.
    pub fn exit_bits(&self) -> u8 {
        self.0.iter().fold(0, |bits, fault| bits | fault.exit_bits())
    }

    /// Fails if there is any.
    pub fn check(self) -> Result<(), Self> {
        if self.0.is_empty() { Ok(()) } else { Err(self) }
    }

    /// Takes the faults of a step; answers whether there were none.
    pub(crate) fn add(&mut self, more: Result<(), Self>) -> bool {
        let Err(more) = more else { return true };
        self.0.extend(more.0);
        false
    }
}

impl From<Fault> for Faults {
    fn from(fault: Fault) -> Self {
        Self(vec![fault])
    }
}

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = self.0.len();
        write!(f, "{count} error{} occurred", if count == 1 { "" } else { "s" })
    }
}

impl Error for Faults {}

#[cfg(test)]
mod tests {
    use super::*;

    fn script(script: Script) -> Fault {
        Fault::Script { script, job: "db".into(), instance: "bosh/0".into(), how: "no - exit code 3".into() }
    }

    fn clean_up(asked: bool) -> Fault {
        Fault::CleanUp { instance: "bosh/0".into(), asked, cause: "x".into() }
    }

    #[test]
    fn bits_of_all_faults_are_joined() {
        let check = |faults: Vec<Fault>, expected: u8| assert_eq!(Faults(faults).exit_bits(), expected);
        check(vec![], 0);
        check(vec![script(Script::PreBackupLock)], 4);
        check(vec![script(Script::PreBackupLock), script(Script::PostBackupUnlock)], 12);
        check(vec![script(Script::Backup), clean_up(false)], 17);
        check(vec![script(Script::PostBackupUnlock), clean_up(false)], 24);
        check(vec![script(Script::PreRestoreLock)], 1);
        check(vec![script(Script::PostRestoreUnlock)], 8);
        check(vec![clean_up(true)], 1);
        check(vec![Fault::Leftover("bosh/0".into())], 1);
    }

    #[test]
    fn the_operator_is_sent_to_the_clean_up_only_where_it_helps() {
        assert!(Fault::Leftover("x".into()).leaves_something() && clean_up(false).leaves_something());
        assert!(script(Script::PostBackupUnlock).leaves_something());
        assert!(!script(Script::Backup).leaves_something() && !script(Script::PreBackupLock).leaves_something());
    }
}
