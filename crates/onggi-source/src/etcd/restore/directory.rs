//! Data directories: made beside their place in a folder that bears the run's name, and moved there as a whole. A
//! directory that holds anything is refused.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};

use super::identity::{ClusterIdentity, MemberIdentity};
use super::{raft_snapshot, wal};
use crate::context::RunId;

/// What etcd keeps a member's files in.
pub(super) const MEMBER: &str = "member";
const DATABASE: &str = "snap/db";
/// What a new file system has of its own.
const OF_FILE_SYSTEM: &str = "lost+found";

/// A data directory to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Place {
    pub directory: PathBuf,
    pub member: MemberIdentity,
    pub state: State,
}

/// What is there now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::etcd) enum State {
    Absent,
    Empty,
    /// Something; `is_running`: a member has its database open.
    Taken {
        is_running: bool,
    },
}

impl State {
    /// Looks.
    pub fn of(directory: &Path) -> io::Result<Self> {
        let entries = match fs::read_dir(directory) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Self::Absent),
            Err(error) => return Err(error),
        };
        for entry in entries {
            if entry?.file_name() != OF_FILE_SYSTEM {
                return Ok(Self::Taken { is_running: is_running(directory) });
            }
        }
        Ok(Self::Empty)
    }
}

/// A member holds a lock on its database.
fn is_running(directory: &Path) -> bool {
    let database = File::open(directory.join(MEMBER).join(DATABASE));
    let lock = |file: File| flock(&file, FlockOperation::NonBlockingLockExclusive);
    database.is_ok_and(|file| lock(file) == Err(rustix::io::Errno::WOULDBLOCK))
}

/// Where a run makes the directory before it moves it.
pub(in crate::etcd) fn staging(directory: &Path, run: &RunId) -> PathBuf {
    directory.join(format!(".onggi-{run}"))
}

/// Makes the folders of a member below a staging folder, and gives the place of its database.
pub(super) fn begin(staging: &Path) -> io::Result<PathBuf> {
    let member = staging.join(MEMBER);
    for folder in ["snap", "wal"] {
        DirBuilder::new().recursive(true).mode(0o700).create(member.join(folder))?;
    }
    Ok(member.join(DATABASE))
}

/// A file that only its owner reads.
pub(super) fn create(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(path)
}

/// Writes what a member has beside its database, and makes all of it last.
pub(super) fn complete(staging: &Path, cluster: &ClusterIdentity, own: &MemberIdentity) -> io::Result<()> {
    let member = staging.join(MEMBER);
    let mut file = create(&member.join("snap").join(raft_snapshot::file_name(cluster)))?;
    file.write_all(&raft_snapshot::encode(cluster))?;
    file.sync_all()?;
    let mut log = create(&member.join("wal").join(wal::FILE))?;
    wal::write(&mut log, cluster, own)?;
    log.set_len(wal::SEGMENT_BYTES)?;
    log.sync_all()?;
    File::open(member.join(DATABASE))?.sync_all()?;
    for folder in ["snap", "wal", "."] {
        File::open(member.join(folder))?.sync_all()?;
    }
    Ok(())
}

/// Moves what was made to its place; what was there goes to the name that is returned.
pub(super) fn publish(place: &Place, run: &RunId, aside: &Path) -> io::Result<()> {
    let staging = staging(&place.directory, run);
    if matches!(place.state, State::Taken { .. }) {
        DirBuilder::new().mode(0o700).create(aside)?;
        for entry in fs::read_dir(&place.directory)? {
            let name = entry?.file_name();
            if place.directory.join(&name) != staging && name != OF_FILE_SYSTEM {
                fs::rename(place.directory.join(&name), aside.join(&name))?;
            }
        }
    }
    fs::rename(staging.join(MEMBER), place.directory.join(MEMBER))?;
    fs::remove_dir(&staging)?;
    File::open(&place.directory)?.sync_all()
}

/// Removes what a run made, as far as it came. The directory itself goes if the run made that too.
pub(super) fn remove(directory: &Path, run: &RunId, published: Option<&str>) -> io::Result<()> {
    let gone = |done: io::Result<()>| match done {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    };
    gone(fs::remove_dir_all(staging(directory, run)))?;
    if let Some(name) = published {
        gone(fs::remove_dir_all(directory.join(name)))?;
    }
    Ok(())
}
