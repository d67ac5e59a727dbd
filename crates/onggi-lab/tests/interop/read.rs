//! restic writes, onggi reads.

use onggi_lab::compare::Aspects;

use crate::peer;
use crate::place::{Place, Program, message};

#[test]
fn onggi_restores_what_restic_stored() {
    for restic in peer::restics() {
        check(&restic, &["init", "backup {source}"]);
    }
}

#[test]
fn onggi_reads_version_1() {
    for restic in peer::restics() {
        check(&restic, &["init --repository-version 1", "backup {source}"]);
    }
}

#[test]
fn onggi_reads_what_a_restic_before_version_2_wrote() {
    if let Some(restic) = peer::old_restic() {
        check(&restic, &["init", "backup {source}", "backup --force {source}"]);
    }
}

#[test]
fn onggi_reads_a_repository_that_was_upgraded() {
    for restic in peer::restics() {
        let upgrade = ["migrate upgrade_repo_v2", "prune --repack-uncompressed"];
        check(&restic, &[&["init --repository-version 1", "backup {source}"], &upgrade[..]].concat());
    }
}

#[test]
fn onggi_reads_blobs_that_are_not_compressed() {
    for restic in peer::restics() {
        check(&restic, &["init", "backup --compression off {source}"]);
    }
}

#[test]
fn onggi_reads_packs_of_any_size() {
    for restic in peer::restics() {
        check(&restic, &["init", "backup --pack-size 4 {source}"]);
        check(&restic, &["init", "backup --pack-size 64 {source}"]);
        check(&restic, &["init", "backup --pack-size 128 {source}"]);
    }
}

#[test]
fn onggi_opens_with_each_of_several_keys() {
    for restic in peer::restics() {
        let place = Place::with_zoo();
        place.run(&restic, "init").ok();
        place.run(&restic, "backup {source}").ok();
        place.run(&restic, "key add --new-password-file {second-password}").ok();
        assert_eq!(place.snapshots(&Program::Onggi).len(), 1);
        std::fs::copy(place.path("second-password"), place.path("password")).unwrap();
        assert_eq!(place.snapshots(&Program::Onggi).len(), 1);
        std::fs::write(place.path("password"), "wrong").unwrap();
        place.run(&Program::Onggi, "snapshots").ends(12);
    }
}

#[test]
fn onggi_ignores_what_does_not_belong_there() {
    for restic in peer::restics() {
        let place = Place::with_zoo();
        place.run(&restic, "init").ok();
        place.run(&restic, "backup {source}").ok();
        for foreign in ["snapshots/note.txt", "index/.tmp-123", "data/zz", "keys/README"] {
            std::fs::write(place.path("repository").join(foreign), "foreign").unwrap();
        }
        assert_eq!(place.snapshots(&Program::Onggi).len(), 1);
        place.run(&Program::Onggi, "repository verify --read-data").ok();
    }
}

#[test]
fn onggi_takes_a_snapshot_of_restic_as_parent() {
    for restic in peer::restics() {
        let place = Place::with_zoo();
        place.run(&restic, "init").ok();
        place.run(&restic, "backup --host here {source}").ok();
        let out = place.run(&Program::Onggi, "backup --json --host here {source}").ok();
        let summary = message(&out, "summary");
        assert_eq!(summary["files_new"], 0, "{summary}");
        assert_eq!(summary["data_blobs"], 0, "{summary}");
    }
}

/// Lets restic write, then onggi list, verify and restore.
fn check(restic: &Program, lines: &[&str]) {
    let place = Place::with_zoo();
    for line in lines {
        place.run(restic, line).ok();
    }
    let listing = place.run(&Program::Onggi, "ls latest").ok();
    assert!(listing.contains("/links/far/third"), "{listing}");
    place.run(&Program::Onggi, "repository verify --read-data").ok();
    place.run(&Program::Onggi, "restore latest --privileged --target {out}").ok();
    if Some(restic) != peer::current_restic().as_ref() {
        // Older ones store no link targets that are not text.
        let restored = place.path("out").join(place.path("source").strip_prefix("/").unwrap());
        std::fs::remove_file(place.path("source/links/not text")).unwrap();
        std::fs::remove_file(restored.join("links/not text")).ok();
    }
    place.assert_restored("out", Aspects { times: false, ..Aspects::ALL });
}
