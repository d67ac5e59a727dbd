//! What an archive promises: torn ones are never committed, order is durable, memory is bounded, and what was pruned
//! meanwhile is not built upon.

#![expect(clippy::unwrap_used, reason = "a test panics where it fails")]

mod common;

use common::*;
use onggi_repo::{
    Archive, ArchiveOptions, Cutting, Lock, LockKind, OpenOptions, RepoError, Repository, Unlock,
    archive::{id_of_zeros, is_unchanged},
    format::{BlobId, BlobKind, IndexFile, IndexPack, Node},
};
use onggi_storage::{
    FileType, Handle, Storage,
    clock::TestClock,
    faulty::{Failure, Fault, Faulty, Rule},
    recording::{Call, CallKind, Recording},
};
use std::{sync::Arc, time::Duration};

async fn begin(repo: &Repository, options: ArchiveOptions) -> (Archive, Lock) {
    let lock = repo.lock(LockKind::Shared, Duration::ZERO).await.unwrap();
    repo.load_index().await.unwrap();
    (Archive::begin(repo, &lock, options).await.unwrap(), lock)
}

fn packs(world: &World) -> Vec<Handle> {
    let files = world.memory.files().into_iter().map(|(handle, _)| handle);
    files.filter(|handle| handle.file_type() == FileType::Pack).collect()
}

#[tokio::test]
async fn an_interrupted_content_tears_the_archive() {
    let world = World::new().await;
    let (archive, _lock) = begin(&world.repo, ArchiveOptions::default()).await;
    let mut content = archive.content(Cutting::Default, None).await.unwrap();
    content.write_bytes(b"half of it").await.unwrap();
    drop(content);
    assert!(matches!(archive.finish().await, Err(RepoError::Torn(_))));
}

#[tokio::test]
async fn a_content_without_a_file_tears_the_archive() {
    let world = World::new().await;
    let (archive, _lock) = begin(&world.repo, ArchiveOptions::default()).await;
    drop(archive.content(Cutting::Default, None).await.unwrap().finish());
    assert!(matches!(archive.finish().await, Err(RepoError::Torn(_))));
}

#[tokio::test]
async fn an_abandoned_content_does_not() {
    let world = World::new().await;
    let (archive, _lock) = begin(&world.repo, ArchiveOptions::default()).await;
    for length in [10, 3_000_000] {
        let mut content = archive.content(Cutting::Default, None).await.unwrap();
        content.write_bytes(&noise(1, length)).await.unwrap();
        content.abandon();
        let mut content = archive.content(Cutting::Default, None).await.unwrap();
        content.write_bytes(&noise(2, length)).await.unwrap();
        content.finish().abandon();
    }
    put_file(&archive, b"kept", b"content").await.unwrap();
    let done = archive.finish().await.unwrap().commit(draft()).await.unwrap();
    assert_eq!(walk(&world.repo, done.snapshot.tree).await.unwrap().len(), 1);
}

#[tokio::test]
async fn a_failed_upload_fails_the_archive() {
    let world = World::new().await;
    let faulty = Arc::new(Faulty::new(Arc::new(world.memory.clone())));
    let repo = world.open_at(faulty.clone(), "one").await.unwrap();
    let (archive, _lock) = begin(&repo, ArchiveOptions::default()).await;
    faulty.add(Rule::new(Fault::Error(Failure::Full)).on(CallKind::Create).of(FileType::Pack));
    put_file(&archive, b"a", &noise(1, 1_000_000)).await.unwrap();
    let error = archive.finish().await.unwrap_err();
    assert!(error.is_full(), "{error}");
    assert_eq!(repo.snapshots().await.unwrap().found, []);
}

#[tokio::test]
async fn packs_come_before_indexes_and_the_snapshot_comes_last() {
    let world = World::new().await;
    let recording = Arc::new(Recording::new(Arc::new(world.memory.clone())));
    let repo = world.open_at(recording.clone(), "one").await.unwrap();
    recording.take();
    let files = Files::from([(b"a".to_vec(), Some(noise(1, 5_000_000))), (b"d/b".to_vec(), Some(b"b".to_vec()))]);
    back_up(&repo, &files).await.unwrap();
    let calls = recording.take();
    let created = calls.iter().filter(|call| call.kind() == CallKind::Create).filter_map(Call::file_type);
    let mut order: Vec<FileType> = created.filter(|file_type| *file_type != FileType::Lock).collect();
    order.dedup();
    assert_eq!(order, [FileType::Pack, FileType::Index, FileType::Snapshot]);
    let kinds =
        |file_type| calls.iter().position(|call| call.kind() == CallKind::Read && call.file_type() == Some(file_type));
    assert!(kinds(FileType::Pack).is_some(), "new packs are read back");
}

