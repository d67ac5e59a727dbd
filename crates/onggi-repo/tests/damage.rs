//! Every kind of damage to every kind of file: whoever reads gets the bytes that were stored or is told, and what verify
//! finds nothing wrong with restores.

#![expect(clippy::unwrap_used, reason = "a test ends where its world is not as expected")]

mod common;

use bytes::Bytes;
use common::*;
use onggi_repo::{
    Fetch, FetchOptions, LockKind, Repository,
    format::{BlobId, NodeKind, SnapshotId},
    verify::ReadData,
};
use onggi_storage::{FileId, FileType, Handle, OwnFolder, Storage, memory::Memory};
use std::{sync::Arc, time::Duration};

/// What happens to a file.
#[derive(Debug, Clone)]
enum Damage {
    Removed,
    Cut(usize),
    Extended(usize),
    Flipped(usize),
    Zeroed,
    Swapped(Handle),
    /// The same content under another name too.
    Doubled,
}

fn first() -> Files {
    Files::from([
        (b"d".to_vec(), None),
        (b"d/noise".to_vec(), Some(noise(1, 300_000))),
        (b"text".to_vec(), Some(b"line by line\n".repeat(5000))),
    ])
}

fn second() -> Files {
    let mut files = first();
    files.insert(b"d/more".to_vec(), Some(noise(2, 200_000)));
    files.insert(b"empty".to_vec(), Some(Vec::new()));
    files
}

fn later() -> Files {
    Files::from([(b"d".to_vec(), None), (b"d/noise".to_vec(), Some(noise(1, 300_000)))])
}

async fn inflict(memory: &Memory, handle: &Handle, content: &[u8], damage: &Damage) {
    let mut bytes = content.to_vec();
    match damage {
        Damage::Removed => return memory.remove(handle.clone()).await.unwrap(),
        Damage::Cut(length) => bytes.truncate(*length),
        Damage::Extended(by) => bytes.extend(noise(9, *by)),
        Damage::Flipped(bit) => bytes[bit / 8] ^= 1 << (bit % 8),
        Damage::Zeroed => bytes.fill(0),
        Damage::Swapped(other) => {
            let theirs = memory.files().into_iter().find(|(found, _)| found == other).unwrap().1;
            memory.put(other.clone(), Bytes::from(bytes));
            return memory.put(handle.clone(), theirs);
        }
        Damage::Doubled => {
            return memory.put(Handle::new(handle.file_type(), FileId([8; 32])), Bytes::from(bytes));
        }
    }
    memory.put(handle.clone(), Bytes::from(bytes));
}

/// The kinds of damage that a file can take, with so many flips of a bit.
fn damages(files: &[(Handle, Bytes)], handle: &Handle, length: usize, flips: usize) -> Vec<Damage> {
    let mut damages = vec![Damage::Removed, Damage::Extended(1), Damage::Extended(100), Damage::Zeroed];
    damages.extend([0, 1, length / 2, length - 1].map(Damage::Cut));
    let other = files.iter().find(|(other, _)| other.file_type() == handle.file_type() && other != handle);
    damages.extend(other.map(|(other, _)| Damage::Swapped(other.clone())));
    damages.extend(handle.id().map(|_| Damage::Doubled));
    let places = noise(length as u64, flips * 8);
    let places = places.chunks_exact(8).map(|word| u64::from_le_bytes(word.try_into().unwrap()) as usize);
    damages.extend(places.map(|place| Damage::Flipped(place % (length * 8))));
    damages
}

