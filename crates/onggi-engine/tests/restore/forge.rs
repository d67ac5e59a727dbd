//! Makes repositories that no honest program writes: names that lead elsewhere, cycles, rotten blobs.

use onggi_repo::{
    Compute, Environment, Host, NewRepository, OpenOptions, Repository,
    format::{
        BlobId, BlobKind, Compression, IndexFile, IndexId, IndexPack, KdfCost, KeyFile, MasterKey, Node, NodeKind,
        PackEntry, PackId, Time, Tree, encode_blob, pack, seal, unpacked,
    },
};
use onggi_storage::{Storage, clock::TestClock, memory::Memory};
use secrecy::SecretString;
use std::collections::{BTreeMap, HashSet};
use std::sync::{Arc, Mutex};

/// The mtime of every forged node, in seconds since 1970; five nanoseconds come to it.
pub const SECONDS: i64 = 1_700_000_000;

/// Blobs on their way into a repository.
pub struct Forge {
    blobs: Mutex<BTreeMap<BlobId, (BlobKind, Vec<u8>)>>,
    rotten: Mutex<HashSet<BlobId>>,
}

impl Forge {
    pub fn new() -> Self {
        Self { blobs: Mutex::default(), rotten: Mutex::default() }
    }

    fn blob(&self, kind: BlobKind, bytes: &[u8]) -> BlobId {
        let id = BlobId::of(bytes);
        self.blobs.lock().unwrap().insert(id, (kind, bytes.to_vec()));
        id
    }

    pub fn file(&self, name: &str, chunks: &[&[u8]]) -> Node {
        self.file_of_mode(name, 0o644, chunks)
    }

    pub fn file_of_mode(&self, name: &str, mode: u32, chunks: &[&[u8]]) -> Node {
        let content = chunks.iter().map(|chunk| self.blob(BlobKind::Data, chunk)).collect();
        let size = chunks.iter().map(|chunk| chunk.len() as u64).sum();
        Node { content: Some(content), size, ..named(name, NodeKind::File, mode) }
    }

    pub fn directory(&self, name: &str, mode: u32, nodes: Vec<Node>) -> Node {
        Node { subtree: Some(self.root(nodes)), ..named(name, NodeKind::Dir, mode) }
    }

    /// The tree of these nodes, with whatever names they have.
    pub fn root(&self, mut nodes: Vec<Node>) -> BlobId {
        nodes.sort_by(|a, b| a.name.cmp(&b.name));
        let printed: Vec<String> = nodes
            .into_iter()
            .map(|node| {
                let json = String::from_utf8(Tree::new(vec![node]).unwrap().print()).unwrap();
                let inner = json.strip_prefix("{\"nodes\":[").and_then(|rest| rest.strip_suffix("]}\n"));
                inner.unwrap().to_owned()
            })
            .collect();
        self.blob(BlobKind::Tree, format!("{{\"nodes\":[{}]}}\n", printed.join(",")).as_bytes())
    }

    /// Has a chunk rot in the storage.
    pub fn damage(&self, bytes: &[u8]) {
        self.rotten.lock().unwrap().insert(BlobId::of(bytes));
    }

    pub fn damage_tree(&self, tree: BlobId) {
        self.rotten.lock().unwrap().insert(tree);
    }

    pub async fn repository(&self, nodes: Vec<Node>) -> (Repository, BlobId) {
        let root = self.root(nodes);
        (self.open().await, root)
    }

    /// A repository with all blobs so far.
    pub async fn open(&self) -> Repository {
        let (memory, clock) = (Memory::new(), TestClock::new(3));
        let password: SecretString = "forged".into();
        let host = Host { hostname: "h".into(), username: "u".into(), pid: 1, uid: 0, gid: 0 };
        let env = Environment { clock: Arc::new(clock), host, compute: Compute::new(2) };
        let new = NewRepository { polynomial: Some("3da3358b4dc173".parse().unwrap()), kdf: KdfCost::testing() };
        let storage: Arc<dyn Storage> = Arc::new(memory);
        let made = Repository::create(storage.clone(), &password, new, env.clone()).await.unwrap();
        let key_file = storage.read(made.key_id().handle(), None).await.unwrap();
        let master = KeyFile::parse(&key_file).unwrap().open(&password).unwrap();
        let packs = [BlobKind::Data, BlobKind::Tree].map(|kind| self.pack(&master, kind));
        let mut index = IndexFile::default();
        for (bytes, entries) in packs {
            if !entries.is_empty() {
                let id = PackId::of(&bytes);
                storage.create(id.handle(), bytes.into()).await.unwrap();
                index.packs.push(IndexPack::new(id, entries));
            }
        }
        let mut sealed = Vec::new();
        seal::seal(&master, [9; 16], &unpacked::encode(&index.print()), &mut sealed);
        storage.create(IndexId::of(&sealed).handle(), sealed.into()).await.unwrap();
        let repo = Repository::open(storage, &password, OpenOptions::default(), env).await.unwrap();
        assert_eq!(repo.load_index().await.unwrap().problems, []);
        repo
    }

    fn pack(&self, master: &MasterKey, wanted: BlobKind) -> (Vec<u8>, Vec<PackEntry>) {
        let (mut bytes, mut entries) = (Vec::new(), Vec::new());
        for (id, (kind, plaintext)) in self.blobs.lock().unwrap().iter() {
            if *kind != wanted {
                continue;
            }
            let mut nonce = [1; 16];
            nonce[..8].copy_from_slice(&(entries.len() as u64 + 1).to_le_bytes());
            let mut sealed = encode_blob(master, nonce, *kind, plaintext, Compression::DEFAULT);
            if self.rotten.lock().unwrap().contains(id) {
                sealed.bytes[20] ^= 1;
            }
            let (offset, length) = (bytes.len() as u32, sealed.bytes.len() as u32);
            let uncompressed_length = sealed.uncompressed_length;
            entries.push(PackEntry { kind: *kind, id: *id, offset, length, uncompressed_length });
            bytes.extend_from_slice(&sealed.bytes);
        }
        pack::seal_header(master, [8; 16], &entries, &mut bytes);
        (bytes, entries)
    }
}

/// A node without content, owned by whoever runs the test.
pub fn named(name: &str, kind: NodeKind, mode: u32) -> Node {
    let time = Time::utc(jiff::Timestamp::new(SECONDS, 5).unwrap());
    let (uid, gid) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
    Node { uid, gid, ..Node::new(name, kind, mode, time) }
}

/// Bytes that do not repeat.
pub fn noise(length: usize) -> Vec<u8> {
    let mut state = 1_u64;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as u8
    };
    std::iter::repeat_with(&mut next).take(length).collect()
}
