//! SFTP against a real sshd: the conformance suite, then who is let in, who is believed, and what happens when the
//! line breaks or the disk is full.
#![expect(clippy::unwrap_used, reason = "a test's helpers fail like the test")]

mod faults;
mod folder;
mod identity;
mod login;
mod second;
mod server;

use bytes::Bytes;
use onggi_storage::{
    Clock, FileId, FileType, Handle, Storage,
    clock::SystemClock,
    conformance,
    sftp::{Sftp, SftpOptions},
};
use server::Server;
use std::{fs, os::unix::fs::PermissionsExt, time::Duration};

#[tokio::test(flavor = "multi_thread")]
async fn sftp_is_a_storage() {
    let Some(server) = Server::start(&[]) else { return };
    let storage = open(server.options()).await;
    conformance::check_absent(&storage).await;
    let properties = storage.properties();
    assert!(properties.durable && properties.exclusive_create && !properties.is_local, "{properties:?}");
    assert_eq!(properties.location, format!("sftp:{}", location(&server)));
}

#[tokio::test(flavor = "multi_thread")]
async fn foreign_files_are_left_out() {
    let Some(server) = Server::start(&[]) else { return };
    let storage = open(server.options()).await;
    storage.prepare().await.unwrap();
    let plant = async |path: String| {
        let file = server.repository().join(path);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(file, "x").unwrap();
    };
    conformance::check_foreign_names(&storage, plant).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_with_the_name_of_a_file_is_no_file() {
    let Some(server) = Server::start(&[]) else { return };
    let storage = open(server.options()).await;
    storage.prepare().await.unwrap();
    fs::create_dir(server.repository().join(Handle::new(FileType::Key, FileId([1; 32])).path())).unwrap();
    let listed: Vec<_> = futures::TryStreamExt::try_collect(storage.list(FileType::Key)).await.unwrap();
    assert_eq!(listed, []);
}

#[tokio::test(flavor = "multi_thread")]
async fn files_are_for_their_owner_alone() {
    let Some(server) = Server::start(&[]) else { return };
    let storage = open(server.options()).await;
    storage.prepare().await.unwrap();
    storage.create(pack(1), Bytes::from_static(b"x")).await.unwrap();
    let file = server.repository().join(pack(1).path());
    let mode = |path: &std::path::Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&file), 0o600);
    assert_eq!(mode(file.parent().unwrap()), 0o700);
    assert_eq!(mode(&server.repository()), 0o700);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_of_packs_that_vanished_is_made_again() {
    let Some(server) = Server::start(&[]) else { return };
    let storage = open(server.options()).await;
    storage.prepare().await.unwrap();
    fs::remove_dir_all(server.repository().join("data")).unwrap();
    storage.create(pack(1), Bytes::from_static(b"x")).await.unwrap();
    assert_eq!(storage.read(pack(1), None).await.unwrap(), "x");
}

#[tokio::test(flavor = "multi_thread")]
async fn leftovers_of_interrupted_writes_are_swept_when_old() {
    let Some(server) = Server::start(&[]) else { return };
    let storage = open(server.options()).await;
    storage.prepare().await.unwrap();
    storage.create(pack(1), Bytes::from_static(b"x")).await.unwrap();
    let leftover = |path: &str| server.repository().join(format!("{path}.tmp-0123456789abcdef"));
    let id = "07".repeat(32);
    let ours = [leftover(&format!("data/07/.{id}")), leftover(".config"), leftover("onggi/runs/.me")];
    let foreign = server.repository().join("keys/.swap.tmp-1");
    for file in ours.iter().chain([&foreign]) {
        fs::write(file, "half").unwrap();
    }
    let now = SystemClock.now();
    assert_eq!(storage.remove_leftovers(now - Duration::from_hours(24)).await.unwrap(), 0, "young ones stay");
    assert_eq!(storage.remove_leftovers(now + Duration::from_secs(5)).await.unwrap(), 3);
    assert!(ours.iter().all(|file| !file.exists()) && foreign.exists());
    assert_eq!(storage.read(pack(1), None).await.unwrap(), "x");
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_left_behind_by_a_writer_that_was_late() {
    let Some(server) = Server::start(&[]) else { return };
    let storage = open(server.options()).await;
    storage.prepare().await.unwrap();
    storage.create(pack(1), Bytes::from_static(b"first")).await.unwrap();
    storage.create(pack(1), Bytes::from_static(b"other")).await.unwrap_err();
    storage.create(pack(1), Bytes::from_static(b"first")).await.unwrap();
    let folder = server.repository().join(pack(1).path());
    assert_eq!(fs::read_dir(folder.parent().unwrap()).unwrap().count(), 1);
}

async fn open(options: SftpOptions) -> Sftp {
    Sftp::open(options).await.unwrap()
}

fn pack(number: u8) -> Handle {
    Handle::new(FileType::Pack, FileId([number; 32]))
}

fn location(server: &Server) -> String {
    let options = server.options();
    format!("{}@127.0.0.1:{}:{}", options.user, server.port, options.path)
}
