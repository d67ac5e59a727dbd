//! A restore brings back exactly what was stored, writes nowhere else whatever the snapshot holds, and tells what it
//! could not do.

#![expect(clippy::unwrap_used, clippy::disallowed_methods, reason = "helpers of tests make and look at files")]

#[path = "restore/forge.rs"]
mod forge;

use forge::{Forge, named};
use landlock::{AccessFs, CompatLevel, Compatible as _, Ruleset, RulesetAttr as _};
use onggi_engine::restore::{
    Damaged, DirectoryRestore, LeftOut, Policy, Privilege, Report, Request, RestoreError, Selection, SnapshotTree,
    locate,
};
use onggi_engine::watch::{Event, Unwatched, Watch};
use onggi_repo::format::{Node, NodeKind, Xattr};
use onggi_source::{Stored, TreePath, bench::Bench, paths::Case};
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

struct Fixture {
    forge: Forge,
    folder: tempfile::TempDir,
    request: Request,
}

fn case() -> Fixture {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("out")).unwrap();
    fs::write(folder.path().join("out/secret"), "outside").unwrap();
    let request = Request {
        target: folder.path().join("in"),
        path: TreePath::root(),
        selection: Selection::default(),
        existing: None,
        damaged: Damaged::Skip,
        privilege: Privilege::Plain,
        in_place: false,
        verify: true,
    };
    Fixture { forge: Forge::new(), folder, request }
}

impl Fixture {
    async fn tree(&self, nodes: Vec<Node>) -> SnapshotTree {
        let (repo, root) = self.forge.repository(nodes).await;
        SnapshotTree::new(repo, vec![root], Vec::new())
    }

    async fn restore(&self, nodes: Vec<Node>) -> Result<Report, RestoreError> {
        let bench = Bench::new("restore");
        let restore = DirectoryRestore::plan(self.tree(nodes).await, self.request.clone(), &bench.cx).await?;
        restore.apply(&bench.cx, Arc::new(Unwatched)).await
    }

    fn inside(&self, path: &str) -> PathBuf {
        self.folder.path().join("in").join(path)
    }

    /// The classes of the problems; nothing outside changed; nothing unfinished is left.
    #[track_caller]
    fn check(&self, report: &Report, problems: &[&str]) {
        let classes: Vec<_> = report.problems.first.iter().map(|problem| problem.class.as_str()).collect();
        assert_eq!(classes, problems, "{:?}", report.problems.first);
        let outside: Vec<_> = fs::read_dir(self.folder.path().join("out")).unwrap().collect();
        assert_eq!(outside.len(), 1, "{outside:?}");
        assert_eq!(fs::read_to_string(self.folder.path().join("out/secret")).unwrap(), "outside");
        assert_eq!(fs::read_dir(self.folder.path()).unwrap().count(), 2);
        no_temporaries(&self.folder.path().join("in"));
    }
}

fn no_temporaries(folder: &Path) {
    for entry in fs::read_dir(folder).unwrap() {
        let entry = entry.unwrap();
        assert!(!entry.file_name().to_string_lossy().starts_with(".onggi-restore-"), "{entry:?}");
        if entry.file_type().unwrap().is_dir() {
            no_temporaries(&entry.path());
        }
    }
}

fn link(name: &str, target: &str) -> Node {
    Node { link_target: target.into(), ..named(name, NodeKind::Symlink, 0o777) }
}

