//! Any storage, and any stack of decorators around one, answers like a map from handles to bytes.
//!
//! Faults that pass, a cache of a few entries, damage in its folder and hints at random must not show.

#![expect(clippy::unwrap_used, reason = "a test ends at the first surprise")]

use bytes::Bytes;
use futures::TryStreamExt;
use onggi_storage::{
    Advice, FileId, FileType, Handle, OwnFolder, OwnName, Storage, StorageError,
    clock::TestClock,
    faulty::{Chance, Faulty},
    limit::{Limits, Rate, RatePlan},
    local::Local,
    memory::Memory,
    retry::RetryLimits,
    stack::{CacheOptions, Stack, StackOptions},
};
use proptest::prelude::*;
use sha2::{Digest, Sha256};
use std::{collections::BTreeMap, ops::Range, path::Path, sync::Arc, time::Duration};

/// One act of a caller. Files are numbered; their content follows from the number, as names follow from content.
#[derive(Debug, Clone)]
enum Step {
    Create(u8),
    CreateOther(u8),
    Read(u8, Option<Range<u64>>),
    Stat(u8),
    List(u8),
    Remove(u8),
    Advise(u8, Advice),
    /// Something flips a bit in every entry of the cache.
    Rot,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let file = 0_u8..12;
    let range = (0_u64..60, 0_u64..60).prop_map(|(start, length)| start..start + length);
    let step = prop_oneof![
        6 => file.clone().prop_map(Step::Create),
        1 => file.clone().prop_map(Step::CreateOther),
        8 => (file.clone(), prop::option::of(range)).prop_map(|(file, range)| Step::Read(file, range)),
        2 => file.clone().prop_map(Step::Stat),
        3 => file.clone().prop_map(Step::List),
        2 => file.clone().prop_map(Step::Remove),
        3 => (file, prop_oneof![3 => Just(Advice::ReadOften), 1 => Just(Advice::Doubtful)])
            .prop_map(|(file, advice)| Step::Advise(file, advice)),
        1 => Just(Step::Rot),
    ];
    prop::collection::vec(step, 1..80)
}

fn content(number: u8) -> Bytes {
    Bytes::from(vec![number; usize::from(number) * 5])
}

fn handle(number: u8) -> Handle {
    let id = FileId(Sha256::digest(content(number)).into());
    match number {
        0 => Handle::Config,
        1 => Handle::Own(OwnFolder::Verify, OwnName::new("receipt").unwrap()),
        2..5 => Handle::new(FileType::Index, id),
        5..7 => Handle::new(FileType::Snapshot, id),
        7 => Handle::new(FileType::Lock, id),
        _ => Handle::new(FileType::Pack, id),
    }
}

/// What a call is expected to answer.
type Model = BTreeMap<Handle, Bytes>;

async fn take(step: Step, storage: &dyn Storage, model: &mut Model, cache: &Path) {
    let what = format!("{step:?}");
    match step {
        Step::Create(number) => {
            storage.create(handle(number), content(number)).await.expect(&what);
            model.insert(handle(number), content(number));
        }
        Step::CreateOther(number) if model.contains_key(&handle(number)) => {
            let answer = storage.create(handle(number), Bytes::from_static(b"other")).await;
            assert!(matches!(answer, Err(StorageError::AlreadyExists(_))), "{what}: {answer:?}");
        }
        Step::Read(number, range) => {
            let answer = storage.read(handle(number), range.clone()).await;
            match (model.get(&handle(number)), range) {
                (None, _) => assert!(answer.is_err_and(|error| error.is_not_found()), "{what}"),
                (Some(content), None) => assert_eq!(answer.unwrap(), content, "{what}"),
                (Some(content), Some(range)) if range.end <= content.len() as u64 => {
                    assert_eq!(answer.unwrap(), content[range.start as usize..range.end as usize], "{what}");
                }
                (Some(_), Some(_)) => assert!(matches!(answer, Err(StorageError::Short(..))), "{what}: {answer:?}"),
            }
        }
        Step::Stat(number) => {
            let size = storage.stat(handle(number)).await.ok().map(|info| info.size);
            assert_eq!(size, model.get(&handle(number)).map(|content| content.len() as u64), "{what}");
        }
        Step::List(number) => {
            let file_type = handle(number).file_type();
            let listed: Vec<_> = storage.list(file_type).try_collect().await.expect(&what);
            let mut listed: Vec<_> = listed.into_iter().map(|info| (info.handle, info.size)).collect();
            listed.sort();
            let expected = model.iter().filter(|(handle, _)| handle.file_type() == file_type);
            let expected: Vec<_> = expected.map(|(handle, content)| (handle.clone(), content.len() as u64)).collect();
            assert_eq!(listed, expected, "{what}");
        }
        Step::Remove(number) if model.remove(&handle(number)).is_some() => {
            storage.remove(handle(number)).await.expect(&what);
        }
        // With faults, removing what is not there may look like a removal whose answer was lost.
        Step::CreateOther(_) | Step::Remove(_) => {}
        Step::Advise(number, advice) => storage.advise(&handle(number), advice),
        Step::Rot => rot(cache),
    }
}

fn rot(folder: &Path) {
    for entry in std::fs::read_dir(folder).into_iter().flatten() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            rot(&path);
        } else if let Some(byte) = std::fs::read(&path).unwrap().last() {
            let mut content = std::fs::read(&path).unwrap();
            *content.last_mut().unwrap() = byte ^ 0x10;
            std::fs::write(&path, content).unwrap();
        }
    }
}

fn run(steps: Vec<Step>, open: impl FnOnce(&Path) -> Arc<dyn Storage>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let folder = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap();
    runtime.block_on(async {
        let storage = open(folder.path());
        storage.prepare().await.unwrap();
        let mut model = Model::new();
        for step in steps {
            take(step, &*storage, &mut model, &folder.path().join("cache")).await;
        }
    });
}

/// Everything around memory that can be, with as little room as makes it busy.
fn whole_stack(folder: &Path, seed: u64) -> Arc<dyn Storage> {
    let chance = Chance::tolerable(seed).percent(40, 25);
    let faulty = Faulty::new(Arc::new(Memory::new().far_away())).with_chance(chance);
    let rate = RatePlan::constant(Rate::BytesPerSecond(100_000));
    let options = StackOptions {
        limits: Limits { up: rate.clone(), down: rate, connections: Some(2) },
        // Where most calls fail, a quarter of an hour is now and then too short. The clock is not the real one.
        retry: RetryLimits { budget: Duration::from_hours(24 * 365), ..RetryLimits::STANDARD },
        cache: Some(CacheOptions { root: folder.join("cache"), bytes_max: 150 }),
        ..StackOptions::new(Arc::new(TestClock::new(seed)))
    };
    let stack = Stack::over(Arc::new(faulty), options);
    stack.identify(FileId([7; 32]));
    stack.storage()
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: 100, ..ProptestConfig::default() })]

    #[test]
    fn a_folder_is_a_map(steps in steps()) {
        run(steps, |folder| Arc::new(Local::new(folder.join("repository"))));
    }

    #[test]
    fn a_whole_stack_over_a_faulty_storage_is_a_map(steps in steps(), seed in any::<u64>()) {
        run(steps, |folder| whole_stack(folder, seed));
    }
}
