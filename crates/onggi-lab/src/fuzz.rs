//! What fuzzers feed: one function per parser of bytes that come from a storage, a file or an operator. None may panic,
//! hang or swell, whatever comes in; what each promises beyond that is asserted in it.
//!
//! `fuzz/` runs them with coverage feedback; a test runs each over its corpus and mutations of it.

use onggi_engine::config::value::{self, SecretReference};
use onggi_engine::config::{self, Files, Found};
use onggi_node::check::WalkCheck;
use onggi_node::frame::{Decoder, Frame};
use onggi_node::put::{Put, Written};
use onggi_node::{Answer, Request};
use onggi_repo::forget::Rules;
use onggi_repo::format::{
    BlobId, ChunkSizes, Chunker, Config, IndexFile, KeyFile, LockFile, MasterKey, Node, Polynomial, Snapshot, Time,
    Tree, decode_blob, pack, seal, unpacked,
};
use onggi_source::TreePath;
use onggi_source::disk::{Disk, DiskError, FileSystem, Place};
use onggi_source::etcd::bolt::{Bolt, BoltError};
use onggi_source::etcd::content::Content;
use onggi_source::etcd::hashkv::HashKv;
use onggi_source::etcd::survey::Survey;
use onggi_source::openstack::image::{ExtentKind, ImageBytes, ImageError, Inspector, Qcow2, inspect};
use onggi_source::paths::{Asked, Case, Pattern, Patterns};
use onggi_ssh::PublicKey;
use onggi_ssh::known_hosts::{KnownHosts, Verdict};
use std::collections::{HashMap, HashSet};
use std::io;
use std::path::Path;
use std::sync::Arc;

/// Takes any bytes and does not panic.
pub type Target = fn(&[u8]);

/// Every target by its name, which is also that of its corpus below `fuzz/corpus/`.
pub const TARGETS: &[(&str, Target)] = &[
    ("pack_header", pack_header),
    ("pack", pack),
    ("index", index),
    ("tree", tree),
    ("snapshot", snapshot),
    ("config", repository_config),
    ("key_file", key_file),
    ("lock_file", lock_file),
    ("blob", blob),
    ("chunker", chunker),
    ("path", path),
    ("pattern", pattern),
    ("configuration", configuration),
    ("expression", expression),
    ("location", location),
    ("known_hosts", known_hosts),
    ("bolt", bolt),
    ("node_frames", node_frames),
    ("qcow2", qcow2),
    ("disk", disk),
    ("disk_files", disk_files),
];

fn key() -> MasterKey {
    MasterKey::from_random(&[7; 64])
}

/// The entries of an opened header: what is read prints back to the same bytes.
pub fn pack_header(bytes: &[u8]) {
    if let Ok(entries) = pack::parse_entries(bytes)
        && !entries.is_empty()
    {
        let total: u64 = entries.iter().map(|entry| u64::from(entry.length)).sum();
        assert!(pack::pack_length(&entries) > total);
        let mut sealed = Vec::new();
        pack::seal_header(&key(), [1; 16], &entries, &mut sealed);
        let opened = pack::read_header(&key(), &sealed, pack::pack_length(&entries));
        assert_eq!(opened, Ok(pack::HeaderRead::Done(entries)));
    }
}

/// A pack whose trailer is authentic: the header is ours, the rest is the fuzzer's.
pub fn pack(bytes: &[u8]) {
    let _ = pack::read_header(&key(), bytes, bytes.len() as u64);
    let mut sealed = Vec::new();
    seal::seal(&key(), [1; 16], bytes, &mut sealed);
    sealed.extend_from_slice(&(sealed.len() as u32).to_le_bytes());
    let _ = pack::read_header(&key(), &sealed, sealed.len() as u64);
}

/// An index file: parse after print is the identity.
pub fn index(bytes: &[u8]) {
    if let Ok(index) = IndexFile::parse(bytes) {
        assert_eq!(IndexFile::parse(&index.print()), Ok(index));
    }
}

/// A tree: parse after print is the identity, and no unsafe name passes for a safe one.
pub fn tree(bytes: &[u8]) {
    let Ok(tree) = Tree::parse(bytes) else { return };
    for node in tree.nodes().iter().filter(|node| node.has_safe_name()) {
        assert!(TreePath::root().join(&node.name).is_ok());
    }
    assert_eq!(Tree::parse(&tree.print()), Ok(tree));
}

