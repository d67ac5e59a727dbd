//! The real restic reads what we write, and we read what it writes. Skipped, with a loud line, where there is none.

mod common;

use common::*;
use onggi_repo::{NewRepository, OpenOptions, Repository, format::KdfCost};
use onggi_storage::local::Local;
use std::{path::Path, process::Command, sync::Arc};

fn restic(repository: &Path, arguments: &[&str]) -> Option<String> {
    let mut command = Command::new("restic");
    command.args(["--no-cache", "-r"]).arg(repository).args(arguments).env("RESTIC_PASSWORD", "correct horse");
    let Ok(output) = command.output() else {
        eprintln!("SKIPPED: restic is not installed; nothing was compared with it");
        return None;
    };
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{arguments:?}: {text}{}", String::from_utf8_lossy(&output.stderr));
    Some(text)
}

fn sample() -> Files {
    Files::from([
        (b"empty".to_vec(), Some(Vec::new())),
        (b"large".to_vec(), Some([noise(1, 5_000_000), vec![0; 3_000_000], noise(2, 1_000_000)].concat())),
        ("dir/h\u{e9}llo \"quoted\" <&>".into(), Some(b"text ".repeat(1000))),
        (b"dir/deep/er/file".to_vec(), Some(b"x".to_vec())),
    ])
}

#[tokio::test]
async fn restic_checks_and_restores_what_we_wrote_and_adds_nothing_to_it() {
    let folder = tempfile::tempdir().unwrap();
    let (place, target) = (folder.path().join("repository"), folder.path().join("target"));
    if restic(&place, &["version"]).is_none() {
        return;
    }
    let clock = onggi_storage::clock::TestClock::new(3);
    let storage = Arc::new(Local::new(place.clone()));
    let new = NewRepository { kdf: KdfCost::STANDARD, ..new() };
    let repo = Repository::create(storage, &password(), new, env(&clock, "one")).await.unwrap();
    back_up(&repo, &sample()).await.unwrap();
    back_up(&repo, &sample()).await.unwrap();
    restic(&place, &["check", "--read-data"]);
    restic(&place, &["restore", "latest", "--target", target.to_str().unwrap()]);
    for (path, content) in sample() {
        let path = target.join(String::from_utf8(path).unwrap());
        assert!(Some(std::fs::read(&path).unwrap()) == content, "{}", path.display());
    }
    // restic cuts the same content at the same places.
    let before = std::fs::read_dir(place.join("data")).unwrap().count();
    let summary = restic(&place, &["backup", "--json", target.join("large").to_str().unwrap()]).unwrap();
    assert!(summary.contains("\"data_blobs\":0"), "{summary}");
    assert!(std::fs::read_dir(place.join("data")).unwrap().count() >= before);
}

#[tokio::test]
async fn we_read_and_extend_what_restic_wrote() {
    let folder = tempfile::tempdir().unwrap();
    let (place, source) = (folder.path().join("repository"), folder.path().join("source"));
    std::fs::create_dir(&source).unwrap();
    let bytes = noise(5, 4_000_000);
    std::fs::write(source.join("file"), &bytes).unwrap();
    if restic(&place, &["init"]).is_none() {
        return;
    }
    restic(&place, &["backup", source.to_str().unwrap()]);
    let clock = onggi_storage::clock::TestClock::new(3);
    let storage = Arc::new(Local::new(place.clone()));
    let repo = Repository::open(storage, &password(), OpenOptions::default(), env(&clock, "one")).await.unwrap();
    let snapshots = repo.snapshots().await.unwrap();
    assert_eq!((snapshots.found.len(), snapshots.problems.len()), (1, 0));
    repo.load_index().await.unwrap();
    let files = read_all(&repo, snapshots.found[0].1.tree).await.unwrap();
    assert!(files.values().flatten().any(|content| *content == bytes));
    let done = back_up(&repo, &Files::from([(b"file".to_vec(), Some(bytes))])).await.unwrap();
    assert_eq!(done.snapshot.summary.unwrap().figures.data_blobs, 0, "cut as restic cuts");
    restic(&place, &["check", "--read-data"]);
    restic(&place, &["unlock"]);
}
