//! Kind `paths` over real files: roots, kinds, patterns, and faults of the machine.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod support;

use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

use onggi_source::bench::Bench;
use onggi_source::paths::RootPath;
use onggi_source::quantity::ByteCount;
use onggi_source::recorder::Recorder;
use onggi_source::{Source, SourceError, TreePath};
use rustix::fs::{CWD, FileType, Mode, XattrFlags, mknodat};

use support::{Folder, drain, record};

/// Captures relative roots of a folder and compares the lines of the tree.
#[track_caller]
fn check(folder: &Folder, paths: &[&str], expected: &[&str]) {
    let (lines, problems) = run(folder, paths);
    assert_eq!(lines, expected);
    assert_eq!(problems, Vec::<String>::new());
}

fn run(folder: &Folder, paths: &[&str]) -> (Vec<String>, Vec<String>) {
    run_source(&folder.source(paths))
}

fn run_source(source: &dyn Source) -> (Vec<String>, Vec<String>) {
    runtime().block_on(async {
        let bench = Bench::new("r1");
        let tree = record(&bench, source).await.expect("a capture");
        (tree.lines(), bench.seen.problem_lines())
    })
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

// ---- roots ----

#[test]
fn a_relative_root_appears_under_its_own_name() {
    let folder = Folder::with(&["docs/a", "docs/sub/b", "other"]);
    check(&folder, &["docs/"], &["docs/", "docs/a 6", "docs/sub/", "docs/sub/b 10"]);
}

#[test]
fn an_absolute_root_brings_the_chain_of_its_directories() {
    let folder = Folder::with(&["docs/a"]);
    let absolute = folder.path("docs");
    let (lines, problems) = run(&folder, &[absolute.to_str().unwrap()]);
    let chain = absolute.strip_prefix("/").unwrap().ancestors().filter(|path| !path.as_os_str().is_empty());
    let mut expected: Vec<_> = chain.map(|path| format!("{}/", path.display())).collect();
    expected.reverse();
    expected.push(format!("{}/a 6", absolute.strip_prefix("/").unwrap().display()));
    assert_eq!((lines, problems), (expected, Vec::new()));
}

#[test]
fn a_dot_stands_for_what_lies_there() {
    let folder = Folder::with(&["a", "d/b"]);
    check(&folder, &["."], &["a 1", "d/", "d/b 3"]);
    check(&folder, &["d/..", "a"], &["a 1", "d/", "d/b 3"]);
}

#[test]
fn a_file_is_a_root() {
    let folder = Folder::with(&["d/a", "d/b"]);
    check(&folder, &["d/a"], &["d/", "d/a 3"]);
}

#[test]
fn a_link_as_root_is_stored_as_itself() {
    let folder = Folder::with(&["real/a"]);
    symlink("real", folder.path("link")).unwrap();
    check(&folder, &["link"], &["link -> real"]);
    check(&folder, &["link/"], &["link -> real"]);
    check(&folder, &["link/a"], &["link/", "link/a 6"]);
}

#[test]
fn overlapping_roots_are_stored_once() {
    let folder = Folder::with(&["d/a", "d/sub/b", "d/sub/c"]);
    let all = ["d/", "d/a 3", "d/sub/", "d/sub/b 7", "d/sub/c 7"];
    check(&folder, &["d", "d/sub/b", "d/sub", "d"], &all);
    check(&folder, &["d/sub/b", "d/sub/c"], &["d/", "d/sub/", "d/sub/b 7", "d/sub/c 7"]);
}

#[test]
fn equal_names_from_elsewhere_are_numbered_and_read_under_their_own() {
    let folder = Folder::with(&["x/d/a", "d/b"]);
    let source = folder.source(&["d", "sub/../x/../d"]);
    assert_eq!(run_source(&source).0, ["d/", "d/b 3"]);
    let elsewhere = Folder::with(&["d/e"]);
    let other = elsewhere.path("d");
    let up = format!("{}{}", "../".repeat(20), other.strip_prefix("/").unwrap().display());
    let first = other.strip_prefix("/").unwrap().iter().next().unwrap().to_str().unwrap().to_owned();
    folder.put(&format!("{first}/own"), b"1");
    let (lines, problems) = run(&folder, &[&first, &up]);
    assert_eq!(problems, Vec::<String>::new());
    assert!(lines.contains(&format!("{first}/own 1")), "{lines:?}");
    assert!(lines.iter().any(|line| line.starts_with(&format!("{first}-1/")) && line.ends_with("d/e 3")), "{lines:?}");
}

#[test]
fn an_absent_root_is_a_problem_and_the_rest_is_stored() {
    let folder = Folder::with(&["a"]);
    let (lines, problems) = run(&folder, &["a", "missing", "no/such/chain"]);
    assert_eq!(lines, ["a 1"]);
    assert_eq!(problems, ["missing-root", "missing-root"]);
}

#[test]
fn an_optional_root_may_be_absent() {
    let folder = Folder::with(&["a"]);
    let optional = RootPath { path: "missing".into(), optional: true };
    let source = folder.source_with(&["a"], |config| config.paths.push(optional));
    assert_eq!(run_source(&source), (vec!["a 1".to_owned()], vec![]));
}

#[test]
fn nothing_left_is_a_failure() {
    let folder = Folder::new();
    let source = folder.source(&["missing"]);
    runtime().block_on(async {
        let bench = Bench::new("r1");
        assert!(matches!(record(&bench, &source).await, Err(SourceError::Incomplete(_))));
        assert!(source.preflight(&bench.cx).await.is_err());
    });
}

#[test]
fn the_snapshot_names_the_real_roots() {
    let folder = Folder::with(&["a", "d/b"]);
    let source = folder.source(&["d/../a", "d"]);
    let tree = runtime().block_on(async { record(&Bench::new("r1"), &source).await.unwrap() });
    let expected = ["a", "d"].map(|name| TreePath::new(&folder.path(name).as_os_str().as_bytes()[1..]).unwrap());
    assert_eq!(tree.facts[0].roots, expected);
}

// ---- what an entry is ----

#[test]
fn every_kind_is_stored_by_type_and_sockets_are_counted() {
    let folder = Folder::with(&["d/file", "d/empty/"]);
    symlink("../else\u{1b}where", folder.path("d/link")).unwrap();
    mknodat(CWD, folder.path("d/pipe"), FileType::Fifo, Mode::RUSR, 0).unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(folder.path("d/socket")).unwrap();
    let source = folder.source(&["d"]);
    runtime().block_on(async {
        let bench = Bench::new("r1");
        let tree = record(&bench, &source).await.unwrap();
        let expected = ["d/", "d/empty/", "d/file 6", "d/link -> ../else\u{1b}where", "d/pipe fifo"];
        assert_eq!(tree.lines(), expected);
        assert_eq!(bench.seen.passed("socket"), 1);
        assert!(bench.seen.problems().is_empty());
    });
}

#[test]
fn metadata_is_that_of_the_file() {
    let folder = Folder::with(&["d/a"]);
    let path = folder.path("d/a");
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o4751)).unwrap();
    std::fs::hard_link(&path, folder.path("d/b")).unwrap();
    let stat = std::fs::metadata(&path).unwrap();
    let source = folder.source_with(&["d"], |config| config.atime = true);
    let tree = runtime().block_on(async { record(&Bench::new("r1"), &source).await.unwrap() });
    let (one, other) = (&tree.at("d/a").item.metadata, &tree.at("d/b").item.metadata);
    assert_eq!((one.mode, one.uid, one.gid, one.links, one.size), (0o4751, stat.uid(), stat.gid(), 2, 3));
    assert_eq!((one.inode, one.device_id), (other.inode, other.device_id));
    assert_eq!((one.inode, one.device_id), (Some(stat.ino()), stat.dev()));
    assert_eq!(one.mtime.as_second(), stat.mtime());
    assert_eq!(i64::from(one.ctime.unwrap().subsec_nanosecond()), stat.ctime_nsec());
    assert!(one.atime.is_some());
    assert_eq!((tree.at("d").item.metadata.links, tree.at("d").item.metadata.size), (0, 0));
    if stat.uid() == 0 {
        assert_eq!(one.user, "root");
    }
}

