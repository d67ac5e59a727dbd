//! Real full and read-only file systems: small ones in memory, where this machine lets us mount them. Where not, the
//! tests say so on standard error and stop; the same answers are simulated in `faults`.

use super::{names, pack};
use crate::{FileType, Storage, StorageError, local::Local};
use bytes::Bytes;
use futures::TryStreamExt;
use std::{path::Path, process::Command};
use tempfile::TempDir;

/// A file system in memory, unmounted at the end.
struct Mount {
    folder: TempDir,
}

impl Mount {
    fn new(options: &str) -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        if mount(&["-t", "tmpfs", "-o", options, "tmpfs"], folder.path()) {
            return Some(Self { folder });
        }
        eprintln!("SKIPPED: no file system of `{options}` can be mounted here");
        None
    }

    fn remount(&self, options: &str) {
        assert!(mount(&["-o", &format!("remount,{options}")], self.folder.path()), "remount {options}");
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        // Lazily: a descriptor may still be open in a thread that ends a moment later.
        let ended = Command::new("umount").arg("-l").arg(self.folder.path()).status();
        assert!(ended.is_ok_and(|status| status.success()), "umount");
    }
}

fn mount(arguments: &[&str], at: &Path) -> bool {
    let answer = Command::new("mount").args(arguments).arg(at).output();
    answer.is_ok_and(|output| output.status.success())
}

#[tokio::test]
async fn a_full_disk_is_told_and_keeps_what_was_written() {
    let Some(mount) = Mount::new("size=1m") else { return };
    let local = Local::new(mount.folder.path().join("repository"));
    local.prepare().await.unwrap();
    let content = Bytes::from(vec![7; 300_000]);
    let mut stored = 0;
    let error = loop {
        match local.create(pack(stored), content.clone()).await {
            Ok(()) => stored += 1,
            Err(error) => break error,
        }
    };
    assert!(matches!(error, StorageError::Full(_)), "{error:?}");
    assert!(stored > 0);
    let listed: Vec<_> = local.list(FileType::Pack).try_collect().await.unwrap();
    assert_eq!(listed.len(), usize::from(stored));
    assert!(listed.iter().all(|info| info.size == 300_000));
    assert_eq!(names(&local.path().join(format!("data/{stored:02x}"))), [""; 0], "no temporary is left");
    local.remove(pack(0)).await.unwrap();
    local.create(pack(stored), content).await.expect("space was made");
}

#[tokio::test]
async fn a_read_only_disk_refuses_writes_and_serves_reads() {
    let Some(mount) = Mount::new("size=1m") else { return };
    let local = Local::new(mount.folder.path().join("repository"));
    local.prepare().await.unwrap();
    local.create(pack(1), "x".into()).await.unwrap();
    mount.remount("ro");
    let refused = [
        local.create(pack(2), "x".into()).await,
        local.create(pack(1), "x".into()).await,
        local.remove(pack(1)).await,
        Local::new(mount.folder.path().join("other")).prepare().await,
    ];
    for answer in refused {
        assert!(matches!(answer, Err(StorageError::Denied(_))), "{answer:?}");
    }
    assert_eq!(local.read(pack(1), None).await.unwrap(), "x");
}

#[tokio::test]
async fn a_disk_without_inodes_is_full() {
    let Some(mount) = Mount::new("size=1m,nr_inodes=300") else { return };
    let local = Local::new(mount.folder.path().join("repository"));
    local.prepare().await.unwrap();
    for number in 0..=u8::MAX {
        if let Err(error) = local.create(pack(number), "x".into()).await {
            return assert!(matches!(error, StorageError::Full(_)), "{error:?}");
        }
    }
    panic!("300 inodes hold more than 300 files");
}
