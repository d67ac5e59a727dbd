//! Random items in random order, from several tasks, against a naive twin: a sorted map of paths.

mod common;

use common::*;
use onggi_repo::{Archive, ArchiveOptions, Cutting, LockKind, WriteBudget};
use proptest::prelude::*;
use std::time::Duration;

/// What one item is made of: a path of few names, and content of few kinds and sizes.
#[derive(Debug, Clone)]
struct Drawn {
    path: Vec<u8>,
    content: Option<Content>,
    leaves: bool,
}

#[derive(Debug, Clone)]
struct Content {
    seed: u64,
    length: usize,
    hole: usize,
    step: usize,
    cutting: Cutting,
}

fn cutting() -> impl Strategy<Value = Cutting> {
    prop_oneof![
        4 => Just(Cutting::Default),
        1 => Just(Cutting::Content { mean: 32 << 10 }),
        1 => Just(Cutting::Fixed(50_000)),
        1 => Just(Cutting::AsGiven),
    ]
}

fn content() -> impl Strategy<Value = Content> {
    let length = prop_oneof![5 => 0..2000_usize, 2 => 500_000..540_000_usize, 1 => 1_000_000..2_500_000_usize];
    let hole = prop_oneof![3 => Just(0_usize), 1 => 1..2_000_000_usize];
    (0..6_u64, length, hole, 1000..3_000_000_usize, cutting()).prop_map(|(seed, length, hole, step, cutting)| Content {
        seed,
        length,
        hole,
        step,
        cutting,
    })
}

fn item() -> impl Strategy<Value = Drawn> {
    let name = prop_oneof![Just(b"a".to_vec()), Just(b"b".to_vec()), Just(b"a-b".to_vec()), Just(vec![0xff, 0xfe])];
    let path = proptest::collection::vec(name, 1..4).prop_map(|names| names.join(&b'/'));
    (path, proptest::option::weighted(0.8, content()), proptest::bool::weighted(0.2))
        .prop_map(|(path, content, leaves)| Drawn { path, content, leaves })
}

impl Content {
    /// Noise, a hole in the middle, and the noise again.
    fn bytes(&self) -> Vec<u8> {
        let half = noise(self.seed, self.length);
        if self.hole == 0 { half } else { [&half, &vec![0; self.hole][..], &half].concat() }
    }

    async fn write(&self, archive: &Archive, path: &[u8]) -> onggi_repo::Result<()> {
        let half = noise(self.seed, self.length);
        let mut writer = archive.content(self.cutting, None).await?;
        let mut pieces = half.chunks(self.step).collect::<Vec<_>>();
        for piece in std::mem::take(&mut pieces) {
            writer.write_bytes(piece).await?;
        }
        if self.hole > 0 {
            writer.zeros(self.hole as u64).await?;
            for piece in half.chunks(self.step) {
                writer.write_bytes(piece).await?;
            }
        }
        archive.put_file(path, file_node(), writer.finish()).await
    }
}

/// The twin: what a set of paths allows, said as simply as possible.
#[derive(Default)]
struct Twin {
    files: Files,
    left: Vec<Vec<u8>>,
}

impl Twin {
    fn parents(path: &[u8]) -> impl Iterator<Item = &[u8]> {
        path.iter().enumerate().filter(|(_, byte)| **byte == b'/').map(|(at, _)| &path[..at])
    }

    /// Whether the item can be added: its name is free, those above are no files, nothing above was left.
    fn allows(&self, item: &Drawn) -> bool {
        let is_below_left = Self::parents(&item.path).any(|above| self.left.iter().any(|left| left == above));
        let is_below_file = Self::parents(&item.path).any(|above| self.files.get(above).is_some_and(Option::is_some));
        let prefix = [&item.path[..], b"/"].concat();
        let has_below = self.files.keys().any(|path| path.starts_with(&prefix));
        let is_taken = self.files.contains_key(&item.path) || (item.content.is_some() && has_below);
        !is_below_left && !is_below_file && !is_taken
    }

    fn leave(&mut self, directory: &[u8]) {
        let prefix = [directory, b"/"].concat();
        let below = self.files.keys().filter(|path| path.starts_with(&prefix));
        let all: Vec<Vec<u8>> =
            below.flat_map(|path| Self::parents(path).map(<[u8]>::to_vec).collect::<Vec<_>>()).collect();
        self.left.extend(all.into_iter().filter(|path| path.starts_with(directory)));
        if self.files.get(directory).is_some_and(Option::is_none) {
            self.left.push(directory.to_vec());
        }
        let dirs = self.files.iter().filter(|(path, content)| content.is_none() && path.starts_with(&prefix));
        let dirs: Vec<Vec<u8>> = dirs.map(|(path, _)| path.clone()).collect();
        self.left.extend(dirs);
    }
}

async fn check(items: Vec<Drawn>, budget: WriteBudget) {
    let world = World::new().await;
    let folder = tempfile::tempdir().unwrap();
    let lock = world.repo.lock(LockKind::Shared, Duration::ZERO).await.unwrap();
    let options = ArchiveOptions { budget, spill: Some(folder.path().into()), ..ArchiveOptions::default() };
    let archive = Archive::begin(&world.repo, &lock, options).await.unwrap();
    let mut twin = Twin::default();
    for item in items {
        let answer = match &item.content {
            Some(content) => content.write(&archive, &item.path).await,
            None => archive.put(&item.path, dir_node()).await,
        };
        assert_eq!(answer.is_ok(), twin.allows(&item), "{:?}: {answer:?}", item.path.escape_ascii().to_string());
        if answer.is_ok() {
            twin.files.insert(item.path.clone(), item.content.as_ref().map(Content::bytes));
        }
        if item.leaves
            && let Some(directory) = Twin::parents(&item.path).next()
        {
            archive.leave(directory).await.unwrap();
            twin.leave(directory);
        }
    }
    let done = archive.finish().await.unwrap().commit(draft()).await.unwrap();
    lock.release().await.unwrap();
    let repo = world.open().await;
    repo.load_index().await.unwrap();
    let mut expected = twin.files.clone();
    for path in twin.files.keys() {
        for above in Twin::parents(path) {
            expected.entry(above.to_vec()).or_insert(None);
        }
    }
    let found = read_all(&repo, done.snapshot.tree).await.unwrap();
    assert!(found == expected, "{:?}\n{:?}", found.keys(), expected.keys());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn an_archive_holds_what_the_twin_holds(items in proptest::collection::vec(item(), 0..25), is_small: bool) {
        let small = WriteBudget { windows: 1 << 20, packs: 4 << 20, trees: 500 };
        let budget = if is_small { small } else { WriteBudget::STANDARD };
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        runtime.block_on(check(items, budget));
    }
}
