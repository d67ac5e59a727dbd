//! Snapshots as a read-only file system.
//!
//! ```text
//! ids/4f1c09ab/                          hosts/web-1/2026-11-03T22-08-41-4f1c09ab/
//! snapshots/2026-11-03T22-08-41-4f1c09ab/   tags/nightly/2026-11-03T22-08-41-4f1c09ab/
//! snapshots/latest -> the newest         (latest also below each host and tag)
//! ```
//!
//! Nothing is ever written. Memory is bounded: contents by [`Blobs`](onggi_engine::blobs::Blobs), entries by what the kernel remembers.

mod attributes;
mod catalog;
mod entry;
mod filesystem;
mod inodes;

use std::io;
use std::path::Path;

use fuser::{BackgroundSession, Config, MountOption, Session, SessionACL};
use onggi_repo::Repository;
use tokio::runtime::Handle;

pub use catalog::{Catalog, Select};

use filesystem::Mounted;

/// Who may look into the mounted snapshots.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Audience {
    /// The user who mounted them, who may read everything.
    Owner,
    /// Everybody, as far as the stored modes allow.
    Everybody,
}

/// A mounted file system.
pub struct Mount {
    session: BackgroundSession,
}

impl Mount {
    /// Mounts the snapshots that `select` takes, at an empty folder. The repository's index is loaded already.
    pub fn open(repo: Repository, select: Select, catalog: Catalog, at: &Path, audience: Audience) -> io::Result<Self> {
        let mut config = Config::default();
        config.mount_options = vec![
            MountOption::RO,
            MountOption::NoSuid,
            MountOption::NoDev,
            MountOption::NoAtime,
            MountOption::FSName("onggi".to_owned()),
            MountOption::Subtype("onggi".to_owned()),
        ];
        if audience == Audience::Everybody {
            config.mount_options.push(MountOption::DefaultPermissions);
            config.acl = SessionACL::All;
        }
        let mounted = Mounted::new(repo, select, catalog, Handle::current());
        let session = Session::new(mounted, at, &config)?.spawn()?;
        Ok(Self { session })
    }

    /// Whether the file system was unmounted by somebody else.
    pub fn is_gone(&self) -> bool {
        self.session.guard.is_finished()
    }

    /// Unmounts it. While it is in use it stays, and so does this value.
    pub fn close(self) -> io::Result<()> {
        self.session.umount_and_join()
    }
}

#[cfg(test)]
mod tests;