#[test]
fn attributes_are_stored_unless_that_is_switched_off() {
    let folder = Folder::with(&["d/a"]);
    let long = vec![7; 2000];
    for (name, value) in [("user.long", &long[..]), ("user.b", b"\0\xff"), ("user.empty", b"")] {
        if rustix::fs::setxattr(folder.path("d/a"), name, value, XattrFlags::empty()).is_err() {
            eprintln!("skipped: this file system has no extended attributes");
            return;
        }
    }
    let tree = |on| {
        let source = folder.source_with(&["d"], |config| config.xattrs = on);
        runtime().block_on(async { record(&Bench::new("r1"), &source).await.unwrap() })
    };
    let found = tree(true).at("d/a").item.metadata.xattrs.clone();
    let pairs: Vec<_> = found.iter().map(|xattr| (&xattr.name[..], &xattr.value[..])).collect();
    let expected: [(&[u8], &[u8]); 3] = [(b"user.b", b"\0\xff"), (b"user.empty", b""), (b"user.long", &long)];
    assert_eq!(pairs, expected);
    assert!(tree(false).at("d/a").item.metadata.xattrs.is_empty());
}

#[test]
fn hostile_names_are_stored_byte_for_byte() {
    let folder = Folder::with(&["d/"]);
    let names: [&[u8]; 8] =
        [b"new\nline", b"\xff\xfe", b"\x1b[2J", "\u{202e}gpj".as_bytes(), b"-rf", b" ", b"a\\b", &[b'x'; 255]];
    for name in names {
        std::fs::write(folder.path("d").join(std::ffi::OsStr::from_bytes(name)), "1").unwrap();
    }
    let tree = runtime().block_on(async { record(&Bench::new("r1"), &folder.source(&["d"])).await.unwrap() });
    for name in names {
        let path = TreePath::new([b"d/", name].concat()).unwrap();
        assert_eq!(tree.items[&path].content, "1");
    }
    assert_eq!(tree.items.len(), names.len() + 1);
}

