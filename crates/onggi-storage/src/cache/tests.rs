//! The cache saves reads, is never wrong and never in the way.

use super::*;
use crate::{
    clock::TestClock,
    conformance,
    memory::Memory,
    recording::{CallKind, Recording},
};
use futures::TryStreamExt;
use sha2::{Digest, Sha256};
use std::{
    fs,
    path::Path,
    time::{Duration, SystemTime},
};
use tempfile::TempDir;

const REPOSITORY: FileId = FileId([0xee; 32]);
const ROOMY: u64 = 1 << 30;

struct Bench {
    folder: TempDir,
    memory: Memory,
    clock: TestClock,
    recording: Arc<Recording>,
    cache: Cache,
}

impl Bench {
    fn new(bytes_max: u64) -> Self {
        let (folder, memory, clock) = (tempfile::tempdir().unwrap(), Memory::new(), TestClock::new(1));
        let recording = Arc::new(Recording::new(Arc::new(memory.clone())));
        let cache = Cache::new(recording.clone(), folder.path().into(), bytes_max, Arc::new(clock.clone()));
        cache.identify(REPOSITORY);
        Self { folder, memory, clock, recording, cache }
    }

    /// The same, as another process would find it.
    fn reopened(self, bytes_max: u64) -> Self {
        self.clock.advance(Duration::from_mins(1));
        let cache =
            Cache::new(self.recording.clone(), self.folder.path().into(), bytes_max, Arc::new(self.clock.clone()));
        cache.identify(REPOSITORY);
        Self { cache, ..self }
    }

    /// A file in the storage that the cache has not seen.
    fn put(&self, file_type: FileType, content: &[u8]) -> Handle {
        let handle = Handle::new(file_type, FileId(Sha256::digest(content).into()));
        self.memory.put(handle.clone(), content.to_vec());
        handle
    }

    async fn read(&self, handle: &Handle, range: Option<Range<u64>>) -> Bytes {
        self.cache.read(handle.clone(), range).await.unwrap()
    }

    fn reads(&self) -> usize {
        self.recording.take().iter().filter(|call| call.kind() == CallKind::Read).count()
    }

    fn entries(&self) -> Vec<PathBuf> {
        let mut entries = Vec::new();
        for file_type in ["snapshots", "index", "data"] {
            let folder = self.folder.path().join(REPOSITORY.to_string()).join(file_type);
            visit(&folder, &mut |path| entries.push(path.into()));
        }
        entries
    }
}

fn visit(folder: &Path, found: &mut dyn FnMut(&Path)) {
    for entry in fs::read_dir(folder).into_iter().flatten() {
        let path = entry.unwrap().path();
        if path.is_dir() { visit(&path, found) } else { found(&path) }
    }
}

#[tokio::test]
async fn a_cached_storage_is_a_storage() {
    conformance::check(&Bench::new(ROOMY).cache).await;
    conformance::check(&Bench::new(5000).cache).await;
    let folder = tempfile::tempdir().unwrap();
    let clock = Arc::new(TestClock::new(1));
    let absent = Cache::new(Arc::new(Memory::absent()), folder.path().into(), ROOMY, clock);
    absent.identify(REPOSITORY);
    conformance::check_absent(&absent).await;
}

#[tokio::test]
async fn snapshots_and_indexes_are_read_once() {
    for file_type in [FileType::Snapshot, FileType::Index] {
        let bench = Bench::new(ROOMY);
        let handle = bench.put(file_type, b"content");
        for _ in 0..3 {
            assert_eq!(bench.read(&handle, None).await, "content");
        }
        assert_eq!(bench.read(&handle, Some(3..7)).await, "tent");
        assert_eq!(bench.reads(), 1);
        let statistics = bench.cache.statistics();
        assert_eq!((statistics.hits, statistics.misses, statistics.bytes), (3, 1, 7));
        let bench = bench.reopened(ROOMY);
        assert_eq!(bench.read(&handle, None).await, "content");
        assert_eq!(bench.reads(), 0, "the next process has it too");
    }
}

#[tokio::test]
async fn what_is_created_needs_no_reading() {
    let bench = Bench::new(ROOMY);
    let handle = Handle::new(FileType::Index, FileId(Sha256::digest("new").into()));
    bench.cache.create(handle.clone(), "new".into()).await.unwrap();
    assert_eq!(bench.read(&handle, None).await, "new");
    assert_eq!(bench.reads(), 0);
}

