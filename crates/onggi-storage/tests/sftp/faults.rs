//! The line breaks, the machine is gone, the disk is full, the server can do less.

use super::{Server, open, pack, server::skip};
use bytes::Bytes;
use onggi_storage::{
    Storage, StorageError, conformance,
    sftp::{Sftp, SftpOptions},
};
use std::{
    fs,
    path::Path,
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

#[tokio::test(flavor = "multi_thread")]
async fn a_broken_line_is_unreachable_and_the_next_call_connects_anew() {
    let Some(server) = Server::start(&[]) else { return };
    let storage = open(server.options()).await;
    storage.prepare().await.unwrap();
    storage.create(pack(1), big(1)).await.unwrap();
    server.stop();
    let error = storage.read(pack(1), None).await.unwrap_err();
    assert!(matches!(error, StorageError::Unreachable(_)) && error.is_transient(), "{error:?}");
    let error = storage.create(pack(2), big(2)).await.unwrap_err();
    assert!(matches!(error, StorageError::Unreachable(_)), "{error:?}");
    server.restart();
    assert_eq!(storage.read(pack(1), None).await.unwrap(), big(1));
    storage.create(pack(2), big(2)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_line_that_breaks_under_many_calls_fails_each_and_none_hangs() {
    let Some(server) = Server::start(&[]) else { return };
    let storage = Arc::new(open(server.options()).await);
    storage.prepare().await.unwrap();
    let created = Arc::new(AtomicUsize::new(0));
    let writers: Vec<_> = (0..12)
        .map(|number| {
            let (storage, created) = (storage.clone(), created.clone());
            tokio::spawn(async move {
                loop {
                    if let Err(error) = storage.create(pack(number), big(number)).await {
                        return error;
                    }
                    created.fetch_add(1, Ordering::Relaxed);
                    if let Err(error) = storage.remove(pack(number)).await {
                        return error;
                    }
                }
            })
        })
        .collect();
    while created.load(Ordering::Relaxed) < 12 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    server.stop();
    for writer in writers {
        let error = writer.await.unwrap();
        assert!(matches!(error, StorageError::Unreachable(_)), "{error:?}");
    }
    server.restart();
    // Whatever stood or not: what can be read is whole.
    for number in 0..12 {
        match storage.read(pack(number), None).await {
            Ok(content) => assert_eq!(content, big(number)),
            Err(error) => assert!(error.is_not_found(), "{error:?}"),
        }
        storage.create(pack(number), big(number)).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_machine_that_is_gone_is_unreachable() {
    let Some(server) = Server::start(&[]) else { return };
    server.stop();
    let error = Sftp::open(server.options()).await.unwrap_err();
    assert!(matches!(error, StorageError::Unreachable(_)), "{error:?}");
    let error = Sftp::open(SftpOptions { host: "name.invalid".into(), ..server.options() }).await.unwrap_err();
    assert!(matches!(error, StorageError::Unreachable(_)), "{error:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_cannot_sync_is_used_and_its_promise_is_weaker() {
    let Some(server) = Server::start(&["--sftp-arguments", "-P fsync"]) else { return };
    let storage = open(server.options()).await;
    conformance::check(&storage).await;
    assert!(!storage.properties().durable);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_with_the_bare_protocol_is_a_storage() {
    let extensions = "-P posix-rename,statvfs,fstatvfs,hardlink,fsync,lsetstat,limits,expand-path,copy-data";
    let Some(server) = Server::start(&["--sftp-arguments", extensions]) else { return };
    let storage = open(server.options()).await;
    conformance::check(&storage).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_is_full() {
    let Some(server) = Server::start(&[]) else { return };
    let Some(_disk) = SmallDisk::mount(server.place.path()) else { return };
    let storage = open(server.options()).await;
    storage.prepare().await.unwrap();
    storage.create(pack(1), Bytes::from_static(b"fits")).await.unwrap();
    let error = storage.create(pack(2), big(2)).await.unwrap_err();
    assert!(matches!(error, StorageError::Full(_)), "{error:?}");
    let folder = server.repository().join(pack(2).path());
    assert_eq!(fs::read_dir(folder.parent().unwrap()).unwrap().count(), 0, "no half file stays to fill the disk");
    assert_eq!(storage.read(pack(1), None).await.unwrap(), "fits");
}

/// A file system of one mebibyte.
struct SmallDisk<'a>(&'a Path);

impl<'a> SmallDisk<'a> {
    fn mount(place: &'a Path) -> Option<Self> {
        let options = ["-t", "tmpfs", "-o", "size=1m", "tmpfs"];
        run_or_skip("a full disk", Command::new("mount").args(options).arg(place)).then(|| Self(place))
    }
}

impl Drop for SmallDisk<'_> {
    fn drop(&mut self) {
        unmount(self.0);
    }
}

fn unmount(place: &Path) {
    // Sessions of the server may still be in it.
    let output = Command::new("umount").arg("-l").arg(place).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

fn run_or_skip(what: &str, command: &mut Command) -> bool {
    let reason = match command.output() {
        Ok(output) if output.status.success() => return true,
        Ok(output) => String::from_utf8_lossy(&output.stderr).trim().to_owned(),
        Err(error) => error.to_string(),
    };
    skip(what, &format!("{}: {reason}", command.get_program().display()));
    false
}

fn big(seed: u8) -> Bytes {
    (0..3_000_000_u32).map(|at| (at as u8).wrapping_mul(31) ^ (at >> 8) as u8 ^ seed).collect()
}