#[test]
fn holes_are_not_read() {
    let folder = Folder::with(&["d/"]);
    let file = std::fs::File::create(folder.path("d/sparse")).unwrap();
    let at = |offset| std::os::unix::fs::FileExt::write_all_at(&file, &[7; 4096], offset).unwrap();
    at(1 << 20);
    at(40 << 20);
    file.set_len(64 << 20).unwrap();
    runtime().block_on(async {
        let bench = Bench::new("r1");
        let sink = Recorder::new(&bench.cx);
        let facts = drain(&bench, &folder.source(&["d"]), &sink).await.unwrap();
        assert!(sink.bytes_read() <= 1 << 20, "{} bytes were read", sink.bytes_read());
        let content = &sink.commit(facts).unwrap().at("d/sparse").content.clone();
        assert_eq!(content.len(), 64 << 20);
        let expected =
            |offset: usize| [1 << 20, 40 << 20].iter().any(|start| (*start..*start + 4096).contains(&offset));
        assert!(content.iter().enumerate().all(|(offset, byte)| *byte == if expected(offset) { 7 } else { 0 }));
    });
}

// ---- what is left out ----

#[test]
fn patterns_leave_out_and_take_back() {
    let folder = Folder::with(&["d/a.tmp", "d/keep.tmp", "d/B.TMP", "d/build/x", "d/sub/build/y", "d/sub/z"]);
    let source = folder.source_with(&["d"], |config| {
        config.exclude = vec!["*.tmp".to_owned(), "!keep.tmp".to_owned(), "d/**/build".to_owned()];
    });
    assert_eq!(run_source(&source).0, ["d/", "d/B.TMP 7", "d/keep.tmp 10", "d/sub/", "d/sub/z 7"]);
    let source = folder.source_with(&["d"], |config| config.iexclude = vec!["*.tmp".to_owned()]);
    assert!(run_source(&source).0.iter().all(|line| !line.to_lowercase().contains(".tmp")));
}