#[tokio::test]
async fn content_and_metadata_come_back() {
    let case = case();
    let large = forge::noise(1 << 20);
    let nodes = vec![
        case.forge.directory("d", 0o500, vec![case.forge.file("f", &[&large, b"tail"]), link("l", "../nowhere")]),
        case.forge.file("empty", &[]),
        Node {
            xattrs: vec![Xattr { name: "user.note".into(), value: b"x\0y".to_vec() }],
            ..case.forge.file("noted", &[b"x"])
        },
        named("pipe", NodeKind::Fifo, 0o640),
    ];
    let report = case.restore(nodes).await.unwrap();
    case.check(&report, &[]);
    assert_eq!(fs::read(case.inside("d/f")).unwrap(), [&large[..], b"tail"].concat());
    assert_eq!(fs::read_link(case.inside("d/l")).unwrap(), Path::new("../nowhere"));
    assert_eq!(fs::read(case.inside("empty")).unwrap(), b"");
    assert_eq!(xattr::get(case.inside("noted"), "user.note").unwrap().unwrap(), b"x\0y");
    let found = fs::metadata(case.inside("d")).unwrap();
    assert_eq!((found.permissions().mode() & 0o7777, found.mtime(), found.mtime_nsec()), (0o500, forge::SECONDS, 5));
    assert_eq!(fs::metadata(case.inside("d/f")).unwrap().mtime(), forge::SECONDS);
    assert_eq!((report.files_restored, report.files_verified, report.others), (3, 3, 2));
}

/// Tries to write outside whenever something was restored, on the thread that restored it.
#[derive(Default)]
struct Trespasser {
    outside: PathBuf,
    tried: Mutex<u32>,
}

impl Watch for Trespasser {
    fn event(&self, event: Event) {
        if let Event::Item { .. } = event {
            *self.tried.lock().unwrap() += 1;
            let _ = fs::write(self.outside.join("trespass"), "evil");
        }
    }
}

#[tokio::test]
async fn the_kernel_keeps_what_restores_from_writing_elsewhere() {
    let rules = Ruleset::default().set_compatibility(CompatLevel::HardRequirement);
    if rules.handle_access(AccessFs::WriteFile).is_err() {
        assert!(std::env::var_os("CI").is_none(), "this kernel has no Landlock");
        eprintln!("SKIPPED: this kernel has no Landlock");
        return;
    }
    let case = case();
    let nodes = vec![
        case.forge.directory("d", 0o755, vec![case.forge.file("f", &[b"content"]), case.forge.file("empty", &[])]),
        link("l", "../nowhere"),
    ];
    let bench = Bench::new("restore");
    let restore = DirectoryRestore::plan(case.tree(nodes).await, case.request.clone(), &bench.cx).await.unwrap();
    let watch = Arc::new(Trespasser { outside: case.folder.path().join("out"), ..Trespasser::default() });
    let report = restore.apply(&bench.cx, watch.clone()).await.unwrap();
    case.check(&report, &[]);
    assert_eq!(*watch.tried.lock().unwrap(), 3);
}

#[tokio::test]
async fn names_that_lead_elsewhere_are_refused_and_the_rest_comes_back() {
    for bad in ["..", ".", "", "../out/secret", "a/b", "/etc", "nul\0", &"n".repeat(256)] {
        let case = case();
        let evil_file = Node { name: bad.into(), ..case.forge.file("x", &[b"evil"]) };
        let inner = case.forge.file("evil", &[b"evil"]);
        let evil_directory = Node { name: bad.into(), ..case.forge.directory("x", 0o755, vec![inner]) };
        let nodes = vec![
            evil_file,
            case.forge.directory("d", 0o755, vec![evil_directory]),
            case.forge.file("good", &[b"good"]),
        ];
        let report = case.restore(nodes).await.unwrap();
        case.check(&report, &["bad-name", "bad-name"]);
        assert_eq!(fs::read(case.inside("good")).unwrap(), b"good");
    }
}

#[tokio::test]
async fn a_link_of_the_snapshot_is_never_followed() {
    let case = case();
    let inner = vec![case.forge.file("secret", &[b"evil"]), case.forge.file("new", &[b"evil"])];
    let nodes = vec![link("d", "../out"), case.forge.directory("d", 0o755, inner)];
    let report = case.restore(nodes).await.unwrap();
    case.check(&report, &[]);
}