#[tokio::test]
async fn other_files_are_always_read_from_the_storage() {
    let bench = Bench::new(ROOMY);
    for file_type in [FileType::Key, FileType::Lock, FileType::Pack] {
        let handle = bench.put(file_type, b"content");
        for range in [None, None, Some(0..3), Some(0..3)] {
            bench.read(&handle, range).await;
        }
        assert_eq!(bench.reads(), 4, "{file_type:?}");
    }
    assert_eq!(bench.entries(), [""; 0].map(PathBuf::from));
}

#[tokio::test]
async fn before_it_knows_the_repository_everything_passes_through() {
    let bench = Bench::new(ROOMY);
    let cache = Cache::new(bench.recording.clone(), bench.folder.path().into(), ROOMY, Arc::new(bench.clock.clone()));
    let handle = bench.put(FileType::Index, b"content");
    cache.read(handle.clone(), None).await.unwrap();
    cache.read(handle, None).await.unwrap();
    assert_eq!(bench.reads(), 2);
    assert_eq!(cache.statistics(), CacheStatistics::default());
}

#[tokio::test]
async fn ranges_of_advised_packs_are_read_once() {
    let bench = Bench::new(ROOMY);
    let pack = bench.put(FileType::Pack, b"0123456789");
    bench.cache.advise(&pack, Advice::ReadOften);
    for _ in 0..3 {
        assert_eq!(bench.read(&pack, Some(2..5)).await, "234");
    }
    assert_eq!(bench.read(&pack, Some(2..6)).await, "2345", "another range is another entry");
    assert_eq!(bench.reads(), 2);
}

#[tokio::test]
async fn a_whole_pack_serves_all_its_ranges() {
    let bench = Bench::new(ROOMY);
    let pack = bench.put(FileType::Pack, b"0123456789");
    bench.cache.advise(&pack, Advice::ReadOften);
    bench.read(&pack, None).await;
    let bench = bench.reopened(ROOMY);
    bench.cache.advise(&pack, Advice::ReadOften);
    bench.recording.take();
    for _ in 0..2 {
        assert_eq!(bench.read(&pack, Some(2..5)).await, "234");
        assert_eq!(bench.read(&pack, Some(0..10)).await, "0123456789");
        let past = bench.cache.read(pack.clone(), Some(5..11)).await;
        assert!(matches!(past, Err(crate::StorageError::Short(..))), "{past:?}");
    }
    assert_eq!(bench.reads(), 0);
}

#[tokio::test]
async fn damaged_entries_are_dropped_counted_and_read_anew() {
    type Damage = fn(&mut Vec<u8>);
    let damages: [Damage; 5] = [
        |bytes| bytes[0] ^= 1,
        |bytes| *bytes.last_mut().unwrap() ^= 0x80,
        Vec::clear,
        |bytes| bytes.truncate(bytes.len() - 1),
        |bytes| bytes.push(0),
    ];
    for damage in damages {
        for (file_type, range) in [(FileType::Index, None), (FileType::Pack, Some(1..9)), (FileType::Pack, None)] {
            let bench = Bench::new(ROOMY);
            let handle = bench.put(file_type, b"0123456789");
            bench.cache.advise(&handle, Advice::ReadOften);
            let expected = bench.read(&handle, range.clone()).await;
            let [entry] = &bench.entries()[..] else { panic!("one entry") };
            let mut bytes = fs::read(entry).unwrap();
            damage(&mut bytes);
            fs::write(entry, bytes).unwrap();
            assert_eq!(bench.read(&handle, range.clone()).await, expected);
            assert_eq!((bench.reads(), bench.cache.statistics().mismatches), (2, 1));
            assert_eq!(bench.read(&handle, range).await, expected);
            assert_eq!(bench.reads(), 0, "kept again");
        }
    }
}

#[tokio::test]
async fn what_the_storage_has_damaged_is_not_kept() {
    let bench = Bench::new(ROOMY);
    let handle = Handle::new(FileType::Index, FileId([7; 32]));
    bench.memory.put(handle.clone(), "not what the name says");
    bench.read(&handle, None).await;
    bench.read(&handle, None).await;
    assert_eq!(bench.reads(), 2);
}

#[tokio::test]
async fn what_its_reader_doubts_is_read_anew() {
    let bench = Bench::new(ROOMY);
    let pack = bench.put(FileType::Pack, b"0123456789");
    bench.cache.advise(&pack, Advice::ReadOften);
    for range in [Some(0..4), Some(4..8), None] {
        bench.read(&pack, range).await;
    }
    bench.reads();
    bench.cache.advise(&pack, Advice::Doubtful);
    assert_eq!(bench.entries().len(), 0);
    bench.read(&pack, Some(0..4)).await;
    assert_eq!(bench.reads(), 1);
}