#[test]
fn an_exclude_file_is_read_line_by_line() {
    let folder = Folder::with(&["d/a", "d/b", "d/c"]);
    folder.put("list", b"\xef\xbb\xbf# comment\n\n  a  \r\n$NAME\n");
    let mut config = onggi_source::paths::PathsConfig::new(["d".into()]);
    config.exclude_files = vec!["list".into()];
    let mut surroundings = folder.surroundings();
    surroundings.environment.insert("NAME".to_owned(), "b".to_owned());
    let source = onggi_source::paths::Paths::new(config, surroundings).unwrap();
    assert_eq!(run_source(&source), (vec!["d/".to_owned(), "d/c 3".to_owned()], vec![]));
}

#[test]
fn an_exclude_file_that_cannot_be_used_is_a_problem() {
    let folder = Folder::with(&["d/a"]);
    folder.put("bad", b"[unclosed\n");
    let source = folder.source_with(&["d"], |config| config.exclude_files = vec!["missing".into(), "bad".into()]);
    let (lines, problems) = run_source(&source);
    assert_eq!(lines, ["d/", "d/a 3"]);
    assert_eq!(problems, ["exclude-file", "exclude-file"]);
}

#[test]
fn a_tag_leaves_out_the_contents_of_its_directory() {
    let folder = Folder::with(&["d/c/.nobackup", "d/c/x", "d/c/sub/y", "d/e/z", "d/f/mark", "d/f/x"]);
    folder.put("d/cache/CACHEDIR.TAG", b"Signature: 8a477f597d28d172789f06886806bc55\n# etc");
    folder.put("d/cache/x", b"1");
    folder.put("d/false/CACHEDIR.TAG", b"Signature: something else");
    folder.put("d/false/x", b"1");
    let source = folder.source_with(&["d"], |config| {
        config.exclude_caches = true;
        config.exclude_if_present = vec![".nobackup".to_owned(), "mark:other".to_owned()];
    });
    let expected = [
        "d/",
        "d/c/",
        "d/c/.nobackup 13",
        "d/cache/",
        "d/cache/CACHEDIR.TAG 49",
        "d/e/",
        "d/e/z 5",
        "d/f/",
        "d/f/mark 8",
        "d/f/x 5",
        "d/false/",
        "d/false/CACHEDIR.TAG 25",
        "d/false/x 1",
    ];
    assert_eq!(run_source(&source).0, expected);
}

#[test]
fn long_files_are_left_out_where_that_was_asked() {
    let folder = Folder::with(&["d/a", "d/long-name"]);
    let source = folder.source_with(&["d"], |config| config.exclude_larger_than = Some(ByteCount(3)));
    assert_eq!(run_source(&source).0, ["d/", "d/a 3"]);
}

#[test]
fn what_onggi_itself_writes_is_never_stored() {
    let folder = Folder::with(&["d/a", "d/repository/pack"]);
    symlink(folder.path("d/repository"), folder.path("alias")).unwrap();
    let config = onggi_source::paths::PathsConfig::new(["d".into()]);
    let mut surroundings = folder.surroundings();
    surroundings.never = vec![folder.path("alias"), folder.path("missing")];
    let source = onggi_source::paths::Paths::new(config, surroundings).unwrap();
    assert_eq!(run_source(&source), (vec!["d/".to_owned(), "d/a 3".to_owned()], vec![]));
}

// ---- faults of the machine ----