#[tokio::test]
async fn a_link_in_the_destination_is_never_followed() {
    for policy in [Policy::Keep, Policy::Replace, Policy::Newer] {
        let mut case = case();
        case.request.existing = Some(policy);
        fs::create_dir(case.inside("")).unwrap();
        symlink("../out", case.inside("d")).unwrap();
        symlink("../out/secret", case.inside("f")).unwrap();
        let inner = vec![case.forge.file("secret", &[b"evil"]), case.forge.file("new", &[b"evil"])];
        let nodes = vec![case.forge.directory("d", 0o755, inner), case.forge.file("f", &[b"evil"])];
        let report = case.restore(nodes).await.unwrap();
        case.check(&report, &[]);
    }
}

#[tokio::test]
async fn hard_links_are_joined_again() {
    let case = case();
    let linked = |name| Node { inode: 7, device_id: 3, links: 2, ..case.forge.file(name, &[b"one"]) };
    let alone = Node { inode: 7, device_id: 4, links: 2, ..case.forge.file("c", &[b"two"]) };
    let nodes = vec![linked("a"), case.forge.directory("b", 0o755, vec![linked("b")]), alone];
    let report = case.restore(nodes).await.unwrap();
    case.check(&report, &[]);
    let inode = |path| fs::metadata(case.inside(path)).unwrap().ino();
    assert_eq!(inode("a"), inode("b/b"));
    assert_ne!(inode("a"), inode("c"));
}

#[tokio::test]
async fn rights_are_not_given_without_being_asked_for() {
    let case = case();
    let nodes = vec![
        Node { uid: 12345, ..named("dev", NodeKind::Dev, 0o600) },
        Node { uid: 12345, ..case.forge.file_of_mode("f", 0o4755, &[b"x"]) },
    ];
    let report = case.restore(nodes).await.unwrap();
    case.check(&report, &[]);
    assert!(!case.inside("dev").exists());
    assert_eq!(fs::metadata(case.inside("f")).unwrap().permissions().mode() & 0o7777, 0o755);
    let left: Vec<_> = report.left_out.keys().copied().collect();
    assert_eq!(left, [LeftOut::Owner, LeftOut::SetId, LeftOut::Device]);
}

#[tokio::test]
async fn holes_stay_holes() {
    let case = case();
    let zeros = vec![0; 512 << 10];
    let nodes = vec![case.forge.file("sparse", &[&zeros, b"data", &zeros, &zeros])];
    let report = case.restore(nodes).await.unwrap();
    case.check(&report, &[]);
    let found = fs::metadata(case.inside("sparse")).unwrap();
    assert_eq!(found.len(), 3 * (512 << 10) + 4);
    assert!(found.blocks() * 512 < 256 << 10, "{} blocks", found.blocks());
}

#[tokio::test]
async fn a_target_with_files_needs_a_policy() {
    let mut case = case();
    fs::create_dir(case.inside("")).unwrap();
    fs::write(case.inside("f"), "mine").unwrap();
    let nodes = || vec![case.forge.file("f", &[b"stored"])];
    assert!(matches!(case.restore(nodes()).await, Err(RestoreError::NotEmpty(_))));
    assert_eq!(fs::read(case.inside("f")).unwrap(), b"mine");
    for (policy, expected) in [(Policy::Keep, "mine"), (Policy::Newer, "mine"), (Policy::Replace, "stored")] {
        let mut request = case.request.clone();
        request.existing = Some(policy);
        std::mem::swap(&mut case.request, &mut request);
        let report = case.restore(vec![case.forge.file("f", &[b"stored"])]).await.unwrap();
        case.check(&report, &[]);
        assert_eq!(fs::read_to_string(case.inside("f")).unwrap(), expected, "{policy:?}");
    }
}

#[tokio::test]
async fn equal_content_is_not_written_again() {
    let mut case = case();
    case.request.existing = Some(Policy::Replace);
    let nodes = || vec![case.forge.file("f", &[b"one", b"two"]), case.forge.file("g", &[b"one"])];
    let first = case.restore(nodes()).await.unwrap();
    let inode = fs::metadata(case.inside("f")).unwrap().ino();
    fs::write(case.inside("g"), "ONE").unwrap();
    let second = case.restore(nodes()).await.unwrap();
    case.check(&second, &[]);
    assert_eq!((first.files_restored, second.files_restored, second.files_unchanged), (2, 1, 1));
    assert_eq!(fs::metadata(case.inside("f")).unwrap().ino(), inode);
    assert_eq!(fs::read(case.inside("g")).unwrap(), b"one");
}

