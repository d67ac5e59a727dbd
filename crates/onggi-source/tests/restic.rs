//! Kind `paths` beside the real restic: the same roots and patterns give the same paths. Skipped, and said so, where
//! there is no restic.
#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "a test may panic, and says what it skips")]

mod support;

use std::collections::BTreeSet;
use std::os::unix::fs::symlink;
use std::process::{Command, Output};

use onggi_source::bench::Bench;
use onggi_source::paths::PathsConfig;
use onggi_source::quantity::ByteCount;
use rustix::fs::{CWD, FileType, Mode, mknodat};
use tempfile::TempDir;

use support::{Folder, record};

struct Restic(TempDir);

impl Restic {
    /// A new repository, if restic is there.
    fn open() -> Option<Self> {
        let restic = Self(tempfile::tempdir().unwrap());
        match restic.command(CWD_OF_TESTS, &["init"]) {
            Ok(output) if output.status.success() => Some(restic),
            Ok(output) => panic!("{}", String::from_utf8_lossy(&output.stderr)),
            Err(error) => {
                eprintln!("skipped: restic cannot be started: {error}");
                None
            }
        }
    }

    fn command(&self, directory: &str, arguments: &[&str]) -> std::io::Result<Output> {
        let mut command = Command::new("restic");
        command.args(["--no-cache", "-q", "-r"]).arg(self.0.path()).args(arguments);
        command.env("RESTIC_PASSWORD", "test").env("HOME", self.0.path()).current_dir(directory).output()
    }

    /// The paths of a backup, with `/` behind directories.
    fn paths(&self, folder: &Folder, arguments: &[&str]) -> BTreeSet<String> {
        let directory = folder.path("");
        let directory = directory.to_str().unwrap();
        let run = |arguments: &[&str]| {
            let output = self.command(directory, arguments).unwrap();
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
            String::from_utf8(output.stdout).unwrap()
        };
        run(&[&["backup", "--force"], arguments].concat());
        let listed = run(&["ls", "latest", "--json"]);
        let nodes = listed.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
        let path = |node: serde_json::Value| {
            let mark = if node["type"] == "dir" { "/" } else { "" };
            Some(format!("{}{mark}", node["path"].as_str()?.strip_prefix('/')?))
        };
        nodes.filter(|node| node["struct_type"] == "node").filter_map(path).collect()
    }
}

const CWD_OF_TESTS: &str = "/";

fn ours(folder: &Folder, roots: &[&str], edit: &dyn Fn(&mut PathsConfig)) -> BTreeSet<String> {
    let source = folder.source_with(roots, edit);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let tree = runtime.block_on(async { record(&Bench::new("r1"), &source).await.unwrap() });
    let mark = |recorded: &onggi_source::recorder::Recorded| if recorded.item.kind.is_directory() { "/" } else { "" };
    tree.items.iter().map(|(path, recorded)| format!("{path}{}", mark(recorded))).collect()
}

fn folder() -> Folder {
    let names = [
        "d/a.tmp",
        "d/b.txt",
        "d/B.TXT",
        "d/build/x.o",
        "d/sub/build/y.o",
        "d/sub/keep/build",
        "d/sub/deep/er/z.tmp",
        "d/[x]",
        "d/c ache/one",
        "d/cache/CACHEDIR.TAG",
        "d/cache/two",
        "d/no/.nobackup",
        "d/no/three",
        "d/no/in/four",
        "other/sub/build/x",
        "other/b.txt",
        "d/empty/",
        "\u{e9}t\u{e9}/\u{c9}T\u{c9}",
    ];
    let folder = Folder::with(&names);
    folder.put("d/cache/CACHEDIR.TAG", b"Signature: 8a477f597d28d172789f06886806bc55");
    folder.put("d/long", &vec![b'x'; 5000]);
    symlink("b.txt", folder.path("d/link")).unwrap();
    symlink("d", folder.path("alias")).unwrap();
    mknodat(CWD, folder.path("d/pipe"), FileType::Fifo, Mode::RUSR, 0).unwrap();
    folder
}

#[test]
fn roots_give_the_same_paths() {
    let Some(restic) = Restic::open() else { return };
    let folder = folder();
    let absolute = folder.path("d/sub");
    let absolute = absolute.to_str().unwrap();
    let cases: [&[&str]; 11] = [
        &["."],
        &["d"],
        &["./d/", "other/../d/sub"],
        &["d/sub/build", "d/b.txt"],
        &["alias"],
        &["alias/"],
        &["alias/sub"],
        &[absolute],
        &[absolute, "d"],
        &["d/..", "d/sub"],
        &["d/sub", "d", "other/sub/build/x"],
    ];
    for roots in cases {
        assert_eq!(ours(&folder, roots, &|_| {}), restic.paths(&folder, roots), "{roots:?}");
    }
}

#[test]
fn patterns_leave_out_the_same() {
    let Some(restic) = Restic::open() else { return };
    let folder = folder();
    let absolute = folder.path("d/sub");
    let anchored = format!("{}/*/er", absolute.to_str().unwrap());
    let cases: [&[&str]; 15] = [
        &["*.tmp"],
        &["build"],
        &["sub/build"],
        &["d/**/build"],
        &["**/er"],
        &["d/*"],
        &["d/*", "!d/sub"],
        &["*.txt", "!b.txt"],
        &["!b.txt", "*.txt"],
        &["\\[x\\]"],
        &["[bB].[tT]*"],
        &["[^b].*"],
        &[&anchored],
        &["/d/sub"],
        &["c?ache/", "./d/empty"],
    ];
    for patterns in cases {
        let flags: Vec<_> = patterns.iter().flat_map(|pattern| ["--exclude", *pattern]).collect();
        let theirs = restic.paths(&folder, &[&flags[..], &["."]].concat());
        let exclude = |config: &mut PathsConfig| config.exclude = patterns.iter().map(|p| (*p).to_owned()).collect();
        assert_eq!(ours(&folder, &["."], &exclude), theirs, "{patterns:?}");
    }
}

#[test]
fn other_conditions_leave_out_the_same() {
    let Some(restic) = Restic::open() else { return };
    let folder = folder();
    folder.put("list", "# no comment\n\n *.o \n$HOME-x\n$$y\n".as_bytes());
    let compare = |flags: &[&str], edit: &dyn Fn(&mut PathsConfig)| {
        let theirs = restic.paths(&folder, &[flags, &["d", "\u{e9}t\u{e9}"]].concat());
        assert_eq!(ours(&folder, &["d", "\u{e9}t\u{e9}"], edit), theirs, "{flags:?}");
    };
    compare(&["--exclude-caches"], &|config| config.exclude_caches = true);
    compare(&["--exclude-if-present", ".nobackup"], &|config| config.exclude_if_present = vec![".nobackup".to_owned()]);
    compare(&["--exclude-larger-than", "4K"], &|config| config.exclude_larger_than = Some(ByteCount(4096)));
    compare(&["--exclude-larger-than", "5000"], &|config| config.exclude_larger_than = Some(ByteCount(5000)));
    compare(&["--iexclude", "\u{e9}T*", "--iexclude", "B.*"], &|config| {
        config.iexclude = vec!["\u{e9}T*".to_owned(), "B.*".to_owned()];
    });
    compare(&["--exclude-file", "list"], &|config| config.exclude_files = vec!["list".into()]);
    compare(&["--one-file-system"], &|config| config.one_file_system = true);
}
