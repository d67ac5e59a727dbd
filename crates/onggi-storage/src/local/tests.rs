//! The durability protocol: the order of its steps, each step failing, and what a crash leaves behind.

mod faults;
mod mounts;
mod scripted;

use super::*;
use crate::{FileId, OwnFolder, OwnName, conformance};
use futures::TryStreamExt;
use scripted::Scripted;
use std::{
    fs,
    os::unix::fs::{MetadataExt, symlink},
    time::Duration,
};
use tempfile::TempDir;

pub(super) fn pack(number: u8) -> Handle {
    Handle::new(FileType::Pack, FileId([number; 32]))
}

fn snapshot(number: u8) -> Handle {
    Handle::new(FileType::Snapshot, FileId([number; 32]))
}

/// In memory where this machine has such a place: hundreds of syncs take their time on a disk.
pub(super) fn in_memory() -> TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap()
}

pub(super) async fn prepared() -> (TempDir, Local) {
    let folder = in_memory();
    let local = Local::new(folder.path().join("repository"));
    local.prepare().await.unwrap();
    (folder, local)
}

/// A repository with the one folder that a test needs.
pub(super) fn bare() -> (TempDir, Local) {
    let folder = in_memory();
    fs::create_dir_all(folder.path().join("data/07")).unwrap();
    let local = Local::new(folder.path().into());
    (folder, local)
}

/// The same place through a disk that records and fails.
pub(super) fn over(scripted: Scripted, local: &Local) -> Local {
    Local::on(Box::new(scripted), local.path().into())
}

/// Names of a folder, in order.
pub(super) fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<_> =
        fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

async fn listed(local: &Local, file_type: FileType) -> Vec<FileInfo> {
    local.list(file_type).try_collect().await.unwrap()
}

#[tokio::test]
async fn a_folder_is_a_storage() {
    let folder = tempfile::tempdir().unwrap();
    conformance::check_absent(&Local::new(folder.path().join("not/there/yet"))).await;
}

#[tokio::test]
async fn names_of_others_are_left_alone() {
    let (_folder, local) = prepared().await;
    let plant = async |path: String| {
        let path = local.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, "x").unwrap();
    };
    conformance::check_foreign_names(&local, plant).await;
}

#[tokio::test]
async fn a_new_repository_has_the_folders_that_restic_makes() {
    let (_folder, local) = prepared().await;
    assert_eq!(names(local.path()), ["data", "index", "keys", "locks", "snapshots"]);
    let shards: Vec<_> = (0..256).map(|shard| format!("{shard:02x}")).collect();
    assert_eq!(names(&local.path().join("data")), shards);
    let mode = |path: &Path| path.metadata().unwrap().mode() & 0o7777;
    assert_eq!(mode(local.path()), 0o700);
    assert_eq!(mode(&local.path().join("data/ab")), 0o700);
    local.create(pack(7), "x".into()).await.unwrap();
    assert_eq!(mode(&local.path().join(pack(7).path())), 0o400);
}

#[tokio::test]
async fn bytes_are_synced_before_the_name_and_the_name_before_the_answer() {
    let (_folder, local) = prepared().await;
    let (scripted, calls) = Scripted::recording();
    over(scripted, &local).create(snapshot(1), "x".into()).await.unwrap();
    let name = FileId([1; 32]);
    let temporary = format!(".{name}.tmp-*");
    let expected = [
        format!("open_new {temporary}"),
        format!("write {temporary}"),
        format!("protect {temporary}"),
        format!("sync {temporary}"),
        format!("rename_new {temporary} {name}"),
        "sync_folder snapshots".into(),
    ];
    assert_eq!(calls.take(), expected);
}

#[tokio::test]
async fn a_new_folder_is_durable_in_the_one_above() {
    let (_folder, local) = prepared().await;
    let (scripted, calls) = Scripted::recording();
    let own = Handle::Own(OwnFolder::Verify, OwnName::new("receipt").unwrap());
    over(scripted, &local).create(own, "x".into()).await.unwrap();
    let folders: Vec<_> = calls.take().into_iter().filter(|call| call.contains("folder")).collect();
    let expected = [
        "make_folder onggi",
        "sync_folder repository",
        "make_folder verify",
        "sync_folder onggi",
        "sync_folder verify",
    ];
    assert_eq!(folders, expected);
}

#[tokio::test]
async fn preparing_makes_every_new_folder_durable() {
    let folder = tempfile::tempdir().unwrap();
    let (scripted, calls) = Scripted::recording();
    Local::on(Box::new(scripted), folder.path().join("a/b")).prepare().await.unwrap();
    let calls = calls.take();
    let above = folder.path().file_name().unwrap().to_str().unwrap();
    assert_eq!(calls[..4], ["make_folder a", &format!("sync_folder {above}"), "make_folder b", "sync_folder a"]);
    assert_eq!(calls[9], "sync_folder b");
    assert_eq!(calls.last().unwrap(), "sync_folder data");
}