#[tokio::test]
async fn a_damaged_file_is_told_and_never_left_under_its_name() {
    for (damaged, left) in [(Damaged::Skip, None), (Damaged::Mark, Some("f.onggi-damaged")), (Damaged::Zero, Some("f"))]
    {
        let mut case = case();
        case.request.damaged = damaged;
        case.request.verify = false;
        let nodes = vec![case.forge.file("f", &[b"first", b"rotten", b"last"]), case.forge.file("g", &[b"good"])];
        case.forge.damage(b"rotten");
        let report = case.restore(nodes).await.unwrap();
        case.check(&report, &["damaged"]);
        assert_eq!(fs::read(case.inside("g")).unwrap(), b"good");
        for name in ["f", "f.onggi-damaged"] {
            assert_eq!(case.inside(name).exists(), left == Some(name), "{damaged:?} {name}");
        }
        if let Some(name) = left {
            assert_eq!(fs::read(case.inside(name)).unwrap(), b"first\0\0\0\0\0\0last");
        }
        if damaged == Damaged::Mark {
            assert_eq!(fs::read_to_string(case.inside("f.onggi-damaged.map")).unwrap(), "5 6\n");
        }
    }
}

#[tokio::test]
async fn a_lost_directory_costs_what_was_in_it() {
    let case = case();
    let lost = case.forge.directory("lost", 0o755, vec![case.forge.file("x", &[b"x"])]);
    case.forge.damage_tree(lost.subtree.unwrap());
    let report = case.restore(vec![case.forge.file("a", &[b"a"]), lost, case.forge.file("z", &[b"z"])]).await.unwrap();
    case.check(&report, &["lost-directory"]);
    assert!(case.inside("a").exists() && case.inside("z").exists());
}

#[tokio::test]
async fn a_tree_that_is_too_deep_ends() {
    let mut case = case();
    case.request.verify = false;
    let mut node = case.forge.directory("d", 0o755, vec![]);
    for _ in 0..4200 {
        node = case.forge.directory("d", 0o755, vec![node]);
    }
    let report = case.restore(vec![node, case.forge.file("good", &[b"good"])]).await.unwrap();
    assert_eq!(report.problems.first[0].class, "too-deep");
    assert!(case.inside("good").exists());
}

#[tokio::test]
async fn only_what_is_selected_comes_back() {
    let mut case = case();
    case.request.selection.include(b"/d", Case::Exact).unwrap();
    case.request.selection.exclude(b"*.tmp", Case::Exact).unwrap();
    let inner = vec![case.forge.file("keep", &[b"k"]), case.forge.file("x.tmp", &[b"t"])];
    let nodes = vec![case.forge.directory("d", 0o755, inner), case.forge.directory("e", 0o755, vec![])];
    let report = case.restore(nodes).await.unwrap();
    case.check(&report, &[]);
    assert!(case.inside("d/keep").exists());
    assert!(!case.inside("d/x.tmp").exists() && !case.inside("e").exists());
}

#[tokio::test]
async fn one_file_or_folder_lands_in_the_target() {
    let mut case = case();
    let nodes = || {
        vec![case.forge.directory(
            "d",
            0o755,
            vec![case.forge.directory("e", 0o700, vec![case.forge.file("f", &[b"f"])])],
        )]
    };
    let tree = case.tree(nodes()).await;
    let wanted = locate(&tree, &[], &TreePath::new("f").unwrap()).await.unwrap();
    let (root, told) = (TreePath::new("home/ann/d").unwrap(), TreePath::new("home/ann/d/e/f").unwrap());
    assert_eq!(
        locate(&tree, &[root], &told).await.unwrap(),
        TreePath::new("d/e/f").unwrap(),
        "as the snapshot calls it"
    );
    assert_eq!(wanted, TreePath::new("d/e/f").unwrap());
    assert_eq!(tree.list(&TreePath::new("d/e").unwrap()).await.unwrap()[0].length, 1);
    let nodes = nodes();
    case.request.path = wanted;
    let report = case.restore(nodes.clone()).await.unwrap();
    case.check(&report, &[]);
    assert_eq!(fs::read(case.inside("f")).unwrap(), b"f");
    fs::remove_file(case.inside("f")).unwrap();
    case.request.path = TreePath::new("d").unwrap();
    case.restore(nodes).await.unwrap();
    assert_eq!(fs::read(case.inside("e/f")).unwrap(), b"f");
}