/// A snapshot: parse after print is the identity, unknown keys included.
pub fn snapshot(bytes: &[u8]) {
    if let Ok(snapshot) = Snapshot::parse(bytes) {
        assert_eq!(Snapshot::parse(&snapshot.print()), Ok(snapshot));
    }
}

/// A repository's config: parse after print is the identity.
pub fn repository_config(bytes: &[u8]) {
    if let Ok(config) = Config::parse(bytes) {
        let _ = config.chunking();
        assert_eq!(Config::parse(&config.print()), Ok(config));
    }
}

/// A key file. No derivation runs here: its cost is what the caps bound.
pub fn key_file(bytes: &[u8]) {
    if let Ok(key) = KeyFile::parse(bytes) {
        let _ = KeyFile::parse(&key.print());
    }
}

/// A lock file, packed as all small files are.
pub fn lock_file(bytes: &[u8]) {
    if let Ok(json) = unpacked::decode(bytes) {
        let _ = LockFile::parse(&json);
    }
    if let Ok(lock) = LockFile::parse(bytes) {
        assert!(LockFile::parse(&lock.print()).is_ok());
    }
}

/// A sealed blob with a claimed length: what comes out has the claimed length and the promised hash, or nothing comes.
pub fn blob(bytes: &[u8]) {
    let Some((claim, body)) = bytes.split_first_chunk::<4>() else { return };
    let claimed = u32::from_le_bytes(*claim);
    let mut sealed = Vec::new();
    seal::seal(&key(), [1; 16], body, &mut sealed);
    for length in [None, Some(claimed)] {
        let expected = BlobId::of(body);
        if let Ok(plaintext) = decode_blob(&key(), &sealed, length, expected) {
            assert_eq!(BlobId::of(&plaintext), expected);
            assert!(length.is_none_or(|length| length as usize == plaintext.len()));
        }
    }
    let _ = decode_blob(&key(), body, Some(claimed), BlobId([0; 32]));
}

/// The chunker: same cuts however the bytes arrive, all within the bounds.
pub fn chunker(bytes: &[u8]) {
    let Some((step, rest)) = bytes.split_first() else { return };
    let polynomial = Polynomial::new(0x003d_a335_8b4d_c173).expect("a known polynomial");
    let chunker = Chunker::new(polynomial, ChunkSizes::around(1 << 12));
    let data: Vec<u8> = rest.iter().copied().cycle().take(rest.len() * 64).collect();
    let cuts_of = |step: usize| {
        let (mut cutter, mut cuts) = (chunker.cutter(), Vec::new());
        data.chunks(step).for_each(|piece| cutter.feed(piece, &mut cuts));
        assert_eq!(cutter.position(), data.len() as u64);
        cuts
    };
    let cuts = cuts_of(usize::from(*step) + 1);
    assert_eq!(cuts, cuts_of(data.len().max(1)));
    assert!(cuts.is_sorted() && cuts.last().is_none_or(|last| *last <= data.len() as u64));
}

/// A path of a snapshot: what is accepted stays beneath its root.
pub fn path(bytes: &[u8]) {
    if let Ok(path) = TreePath::new(bytes) {
        assert!(path.components().all(|name| !matches!(name, b"" | b"." | b"..") && !name.contains(&b'/')));
        assert_eq!(path.as_bytes(), bytes);
    }
    let node = Node::new(bytes, onggi_repo::format::NodeKind::File, 0o644, Time::utc(jiff::Timestamp::UNIX_EPOCH));
    assert!(!node.has_safe_name() || TreePath::root().join(bytes).is_ok());
}

/// A pattern and a path, parted by the first newline: matching ends.
pub fn pattern(bytes: &[u8]) {
    let (text, path) = bytes.split_at(bytes.iter().position(|byte| *byte == b'\n').unwrap_or(bytes.len()));
    let mut patterns = Patterns::default();
    for case in [Case::Exact, Case::Folded] {
        if let Ok(pattern) = Pattern::parse(text, case) {
            patterns.push(pattern);
        }
    }
    patterns.exclude(path, Asked::Nothing);
}

const FILE: &str = "/onggi.yaml";

/// One configuration file and nothing around it.
struct OneFile<'a>(&'a [u8]);

impl Files for OneFile<'_> {
    fn read(&self, path: &Path) -> io::Result<Found> {
        if path == Path::new(FILE) { Ok(Found::File(self.0.to_vec())) } else { Err(io::ErrorKind::NotFound.into()) }
    }

    fn secret_fault(&self, _reference: &SecretReference) -> Option<String> {
        None
    }
}