#[test]
fn an_unreadable_file_is_a_problem_and_the_rest_is_stored() {
    let folder = Folder::with(&["d/a", "d/b"]);
    let denied = if rustix::process::geteuid().is_root() {
        "/proc/sys/vm/compact_memory".to_owned() // write-only even for root
    } else {
        std::fs::set_permissions(folder.path("d/a"), std::fs::Permissions::from_mode(0o000)).unwrap();
        "d/a".to_owned()
    };
    if !folder.path(&denied).exists() {
        eprintln!("skipped: {denied} does not exist");
        return;
    }
    let (lines, problems) = run(&folder, &["d/b", &denied]);
    assert!(lines.contains(&"d/b 3".to_owned()));
    assert_eq!(problems, [format!("denied {}", denied.trim_start_matches('/'))]);
}

#[test]
fn a_cancelled_run_unwinds() {
    let folder = Folder::with(&["d/a", "d/b"]);
    let source = folder.source(&["d"]);
    runtime().block_on(async {
        let bench = Bench::new("r1");
        let sink = Recorder::new(&bench.cx);
        let unit = source.discover(&bench.cx).await.unwrap().remove(0);
        let mut capture = source.capture(&bench.cx, &unit, None).await.unwrap();
        bench.stop.send_replace(Some(onggi_source::Stop::Cancelled));
        assert!(matches!(capture.items(&bench.cx, &sink).await, Err(SourceError::Stopped(_))));
    });
}

#[test]
fn a_mount_below_itself_is_a_problem_and_ends() {
    let folder = Folder::with(&["d/a", "d/sub/"]);
    let (from, to) = (folder.path("d"), folder.path("d/sub"));
    let mount = |arguments: &[&std::ffi::OsStr]| {
        std::process::Command::new(arguments[0])
            .args(&arguments[1..])
            .output()
            .is_ok_and(|output| output.status.success())
    };
    let argument = std::ffi::OsStr::new;
    if !mount(&[argument("mount"), argument("--bind"), from.as_os_str(), to.as_os_str()]) {
        eprintln!("skipped: nothing can be mounted here");
        return;
    }
    let found = std::panic::catch_unwind(|| run(&folder, &["d"]));
    assert!(mount(&[argument("umount"), to.as_os_str()]));
    assert_eq!(
        found.unwrap(),
        (vec!["d/".to_owned(), "d/a 3".to_owned(), "d/sub/".to_owned()], vec!["loop d/sub".to_owned()])
    );
}

#[test]
fn another_file_system_is_entered_unless_that_is_switched_off() {
    let folder = Folder::with(&["d/a", "d/mnt/"]);
    let target = folder.path("d/mnt");
    let mount = |arguments: &[&str]| {
        let status = std::process::Command::new(arguments[0]).args(&arguments[1..]).arg(&target).output();
        status.is_ok_and(|output| output.status.success())
    };
    if !mount(&["mount", "-t", "tmpfs", "none"]) {
        eprintln!("skipped: nothing can be mounted here");
        return;
    }
    folder.put("d/mnt/x", b"1");
    let found = std::panic::catch_unwind(|| {
        let within = |one: bool, paths: &[&str]| run_source(&folder.source_with(paths, |c| c.one_file_system = one)).0;
        (within(false, &["d"]), within(true, &["d"]), within(true, &["d", "d/mnt"]))
    });
    assert!(mount(&["umount"]));
    let (all, one, named) = found.unwrap();
    let entered = ["d/", "d/a 3", "d/mnt/", "d/mnt/x 1"];
    assert_eq!(all, entered);
    assert_eq!(one, ["d/", "d/a 3", "d/mnt/"]);
    assert_eq!(named, entered);
}

#[test]
fn what_the_kernel_makes_up_is_entered_only_if_it_is_named() {
    let folder = Folder::new();
    let source = folder.source_with(&["/"], |config| {
        config.exclude = ["/[^p]*", "/p[^r]*", "/pr[^o]*", "/proc?*"].map(str::to_owned).into();
    });
    let (lines, problems) = run_source(&source);
    assert_eq!((lines, problems), (vec!["proc/".to_owned()], vec![]));
    let named = folder.source(&["/proc/sys/kernel/random"]);
    assert!(run_source(&named).0.contains(&"proc/sys/kernel/random/".to_owned()));
    assert!(run_source(&named).0.len() > 5);
}
