//! Plain files beside those of repositories: whole or not there, and nothing else is touched.

use bytes::Bytes;
use futures::{StreamExt, stream};
use onggi_storage::{StorageError, sftp::PlainFolder};
use std::{fs, io};

use crate::server::Server;

async fn folder(server: &Server) -> PlainFolder {
    PlainFolder::open(server.options()).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_is_written_in_pieces_and_read_in_parts() {
    let Some(server) = Server::start(&[]) else { return };
    let folder = folder(&server).await;
    let whole: Vec<u8> = (0..3_000_001_u32).map(|number| (number % 251) as u8).collect();
    let pieces: Vec<_> = whole.chunks(70_001).map(|piece| Ok(Bytes::copy_from_slice(piece))).collect();
    let bytes = folder.put("project/server/1_image", stream::iter(pieces).boxed()).await.unwrap();
    assert_eq!(bytes, whole.len() as u64);
    assert!(fs::read(server.repository().join("project/server/1_image")).unwrap() == whole);
    assert_eq!(folder.bytes("project/server/1_image").await.unwrap(), Some(bytes));
    assert!(folder.read("project/server/1_image", 2_999_990..3_100_000).await.unwrap() == whole[2_999_990..]);
    let names: Vec<_> = fs::read_dir(server.repository().join("project/server")).unwrap().collect();
    assert_eq!(names.len(), 1, "no temporary stays: {names:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn content_that_breaks_off_leaves_the_old_file() {
    let Some(server) = Server::start(&[]) else { return };
    let folder = folder(&server).await;
    let once = |bytes: &'static [u8]| stream::iter([Ok(Bytes::from_static(bytes))]).boxed();
    folder.put("a", once(b"old")).await.unwrap();
    let broken = stream::iter([Ok(Bytes::from_static(b"new")), Err(io::Error::other("it broke off"))]).boxed();
    folder.put("a", broken).await.unwrap_err();
    assert_eq!(fs::read(server.repository().join("a")).unwrap(), b"old");
    assert_eq!(fs::read_dir(server.repository()).unwrap().count(), 1);
    folder.put("a", once(b"newer")).await.unwrap();
    assert_eq!(fs::read(server.repository().join("a")).unwrap(), b"newer");
}

#[tokio::test(flavor = "multi_thread")]
async fn files_are_listed_and_removed_by_name() {
    let Some(server) = Server::start(&[]) else { return };
    let folder = folder(&server).await;
    assert_eq!(folder.files("none").await.unwrap(), []);
    assert_eq!(folder.bytes("none").await.unwrap(), None);
    assert!(matches!(folder.read("none", 0..1).await, Err(StorageError::NoPlace(_))));
    fs::create_dir_all(server.repository().join("p/folder")).unwrap();
    for name in ["b", "a"] {
        fs::write(server.repository().join("p").join(name), name).unwrap();
    }
    let names = |files: Vec<onggi_storage::sftp::PlainFile>| files.into_iter().map(|one| one.name).collect::<Vec<_>>();
    assert_eq!(names(folder.files("p").await.unwrap()), ["a", "b"]);
    folder.remove("p/a").await.unwrap();
    folder.remove("p/a").await.unwrap();
    assert_eq!(names(folder.files("p").await.unwrap()), ["b"]);
}