#[tokio::test]
async fn a_pack_that_does_not_read_back_is_not_published() {
    let world = World::new().await;
    let (archive, _lock) = begin(&world.repo, ArchiveOptions::default()).await;
    put_file(&archive, b"a", &noise(1, 700_000)).await.unwrap();
    let finished = archive.finish().await.unwrap();
    let content = world.memory.read(packs(&world)[0].clone(), None).await.unwrap();
    let mut damaged = content.to_vec();
    damaged[100] ^= 1;
    world.memory.put(packs(&world)[0].clone(), damaged);
    assert!(matches!(finished.commit(draft()).await, Err(RepoError::Unverified(_))));
    assert_eq!(world.repo.snapshots().await.unwrap().found, []);
}

/// What a prune does that runs while a writer is paused: the writer's lock is stale, an old pack is dropped.
async fn prune_meanwhile(world: &World, tombstone_only: bool) {
    let clock = TestClock::new(8);
    let storage = Arc::new(world.memory.clone());
    let other = Repository::open(storage, &password(), OpenOptions::default(), env(&clock, "two")).await.unwrap();
    assert_eq!(other.unlock(Unlock::All).await.unwrap().len(), 1);
    let exclusive = other.lock(LockKind::Exclusive, Duration::ZERO).await.unwrap();
    let files = world.memory.files();
    let indexes = files.iter().map(|(handle, _)| handle).filter(|handle| handle.file_type() == FileType::Index);
    let info: Vec<IndexPack> = {
        other.load_index().await.unwrap();
        let mut blobs = Vec::new();
        other.index().each(|kind, id, location| {
            if kind == BlobKind::Data {
                blobs.push((location.pack, id, location));
            }
        });
        blobs
            .into_iter()
            .map(|(pack, id, location)| {
                IndexPack::new(
                    pack,
                    vec![onggi_repo::format::PackEntry {
                        kind: BlobKind::Data,
                        id,
                        offset: location.offset,
                        length: location.length,
                        uncompressed_length: location.uncompressed_length,
                    }],
                )
            })
            .collect()
    };
    if tombstone_only {
        write_index(&other, IndexFile { packs_to_delete: info, ..IndexFile::default() }).await;
    }
    for index in indexes {
        world.memory.remove(index.clone()).await.unwrap();
    }
    if !tombstone_only {
        for pack in packs(world) {
            world.memory.remove(pack).await.unwrap();
        }
    }
    exclusive.release().await.unwrap();
}

/// Seals and writes an index file by means of the format alone.
async fn write_index(repo: &Repository, file: IndexFile) {
    let key = onggi_repo::format::KeyFile::parse(&repo.storage().read(repo.key_id().handle(), None).await.unwrap())
        .unwrap()
        .open(&password())
        .unwrap();
    let mut sealed = Vec::new();
    let plaintext = onggi_repo::format::unpacked::encode(&file.print());
    onggi_repo::format::seal::seal(&key, [7; 16], &plaintext, &mut sealed);
    let id = onggi_storage::FileId(onggi_repo::kernel::hash::sha256(&sealed));
    repo.storage().create(Handle::new(FileType::Index, id), sealed.into()).await.unwrap();
}

#[tokio::test]
async fn a_paused_writer_cannot_publish_after_a_prune() {
    for (tombstone_only, with_lock) in [(false, true), (false, false), (true, false)] {
        let world = World::new().await;
        let files = Files::from([(b"a".to_vec(), Some(noise(1, 700_000)))]);
        back_up(&world.repo, &files).await.unwrap();
        world.repo.load_index().await.unwrap();
        let held = world.repo.lock(LockKind::Shared, Duration::ZERO).await.unwrap();
        let lock = if with_lock { held } else { Lock::none() };
        let archive = Archive::begin(&world.repo, &lock, ArchiveOptions::default()).await.unwrap();
        put_all(&archive, &files).await.unwrap();
        // The process sleeps for a day; others find its lock stale.
        let finished = archive.finish().await.unwrap();
        prune_meanwhile(&world, tombstone_only).await;
        world.clock.advance(Duration::from_hours(24));
        let answer = finished.commit(draft()).await;
        let is_refused = matches!(answer, Err(RepoError::LockLost(_) | RepoError::Unverified(_)));
        assert!(is_refused, "tombstoned {tombstone_only}, with lock {with_lock}: {answer:?}");
        assert_eq!(world.repo.snapshots().await.unwrap().found.len(), 1, "only the old one");
    }
}

