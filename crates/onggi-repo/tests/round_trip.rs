//! What goes in comes out: files of all sizes, in any order, cut in any way; and nothing is stored twice.

mod common;

use common::*;
use onggi_repo::{Archive, ArchiveOptions, Cutting, LockKind, format::BlobKind};
use std::time::Duration;

fn sample() -> Files {
    Files::from([
        (b"empty".to_vec(), Some(Vec::new())),
        (b"small".to_vec(), Some(b"hello".to_vec())),
        (b"large".to_vec(), Some(noise(1, 9 << 20))),
        (b"zeros".to_vec(), Some(vec![0; 3_000_000])),
        (b"dir".to_vec(), None),
        (b"dir/half a megabyte".to_vec(), Some(noise(2, 512 << 10))),
        (b"dir/one more".to_vec(), Some(noise(2, (512 << 10) + 1))),
        (b"dir/sub\xff/text".to_vec(), Some(b"lines and lines\n".repeat(100_000))),
        (b"dir/sub\xff".to_vec(), None),
    ])
}

#[tokio::test]
async fn what_was_stored_comes_back() {
    let world = World::new().await;
    let committed = back_up(&world.repo, &sample()).await.unwrap();
    let repo = world.open().await;
    let snapshots = repo.snapshots().await.unwrap();
    assert_eq!(snapshots.found, [(committed.id, committed.snapshot.clone())]);
    assert_eq!(repo.load_index().await.unwrap().problems, []);
    assert_eq!(read_all(&repo, committed.snapshot.tree).await.unwrap(), sample());
}

#[tokio::test]
async fn a_second_run_adds_nothing() {
    let world = World::new().await;
    let first = back_up(&world.repo, &sample()).await.unwrap();
    let stored = world.memory.files().len();
    let second = back_up(&world.repo, &sample()).await.unwrap();
    assert_eq!(second.snapshot.tree, first.snapshot.tree);
    let summary = second.snapshot.summary.unwrap();
    assert_eq!((summary.figures.data_blobs, summary.figures.tree_blobs, summary.figures.data_added), (0, 0, 0));
    assert_eq!(world.memory.files().len(), stored + 1, "the snapshot only");
}

#[tokio::test]
async fn a_blob_is_written_once_however_many_files_have_it() {
    let world = World::new().await;
    let files: Files = (0..50).map(|i| (format!("file{i}").into_bytes(), Some(noise(3, 700_000)))).collect();
    let summary = back_up(&world.repo, &files).await.unwrap().snapshot.summary.unwrap();
    assert_eq!((summary.figures.data_blobs, summary.figures.data_added), (1, 700_000 + tree_length(&world)));
    assert_eq!(summary.figures.total_bytes_processed, 50 * 700_000);
}

fn tree_length(world: &World) -> u64 {
    let mut length = 0;
    world.repo.index().each(|kind, _, location| {
        if kind == BlobKind::Tree {
            length += u64::from(location.plaintext_length());
        }
    });
    length
}

#[tokio::test]
async fn cuts_do_not_depend_on_how_content_is_written() {
    let world = World::new().await;
    let lock = world.repo.lock(LockKind::Shared, Duration::ZERO).await.unwrap();
    let archive = Archive::begin(&world.repo, &lock, ArchiveOptions::default()).await.unwrap();
    let bytes = [noise(4, 3_000_000), vec![0; 2_000_000], noise(5, 4_000_000)].concat();
    for (name, step) in [("a", 1 << 21), ("b", 100_003), ("c", 8 << 20), ("d", 70_001)] {
        let mut content = archive.content(Cutting::Default, None).await.unwrap();
        for piece in bytes.chunks(step) {
            let mut window = content.window(piece.len()).await.unwrap();
            window.copy_from_slice(piece);
            content.write(window).await.unwrap();
        }
        archive.put_file(name.as_bytes(), file_node(), content.finish()).await.unwrap();
    }
    // The same with the zeros as a hole.
    let mut content = archive.content(Cutting::Default, None).await.unwrap();
    content.write_bytes(&bytes[..3_000_000]).await.unwrap();
    content.zeros(1_000_000).await.unwrap();
    content.zeros(1_000_000).await.unwrap();
    content.write_bytes(&bytes[5_000_000..]).await.unwrap();
    archive.put_file(b"e", file_node(), content.finish()).await.unwrap();
    let done = archive.finish().await.unwrap().commit(draft()).await.unwrap();
    let nodes = walk(&world.repo, done.snapshot.tree).await.unwrap();
    let reference = &nodes[b"a".as_slice()].content;
    for (path, node) in &nodes {
        assert_eq!(&node.content, reference, "{path:?}");
    }
    assert_eq!(read_all(&world.repo, done.snapshot.tree).await.unwrap()[b"e".as_slice()].as_ref(), Some(&bytes));
    lock.release().await.unwrap();
}
