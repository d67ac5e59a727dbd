//! Packs made of blobs that are sealed already: for repacking, copying and salvaging. Each kind has several open packs
//! and every blob goes into a random one, so that the order of packs tells nothing.

use crate::{
    Repository, Result,
    error::{Act, RepoError},
    format::{BlobId, BlobKind, IndexFile, IndexId, IndexPack, PackEntry, PackId, pack},
    index::PackState,
    kernel::hash,
    read_back::NewPack,
    sabotage,
};
use bytes::Bytes;
use futures::{StreamExt, future::BoxFuture, stream::FuturesUnordered};
use onggi_storage::{FileType, clock};

/// Open packs of each kind.
const OPEN: usize = 2;
/// Bytes at which a data pack is closed; tree packs, which are read piece by piece, at a quarter.
const TARGET: usize = 16 << 20;
/// Packs on their way to the storage at once, beside the open ones.
const SENDING_MAX: usize = 2;
/// An index file is written when so many blobs wait for one.
const ANNOUNCE_BLOBS: usize = 50_000;

/// Collects sealed blobs into packs and announces them.
pub(crate) struct PackWriter {
    repo: Repository,
    open: [[OpenPack; OPEN]; 2],
    sending: FuturesUnordered<BoxFuture<'static, Result<IndexPack>>>,
    stored: Vec<IndexPack>,
    stored_blobs: usize,
    written: Written,
}

/// What was written.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Written {
    pub packs: Vec<NewPack>,
    pub indexes: Vec<IndexId>,
    pub blobs: usize,
    pub bytes: u64,
}

#[derive(Default)]
struct OpenPack {
    content: Vec<u8>,
    entries: Vec<PackEntry>,
}

impl PackWriter {
    pub fn new(repo: &Repository) -> Self {
        Self {
            repo: repo.clone(),
            open: Default::default(),
            sending: FuturesUnordered::new(),
            stored: Vec::new(),
            stored_blobs: 0,
            written: Written::default(),
        }
    }

    /// Adds a sealed blob; waits while too many packs are on their way.
    pub async fn add(&mut self, kind: BlobKind, id: BlobId, sealed: &[u8], uncompressed: Option<u32>) -> Result<()> {
        self.repo.check_version()?;
        let which = clock::random_below(&*self.repo.env().clock, OPEN as u64) as usize;
        let target = if kind == BlobKind::Data { TARGET } else { TARGET / 4 };
        let open = &mut self.open[usize::from(kind == BlobKind::Tree)][which];
        let full =
            (!open.entries.is_empty() && open.content.len() + sealed.len() > target).then(|| std::mem::take(open));
        let (offset, length) = (open.content.len() as u32, sealed.len() as u32);
        let uncompressed = uncompressed.filter(|_| !sabotage::COMPRESSED_AS_PLAIN.is_on());
        open.entries.push(PackEntry { kind, id, offset, length, uncompressed_length: uncompressed });
        open.content.extend_from_slice(sealed);
        if let Some(full) = full {
            self.send(full);
        }
        while self.sending.len() > SENDING_MAX {
            self.take_sent().await?;
        }
        if self.stored_blobs >= ANNOUNCE_BLOBS {
            self.announce().await?;
        }
        Ok(())
    }

    /// Stores and announces everything.
    pub async fn finish(mut self) -> Result<Written> {
        for open in std::mem::take(&mut self.open).into_iter().flatten().filter(|open| !open.entries.is_empty()) {
            self.send(open);
        }
        while !self.sending.is_empty() {
            self.take_sent().await?;
        }
        self.announce().await?;
        Ok(self.written)
    }

    fn send(&self, pack: OpenPack) {
        self.sending.push(Box::pin(store(self.repo.clone(), pack)));
    }

    async fn take_sent(&mut self) -> Result<()> {
        let Some(stored) = self.sending.next().await else { return Ok(()) };
        let pack = stored?;
        let kind = pack.blobs.first().map_or(BlobKind::Data, |entry| entry.kind);
        self.written.packs.push(NewPack { id: pack.id, kind, size: pack.length() });
        self.written.blobs += pack.blobs.len();
        self.written.bytes += pack.length();
        self.stored_blobs += pack.blobs.len();
        self.stored.push(pack);
        Ok(())
    }

    async fn announce(&mut self) -> Result<()> {
        if self.stored.is_empty() {
            return Ok(());
        }
        let packs = std::mem::take(&mut self.stored);
        self.stored_blobs = 0;
        let file = IndexFile { packs, ..IndexFile::default() };
        let id = self.repo.save_index(file.clone()).await?;
        // Known only now: whoever finds a blob in the index relies on it.
        let index = self.repo.index();
        for pack in &file.packs {
            index.add(pack.id, PackState::Live, &pack.blobs);
        }
        index.announced(id, file.packs.iter().map(|pack| pack.id));
        self.written.indexes.push(id);
        Ok(())
    }
}

async fn store(repo: Repository, mut pack: OpenPack) -> Result<IndexPack> {
    let (master, nonce) = (repo.master().clone(), repo.env().nonce());
    let complete = move || {
        pack::seal_header(&master, nonce, &pack.entries, &mut pack.content);
        (PackId(hash::sha256(&pack.content)), pack)
    };
    let (id, OpenPack { content, entries }) = repo.env().compute.run(complete).await;
    let handle = id.handle();
    repo.storage().create(handle.clone(), Bytes::from(content)).await.act(|| format!("create {handle}"))?;
    Ok(IndexPack::new(id, entries))
}

impl Repository {
    /// Writes an index file and reads it back past all caches.
    pub(crate) async fn save_index(&self, file: IndexFile) -> Result<IndexId> {
        let json = self.env().compute.run(move || file.print()).await;
        let id = IndexId::from(self.save_json(FileType::Index, json.clone()).await?);
        let read = self.load_json_from(&**self.fresh(), FileType::Index, id.into()).await?;
        if read == json {
            Ok(id)
        } else {
            let problem = crate::Problem {
                class: "index-damaged",
                what: id.handle().to_string(),
                text: "reads back other than it was written".into(),
            };
            Err(RepoError::Unverified(vec![problem]))
        }
    }
}