/// A configuration: each text is accepted or has a fault that says where.
pub fn configuration(bytes: &[u8]) {
    let loaded = config::load(&OneFile(bytes), Path::new(FILE));
    assert!(loaded.config.is_some() || loaded.has_faults());
}

/// Durations, sizes, rates, retention rules.
pub fn expression(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let _ = (value::duration(text), value::size(text), value::rate(text), value::is_name(text));
    let (name, rest) = text.split_once('=').unwrap_or((text, ""));
    let _ = Rules::default().add(name, rest);
    if let Ok(time) = text.parse::<Time>() {
        assert_eq!(time.to_string().parse::<Time>().ok(), Some(time));
    }
}

/// An address of a storage. What is shown of it is for people, without secrets, and need not be an address again.
pub fn location(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Ok(location) = onggi_storage::location::Location::parse(text) {
        assert!(!location.to_string().is_empty());
    }
}

/// A file of known hosts: whatever it says, a key that it revokes is never believed.
pub fn known_hosts(bytes: &[u8]) {
    const KEY: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJdD7y3aLq454yWBdwLWbieU1ebz9/cu7/QEXn9OIeZJ";
    let key = PublicKey::from_openssh(KEY).expect("a key");
    let text = String::from_utf8_lossy(bytes);
    let judge = |text: &str| {
        let mut known = KnownHosts::default();
        known.add(Path::new("known_hosts"), text);
        known.judge("example.org", 22, &key)
    };
    let _ = judge(&text);
    assert!(matches!(judge(&format!("{text}\n@revoked * {KEY}")), Verdict::Revoked(_)));
}

/// What a host or a hub sends: what is understood is written and understood as the same again, whatever it is held to.
pub fn node_frames(bytes: &[u8]) {
    let (mut decoder, mut check) = (Decoder::default(), WalkCheck::default());
    decoder.push(bytes);
    while let Ok(Some(frame)) = decoder.next_frame() {
        if let Ok(Some(answer)) = Answer::decode(&frame) {
            let _ = check.take(&answer);
            assert_eq!(Answer::decode(&again(&answer.encode(true))), Ok(Some(answer)));
        }
        if let Ok(Some(request)) = Request::decode(&frame) {
            assert_eq!(Request::decode(&again(&request.encode())), Ok(Some(request)));
        }
        if let Ok(put) = Put::decode(&frame) {
            assert_eq!(Put::decode(&again(&put.encode())), Ok(put));
        }
        if let Ok(written) = Written::decode(&frame) {
            assert_eq!(Written::decode(&again(&written.encode())), Ok(written));
        }
    }
}

fn again(bytes: &[u8]) -> Frame {
    let mut decoder = Decoder::default();
    decoder.push(bytes);
    decoder.next_frame().expect("we wrote it").expect("all of it")
}

/// A database of etcd, as it comes and with metas that are signed anew: what a walk accepts, its census covers.
pub fn bolt(bytes: &[u8]) {
    let mut signed = bytes.to_vec();
    for page in [0, 4096] {
        if let Some(meta) = signed.get_mut(page + 16..page + 80) {
            let step = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
            let checksum = meta[..56].iter().fold(0xcbf2_9ce4_8422_2325, step);
            meta[56..].copy_from_slice(&checksum.to_le_bytes());
        }
    }
    for bytes in [bytes, &signed] {
        let _ = futures::executor::block_on(examine(bytes));
    }
}

async fn examine(bytes: &[u8]) -> Result<(), BoltError> {
    let bolt = Bolt::open(bytes, bytes.len() as u64).await?;
    let survey = Survey::take(&bolt).await?;
    let content = Content::check(&bolt, &survey).await?;
    HashKv::compute(&bolt, &[survey.compact_revision]).await?;
    assert_eq!(content.census.used + content.census.free, bolt.meta().pages);
    Ok(())
}

/// A disk image: what opens has pieces that cover its disk, and bytes wherever it says so.
pub fn qcow2(bytes: &[u8]) {
    let Ok(image) = Qcow2::open(bytes, bytes.len() as u64) else { return };
    let (mut end, mut before) = (0, None);
    let mut buffer = vec![0; 4 << 10];
    for extent in image.extents() {
        let extent = extent.expect("its tables were looked at");
        assert!(extent.range.start == end && extent.range.end > end && before != Some(extent.kind));
        (end, before) = (extent.range.end, Some(extent.kind));
        let wanted = buffer.len().min((extent.range.end - extent.range.start) as usize);
        match image.read_exact_at(extent.range.start, &mut buffer[..wanted]) {
            Ok(()) => assert!(extent.kind == ExtentKind::Data || buffer[..wanted].iter().all(|byte| *byte == 0)),
            Err(error) => assert!(matches!(error, ImageError::Structure(_)), "{error}"),
        }
    }
    assert_eq!(end, image.virtual_size());
}