#[tokio::test]
async fn a_file_that_is_there_already_is_made_durable_too() {
    let (_folder, local) = prepared().await;
    local.create(snapshot(1), "x".into()).await.unwrap();
    let (scripted, calls) = Scripted::recording();
    over(scripted, &local).create(snapshot(1), "x".into()).await.unwrap();
    let calls = calls.take();
    let name = FileId([1; 32]);
    assert_eq!(calls[5..], [format!("unlink .{name}.tmp-*"), format!("sync {name}"), "sync_folder snapshots".into()]);
}

#[tokio::test]
async fn a_removal_that_others_rely_on_is_durable() {
    let (_folder, local) = prepared().await;
    local.create(snapshot(1), "x".into()).await.unwrap();
    local.create(pack(1), "x".into()).await.unwrap();
    let (scripted, calls) = Scripted::recording();
    let recording = over(scripted, &local);
    recording.remove(snapshot(1)).await.unwrap();
    recording.remove(pack(1)).await.unwrap();
    let name = FileId([1; 32]);
    assert_eq!(calls.take(), [format!("unlink {name}"), "sync_folder snapshots".into(), format!("unlink {name}")]);
}

#[tokio::test]
async fn a_link_in_place_of_a_file_is_not_followed() {
    let (folder, local) = prepared().await;
    let secret = folder.path().join("secret");
    fs::write(&secret, "secret").unwrap();
    symlink(&secret, local.path().join(pack(1).path())).unwrap();
    assert!(matches!(local.read(pack(1), None).await, Err(StorageError::Denied(_))));
    assert!(matches!(local.create(pack(1), "secret".into()).await, Err(StorageError::Denied(_))));
    assert!(matches!(local.stat(pack(1)).await, Err(StorageError::NotFound(_))));
    assert_eq!(listed(&local, FileType::Pack).await, []);
    assert_eq!(fs::read(secret).unwrap(), b"secret");
}

#[tokio::test]
async fn what_is_no_plain_file_is_not_there() {
    let (_folder, local) = bare();
    let path = local.path().join(pack(7).path());
    let make_pipe = || assert!(std::process::Command::new("mkfifo").arg(&path).status().unwrap().success());
    let make_folder = || fs::create_dir(&path).unwrap();
    for make in [&make_folder as &dyn Fn(), &make_pipe] {
        make();
        assert!(matches!(local.read(pack(7), None).await, Err(StorageError::NotFound(_))));
        assert!(matches!(local.stat(pack(7)).await, Err(StorageError::NotFound(_))));
        assert_eq!(listed(&local, FileType::Pack).await, []);
        let created = local.create(pack(7), "x".into()).await;
        assert!(matches!(created, Err(StorageError::AlreadyExists(_))), "{created:?}");
        fs::remove_dir(&path).or_else(|_| fs::remove_file(&path)).unwrap();
    }
}

#[tokio::test]
async fn leftovers_are_ignored_and_removed_when_old() {
    let (_folder, local) = prepared().await;
    let own = Handle::Own(OwnFolder::Runs, OwnName::new("me").unwrap());
    local.create(own, "x".into()).await.unwrap();
    let leftovers = [
        format!("data/07/.{}.tmp-0123456789abcdef", FileId([7; 32])),
        ".config.tmp-0123456789abcdef".into(),
        "onggi/runs/.me.tmp-0123456789abcdef".into(),
    ];
    let foreign = ["data/07/.foreign.swp", "snapshots/.x.tmp-1", "keys/.tmp-0123456789abcdef"];
    for path in leftovers.iter().map(String::as_str).chain(foreign) {
        fs::write(local.path().join(path), "half").unwrap();
    }
    local.create(pack(7), "whole".into()).await.unwrap();
    let packs = listed(&local, FileType::Pack).await;
    assert_eq!(packs.iter().map(|info| (info.handle.clone(), info.size)).collect::<Vec<_>>(), [(pack(7), 5)]);

    let now = packs[0].modified_at.unwrap();
    assert_eq!(local.remove_leftovers(now - Duration::from_hours(24)).await.unwrap(), 0, "young ones stay");
    assert_eq!(local.remove_leftovers(now + Duration::from_secs(5)).await.unwrap(), 3);
    assert!(leftovers.iter().all(|path| !local.path().join(path).exists()));
    assert!(foreign.iter().all(|path| local.path().join(path).exists()));
    assert_eq!(local.read(pack(7), None).await.unwrap(), "whole");
}

#[tokio::test]
async fn a_place_that_vanished_is_not_made_anew() {
    let (_folder, local) = prepared().await;
    fs::remove_dir_all(local.path()).unwrap();
    let created = local.create(pack(1), "x".into()).await;
    assert!(matches!(&created, Err(StorageError::NoPlace(_))), "{created:?}");
    assert!(!local.path().exists());
}

#[tokio::test]
async fn a_file_in_place_of_the_folder_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("file");
    fs::write(&path, "x").unwrap();
    let prepared = Local::new(path).prepare().await;
    assert!(matches!(&prepared, Err(StorageError::Denied(_))), "{prepared:?}");
}

#[tokio::test]
async fn a_relative_path_is_below_the_working_folder() {
    let writer = Writer::new(Box::new(Kernel));
    writer.make_folder_and_parents(Path::new("src")).unwrap();
    assert!(Path::new("src/local.rs").exists(), "tests run in the crate's folder, which has one");
}