#[tokio::test]
async fn a_tombstoned_pack_is_read_and_not_deduplicated_against() {
    let world = World::new().await;
    let files = Files::from([(b"a".to_vec(), Some(noise(1, 700_000)))]);
    let first = back_up(&world.repo, &files).await.unwrap();
    drop(world.repo.lock(LockKind::Shared, Duration::ZERO).await.unwrap());
    prune_meanwhile(&world, true).await;
    let repo = world.open().await;
    repo.load_index().await.unwrap();
    let content = BlobId::of(&noise(1, 700_000));
    assert!(!repo.has(BlobKind::Data, &content));
    repo.blob(BlobKind::Data, content).await.unwrap();
    let second = back_up(&repo, &files).await.unwrap();
    assert_eq!(second.snapshot.summary.unwrap().figures.data_blobs, 1);
    assert_eq!(second.snapshot.tree, first.snapshot.tree);
}

fn described(mode: u32) -> Node {
    Node { uid: 5, mode, ..file_node() }
}

#[tokio::test]
async fn an_unchanged_file_takes_the_content_over_and_nothing_else() {
    let world = World::new().await;
    let bytes = noise(1, 2_000_000);
    let first = back_up(&world.repo, &Files::from([(b"d/a".to_vec(), Some(bytes.clone()))])).await.unwrap();
    let options = ArchiveOptions { parents: vec![first.id], ..ArchiveOptions::default() };
    let (archive, _lock) = begin(&world.repo, options).await;
    let parent = archive.parent(b"d/a").await.unwrap().unwrap();
    assert_eq!(parent.size, 2_000_000);
    assert!(archive.parent(b"d/b").await.unwrap().is_none());
    assert!(archive.can_keep(&parent));
    assert!(archive.keep_file(b"d/a", described(0o600), &parent).await.unwrap());
    let lost = Node { content: Some(vec![BlobId([1; 32])]), ..file_node() };
    assert!(!archive.keep_file(b"d/lost", described(0o600), &lost).await.unwrap());
    let done = archive.finish().await.unwrap().commit(draft()).await.unwrap();
    assert_eq!(done.snapshot.parent, Some(first.id));
    let summary = done.snapshot.summary.unwrap();
    assert_eq!(
        (summary.figures.files_unmodified, summary.figures.data_blobs, summary.figures.total_bytes_processed),
        (1, 0, 2_000_000)
    );
    let nodes = walk(&world.repo, done.snapshot.tree).await.unwrap();
    let node = &nodes[b"d/a".as_slice()];
    assert_eq!((node.mode, node.uid, node.size), (0o600, 5, 2_000_000));
    assert_eq!(node.content, parent.content);
}

#[test]
fn unchanged_means_size_times_and_inode() {
    let node = Node { size: 5, inode: 7, ..file_node() };
    let later = onggi_repo::format::Time::utc("2026-08-02T00:00:00Z".parse().unwrap());
    let cases = [
        (Node { ..node.clone() }, true),
        (Node { inode: 0, ..node.clone() }, true),
        (Node { inode: 8, ..node.clone() }, false),
        (Node { size: 6, ..node.clone() }, false),
        (Node { mtime: later, ..node.clone() }, false),
        (Node { ctime: later, ..node.clone() }, false),
        (Node { mode: 0, uid: 9, ..node.clone() }, true),
        (Node { content: None, ..node.clone() }, false),
    ];
    for (index, (parent, expected)) in cases.iter().enumerate() {
        assert_eq!(is_unchanged(&node, parent, true), *expected, "case {index}");
    }
    assert!(is_unchanged(&node, &cases[5].0, false), "a source without ctime");
}

#[tokio::test]
async fn items_come_in_any_order_but_once() {
    let world = World::new().await;
    let (archive, _lock) = begin(&world.repo, ArchiveOptions::default()).await;
    put_file(&archive, b"d/e/f", b"1").await.unwrap();
    archive.leave(b"d/e").await.unwrap();
    let is_refused = |answer: Result<(), RepoError>| matches!(answer, Err(RepoError::Refused { .. }));
    assert!(is_refused(put_file(&archive, b"d/e/late", b"1").await));
    assert!(is_refused(put_file(&archive, b"d/e", b"1").await));
    archive.put(b"d/e", dir_node()).await.unwrap();
    assert!(is_refused(archive.put(b"d/e", dir_node()).await));
    put_file(&archive, b"x", b"1").await.unwrap();
    assert!(is_refused(put_file(&archive, b"x", b"2").await));
    assert!(is_refused(put_file(&archive, b"x/y", b"2").await));
    for name in [b"".as_slice(), b".", b"..", b"a/../b", b"a//b", b"/a", b"a\0b", &[b'n'; 256]] {
        assert!(is_refused(put_file(&archive, name, b"1").await), "{name:?}");
    }
    let done = archive.finish().await.unwrap().commit(draft()).await.unwrap();
    let nodes = walk(&world.repo, done.snapshot.tree).await.unwrap();
    let names: Vec<&[u8]> = nodes.keys().map(Vec::as_slice).collect();
    assert_eq!(names, [b"d".as_slice(), b"d/e", b"d/e/f", b"x"]);
    assert_eq!(nodes[b"d".as_slice()].permissions(), 0o755, "never described");
    assert_eq!(nodes[b"d/e".as_slice()].mtime, mtime());
}

