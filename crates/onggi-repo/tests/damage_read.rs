//! Reading goes on around damage: other copies, packs without an index, wrong bytes of a cache.

mod common;

use common::*;
use onggi_repo::{
    Fetch, FetchOptions, OpenOptions, Repository,
    format::{BlobId, BlobKind},
};
use onggi_storage::{FileType, Handle, Storage, memory::Memory};
use std::sync::Arc;

fn sample() -> Files {
    Files::from([(b"a".to_vec(), Some(noise(1, 700_000))), (b"b".to_vec(), Some(noise(2, 900_000)))])
}

fn of(memory: &Memory, file_type: FileType) -> Vec<Handle> {
    memory.files().into_iter().map(|(handle, _)| handle).filter(|handle| handle.file_type() == file_type).collect()
}

/// Flips a bit in the middle of a file.
async fn damage(memory: &Memory, handle: Handle) {
    let mut content = memory.read(handle.clone(), None).await.unwrap().to_vec();
    let at = content.len() / 2;
    content[at] ^= 1;
    memory.put(handle, content);
}

#[tokio::test]
async fn packs_of_an_unreadable_index_are_found_by_their_headers() {
    let world = World::new().await;
    let done = back_up(&world.repo, &sample()).await.unwrap();
    for index in of(&world.memory, FileType::Index) {
        damage(&world.memory, index).await;
    }
    let repo = world.open().await;
    assert_eq!(repo.load_index().await.unwrap().problems.len(), 1);
    // The first blob that is missed makes the headers be read; they are not deduplicated against.
    repo.tree(done.snapshot.tree).await.unwrap();
    assert_eq!(read_all(&repo, done.snapshot.tree).await.unwrap(), sample());
    assert!(!repo.has(BlobKind::Data, &BlobId::of(&noise(1, 700_000))));
}

#[tokio::test]
async fn another_copy_stands_in_for_a_damaged_one() {
    let world = World::new().await;
    let done = back_up(&world.repo, &sample()).await.unwrap();
    // A second writer that saw no index stored everything again.
    let first: Vec<Handle> = of(&world.memory, FileType::Pack);
    let indexes = of(&world.memory, FileType::Index);
    let kept = world.memory.read(indexes[0].clone(), None).await.unwrap();
    world.memory.remove(indexes[0].clone()).await.unwrap();
    back_up(&world.open().await, &sample()).await.unwrap();
    world.memory.put(indexes[0].clone(), kept);
    for pack in first {
        damage(&world.memory, pack).await;
    }
    let repo = world.open().await;
    repo.load_index().await.unwrap();
    assert_eq!(read_all(&repo, done.snapshot.tree).await.unwrap(), sample());
}

#[tokio::test]
async fn a_lost_blob_is_told_with_its_place_and_the_rest_comes() {
    let world = World::new().await;
    let done = back_up(&world.repo, &sample()).await.unwrap();
    let repo = world.open().await;
    repo.load_index().await.unwrap();
    let nodes = walk(&repo, done.snapshot.tree).await.unwrap();
    let victim = nodes[b"a".as_slice()].chunks()[0];
    let location = repo.index().live(BlobKind::Data, &victim).unwrap();
    let pack = location.pack.handle();
    let mut content = world.memory.read(pack.clone(), None).await.unwrap().to_vec();
    content[location.offset as usize + 50] ^= 1;
    world.memory.put(pack, content);
    let sink = Arc::new(Collect::default());
    let fetch = |key, name: &[u8]| Fetch { key, content: nodes[name].chunks().to_vec() };
    repo.fetch(vec![fetch(7, b"a"), fetch(8, b"b")], sink.clone(), FetchOptions::default()).await.unwrap();
    let state = sink.state.lock().unwrap();
    assert_eq!(state.lost.len(), 1);
    assert_eq!((state.lost[0].0, state.lost[0].1, state.lost[0].2), (7, 0, u64::from(location.plaintext_length())));
    assert!(state.files[&8] == noise(2, 900_000));
    let mut done = state.done.clone();
    done.sort_unstable();
    assert_eq!(done, [7, 8]);
}

#[tokio::test]
async fn wrong_bytes_of_a_cache_are_read_again_from_the_storage() {
    let world = World::new().await;
    let done = back_up(&world.repo, &sample()).await.unwrap();
    let cache = world.memory.copy();
    for file_type in [FileType::Pack, FileType::Index, FileType::Snapshot] {
        for handle in of(&cache, file_type) {
            damage(&cache, handle).await;
        }
    }
    let options = OpenOptions { fresh: Some(Arc::new(world.memory.clone())), ..OpenOptions::default() };
    let repo = Repository::open(Arc::new(cache), &password(), options, env(&world.clock, "two")).await.unwrap();
    assert_eq!(repo.snapshots().await.unwrap().problems, []);
    assert_eq!(repo.load_index().await.unwrap().problems, []);
    assert_eq!(read_all(&repo, done.snapshot.tree).await.unwrap(), sample());
    // Neighbours that are read together, too.
    let nodes = walk(&repo, done.snapshot.tree).await.unwrap();
    let mut buffer = vec![0; 900_000];
    let reader = repo.content_reader(nodes[b"b".as_slice()].chunks()).unwrap();
    assert_eq!(reader.read_at(0, &mut buffer).await.unwrap(), buffer.len());
    assert!(buffer == noise(2, 900_000));
}

#[tokio::test]
async fn content_is_read_anywhere() {
    let world = World::new().await;
    let bytes = noise(3, 5_000_000);
    let done = back_up(&world.repo, &Files::from([(b"disk".to_vec(), Some(bytes.clone()))])).await.unwrap();
    let nodes = walk(&world.repo, done.snapshot.tree).await.unwrap();
    let reader = world.repo.content_reader(nodes[b"disk".as_slice()].chunks()).unwrap();
    assert_eq!(reader.len(), 5_000_000);
    for (offset, length) in [(0, 10), (4_999_990, 20), (1_000_000, 3_000_000), (5_000_000, 1), (6_000_000, 1)] {
        let mut buffer = vec![0; length];
        let count = reader.read_at(offset, &mut buffer).await.unwrap();
        let end = (offset as usize + length).min(bytes.len());
        assert!(buffer[..count] == bytes[(offset as usize).min(end)..end], "{offset} {length}");
    }
}
