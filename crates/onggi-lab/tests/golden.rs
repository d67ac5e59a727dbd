//! Every repository of an earlier release, and of other programs, opens, verifies and restores what it did when it was
//! made. A golden repository is never changed; one that no test opens cannot exist, since all folders are opened.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use onggi_lab::describe::describe;
use onggi_lab::program;

#[test]
fn every_golden_repository_verifies_and_restores_what_it_was_given() {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../testdata/golden");
    let mut folders: Vec<PathBuf> = golden.read_dir().unwrap().map(|entry| entry.unwrap().path()).collect();
    folders.retain(|path| path.is_dir());
    folders.sort();
    assert!(!folders.is_empty(), "no golden repository in {}", golden.display());
    for folder in folders {
        check(&folder);
    }
}

fn check(folder: &Path) {
    let place = tempfile::tempdir().unwrap();
    let password = place.path().join("password");
    fs::copy(folder.join("password"), &password).unwrap();
    fs::set_permissions(&password, fs::Permissions::from_mode(0o600)).unwrap();
    copy(&folder.join("repository"), &place.path().join("repository"));
    let target = place.path().join("out");
    let onggi = |words: &[&str]| {
        let mut command = Command::new(program::onggi());
        command.env_clear().env("HOME", place.path()).env("PATH", std::env::var_os("PATH").unwrap_or_default());
        command.arg("--repo").arg(place.path().join("repository")).arg("--password-file").arg(&password).args(words);
        let output = command.output().unwrap();
        let shown = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{}: {words:?}: {shown}", folder.display());
    };
    onggi(&["repository", "verify", "--read-data"]);
    onggi(&["restore", "latest", "--target", target.to_str().unwrap()]);
    let expected = fs::read_to_string(folder.join("expected.txt")).unwrap();
    assert_eq!(describe(&target).unwrap(), expected, "{}", folder.display());
    onggi(&["backup", target.to_str().unwrap()]);
    onggi(&["repository", "verify", "--read-data"]);
}

/// The committed files stay as they are: commands write locks, and git keeps no modes.
fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in from.read_dir().unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}
