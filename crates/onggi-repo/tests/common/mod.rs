//! What the tests of this crate share: a world of fakes, and a small tree of files to put in and take out.

#![allow(dead_code, clippy::unwrap_used, reason = "each test file uses its part, and panics where it fails")]

use onggi_repo::{
    Archive, ArchiveOptions, Compute, Cutting, Environment, Fetch, FetchOptions, FetchSink, Finished, Host, Lock,
    LockKind, NewRepository, OpenOptions, Problem, Repository, Result, SnapshotDraft,
    archive::Committed,
    format::{BlobId, KdfCost, Node, NodeKind, Time, Tree},
};
use onggi_storage::{Storage, clock::TestClock, memory::Memory};
use secrecy::SecretString;
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Duration,
};

/// A file's path and content, or a directory's path and nothing.
pub type Files = BTreeMap<Vec<u8>, Option<Vec<u8>>>;

/// A repository in memory with a clock that tests move.
pub struct World {
    pub memory: Memory,
    pub clock: TestClock,
    pub repo: Repository,
}

pub fn password() -> SecretString {
    "correct horse".into()
}

pub fn host(name: &str) -> Host {
    Host { hostname: name.into(), username: "operator".into(), pid: 4_000_000, uid: 1000, gid: 1000 }
}

pub fn env(clock: &TestClock, name: &str) -> Environment {
    Environment { clock: Arc::new(clock.clone()), host: host(name), compute: Compute::new(2) }
}

pub fn new() -> NewRepository {
    NewRepository { polynomial: Some("3da3358b4dc173".parse().unwrap()), kdf: KdfCost::testing() }
}

impl World {
    pub async fn new() -> Self {
        let clock = TestClock::new(7);
        let memory = Memory::new().with_clock(Arc::new(clock.clone()));
        let repo = Repository::create(Arc::new(memory.clone()), &password(), new(), env(&clock, "one")).await.unwrap();
        Self { memory, clock, repo }
    }

    /// Another process on another host, through any storage.
    pub async fn open_at(&self, storage: Arc<dyn Storage>, name: &str) -> Result<Repository> {
        Repository::open(storage, &password(), OpenOptions::default(), env(&self.clock, name)).await
    }

    pub async fn open(&self) -> Repository {
        self.open_at(Arc::new(self.memory.clone()), "two").await.unwrap()
    }
}

pub fn draft() -> SnapshotDraft {
    SnapshotDraft {
        time: "2026-09-01T11:00:00Z".parse().unwrap(),
        hostname: "unit".into(),
        paths: vec!["/data".into()],
        tags: vec!["onggi".into()],
        excludes: Vec::new(),
        program_version: "onggi test".into(),
    }
}

pub fn mtime() -> Time {
    Time::utc("2026-08-01T00:00:00.5Z".parse().unwrap())
}

pub fn file_node() -> Node {
    Node::new(b"".as_slice(), NodeKind::File, 0o644, mtime())
}

pub fn dir_node() -> Node {
    Node::new(b"".as_slice(), NodeKind::Dir, 0o755, mtime())
}

/// Bytes without any pattern.
pub fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = move || {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    };
    let mut bytes: Vec<u8> = (0..length.div_ceil(8)).flat_map(|_| next().to_le_bytes()).collect();
    bytes.truncate(length);
    bytes
}

pub async fn put_file(archive: &Archive, path: &[u8], bytes: &[u8]) -> Result<()> {
    put_file_as(archive, path, bytes, Cutting::Default).await
}

pub async fn put_file_as(archive: &Archive, path: &[u8], bytes: &[u8], cutting: Cutting) -> Result<()> {
    let mut content = archive.content(cutting, Some(bytes.len() as u64)).await?;
    if let Err(error) = content.write_bytes(bytes).await {
        content.abandon();
        return Err(error);
    }
    archive.put_file(path, file_node(), content.finish()).await
}

/// Puts all files in, in the order of the map.
pub async fn put_all(archive: &Archive, files: &Files) -> Result<()> {
    for (path, content) in files {
        match content {
            Some(bytes) => put_file(archive, path, bytes).await?,
            None => archive.put(path, dir_node()).await?,
        }
    }
    Ok(())
}

