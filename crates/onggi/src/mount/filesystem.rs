//! Answers the kernel. Each request that reads the repository is a task of its own, so that a slow one holds up none.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use fuser::{
    Errno, FileHandle, FileType, Filesystem, FopenFlags, Generation, INodeNo, LockOwner, OpenFlags, ReplyAttr,
    ReplyData, ReplyDirectory, ReplyEmpty, ReplyEntry, ReplyOpen, ReplyXattr, Request,
};
use onggi_engine::blobs::Blobs;
use onggi_repo::Repository;
use onggi_repo::format::{BlobId, BlobKind, Node, NodeKind};
use tokio::runtime::Handle;
use tokio::time::Instant;

use super::attributes::{self, Owner};
use super::catalog::{Catalog, Select};
use super::entry::Entry;
use super::inodes::{Inodes, number_of};
use crate::escape::escape;

/// What is stored never changes, so the kernel may remember it long.
const STORED_FOR: Duration = Duration::from_hours(1);
/// The folders above the snapshots change with each new one.
const CATALOG_FOR: Duration = Duration::from_secs(1);
/// The snapshots are listed anew after this time, when somebody looks.
const RELOAD_AFTER: Duration = Duration::from_secs(30);

/// The mounted file system.
pub struct Mounted {
    shared: Arc<Shared>,
    runtime: Handle,
}

struct Shared {
    repo: Repository,
    select: Select,
    owner: Owner,
    catalog: tokio::sync::Mutex<(Arc<Catalog>, Instant)>,
    inodes: Mutex<Inodes>,
    opened: Mutex<HashMap<u64, Opened>>,
    next_handle: AtomicU64,
    blobs: Blobs,
}

/// What an open handle stands for.
#[derive(Clone)]
enum Opened {
    Listing(Arc<Vec<Listed>>),
    Content(Arc<Vec<Piece>>),
}

struct Listed {
    number: u64,
    kind: FileType,
    name: Vec<u8>,
}

/// A piece of a file: where it ends, and its blob.
struct Piece {
    end: u64,
    length: u64,
    id: BlobId,
}

type Answer<T> = Result<T, Errno>;

impl Mounted {
    /// Shows these snapshots; nothing is read yet.
    pub fn new(repo: Repository, select: Select, catalog: Catalog, runtime: Handle) -> Self {
        let host = &repo.env().host;
        let owner = Owner { uid: host.uid, gid: host.gid, since: SystemTime::from(repo.env().clock.now()) };
        let shared = Shared {
            select,
            owner,
            catalog: tokio::sync::Mutex::new((Arc::new(catalog), Instant::now())),
            inodes: Mutex::new(Inodes::new()),
            opened: Mutex::default(),
            next_handle: AtomicU64::new(1),
            blobs: Blobs::default(),
            repo,
        };
        Self { shared: Arc::new(shared), runtime }
    }

    fn spawn<T: Send + 'static>(
        &self,
        work: impl Future<Output = Answer<T>> + Send + 'static,
        reply: impl FnOnce(Answer<T>) + Send + 'static,
    ) {
        self.runtime.spawn(async move { reply(work.await) });
    }
}

impl Shared {
    fn inodes(&self) -> MutexGuard<'_, Inodes> {
        self.inodes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn opened(&self) -> MutexGuard<'_, HashMap<u64, Opened>> {
        self.opened.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn entry(&self, number: u64) -> Answer<Arc<Entry>> {
        self.inodes().get(number).ok_or(Errno::ENOENT)
    }

    fn open(&self, opened: Opened) -> FileHandle {
        let handle = self.next_handle.fetch_add(1, Ordering::Relaxed);
        self.opened().insert(handle, opened);
        FileHandle(handle)
    }

    fn get_opened(&self, handle: FileHandle) -> Answer<Opened> {
        self.opened().get(&handle.0).cloned().ok_or(Errno::EBADF)
    }

    /// The snapshots, listed anew if that was long ago. If that fails, those known before are shown.
    async fn catalog(&self) -> Arc<Catalog> {
        let mut catalog = self.catalog.lock().await;
        if catalog.1.elapsed() >= RELOAD_AFTER {
            catalog.1 = Instant::now();
            match self.reload(&catalog.0).await {
                Ok(Some(newer)) => catalog.0 = Arc::new(newer),
                Ok(None) => {}
                Err(error) => tracing::warn!(%error, "snapshots cannot be listed"),
            }
        }
        Arc::clone(&catalog.0)
    }

    async fn reload(&self, known: &Catalog) -> onggi_repo::Result<Option<Catalog>> {
        let snapshots = self.repo.snapshots().await?.found;
        if known.has_all(&snapshots, &self.select) {
            return Ok(None);
        }
        self.repo.load_index().await?;
        Ok(Some(Catalog::new(&snapshots, &self.select)))
    }

