//! Kind `paths` over trees of unusual shape: deep, wide, and with a file that is nearly all hole.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod support;

use std::collections::BTreeSet;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;

use async_trait::async_trait;
use onggi_source::bench::Bench;
use onggi_source::recorder::Recorder;
use onggi_source::{Content, Item, Items, Known, Layout, Pushed, Result, TreePath};
use rustix::fs::{CWD, Mode, OFlags, mkdirat, openat};

use support::{Folder, drain, record};

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

/// Makes directories below each other, each named `name`, with a file in the last one. Paths get longer than a path may
/// be, so each is made from the one above it.
fn make_deep(folder: &Folder, name: &str, levels: usize) {
    let flags = OFlags::DIRECTORY | OFlags::CLOEXEC;
    let mut directory: OwnedFd = openat(CWD, folder.path(""), flags, Mode::empty()).unwrap();
    for _ in 0..levels {
        mkdirat(&directory, name, Mode::RWXU).unwrap();
        directory = openat(&directory, name, flags, Mode::empty()).unwrap();
    }
    let file = openat(&directory, "file", OFlags::CREATE | OFlags::WRONLY, Mode::RUSR).unwrap();
    rustix::io::write(&file, b"deep").unwrap();
}

/// The standard library needs an open file per level.
fn remove_deep(folder: &Folder, name: &str) {
    let removed = std::process::Command::new("rm").arg("-rf").arg(folder.path(name)).status().unwrap();
    assert!(removed.success());
}

#[test]
fn four_thousand_levels_are_walked_with_few_open_files() {
    let folder = Folder::new();
    make_deep(&folder, "d", 4096);
    let tree = runtime().block_on(async {
        let bench = Bench::new("r1");
        let tree = record(&bench, &folder.source(&["d"])).await.unwrap();
        assert_eq!(bench.seen.problems(), vec![]);
        tree
    });
    remove_deep(&folder, "d");
    assert_eq!(tree.items.len(), 4097);
    let (last, item) = tree.items.iter().max_by_key(|(path, _)| path.as_bytes().len()).unwrap();
    assert_eq!((last.components().count(), item.content.as_ref()), (4097, &b"deep"[..]));
}

#[test]
fn siblings_on_the_way_up_are_found_again() {
    let folder = Folder::new();
    for branch in ["a", "b", "c"] {
        make_deep(&folder, branch, 300);
        let deep = "a/".repeat(150) + branch;
        if branch != "a" {
            std::fs::rename(folder.path(branch), folder.path(&deep)).unwrap();
        }
    }
    let tree = runtime().block_on(async {
        let bench = Bench::new("r1");
        let tree = record(&bench, &folder.source(&["a"])).await.unwrap();
        assert_eq!(bench.seen.problems(), vec![]);
        tree
    });
    remove_deep(&folder, "a");
    assert_eq!(tree.items.values().filter(|item| item.content == "deep").count(), 3);
    assert_eq!(tree.items.len(), 903);
}

#[test]
fn a_hundred_thousand_files_in_one_directory_are_all_stored() {
    let folder = Folder::with(&["d/"]);
    for number in 0..100_000 {
        std::fs::File::create(folder.path(&format!("d/{number}"))).unwrap();
    }
    runtime().block_on(async {
        let bench = Bench::new("r1");
        let sink = Count::default();
        drain(&bench, &folder.source(&["d"]), &sink).await.unwrap();
        assert_eq!(sink.0.lock().unwrap().len(), 100_001);
        assert_eq!(bench.seen.problems(), vec![]);
    });
}

#[test]
fn many_small_directories_are_all_left() {
    let folder = Folder::new();
    for number in 0..2000 {
        folder.put(&format!("d/{}/{number}/x", number % 7), b"1");
    }
    runtime().block_on(async {
        let bench = Bench::new("r1");
        let sink = Recorder::new(&bench.cx);
        let facts = drain(&bench, &folder.source(&["d"]), &sink).await.unwrap();
        let (left, promises) = (sink.left(), sink.broken_promises());
        let items = sink.commit(facts).unwrap().items;
        assert_eq!((items.len(), promises), (1 + 7 + 2000 + 2000, vec![]));
        let mut directories: BTreeSet<_> =
            items.into_iter().filter(|(_, item)| item.item.kind.is_directory()).map(|(path, _)| path).collect();
        directories.insert(TreePath::root());
        assert_eq!(left, directories);
    });
}

/// Keeps the paths only.
#[derive(Default)]
struct Count(std::sync::Mutex<BTreeSet<TreePath>>);

#[async_trait]
impl Items for Count {
    async fn push(&self, item: Item, _content: Content<'_>) -> Result<Pushed> {
        assert!(self.0.lock().unwrap().insert(item.path));
        Ok(Pushed::New)
    }
    async fn reuse(&self, _item: &Item) -> Result<bool> {
        Ok(false)
    }
    async fn leave(&self, _directory: &TreePath) -> Result<()> {
        Ok(())
    }
}

#[test]
fn a_file_of_a_tebibyte_of_holes_has_the_layout_of_its_data() {
    let folder = Folder::with(&["d/"]);
    let file = std::fs::File::create(folder.path("d/image")).unwrap();
    if file.set_len(1 << 40).is_err() {
        eprintln!("skipped: this file system has no files that long");
        return;
    }
    file.write_all_at(&[1; 4096], 1 << 39).unwrap();
    runtime().block_on(async {
        let bench = Bench::new("r1");
        let sink = Layouts { bench: &bench, found: std::sync::Mutex::default() };
        drain(&bench, &folder.source(&["d"]), &sink).await.unwrap();
        let layouts = sink.found.lock().unwrap();
        assert_eq!(layouts[0].length, 1 << 40);
        let data: u64 = layouts[0].data.iter().map(|range| range.end - range.start).sum();
        assert!(data <= 1 << 20 && layouts[0].data.iter().any(|range| range.contains(&(1 << 39))), "{layouts:?}");
    });
}

/// Opens contents without reading them.
struct Layouts<'a> {
    bench: &'a Bench,
    found: std::sync::Mutex<Vec<Layout>>,
}

#[async_trait]
impl Items for Layouts<'_> {
    async fn push(&self, _item: Item, content: Content<'_>) -> Result<Pushed> {
        if let Content::At(content) = content {
            let layout = content.open(&self.bench.cx, &Known::default()).await.unwrap();
            self.found.lock().unwrap().push(layout);
        }
        Ok(Pushed::New)
    }
    async fn reuse(&self, _item: &Item) -> Result<bool> {
        Ok(false)
    }
    async fn leave(&self, _directory: &TreePath) -> Result<()> {
        Ok(())
    }
}
