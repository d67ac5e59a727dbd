//! Kind `paths` over files that change under its hands: they vanish, grow, shrink, and turn into something else.
#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "a test may panic, and says what it skips")]

mod support;

use std::os::unix::fs::symlink;
use std::sync::atomic::{AtomicUsize, Ordering};

use onggi_source::TreePath;
use onggi_source::bench::Bench;
use onggi_source::recorder::Recorder;
use rustix::fs::{CWD, FileType, Mode, mknodat};

use support::{Folder, Meddle, drain, record, record_over};

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

fn meddled(
    folder: &Folder,
    at_push: impl Fn(&TreePath) + Send + Sync,
    at_open: impl Fn(&TreePath) + Send + Sync,
) -> Meddled {
    runtime().block_on(async {
        let bench = Bench::new("r1");
        let sink = Recorder::new(&bench.cx);
        let meddle = Meddle { sink: &sink, at_push, at_open };
        let facts = drain(&bench, &folder.source(&["d"]), &meddle).await.unwrap();
        let tree = sink.commit(facts).unwrap();
        let contents = tree.items.iter().map(|(path, item)| (path.to_string(), item.content.to_vec())).collect();
        Meddled { lines: tree.lines(), problems: bench.seen.problem_lines(), contents }
    })
}

struct Meddled {
    lines: Vec<String>,
    problems: Vec<String>,
    contents: std::collections::BTreeMap<String, Vec<u8>>,
}

#[test]
fn a_vanished_file_is_no_problem() {
    let folder = Folder::with(&["d/a", "d/b"]);
    let take = |path: &TreePath| {
        if path.as_bytes() == b"d/b" {
            remove(&folder, "d/b");
        }
    };
    let found = meddled(&folder, take, |_| {});
    assert_eq!((found.lines, found.problems), (vec!["d/".to_owned(), "d/a 3".to_owned()], vec![]));
}

fn remove(folder: &Folder, name: &str) {
    std::fs::remove_file(folder.path(name)).unwrap();
}

#[test]
fn a_pipe_that_took_a_files_name_does_not_block() {
    let folder = Folder::with(&["d/a", "d/b"]);
    let swap = |path: &TreePath| {
        if path.as_bytes() == b"d/b" {
            remove(&folder, "d/b");
            mknodat(CWD, folder.path("d/b"), FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
        }
    };
    let found = meddled(&folder, swap, |_| {});
    assert_eq!(
        (found.lines, found.problems),
        (vec!["d/".to_owned(), "d/a 3".to_owned()], vec!["changed d/b".to_owned()])
    );
}

#[test]
fn a_link_that_took_a_files_name_is_not_followed() {
    let folder = Folder::with(&["d/a", "d/b", "secret"]);
    let swap = |path: &TreePath| {
        if path.as_bytes() == b"d/b" {
            remove(&folder, "d/b");
            symlink(folder.path("secret"), folder.path("d/b")).unwrap();
        }
    };
    let found = meddled(&folder, swap, |_| {});
    assert_eq!(
        (found.lines, found.problems),
        (vec!["d/".to_owned(), "d/a 3".to_owned()], vec!["changed d/b".to_owned()])
    );
}

#[test]
fn what_lies_in_a_directory_that_took_anothers_place_is_not_stored_as_its() {
    let folder = Folder::with(&["d/a", "d/sub/b", "other/b"]);
    let swap = |path: &TreePath| {
        if path.as_bytes() == b"d/sub/b" {
            std::fs::rename(folder.path("d/sub"), folder.path("old")).unwrap();
            std::fs::rename(folder.path("other"), folder.path("d/sub")).unwrap();
        }
    };
    let found = meddled(&folder, swap, |_| {});
    let expected = ["d/", "d/a 3", "d/sub/"].map(str::to_owned);
    assert_eq!((found.lines, found.problems), (expected.into(), vec![]));
}

#[test]
fn a_file_that_changes_once_is_read_again() {
    let folder = Folder::with(&["d/a"]);
    let opens = AtomicUsize::new(0);
    let grow = |_: &TreePath| {
        if opens.fetch_add(1, Ordering::Relaxed) == 0 {
            folder.put("d/a", b"longer than before");
        }
    };
    let found = meddled(&folder, |_| {}, grow);
    assert_eq!(found.problems, Vec::<String>::new());
    assert_eq!(found.contents["d/a"], b"longer than before");
}

#[test]
fn a_file_that_becomes_shorter_is_read_again() {
    let folder = Folder::new();
    folder.put("d/a", &vec![1; 300_000]);
    let opens = AtomicUsize::new(0);
    let cut = |_: &TreePath| {
        if opens.fetch_add(1, Ordering::Relaxed) == 0 {
            folder.put("d/a", b"short");
        }
    };
    let found = meddled(&folder, |_| {}, cut);
    assert_eq!((found.problems, &found.contents["d/a"][..]), (vec![], &b"short"[..]));
}

#[test]
fn a_file_that_changes_all_the_time_is_a_problem_and_stored() {
    let folder = Folder::with(&["d/a"]);
    let opens = AtomicUsize::new(0);
    let grow = |_: &TreePath| {
        let length = 10 + opens.fetch_add(1, Ordering::Relaxed);
        folder.put("d/a", &vec![b'x'; length]);
    };
    let found = meddled(&folder, |_| {}, grow);
    assert_eq!(found.problems, ["changed d/a"]);
    assert_eq!(found.contents["d/a"].len(), 10);
}

#[test]
fn unchanged_files_are_not_opened() {
    let folder = Folder::with(&["d/a", "d/b", "d/sub/c"]);
    let source = folder.source(&["d"]);
    runtime().block_on(async {
        let bench = Bench::new("r1");
        let parent = record(&bench, &source).await.unwrap();
        let (same, opened) = record_over(&bench, &source, &parent).await.unwrap();
        assert_eq!((same.items == parent.items, opened), (true, vec![]));
        folder.put("d/b", b"changed");
        let (_, opened) = record_over(&bench, &source, &parent).await.unwrap();
        assert_eq!(opened, [TreePath::new("d/b").unwrap()]);
    });
}

#[test]
fn a_leased_file_is_waited_for() {
    let folder = Folder::with(&["d/a"]);
    let holder = "import fcntl, signal, sys, time
file = open(sys.argv[1], 'r+')
def give_back(*_):
    time.sleep(0.3)
    fcntl.fcntl(file, fcntl.F_SETLEASE, fcntl.F_UNLCK)
    sys.exit()
signal.signal(signal.SIGIO, give_back)
fcntl.fcntl(file, fcntl.F_SETLEASE, fcntl.F_WRLCK)
print('held', flush=True)
time.sleep(60)
";
    let mut command = std::process::Command::new("python3");
    command.args(["-c", holder]).arg(folder.path("d/a")).stdout(std::process::Stdio::piped());
    let Ok(mut child) = command.spawn() else {
        eprintln!("skipped: nothing can hold a lease without python3");
        return;
    };
    let mut said = [0; 4];
    std::io::Read::read_exact(child.stdout.as_mut().unwrap(), &mut said).expect("the lease is held");
    let found = meddled(&folder, |_| {}, |_| {});
    assert_eq!((found.lines, found.problems), (vec!["d/".to_owned(), "d/a 3".to_owned()], vec![]));
    assert!(child.wait().unwrap().success(), "it was asked to give the lease back");
}