pub async fn finish(repo: &Repository, lock: &Lock, options: ArchiveOptions, files: &Files) -> Result<Finished> {
    let archive = Archive::begin(repo, lock, options).await?;
    put_all(&archive, files).await?;
    archive.finish().await
}

/// A whole backup, as an engine does it.
pub async fn back_up(repo: &Repository, files: &Files) -> Result<Committed> {
    back_up_with(repo, ArchiveOptions::default(), files).await
}

pub async fn back_up_with(repo: &Repository, options: ArchiveOptions, files: &Files) -> Result<Committed> {
    let lock = repo.lock(LockKind::Shared, Duration::ZERO).await?;
    repo.load_index().await?;
    let committed = finish(repo, &lock, options, files).await?.commit(draft()).await?;
    lock.release().await?;
    Ok(committed)
}

/// Everything below a tree, by path.
pub async fn walk(repo: &Repository, root: BlobId) -> Result<BTreeMap<Vec<u8>, Node>> {
    let mut found = BTreeMap::new();
    let mut open = vec![(Vec::new(), root)];
    while let Some((path, id)) = open.pop() {
        let tree: Arc<Tree> = repo.tree(id).await?;
        for node in tree.nodes() {
            let path = if path.is_empty() { node.name.clone() } else { [&path[..], b"/", &node.name].concat() };
            if let Some(subtree) = node.subtree {
                open.push((path.clone(), subtree));
            }
            found.insert(path, node.clone());
        }
    }
    Ok(found)
}

/// All files and directories below a tree with their content, read by `fetch`.
pub async fn read_all(repo: &Repository, root: BlobId) -> Result<Files> {
    let nodes: Vec<(Vec<u8>, Node)> = walk(repo, root).await?.into_iter().collect();
    let wanted = nodes.iter().enumerate().filter(|(_, (_, node))| node.kind == NodeKind::File);
    let fetches = wanted.map(|(key, (_, node))| Fetch { key, content: node.chunks().to_vec() }).collect();
    let sink = Arc::new(Collect::default());
    repo.fetch(fetches, sink.clone(), FetchOptions::default()).await?;
    let mut collected = sink.state.lock().unwrap();
    assert_eq!(collected.lost, []);
    let mut files = Files::new();
    for (key, (path, node)) in nodes.into_iter().enumerate() {
        let is_file = node.kind == NodeKind::File;
        let content = is_file.then(|| collected.files.remove(&key).unwrap_or_default());
        if let Some(content) = &content {
            assert_eq!(content.len() as u64, node.size);
            assert!(collected.done.contains(&key));
        }
        files.insert(path, content);
    }
    Ok(files)
}

/// A sink that keeps everything in memory.
#[derive(Default)]
pub struct Collect {
    pub state: Mutex<Collected>,
}

#[derive(Default)]
pub struct Collected {
    pub files: BTreeMap<usize, Vec<u8>>,
    pub done: Vec<usize>,
    pub holes: u64,
    pub lost: Vec<(usize, u64, u64, Problem)>,
}

impl FetchSink for Collect {
    fn write(&self, key: usize, offset: u64, bytes: &[u8]) {
        let mut state = self.state.lock().unwrap();
        let file = state.files.entry(key).or_default();
        let (start, end) = (offset as usize, offset as usize + bytes.len());
        if file.len() < end {
            file.resize(end, 0);
        }
        file[start..end].copy_from_slice(bytes);
    }

    fn hole(&self, key: usize, offset: u64, length: u64) {
        let mut state = self.state.lock().unwrap();
        state.holes += length;
        let end = (offset + length) as usize;
        let file = state.files.entry(key).or_default();
        if file.len() < end {
            file.resize(end, 0);
        }
    }

    fn lost(&self, key: usize, offset: u64, length: u64, problem: Problem) {
        self.state.lock().unwrap().lost.push((key, offset, length, problem));
    }

    fn done(&self, key: usize) {
        self.state.lock().unwrap().done.push(key);
    }
}
