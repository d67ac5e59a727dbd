//! Pure: which scripts a job has, read from the list of files that an instance gives.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// Jobs that are no part of the contract although they have files of these names.
const IGNORED_JOBS: &[&str] = &["mysql-backup", "mysql-restore"];

/// A script of the contract.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Script {
    /// Tells in which order jobs are locked.
    Metadata,
    /// Holds the job still.
    PreBackupLock,
    /// Writes the artifact.
    Backup,
    /// Lets the job go on.
    PostBackupUnlock,
    /// Holds the job still.
    PreRestoreLock,
    /// Reads the artifact.
    Restore,
    /// Lets the job go on.
    PostRestoreUnlock,
}

impl Script {
    /// All of them.
    const ALL: [Self; 7] = [
        Self::Metadata,
        Self::PreBackupLock,
        Self::Backup,
        Self::PostBackupUnlock,
        Self::PreRestoreLock,
        Self::Restore,
        Self::PostRestoreUnlock,
    ];

    /// Its file's name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Metadata => "metadata",
            Self::PreBackupLock => "pre-backup-lock",
            Self::Backup => "backup",
            Self::PostBackupUnlock => "post-backup-unlock",
            Self::PreRestoreLock => "pre-restore-lock",
            Self::Restore => "restore",
            Self::PostRestoreUnlock => "post-restore-unlock",
        }
    }

    /// Whether it lets a job go on.
    pub fn is_unlock(self) -> bool {
        matches!(self, Self::PostBackupUnlock | Self::PostRestoreUnlock)
    }

    /// Where it lies.
    pub fn path(self, job: &str) -> String {
        format!("/var/vcap/jobs/{job}/bin/bbr/{}", self.name())
    }
}

impl fmt::Display for Script {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// The scripts of each job, from paths one to a line.
pub(crate) fn by_job(listing: &str) -> BTreeMap<String, BTreeSet<Script>> {
    let mut jobs: BTreeMap<String, BTreeSet<Script>> = BTreeMap::new();
    for (job, script) in listing.lines().filter_map(parse) {
        jobs.entry(job.to_owned()).or_default().insert(script);
    }
    jobs
}

fn parse(path: &str) -> Option<(&str, Script)> {
    let (job, rest) = path.trim().strip_prefix("/var/vcap/jobs/")?.split_once('/')?;
    let name = rest.strip_prefix("bin/bbr/")?;
    let script = Script::ALL.into_iter().find(|script| script.name() == name)?;
    (!IGNORED_JOBS.contains(&job)).then_some((job, script))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_seven_names_count_and_the_two_jobs_never() {
        let listing = "/var/vcap/jobs/db/bin/bbr/backup\n/var/vcap/jobs/db/bin/bbr/restore\n\
             /var/vcap/jobs/db/bin/bbr/backup.orig\n/var/vcap/jobs/db/bin/bbr/old/backup\n\
             /var/vcap/jobs/mysql-backup/bin/bbr/backup\n/var/vcap/jobs/uaa/bin/bbr/pre-backup-lock\n\nfind: nonsense\n";
        let jobs = by_job(listing);
        let names: Vec<&str> = jobs.keys().map(String::as_str).collect();
        assert_eq!(names, ["db", "uaa"]);
        assert_eq!(jobs["db"], BTreeSet::from([Script::Backup, Script::Restore]));
        assert_eq!(jobs["uaa"], BTreeSet::from([Script::PreBackupLock]));
    }

    #[test]
    fn a_path_leads_back_to_its_script() {
        for script in Script::ALL {
            assert_eq!(parse(&script.path("a-job")), Some(("a-job", script)));
        }
    }
}