#[tokio::test]
async fn a_hole_costs_one_blob() {
    let world = World::new().await;
    let (archive, _lock) = begin(&world.repo, ArchiveOptions::default()).await;
    let mut content = archive.content(Cutting::Default, None).await.unwrap();
    content.zeros(1 << 30).await.unwrap();
    content.write_bytes(b"end").await.unwrap();
    archive.put_file(b"sparse", file_node(), content.finish()).await.unwrap();
    let mut content = archive.content(Cutting::Fixed(256 << 10), None).await.unwrap();
    content.zeros(1 << 30).await.unwrap();
    archive.put_file(b"sparse disk", file_node(), content.finish()).await.unwrap();
    let done = archive.finish().await.unwrap().commit(draft()).await.unwrap();
    let nodes = walk(&world.repo, done.snapshot.tree).await.unwrap();
    let pieces = nodes[b"sparse disk".as_slice()].chunks();
    assert_eq!(pieces.len(), 4096);
    assert!(pieces.iter().all(|id| Some(*id) == id_of_zeros(256 << 10)));
    let chunks = nodes[b"sparse".as_slice()].chunks();
    assert_eq!(chunks.len(), 2049);
    assert!(chunks[..2048].iter().all(|id| Some(*id) == id_of_zeros(512 << 10)));
    assert_eq!(done.snapshot.summary.unwrap().figures.data_blobs, 3);
}

#[tokio::test]
async fn fixed_and_given_cuts_are_kept() {
    let world = World::new().await;
    let (archive, _lock) = begin(&world.repo, ArchiveOptions::default()).await;
    put_file_as(&archive, b"fixed", &noise(1, 200_000), Cutting::Fixed(65_536)).await.unwrap();
    let mut content = archive.content(Cutting::AsGiven, None).await.unwrap();
    for length in [1, 70_000, 3_000_000] {
        content.write_bytes(&noise(2, length)).await.unwrap();
    }
    archive.put_file(b"given", file_node(), content.finish()).await.unwrap();
    put_file_as(&archive, b"small", &noise(3, 2_000_000), Cutting::Content { mean: 128 << 10 }).await.unwrap();
    let done = archive.finish().await.unwrap().commit(draft()).await.unwrap();
    let nodes = walk(&world.repo, done.snapshot.tree).await.unwrap();
    let lengths = |path: &[u8]| -> Vec<u32> {
        let length = |id| world.repo.blob_length(BlobKind::Data, id).unwrap();
        nodes[path].chunks().iter().map(length).collect()
    };
    assert_eq!(lengths(b"fixed"), [65_536, 65_536, 65_536, 3_392]);
    assert_eq!(lengths(b"given"), [1, 70_000, 3_000_000]);
    assert!(lengths(b"small").len() > 5);
}

#[tokio::test]
async fn earlier_chunks_are_kept_around_new_ones() {
    let world = World::new().await;
    let old = noise(1, 12_000_000);
    let first = back_up(&world.repo, &Files::from([(b"disk".to_vec(), Some(old.clone()))])).await.unwrap();
    let chunks = walk(&world.repo, first.snapshot.tree).await.unwrap()[b"disk".as_slice()].chunks().to_vec();
    let chunks: Vec<(BlobId, u64)> =
        chunks.iter().map(|id| (*id, u64::from(world.repo.blob_length(BlobKind::Data, id).unwrap()))).collect();
    let start: u64 = chunks[..2].iter().map(|(_, length)| length).sum();
    let end = start + chunks[2].1;
    let changed = noise(9, (end - start) as usize);
    let (archive, _lock) = begin(&world.repo, ArchiveOptions::default()).await;
    let mut content = archive.content(Cutting::Default, None).await.unwrap();
    content.keep(&chunks[..2]).await.unwrap();
    content.write_bytes(&changed).await.unwrap();
    assert!((start..=end).contains(&content.last_cut().await.unwrap()));
    content.keep(&chunks[3..]).await.unwrap();
    assert_eq!(content.len(), 12_000_000);
    assert!(content.keep(&[(BlobId([3; 32]), 5)]).await.unwrap_err().is_not_found());
    archive.put_file(b"disk", file_node(), content.finish()).await.unwrap();
    let done = archive.finish().await.unwrap().commit(draft()).await.unwrap();
    let expected = [&old[..start as usize], &changed, &old[end as usize..]].concat();
    let read = read_all(&world.repo, done.snapshot.tree).await.unwrap();
    assert!(read[b"disk".as_slice()].as_ref() == Some(&expected));
}

