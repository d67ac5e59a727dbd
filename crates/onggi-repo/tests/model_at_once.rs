//! Several archives at once, begun, filled, flushed, given up and committed in random order: each snapshot must be whole
//! for somebody who opens the repository at that moment, as after a power cut, and after all others are gone.

mod common;

use common::*;
use onggi_repo::{Archive, ArchiveOptions, LockKind, Repository, WriteBudget, archive::Committed};
use proptest::prelude::*;
use std::time::Duration;

/// Archives that may be open.
const PLACES: usize = 3;

#[derive(Debug, Clone)]
enum Step {
    /// Adds a file of one of few contents, so that archives often find the same new. Begins an archive where none is.
    Put {
        place: usize,
        seed: u64,
        length: usize,
    },
    Flush(usize),
    GiveUp(usize),
    Commit(usize),
    /// Time for packs that are full to reach the storage.
    Pause,
    /// A new process, which starts from what is stored.
    Restart,
}

fn step() -> impl Strategy<Value = Step> {
    let length = prop_oneof![Just(1000_usize), Just(300_000), Just(400_000), Just(3_000_000)];
    let place = 0..PLACES;
    prop_oneof![
        12 => (place.clone(), 0..2_u64, length).prop_map(|(place, seed, length)| Step::Put { place, seed, length }),
        1 => place.clone().prop_map(Step::Flush),
        3 => place.clone().prop_map(Step::GiveUp),
        4 => place.prop_map(Step::Commit),
        3 => Just(Step::Pause),
        1 => Just(Step::Restart),
    ]
}

async fn is_whole(world: &World, done: &Committed, expected: &Files) {
    let repo = world.open().await;
    repo.load_index().await.unwrap();
    assert!(read_all(&repo, done.snapshot.tree).await.unwrap() == *expected);
}

async fn check(steps: Vec<Step>, budget: WriteBudget) {
    let world = World::new().await;
    let options = ArchiveOptions { budget, ..ArchiveOptions::default() };
    let open = async || -> Repository {
        let repo = world.open().await;
        repo.load_index().await.unwrap();
        repo
    };
    let mut repo = open().await;
    let mut lock = repo.lock(LockKind::Shared, Duration::ZERO).await.unwrap();
    let mut places: [Option<(Archive, Files)>; PLACES] = Default::default();
    let mut stored: Vec<(Committed, Files)> = Vec::new();
    for step in steps {
        match step {
            Step::Put { place, seed, length } => {
                if places[place].is_none() {
                    let archive = Archive::begin(&repo, &lock, options.clone()).await.unwrap();
                    places[place] = Some((archive, Files::new()));
                }
                let Some((archive, files)) = &mut places[place] else { unreachable!() };
                let (path, bytes) = (format!("f{}", files.len()).into_bytes(), noise(seed, length));
                put_file(archive, &path, &bytes).await.unwrap();
                files.insert(path, Some(bytes));
            }
            Step::Flush(place) => {
                if let Some((archive, _)) = &places[place] {
                    archive.flush().await.unwrap();
                }
            }
            Step::GiveUp(place) => drop(places[place].take()),
            Step::Commit(place) => {
                let Some((archive, files)) = places[place].take() else { continue };
                let done = archive.finish().await.unwrap().commit(draft()).await.unwrap();
                is_whole(&world, &done, &files).await;
                stored.push((done, files));
            }
            Step::Pause => tokio::time::sleep(Duration::from_millis(20)).await,
            Step::Restart => {
                places = Default::default();
                lock.release().await.unwrap();
                repo = open().await;
                lock = repo.lock(LockKind::Shared, Duration::ZERO).await.unwrap();
            }
        }
    }
    drop(places);
    for (done, files) in &stored {
        is_whole(&world, done, files).await;
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn each_snapshot_is_whole_whatever_happens_beside_it(
        steps in proptest::collection::vec(step(), 0..40),
        is_small: bool,
    ) {
        // with packs of 64 KiB many are stored before anything is committed
        let small = WriteBudget { windows: 1 << 20, packs: 400_000, trees: 500 };
        let budget = if is_small { small } else { WriteBudget::STANDARD };
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        runtime.block_on(check(steps, budget));
    }
}
