//! A small repository in memory, mounted for real where this process may mount.

use std::fs;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use onggi_repo::archive::{Archive, ArchiveOptions, Cutting, SnapshotDraft};
use onggi_repo::format::{KdfCost, Node, NodeKind, Snapshot, SnapshotId, Time, Xattr};
use onggi_repo::{Compute, Environment, Host, LockKind, NewRepository, Repository};
use onggi_storage::clock::SystemClock;
use onggi_storage::memory::Memory;

use super::{Audience, Catalog, Mount, Select};

const LONG: usize = 9_000_000;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mounted_snapshot_reads_as_it_was_stored() {
    let repo = repository().await;
    let folder = tempfile::tempdir().unwrap();
    let all = repo.snapshots().await.unwrap().found;
    repo.load_index().await.unwrap();
    let select: Select = Arc::new(|_: &SnapshotId, _: &Snapshot| true);
    let catalog = Catalog::new(&all, &select);
    let mount = match Mount::open(repo, select, catalog, folder.path(), Audience::Owner) {
        Ok(mount) => mount,
        Err(refusal) => return eprintln!("SKIPPED: this process may not mount: {refusal}"),
    };
    let at = folder.path().to_owned();
    tokio::task::spawn_blocking(move || look_around(&at)).await.unwrap();
    assert!(!mount.is_gone());
    mount.close().unwrap();
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0, "nothing is mounted any more");
}

fn look_around(at: &Path) {
    let names = |path: &str| {
        let mut names: Vec<_> = fs::read_dir(at.join(path)).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        names
    };
    assert_eq!(names(""), ["hosts", "ids", "snapshots", "tags"]);
    assert_eq!(names("hosts"), ["web-1"]);
    let latest = at.join("snapshots/latest/etc");
    assert_eq!(fs::read(latest.join("small")).unwrap(), b"hello");
    assert_eq!(fs::read_link(latest.join("link")).unwrap(), Path::new("small"));
    let odd = fs::read_dir(&latest).unwrap().any(|entry| entry.unwrap().file_name().as_bytes() == b"odd\xff\n");
    assert!(odd, "names keep their bytes");
    let meta = fs::metadata(latest.join("small")).unwrap();
    assert_eq!((meta.permissions().mode() & 0o7777, meta.uid(), meta.mtime()), (0o640, 1000, 1_793_711_321));
    read_anywhere(&latest.join("long"));
    assert!(fs::write(latest.join("small"), "x").is_err(), "nothing can be written");
    assert!(fs::metadata(latest.join("absent")).is_err());
}

fn read_anywhere(path: &Path) {
    let expected = long();
    assert_eq!(fs::read(path).unwrap(), expected);
    let mut file = fs::File::open(path).unwrap();
    for offset in [LONG - 3, 1_000_001, 4_321_987, 0] {
        file.seek(SeekFrom::Start(offset as u64)).unwrap();
        let mut buffer = vec![0; 70_000.min(LONG - offset)];
        file.read_exact(&mut buffer).unwrap();
        assert_eq!(buffer, expected[offset..offset + buffer.len()], "at {offset}");
    }
}

fn long() -> Vec<u8> {
    let mut state = 1u64;
    let next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as u8
    };
    std::iter::repeat_with(next).take(LONG).collect()
}

async fn repository() -> Repository {
    let host = Host { hostname: "hub".into(), username: "me".into(), pid: 1, uid: 0, gid: 0 };
    let env = Environment { clock: Arc::new(SystemClock), host, compute: Compute::new(2) };
    let new = NewRepository { polynomial: None, kdf: KdfCost::testing() };
    let password = "secret".into();
    let repo = Repository::create(Arc::new(Memory::new()), &password, new, env).await.unwrap();
    let lock = repo.lock(LockKind::Shared, Duration::ZERO).await.unwrap();
    repo.load_index().await.unwrap();
    let archive = Archive::begin(&repo, &lock, ArchiveOptions::default()).await.unwrap();
    archive.put(b"etc", node("etc", NodeKind::Dir, 0o755)).await.unwrap();
    put_file(&archive, b"etc/small", b"hello").await;
    put_file(&archive, b"etc/odd\xff\n", b"").await;
    put_file(&archive, b"etc/long", &long()).await;
    let mut link = node("link", NodeKind::Symlink, 0o777);
    link.link_target = b"small".to_vec();
    archive.put(b"etc/link", link).await.unwrap();
    let draft = SnapshotDraft {
        time: repo.env().clock.now(),
        hostname: "web-1".into(),
        paths: vec!["/etc".into()],
        tags: Vec::new(),
        excludes: Vec::new(),
        program_version: "onggi test".into(),
    };
    archive.finish().await.unwrap().commit(draft).await.unwrap();
    lock.release().await.unwrap();
    repo
}

async fn put_file(archive: &Archive, path: &[u8], bytes: &[u8]) {
    let mut content = archive.content(Cutting::Default, Some(bytes.len() as u64)).await.unwrap();
    content.write_bytes(bytes).await.unwrap();
    let mut node = node("", NodeKind::File, 0o640);
    node.uid = 1000;
    node.xattrs = vec![Xattr { name: "user.note".into(), value: b"x".to_vec() }];
    archive.put_file(path, node, content.finish()).await.unwrap();
}

fn node(name: &str, kind: NodeKind, permissions: u32) -> Node {
    let time: Time = "2026-11-03T13:08:41Z".parse().unwrap();
    Node::new(name, kind, permissions, time)
}