#[tokio::test]
async fn the_later_snapshot_of_a_chain_wins() {
    let case = case();
    let full = vec![
        case.forge.directory("d", 0o755, vec![case.forge.file("a", &[b"old"]), case.forge.file("b", &[b"kept"])]),
        case.forge.file("x", &[b"file"]),
    ];
    let delta = vec![
        case.forge.directory("d", 0o755, vec![case.forge.file("a", &[b"new"])]),
        case.forge.directory("x", 0o755, vec![]),
    ];
    let roots = vec![case.forge.root(full), case.forge.root(delta)];
    let tree = SnapshotTree::new(case.forge.open().await, roots, Vec::new());
    let bench = Bench::new("restore");
    let restore = DirectoryRestore::plan(tree, case.request.clone(), &bench.cx).await.unwrap();
    assert_eq!((restore.planned().files, restore.planned().dirs, restore.planned().bytes), (2, 2, 7));
    case.check(&restore.apply(&bench.cx, Arc::new(Unwatched)).await.unwrap(), &[]);
    assert_eq!(fs::read(case.inside("d/a")).unwrap(), b"new");
    assert_eq!(fs::read(case.inside("d/b")).unwrap(), b"kept");
    assert!(case.inside("x").is_dir());
}

#[tokio::test]
async fn the_root_of_the_system_needs_a_word_of_its_own() {
    let mut case = case();
    case.request.target = "/".into();
    case.request.existing = Some(Policy::Keep);
    assert!(matches!(case.restore(vec![]).await, Err(RestoreError::Live)));
}

/// What was told, and whether it stood there when it was.
struct Told {
    target: PathBuf,
    items: Mutex<Vec<(String, &'static str, bool)>>,
}

impl Watch for Told {
    fn event(&self, event: Event) {
        if let Event::Item { path, what } = event {
            let is_there = fs::symlink_metadata(self.target.join(path.to_string())).is_ok();
            self.items.lock().unwrap().push((path.to_string(), what, is_there));
        }
    }
}

#[tokio::test]
async fn what_is_told_as_restored_stands_under_its_name() {
    let mut case = case();
    let file = |name, content: &[u8]| case.forge.file(name, &[content]);
    let nodes = vec![
        case.forge.directory("d", 0o755, vec![file("a", b"new"), file("b", b"same"), link("l", "a")]),
        Node { content: Some(vec![onggi_repo::format::BlobId([7; 32])]), ..file("lost", b"") },
    ];
    fs::create_dir_all(case.inside("d")).unwrap();
    fs::write(case.inside("d/a"), "old").unwrap();
    fs::write(case.inside("d/b"), "same").unwrap();
    case.request.existing = Some(Policy::Replace);
    let bench = Bench::new("restore");
    let restore = DirectoryRestore::plan(case.tree(nodes).await, case.request.clone(), &bench.cx).await.unwrap();
    let told = Arc::new(Told { target: case.inside(""), items: Mutex::default() });
    case.check(&restore.apply(&bench.cx, told.clone()).await.unwrap(), &["damaged"]);
    let mut items = told.items.lock().unwrap().clone();
    items.sort();
    let expected = [("d/a", "restored"), ("d/b", "unmodified"), ("d/l", "restored")];
    assert_eq!(items, expected.map(|(path, what)| (path.to_owned(), what, true)));
}