#[tokio::test]
async fn what_is_removed_or_no_longer_listed_is_forgotten() {
    let bench = Bench::new(ROOMY);
    let handles = [b"a", b"b", b"c"].map(|content| bench.put(FileType::Snapshot, content));
    for handle in &handles {
        bench.read(handle, None).await;
    }
    bench.cache.remove(handles[0].clone()).await.unwrap();
    assert!(bench.cache.read(handles[0].clone(), None).await.unwrap_err().is_not_found());
    bench.memory.remove(handles[1].clone()).await.unwrap();
    drop(bench.cache.list(FileType::Snapshot).next().await);
    assert_eq!(bench.entries().len(), 2, "a list that was not read to its end tells nothing");
    bench.cache.list(FileType::Snapshot).try_collect::<Vec<_>>().await.unwrap();
    assert_eq!(bench.entries().len(), 1);
    assert!(bench.cache.read(handles[1].clone(), None).await.unwrap_err().is_not_found());
    assert_eq!(bench.read(&handles[2], None).await, "c");
}

#[tokio::test]
async fn the_folder_stays_within_its_bound() {
    let bench = Bench::new(100);
    let handles: Vec<_> = (0..10_u8).map(|number| bench.put(FileType::Index, &[number; 20])).collect();
    for handle in &handles {
        bench.read(handle, None).await;
        bench.read(&handles[0], None).await;
    }
    assert_eq!((bench.entries().len(), bench.cache.statistics().bytes), (5, 100));
    bench.reads();
    bench.read(&handles[0], None).await;
    assert_eq!(bench.reads(), 0, "what is used stays");
    bench.read(&handles[1], None).await;
    assert_eq!(bench.reads(), 1, "what is not used goes");
    let large = bench.put(FileType::Index, &[1; 60]);
    bench.read(&large, None).await;
    assert_eq!(bench.entries().len(), 5, "one entry does not push out all others");

    let used = bench.entries().into_iter().find(|path| path.ends_with(handles[8].id().unwrap().to_string())).unwrap();
    fs::File::options()
        .append(true)
        .open(used)
        .unwrap()
        .set_modified(SystemTime::from(bench.clock.now()) + Duration::from_mins(1))
        .unwrap();
    let bench = bench.reopened(20);
    bench.reads();
    bench.read(&handles[8], None).await;
    assert_eq!((bench.reads(), bench.entries().len()), (0, 1), "the next process knows what was used last");
}

#[tokio::test]
async fn the_folder_is_tagged_and_private() {
    use std::os::unix::fs::PermissionsExt;
    let bench = Bench::new(ROOMY);
    let handle = bench.put(FileType::Index, b"content");
    bench.read(&handle, None).await;
    let tag = fs::read_to_string(bench.folder.path().join("CACHEDIR.TAG")).unwrap();
    assert!(tag.starts_with("Signature: 8a477f597d28d172789f06886806bc55"));
    let mode = |path: &Path| path.metadata().unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&bench.folder.path().join(REPOSITORY.to_string())), 0o700);
    assert_eq!(mode(&bench.entries()[0]), 0o600);
}

#[tokio::test]
async fn a_cache_that_cannot_be_used_is_not_in_the_way() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    fs::write(&file, "in the way").unwrap();
    let bench = Bench::new(ROOMY);
    let cache = Cache::new(bench.recording.clone(), file, ROOMY, Arc::new(bench.clock.clone()));
    cache.identify(REPOSITORY);
    let handle = bench.put(FileType::Index, b"content");
    for _ in 0..3 {
        assert_eq!(cache.read(handle.clone(), None).await.unwrap(), "content");
    }
    assert_eq!(cache.statistics().failures, 1, "told once");
}

#[tokio::test]
async fn an_entry_that_another_process_removed_is_read_anew() {
    let bench = Bench::new(ROOMY);
    let handle = bench.put(FileType::Index, b"content");
    bench.read(&handle, None).await;
    fs::remove_file(&bench.entries()[0]).unwrap();
    assert_eq!(bench.read(&handle, None).await, "content");
    assert_eq!(bench.cache.statistics().failures, 0);
}

#[tokio::test]
async fn old_temporaries_are_removed_when_the_folder_is_looked_through() {
    let bench = Bench::new(ROOMY);
    let handle = bench.put(FileType::Index, b"content");
    bench.read(&handle, None).await;
    let old = bench.entries()[0].with_file_name(".tmp-0123456789abcdef");
    fs::write(&old, "half").unwrap();
    let long_ago = SystemTime::from(bench.clock.now()) - Duration::from_hours(25);
    fs::File::options().append(true).open(&old).unwrap().set_modified(long_ago).unwrap();
    let bench = bench.reopened(ROOMY);
    bench.read(&handle, None).await;
    assert!(!old.exists());
}