/// Reads all that can be read of a tree, insists on its bytes, and answers whether that was everything.
async fn reads(repo: &Repository, tree: BlobId, expected: &Files, at: &str) -> bool {
    let Ok(nodes) = walk(repo, tree).await else { return false };
    let files: Vec<_> = nodes.into_iter().filter(|(_, node)| node.kind == NodeKind::File).collect();
    let wanted = files.iter().enumerate().map(|(key, (_, node))| Fetch { key, content: node.chunks().to_vec() });
    let sink = Arc::new(Collect::default());
    if repo.fetch(wanted.collect(), sink.clone(), FetchOptions::default()).await.is_err() {
        return false;
    }
    let mut state = sink.state.lock().unwrap();
    let lost: Vec<usize> = state.lost.iter().map(|lost| lost.0).collect();
    for (key, (path, _)) in files.iter().enumerate().filter(|(key, _)| !lost.contains(key)) {
        let read = state.files.remove(&key).unwrap_or_default();
        assert!(expected[path].as_ref() == Some(&read), "{at}: wrong bytes in {}", String::from_utf8_lossy(path));
    }
    lost.is_empty() && files.len() == expected.values().flatten().count()
}

/// One damage: whoever opens, verifies, reads or backs up on it.
async fn endure(world: &World, memory: Memory, kept: &[(SnapshotId, BlobId, Files)], at: &str) -> bool {
    let storage = Arc::new(memory);
    let Ok(repo) = world.open_at(storage.clone(), "reads").await else { return true };
    let Ok(lock) = repo.lock(LockKind::Shared, Duration::ZERO).await else { return true };
    let Ok(report) = repo.verify(&lock, ReadData::All, &Arc::default()).await else { return true };
    let is_told = !report.problems.is_empty() || !repo.problems().is_empty();
    lock.release().await.unwrap();
    let Ok(snapshots) = repo.snapshots().await else { return true };
    for (id, snapshot) in &snapshots.found {
        // Under another name it is a copy of one of ours.
        let is_known = |(known, tree, _): &&(SnapshotId, BlobId, Files)| known == id || *tree == snapshot.tree;
        let (_, _, files) = kept.iter().find(is_known).unwrap_or_else(|| panic!("{at}: a snapshot from nowhere"));
        assert!(reads(&repo, snapshot.tree, files, at).await || is_told, "{at}: not everything, and nobody told");
    }
    if let Ok(made) = back_up(&world.open_at(storage.clone(), "writes").await.unwrap(), &later()).await {
        let repo = world.open_at(storage, "reads again").await.unwrap();
        repo.load_index().await.ok();
        let is_whole = reads(&repo, made.snapshot.tree, &later(), at).await;
        assert!(is_whole || is_told, "{at}: a backup was acknowledged that does not restore, and nobody told");
    }
    is_told
}

/// How many bits of each file are flipped: `ONGGI_DAMAGE_FLIPS`, else a sample.
fn flips() -> usize {
    std::env::var("ONGGI_DAMAGE_FLIPS").ok().and_then(|flips| flips.parse().ok()).unwrap_or(12)
}

#[tokio::test]
async fn no_damage_gives_wrong_bytes_or_goes_unnoticed() {
    let world = World::new().await;
    let mut kept = Vec::new();
    for files in [first(), second()] {
        let made = back_up(&world.open().await, &files).await.unwrap();
        kept.push((made.id, made.snapshot.tree, files));
    }
    let files = world.memory.files();
    let (mut runs, mut told) = (0, 0);
    for (handle, content) in &files {
        for damage in damages(&files, handle, content.len(), flips()) {
            let memory = world.memory.copy();
            inflict(&memory, handle, content, &damage).await;
            let at = format!("{handle} {damage:?}");
            let is_told = endure(&world, memory, &kept, &at).await;
            let is_quiet = match (&damage, handle.file_type()) {
                // restic makes repositories without spare copies.
                (Damage::Doubled, _) | (Damage::Removed, FileType::Own(OwnFolder::Control)) => true,
                // Of a key only what opens the repository is under seal: not for whom and when it was made.
                (Damage::Flipped(_), FileType::Key) => true,
                // Nobody can tell that a snapshot was there once.
                (damage, file_type) => file_type == FileType::Snapshot && matches!(damage, Damage::Removed),
            };
            assert!(is_told || is_quiet, "{at}: not told");
            runs += 1;
            told += u32::from(is_told);
        }
    }
    println!("ledger: damage to a file of the repository | {runs} | {told}");
}
