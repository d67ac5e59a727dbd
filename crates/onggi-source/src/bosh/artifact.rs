//! A directory with the artifacts of one backup: an archive for each, and the file `metadata` that says what they hold.
//!
//! An archive is listed there only once it is proved to be what the instance has.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, BufReader, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::record::Record;
use super::tar::{Checksums, checksums};

const RECORD: &str = "metadata";

/// What a script wrote, by name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Artifact {
    /// Of one job on one instance.
    Instance {
        /// The instance group.
        group: String,
        /// Which of the group.
        index: String,
        /// The job.
        job: String,
    },
    /// Of a job on one instance, for all that run the job.
    Custom(String),
}

impl Artifact {
    /// How it is called on its instance and in what people read.
    pub fn name(&self) -> &str {
        match self {
            Self::Instance { job, .. } => job,
            Self::Custom(name) => name,
        }
    }

    /// The name of its file, from which no name can be read back.
    pub fn file_name(&self) -> String {
        match self {
            Self::Instance { group, index, job } => format!("{group}-{index}-{job}.tar"),
            Self::Custom(name) => format!("{name}.tar"),
        }
    }
}

/// The directory's name.
pub fn directory_name(name: &str, at: Timestamp) -> String {
    format!("{name}_{}", at.strftime("%Y%m%dT%H%M%SZ"))
}

/// An artifact directory.
#[derive(Debug)]
pub struct Directory {
    path: PathBuf,
    zone: TimeZone,
    record: Mutex<Record>,
}

impl Directory {
    /// Makes a new one in this folder; one that is there already is an error.
    pub fn create(parent: &Path, name: &str, at: Timestamp, zone: TimeZone) -> io::Result<Self> {
        let path = parent.join(directory_name(name, at));
        DirBuilder::new().mode(0o700).create(&path)?;
        let directory = Self { path, zone, record: Mutex::default() };
        directory.change(|record, zone| record.backup_activity.start_time = shown(at, zone))?;
        Ok(directory)
    }

    /// Reads what one says of itself.
    pub fn open(path: &Path) -> io::Result<Self> {
        let text = fs::read_to_string(path.join(RECORD))?;
        let record = Record::parse(&text).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
        Ok(Self { path: path.to_owned(), zone: TimeZone::UTC, record: Mutex::new(record) })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What it says of itself.
    pub fn record(&self) -> Record {
        self.record.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Adds a file beside the artifacts, for its owner alone.
    pub fn write(&self, name: &str, content: &[u8]) -> io::Result<()> {
        self.made(name)?.write_all(content)
    }

    /// A new file for an artifact.
    pub(crate) fn new_file(&self, artifact: &Artifact) -> io::Result<File> {
        self.made(&artifact.file_name())
    }

    /// The file of an artifact.
    pub(crate) fn file(&self, artifact: &Artifact) -> io::Result<File> {
        File::open(self.path.join(artifact.file_name()))
    }

    /// The checksums of the file itself; whether they are those that are recorded is another question.
    pub(crate) fn checksums_of_file(&self, artifact: &Artifact) -> io::Result<Checksums> {
        checksums(BufReader::new(self.file(artifact)?))
    }

    /// Lists an artifact that is whole.
    pub(crate) fn add(&self, artifact: &Artifact, checksums: Checksums) -> io::Result<()> {
        self.change(|record, _| record.add(artifact, checksums))
    }

    /// Says that nothing more comes, whether or not all is well.
    pub fn finish(&self, at: Timestamp) -> io::Result<()> {
        self.change(|record, zone| record.backup_activity.finish_time = Some(shown(at, zone)))
    }

    fn made(&self, name: &str) -> io::Result<File> {
        OpenOptions::new().write(true).create_new(true).mode(0o600).open(self.path.join(name))
    }

    /// A reader sees the file before or after, never half of it.
    fn change(&self, how: impl FnOnce(&mut Record, &TimeZone)) -> io::Result<()> {
        let mut record = self.record.lock().unwrap_or_else(PoisonError::into_inner);
        how(&mut record, &self.zone);
        let draft = self.path.join(format!(".{RECORD}.draft"));
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o644).open(&draft)?;
        file.write_all(record.text().as_bytes())?;
        file.sync_all()?;
        fs::rename(draft, self.path.join(RECORD))
    }
}

fn shown(at: Timestamp, zone: &TimeZone) -> String {
    at.to_zoned(zone.clone()).strftime("%Y/%m/%d %H:%M:%S %Z").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn own(group: &str, index: &str, job: &str) -> Artifact {
        Artifact::Instance { group: group.into(), index: index.into(), job: job.into() }
    }

    #[test]
    fn files_are_called_as_they_are_elsewhere() {
        assert_eq!(own("bosh", "0", "blobstore").file_name(), "bosh-0-blobstore.tar");
        let custom = Artifact::Custom("redis-rel-backup-one-restore-all".into());
        assert_eq!(custom.file_name(), "redis-rel-backup-one-restore-all.tar");
        let at: Timestamp = "2026-11-20T11:11:31Z".parse().unwrap();
        assert_eq!(directory_name("10.0.0.6", at), "10.0.0.6_20261120T111131Z");
    }

    #[test]
    fn a_directory_says_what_is_whole_and_when() {
        let folder = tempfile::tempdir().unwrap();
        let at: Timestamp = "2026-11-20T11:11:31Z".parse().unwrap();
        let directory = Directory::create(folder.path(), "d", at, TimeZone::UTC).unwrap();
        assert!(Directory::create(folder.path(), "d", at, TimeZone::UTC).is_err());
        directory.add(&own("bosh", "0", "db"), Checksums::new()).unwrap();
        let read = Directory::open(directory.path()).unwrap().record();
        assert_eq!(read.backup_activity.start_time, "2026/11/20 11:11:31 UTC");
        assert_eq!(read.backup_activity.finish_time, None);
        assert_eq!(read.checksums(&own("bosh", "0", "db")), Some(&Checksums::new()));
        directory.finish(at).unwrap();
        assert!(Directory::open(directory.path()).unwrap().record().backup_activity.finish_time.is_some());
        assert!(Directory::open(folder.path()).is_err());
    }
}
