//! What backups and restores of a folder cost: `cargo bench --bench pipeline -- <folder> <repository> <target>`.
//!
//! The first call makes the repository and backs the folder up, the second restores the newest snapshot, further ones
//! back the folder up again. Each step prints wall time, processor time and the highest resident memory. Without
//! arguments it does nothing, so that `cargo bench` can run all benches.

#![allow(clippy::print_stdout, clippy::disallowed_methods, missing_docs, reason = "a tool that measures real files")]

use futures::{StreamExt, stream};
use onggi_repo::{
    Archive, ArchiveOptions, Compute, Cutting, Environment, Fetch, FetchOptions, FetchSink, Host, LockKind,
    NewRepository, Problem, Repository, SnapshotDraft,
    archive::{WINDOW_LENGTH, is_unchanged},
    format::{BlobId, KdfCost, Node, NodeKind, SnapshotId, Time},
};
use onggi_storage::{clock::SystemClock, local::Local};
use rustix::time::{ClockId, clock_gettime};
use std::{
    fs::{self, File},
    os::unix::{
        ffi::OsStrExt,
        fs::{FileExt, MetadataExt},
    },
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

type Result<T, E = Box<dyn std::error::Error + Send + Sync>> = std::result::Result<T, E>;

fn main() -> Result<()> {
    let paths: Vec<PathBuf> = std::env::args_os().skip(1).filter(|arg| arg != "--bench").map(PathBuf::from).collect();
    let [folder, repository, target] = paths.as_slice() else { return Ok(()) };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(async {
        let (env, password) = (environment(), "x".into());
        let storage = Arc::new(Local::new(repository.clone()));
        let new = NewRepository { polynomial: Some("3da3358b4dc173".parse()?), kdf: KdfCost::STANDARD };
        if !repository.exists() {
            let repo = step("create", Repository::create(storage.clone(), &password, new, env.clone())).await?;
            step("first backup", back_up(&repo, folder, &[])).await?;
            return Ok(());
        }
        let open = || Repository::open(storage.clone(), &password, onggi_repo::OpenOptions::default(), env.clone());
        let parent = open().await?.snapshots().await?.found.last().ok_or("no snapshot")?.0;
        if target.exists() {
            step("all read again", async { back_up(&open().await?, folder, &[]).await }).await?;
            step("unchanged", async { back_up(&open().await?, folder, &[parent]).await }).await?;
            return Ok(());
        }
        step("restore", async {
            let repo = open().await?;
            repo.load_index().await?;
            restore(&repo, parent, target).await
        })
        .await
    })
}

fn environment() -> Environment {
    let host = Host { hostname: "bench".into(), username: "bench".into(), pid: std::process::id(), uid: 0, gid: 0 };
    let threads = std::thread::available_parallelism().map_or(2, usize::from);
    Environment { clock: Arc::new(SystemClock), host, compute: Compute::new(threads) }
}

async fn step<T>(
    name: &str,
    work: impl Future<Output = Result<T, impl Into<Box<dyn std::error::Error + Send + Sync>>>>,
) -> Result<T> {
    drop(fs::write("/proc/self/clear_refs", "5"));
    let cpu = || Duration::try_from(clock_gettime(ClockId::ProcessCPUTime)).unwrap_or_default();
    let (start, cpu_start) = (Instant::now(), cpu());
    let answer = work.await.map_err(Into::into)?;
    let (wall, cpu) = (start.elapsed(), cpu().saturating_sub(cpu_start));
    let status = fs::read_to_string("/proc/self/status")?;
    let peak = status.lines().find(|line| line.starts_with("VmHWM")).unwrap_or_default();
    println!("{name}: {:.2} s, processor {:.2} s, {peak}", wall.as_secs_f64(), cpu.as_secs_f64());
    Ok(answer)
}

async fn back_up(repo: &Repository, folder: &Path, parents: &[SnapshotId]) -> Result<SnapshotId> {
    let lock = repo.lock(LockKind::Shared, Duration::ZERO).await?;
    repo.load_index().await?;
    let options = ArchiveOptions { parents: parents.to_vec(), ..ArchiveOptions::default() };
    let archive = Archive::begin(repo, &lock, options).await?;
    let mut open = vec![(folder.to_path_buf(), Vec::new())];
    while let Some((folder, path)) = open.pop() {
        let mut files = Vec::new();
        for entry in fs::read_dir(folder)? {
            let entry = entry?;
            let metadata = entry.path().symlink_metadata()?;
            let name = entry.file_name();
            let path: Vec<u8> = if path.is_empty() {
                name.as_bytes().to_vec()
            } else {
                [&path, b"/".as_slice(), name.as_bytes()].concat()
            };
            if metadata.is_dir() {
                archive.put(&path, node(&metadata, NodeKind::Dir)).await?;
                open.push((entry.path(), path));
            } else {
                files.push((entry.path(), path, metadata));
            }
        }
        let files = stream::iter(files).map(|(file, path, metadata)| put_file(&archive, file, path, metadata));
        let mut files = files.buffer_unordered(16);
        while let Some(put) = files.next().await {
            put?;
        }
    }
    let draft = SnapshotDraft {
        time: jiff::Timestamp::now(),
        hostname: "bench".into(),
        paths: vec![folder.display().to_string()],
        tags: Vec::new(),
        excludes: Vec::new(),
        program_version: "onggi bench".into(),
    };
    let committed = archive.finish().await?.commit(draft).await?;
    lock.release().await?;
    Ok(committed.id)
}

fn node(metadata: &fs::Metadata, kind: NodeKind) -> Node {
    let time = |seconds, nanoseconds| {
        Time::utc(jiff::Timestamp::new(seconds, i32::try_from(nanoseconds).unwrap_or(0)).unwrap_or_default())
    };
    let mut node = Node::new(Vec::new(), kind, metadata.mode(), time(metadata.mtime(), metadata.mtime_nsec()));
    node.ctime = time(metadata.ctime(), metadata.ctime_nsec());
    (node.uid, node.gid, node.inode, node.links) = (metadata.uid(), metadata.gid(), metadata.ino(), metadata.nlink());
    if node.kind == NodeKind::Dir {
        node.links = 0
    } else {
        node.size = metadata.len();
    }
    node
}

async fn put_file(archive: &Archive, file: PathBuf, path: Vec<u8>, metadata: fs::Metadata) -> Result<()> {
    let node = node(&metadata, NodeKind::File);
    if let Some(parent) = archive.parent(&path).await?
        && is_unchanged(&node, &parent, true)
        && archive.keep_file(&path, node.clone(), &parent).await?
    {
        return Ok(());
    }
    let source = File::open(file)?;
    let length = metadata.len();
    let mut content = archive.content(Cutting::Default, Some(length)).await?;
    let mut at = 0;
    while at < length {
        let hole = next_data(&source, at, length) - at;
        if hole > 0 {
            content.zeros(hole).await?;
            at += hole;
            continue;
        }
        let end = rustix::fs::seek(&source, rustix::fs::SeekFrom::Hole(at)).unwrap_or(length).min(length);
        let mut window = content.window(((end - at) as usize).min(WINDOW_LENGTH)).await?;
        source.read_exact_at(&mut window, at)?;
        at += window.len() as u64;
        content.write(window).await?;
    }
    archive.put_file(&path, node, content.finish()).await?;
    Ok(())
}

fn next_data(source: &File, at: u64, length: u64) -> u64 {
    rustix::fs::seek(source, rustix::fs::SeekFrom::Data(at)).unwrap_or(length).min(length)
}

struct Target(Vec<PathBuf>);

impl Target {
    fn open(&self, key: usize) -> File {
        File::options().write(true).create(true).truncate(false).open(&self.0[key]).expect("a target opens")
    }
}

impl FetchSink for Target {
    fn write(&self, key: usize, offset: u64, bytes: &[u8]) {
        self.open(key).write_all_at(bytes, offset).expect("a target takes bytes");
    }

    fn hole(&self, key: usize, offset: u64, length: u64) {
        let file = self.open(key);
        if file.metadata().expect("a target is described").len() < offset + length {
            file.set_len(offset + length).expect("a target grows");
        }
    }

    fn lost(&self, _: usize, _: u64, _: u64, problem: Problem) {
        println!("{problem}");
    }

    fn done(&self, _: usize) {}
}

async fn restore(repo: &Repository, snapshot: SnapshotId, target: &Path) -> Result<()> {
    let root = repo.snapshot(snapshot).await?.tree;
    let (mut names, mut fetches): (Vec<PathBuf>, Vec<Fetch>) = (Vec::new(), Vec::new());
    let mut open: Vec<(PathBuf, BlobId)> = vec![(target.to_path_buf(), root)];
    while let Some((path, tree)) = open.pop() {
        fs::create_dir_all(&path)?;
        for node in repo.tree(tree).await?.nodes() {
            let path = path.join(std::ffi::OsStr::from_bytes(&node.name));
            match node.subtree {
                Some(subtree) => open.push((path, subtree)),
                None => {
                    if node.size == 0 {
                        File::create(&path)?;
                    }
                    fetches.push(Fetch { key: names.len(), content: node.chunks().to_vec() });
                    names.push(path);
                }
            }
        }
    }
    repo.fetch(fetches, Arc::new(Target(names)), FetchOptions::default()).await?;
    Ok(())
}