    async fn find(&self, parent: u64, name: &[u8]) -> Answer<Entry> {
        let folder = self.entry(parent)?;
        if let Entry::Folder(folder) = &*folder {
            return self.catalog().await.find(folder, name).ok_or(Errno::ENOENT);
        }
        let tree = self.tree(folder.tree().ok_or(Errno::ENOTDIR)?).await?;
        let node = tree.find(name).filter(|node| node.has_safe_name()).ok_or(Errno::ENOENT)?;
        Ok(Entry::Node(Box::new(node.clone())))
    }

    async fn list(&self, number: u64) -> Answer<Vec<Listed>> {
        let folder = self.entry(number)?;
        let itself = |number, name: &str| Listed { number, kind: FileType::Directory, name: name.as_bytes().to_vec() };
        let mut listed = vec![itself(number, "."), itself(self.inodes().parent(number), "..")];
        let below = |name: &[u8], kind| Listed { number: number_of(number, name), kind, name: name.to_vec() };
        if let Entry::Folder(folder) = &*folder {
            let entries = self.catalog().await.list(folder);
            listed.extend(entries.iter().map(|(name, entry)| below(name, attributes::kind(entry))));
            return Ok(listed);
        }
        let tree = self.tree(folder.tree().ok_or(Errno::ENOTDIR)?).await?;
        let nodes = tree.nodes().iter().filter(|node| node.has_safe_name());
        listed.extend(nodes.map(|node| below(&node.name, attributes::kind_of_node(&node.kind))));
        Ok(listed)
    }

    async fn tree(&self, id: BlobId) -> Answer<Arc<onggi_repo::format::Tree>> {
        self.repo.tree(id).await.map_err(|error| {
            tracing::warn!(%error, "folder cannot be read");
            Errno::EIO
        })
    }

    /// The pieces of a file; `EIO` if the index lacks one of them.
    fn pieces(&self, node: &Node) -> Answer<Vec<Piece>> {
        let mut end = 0;
        let pieces = node.chunks().iter().map(|id| {
            let length = u64::from(self.repo.blob_length(BlobKind::Data, id)?);
            end += length;
            Some(Piece { end, length, id: *id })
        });
        pieces.collect::<Option<_>>().ok_or_else(|| {
            tracing::warn!(file = %escape(&node.name), "content is not in the repository");
            Errno::EIO
        })
    }

    async fn read(&self, pieces: &[Piece], offset: u64, size: u32) -> Answer<Vec<u8>> {
        let mut bytes = Vec::with_capacity(size as usize);
        let first = pieces.partition_point(|piece| piece.end <= offset);
        for piece in &pieces[first..] {
            let wanted = size as usize - bytes.len();
            if wanted == 0 {
                break;
            }
            let blob = self.blobs.get(&self.repo, piece.id, piece.length).await.map_err(|error| {
                tracing::warn!(%error, "content cannot be read");
                Errno::EIO
            })?;
            let start = (offset + bytes.len() as u64).saturating_sub(piece.end - piece.length) as usize;
            let part = blob.get(start..).unwrap_or_default();
            bytes.extend_from_slice(&part[..part.len().min(wanted)]);
        }
        Ok(bytes)
    }
}

impl Filesystem for Mounted {
    fn lookup(&self, _request: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let (shared, name) = (Arc::clone(&self.shared), name.as_bytes().to_vec());
        let work = async move {
            let entry = Arc::new(shared.find(parent.0, &name).await?);
            let number = shared.inodes().look_up(parent.0, &name, Arc::clone(&entry));
            Ok((attributes::of_entry(number, &entry, &shared.owner), lifetime(&entry)))
        };
        self.spawn(work, |answer| match answer {
            Ok((attributes, lifetime)) => reply.entry(&lifetime, &attributes, Generation(0)),
            Err(error) => reply.error(error),
        });
    }

    fn forget(&self, _request: &Request, number: INodeNo, lookups: u64) {
        self.shared.inodes().forget(number.0, lookups);
    }

    fn getattr(&self, _request: &Request, number: INodeNo, _handle: Option<FileHandle>, reply: ReplyAttr) {
        match self.shared.entry(number.0) {
            Ok(entry) => reply.attr(&lifetime(&entry), &attributes::of_entry(number.0, &entry, &self.shared.owner)),
            Err(error) => reply.error(error),
        }
    }

    fn readlink(&self, _request: &Request, number: INodeNo, reply: ReplyData) {
        match self.shared.entry(number.0).as_deref() {
            Ok(Entry::Latest(target)) => reply.data(target),
            Ok(Entry::Node(node)) if node.kind == NodeKind::Symlink => reply.data(&node.link_target),
            Ok(_) => reply.error(Errno::EINVAL),
            Err(error) => reply.error(*error),
        }
    }