/// The start of a disk: it is found the same whether it streams by or is read where it is wanted.
pub fn disk(bytes: &[u8]) {
    let Some((step, bytes)) = bytes.split_first() else { return };
    let length = 1 << 30;
    let read = |offset: u64, buffer: &mut [u8]| {
        let there = usize::try_from(offset).ok().and_then(|offset| bytes.get(offset..)).unwrap_or_default();
        let there = &there[..there.len().min(buffer.len())];
        buffer.fill(0);
        buffer[..there.len()].copy_from_slice(there);
        Ok::<(), ()>(())
    };
    let mut inspector = Inspector::new(length);
    for (index, piece) in bytes.chunks(usize::from(*step) * 100 + 1).enumerate() {
        inspector.feed((index * (usize::from(*step) * 100 + 1)) as u64, piece);
    }
    assert_eq!(Ok(inspector.finish()), inspect(length, read));
}

/// The sectors of an image that are not zero, each behind its number.
struct Sectors {
    sectors: HashMap<u64, [u8; 512]>,
    length: u64,
}

impl Sectors {
    fn parse(bytes: &[u8]) -> Self {
        let mut sectors = HashMap::new();
        for record in bytes.chunks_exact(4 + 512) {
            if let Some((number, sector)) = record.split_first_chunk::<4>() {
                let number = u64::from(u32::from_le_bytes(*number)) % (1 << 20);
                sectors.insert(number, sector.try_into().expect("a sector"));
            }
        }
        let length = sectors.keys().max().map_or(0, |last| (last + 1) * 512);
        Self { sectors, length }
    }
}

impl ImageBytes for Sectors {
    fn read_exact_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        if offset.checked_add(buffer.len() as u64).is_none_or(|end| end > self.length) {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        for (at, byte) in (offset..).zip(buffer) {
            *byte = self.sectors.get(&(at / 512)).map_or(0, |sector| sector[(at % 512) as usize]);
        }
        Ok(())
    }
}

/// Files in a disk: whatever it says, a walk over it ends, and pieces of files are in order.
pub fn disk_files(bytes: &[u8]) {
    walk_disk(bytes);
}

/// Walks over a disk that is given as its sectors and counts the entries.
pub fn walk_disk(bytes: &[u8]) -> usize {
    let image = Sectors::parse(bytes);
    let length = image.length;
    let Ok(disk) = Disk::open(Arc::new(image), length) else { return 0 };
    let opened = disk.parts().iter().filter_map(|part| disk.file_system(part).ok());
    opened.map(|open| walk_file_system(&*open)).sum()
}

/// As many entries as one walk looks at, and as many pieces of a file.
const LOOKED_AT_MAX: usize = 4000;

fn walk_file_system(open: &dyn FileSystem) -> usize {
    let (mut entered, mut entries) = (HashSet::from([open.root()]), 0);
    let mut directories = vec![open.root()];
    while let Some(directory) = directories.pop() {
        let Ok(listing) = open.list(directory) else { continue };
        assert!(listing.entries.windows(2).all(|pair| pair[0].0 < pair[1].0));
        for (_, inode) in listing.entries {
            entries += 1;
            if entries > LOOKED_AT_MAX {
                return entries;
            }
            let Ok(stat) = open.stat(inode) else { continue };
            if stat.kind == onggi_source::Kind::Directory && entered.insert(inode) {
                directories.push(inode);
            }
            if stat.kind == onggi_source::Kind::File {
                look_at_file(open, inode, stat.metadata.size);
            }
        }
    }
    entries
}

fn look_at_file(open: &dyn FileSystem, inode: u64, size: u64) {
    let (mut end, mut pieces, mut buffer) = (0, 0, vec![0; 4 << 10]);
    let _ = open.runs(inode, &mut |run| {
        assert!(run.offset >= end && run.length > 0 && run.offset + run.length <= size);
        (end, pieces) = (run.offset + run.length, pieces + 1);
        if let Place::At(at) = run.place {
            let length = buffer.len().min(run.length as usize);
            let _ = open.read(at, &mut buffer[..length]);
        }
        if pieces > LOOKED_AT_MAX { Err(DiskError::Unsupported("enough".into())) } else { Ok(()) }
    });
}