#[tokio::test]
async fn a_dry_run_counts_and_stores_nothing() {
    let world = World::new().await;
    let before = world.memory.files().len();
    let (archive, lock) = begin(&world.repo, ArchiveOptions { dry_run: true, ..ArchiveOptions::default() }).await;
    put_file(&archive, b"a", &noise(1, 700_000)).await.unwrap();
    put_file(&archive, b"b", &noise(1, 700_000)).await.unwrap();
    let finished = archive.finish().await.unwrap();
    assert_eq!((finished.stats().data_blobs, finished.stats().files_new), (1, 2));
    assert!(matches!(finished.commit(draft()).await, Err(RepoError::Refused { .. })));
    lock.release().await.unwrap();
    assert_eq!(world.memory.files().len(), before);
}

#[tokio::test]
async fn an_interrupted_run_goes_on_where_it_was() {
    let world = World::new().await;
    let folder = tempfile::tempdir().unwrap();
    let journal = Some(folder.path().join("journal"));
    let options = || ArchiveOptions { journal: journal.clone(), ..ArchiveOptions::default() };
    let (archive, lock) = begin(&world.repo, options()).await;
    put_file(&archive, b"d/done\xff", &noise(1, 3_000_000)).await.unwrap();
    while archive.stats().data_added_packed < 3_000_000 {
        tokio::task::yield_now().await;
    }
    let mut content = archive.content(Cutting::Default, None).await.unwrap();
    let disk = noise(2, 9_000_000);
    content.write_bytes(&disk[..5_000_000]).await.unwrap();
    let cut = content.last_cut().await.unwrap();
    while archive.stats().data_added_packed < 3_000_000 + cut {
        tokio::task::yield_now().await;
    }
    archive.checkpoint(b"disk", "generation 1", &mut content);
    content.write_bytes(&disk[5_000_000..]).await.unwrap();
    let later = content.last_cut().await.unwrap();
    while archive.stats().data_added_packed < 3_000_000 + later {
        tokio::task::yield_now().await;
    }
    archive.checkpoint(b"disk", "generation 1", &mut content);
    archive.flush().await.unwrap();
    drop((content, archive));
    lock.release().await.unwrap();
    // The index that the flush wrote is lost with the machine: its packs are adopted.
    for (handle, _) in world.memory.files() {
        if handle.file_type() == FileType::Index {
            world.memory.remove(handle).await.unwrap();
        }
    }
    let repo = world.open().await;
    let (archive, _lock) = begin(&repo, options()).await;
    let parent = archive.parent(b"d/done\xff").await.unwrap().unwrap();
    assert!(archive.keep_file(b"d/done\xff", file_node(), &parent).await.unwrap());
    assert_eq!(archive.resume(b"disk", "generation 2"), []);
    let chunks = archive.resume(b"disk", "generation 1");
    let offset: u64 = chunks.iter().map(|(_, length)| length).sum();
    assert_eq!(offset, later, "both checkpoints count");
    let mut content = archive.content(Cutting::Default, None).await.unwrap();
    content.keep(&chunks).await.unwrap();
    content.write_bytes(&disk[offset as usize..]).await.unwrap();
    archive.put_file(b"disk", file_node(), content.finish()).await.unwrap();
    let done = archive.finish().await.unwrap().commit(draft()).await.unwrap();
    assert!(!journal.unwrap().exists(), "nothing is left to resume");
    let read = read_all(&repo, done.snapshot.tree).await.unwrap();
    assert!(read[b"disk".as_slice()].as_ref() == Some(&disk));
    assert!(read[b"d/done\xff".as_slice()].as_ref() == Some(&noise(1, 3_000_000)));
    let fresh = world.open().await;
    fresh.load_index().await.unwrap();
    assert!(read_all(&fresh, done.snapshot.tree).await.unwrap() == read, "adopted packs are announced");
}