    fn opendir(&self, _request: &Request, number: INodeNo, _flags: OpenFlags, reply: ReplyOpen) {
        let shared = Arc::clone(&self.shared);
        let work = async move {
            let listed = shared.list(number.0).await?;
            Ok(shared.open(Opened::Listing(Arc::new(listed))))
        };
        self.spawn(work, |answer| match answer {
            Ok(handle) => reply.opened(handle, FopenFlags::empty()),
            Err(error) => reply.error(error),
        });
    }

    fn readdir(&self, _: &Request, _: INodeNo, handle: FileHandle, offset: u64, mut reply: ReplyDirectory) {
        let Ok(Opened::Listing(listed)) = self.shared.get_opened(handle) else { return reply.error(Errno::EBADF) };
        for (next, one) in (1..).zip(listed.iter()).skip(usize::try_from(offset).unwrap_or(usize::MAX)) {
            if reply.add(INodeNo(one.number), next, one.kind, OsStr::from_bytes(&one.name)) {
                break;
            }
        }
        reply.ok();
    }

    fn releasedir(&self, _: &Request, _: INodeNo, handle: FileHandle, _: OpenFlags, reply: ReplyEmpty) {
        self.shared.opened().remove(&handle.0);
        reply.ok();
    }

    fn open(&self, _request: &Request, number: INodeNo, _flags: OpenFlags, reply: ReplyOpen) {
        let pieces = self.shared.entry(number.0).and_then(|entry| match &*entry {
            Entry::Node(node) if node.kind == NodeKind::File => self.shared.pieces(node),
            entry if entry.is_folder() => Err(Errno::EISDIR),
            _ => Err(Errno::EOPNOTSUPP),
        });
        match pieces {
            Ok(pieces) => {
                let handle = self.shared.open(Opened::Content(Arc::new(pieces)));
                reply.opened(handle, FopenFlags::FOPEN_KEEP_CACHE);
            }
            Err(error) => reply.error(error),
        }
    }

    fn read(
        &self,
        _request: &Request,
        _number: INodeNo,
        handle: FileHandle,
        offset: u64,
        size: u32,
        _flags: OpenFlags,
        _owner: Option<LockOwner>,
        reply: ReplyData,
    ) {
        let Ok(Opened::Content(pieces)) = self.shared.get_opened(handle) else { return reply.error(Errno::EBADF) };
        let shared = Arc::clone(&self.shared);
        self.spawn(async move { shared.read(&pieces, offset, size).await }, |answer| match answer {
            Ok(bytes) => reply.data(&bytes),
            Err(error) => reply.error(error),
        });
    }

    fn release(
        &self,
        _request: &Request,
        _number: INodeNo,
        handle: FileHandle,
        _flags: OpenFlags,
        _owner: Option<LockOwner>,
        _flush: bool,
        reply: ReplyEmpty,
    ) {
        self.shared.opened().remove(&handle.0);
        reply.ok();
    }

    fn getxattr(&self, _request: &Request, number: INodeNo, name: &OsStr, size: u32, reply: ReplyXattr) {
        match self.shared.entry(number.0).as_deref() {
            Ok(Entry::Node(node)) => match node.xattrs.iter().find(|xattr| xattr.name.as_bytes() == name.as_bytes()) {
                Some(xattr) => answer_xattr(reply, size, &xattr.value),
                None => reply.error(Errno::NO_XATTR),
            },
            _ => reply.error(Errno::NO_XATTR),
        }
    }

    fn listxattr(&self, _request: &Request, number: INodeNo, size: u32, reply: ReplyXattr) {
        let mut names = Vec::new();
        if let Ok(Entry::Node(node)) = self.shared.entry(number.0).as_deref() {
            for xattr in &node.xattrs {
                names.extend_from_slice(xattr.name.as_bytes());
                names.push(0);
            }
        }
        answer_xattr(reply, size, &names);
    }
}

fn answer_xattr(reply: ReplyXattr, size: u32, bytes: &[u8]) {
    match (u32::try_from(bytes.len()), size) {
        (Ok(length), 0) => reply.size(length),
        (Ok(length), size) if length <= size => reply.data(bytes),
        _ => reply.error(Errno::ERANGE),
    }
}

/// How long the kernel may remember an entry.
fn lifetime(entry: &Entry) -> Duration {
    match entry {
        Entry::Folder(_) | Entry::Latest(_) => CATALOG_FOR,
        Entry::Snapshot { .. } | Entry::Node(_) => STORED_FOR,
    }
}
