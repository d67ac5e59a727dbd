//! restic maintains repositories of onggi, and onggi goes on with them.

use onggi_lab::compare::Aspects;
use serde_json::Value;

use crate::peer;
use crate::place::{Place, Program, finish, message};

#[test]
fn every_maintenance_command_of_restic_leaves_a_repository_that_onggi_finds_whole() {
    for restic in peer::restics() {
        let place = Place::with_zoo();
        place.run(&Program::Onggi, "init").ok();
        for turn in 0..4 {
            std::fs::write(place.path("source/turn"), turn.to_string().repeat(100_000)).unwrap();
            place.run(&Program::Onggi, &format!("backup --tag turn{turn} {{source}}")).ok();
        }
        let mut lines = vec![
            "forget --keep-last 3 --prune",
            "tag --add extra latest",
            "prune --max-unused 0",
            "key add --new-password-file {second-password}",
            "unlock",
            "cat config",
            "cat masterkey",
            "rebuild-index",
        ];
        if Some(&restic) == peer::current_restic().as_ref() {
            lines.extend([
                "rewrite --exclude turn --forget latest",
                "repair index",
                "repair snapshots",
                "prune",
                "recover",
            ]);
        }
        for line in lines {
            if line == "rebuild-index" && Some(&restic) == peer::current_restic().as_ref() {
                continue;
            }
            place.run(&restic, line).ok();
            place.run(&Program::Onggi, "repository verify --read-data").ok();
        }
        place.run(&Program::Onggi, "backup {source}").ok();
        place.run(&Program::Onggi, "restore latest --privileged --target {out}").ok();
        place.assert_restored("out", Aspects { times: false, ..Aspects::ALL });
    }
}

#[test]
fn what_an_upgrade_left_uncompressed_is_compressed_once() {
    let Some(restic) = peer::current_restic() else { return };
    let place = Place::with_zoo();
    std::fs::write(place.path("source/text"), "a line of text\n".repeat(200_000)).unwrap();
    for line in ["init --repository-version 1", "backup {source}", "migrate upgrade_repo_v2"] {
        place.run(&restic, line).ok();
    }
    let repacked = |flags: &str| {
        let out = place.run(&Program::Onggi, &format!("repository prune --instant --yes --json{flags}")).ok();
        message(&out, "summary")["packfiles"]["repack"].as_u64().unwrap()
    };
    let size = || -> u64 {
        let folders = std::fs::read_dir(place.path("repository/data")).unwrap();
        let packs = folders.flat_map(|folder| std::fs::read_dir(folder.unwrap().path()).unwrap());
        packs.map(|pack| pack.unwrap().metadata().unwrap().len()).sum()
    };
    // Trees in any case, as restic does it.
    assert_ne!(repacked(""), 0);
    assert_eq!(repacked(""), 0);
    let before = size();
    assert_ne!(repacked(" --repack-uncompressed"), 0);
    assert!(size() < before, "{before}");
    place.run(&restic, "check --read-data").ok();
    place.run(&Program::Onggi, "restore latest --privileged --target {out}").ok();
    place.assert_restored("out", Aspects { times: false, ..Aspects::ALL });
}

#[test]
fn restic_changes_the_password_and_mends_packs_of_onggi() {
    let Some(restic) = peer::current_restic() else { return };
    let place = Place::with_zoo();
    place.run(&Program::Onggi, "init").ok();
    place.run(&Program::Onggi, "backup {source}").ok();
    place.run(&restic, "key passwd --new-password-file {second-password}").ok();
    place.run(&Program::Onggi, "snapshots").ends(12);
    std::fs::copy(place.path("second-password"), place.path("password")).unwrap();
    let packs = place.run(&restic, "list packs").ok();
    let mut command = place.command(&restic, &format!("repair packs {}", packs.lines().last().expect("a pack")));
    // It leaves a copy of the pack where it runs.
    command.current_dir(place.path("home"));
    finish(command).ok();
    // Of onggi's spare copies restic knows nothing: that of the key which it removed is the one fault.
    let verified = place.run(&Program::Onggi, "repository verify --read-data").ends(4);
    assert_eq!(verified.err.matches("problem: ").count(), 1, "{verified:?}");
    assert!(verified.err.contains("(spare-copy)"), "{verified:?}");
    place.run(&Program::Onggi, "repository repair copies --yes").ok();
    place.run(&Program::Onggi, "repository verify --read-data").ok();
    place.run(&Program::Onggi, "restore latest --privileged --target {out}").ok();
    place.assert_restored("out", Aspects { times: false, ..Aspects::ALL });
}

#[test]
fn a_key_that_restic_removed_opens_nothing() {
    let Some(restic) = peer::current_restic() else { return };
    let place = prepared_with_second_key(&restic);
    let keys: Value = serde_json::from_str(&place.run(&restic, "key list --json").ok()).expect("a JSON array");
    let first = keys.as_array().unwrap().iter().find(|key| key["current"] == true).expect("the key in use");
    std::fs::copy(place.path("second-password"), place.path("password")).unwrap();
    place.run(&restic, &format!("key remove {}", first["id"].as_str().unwrap())).ok();
    assert_eq!(place.snapshots(&Program::Onggi).len(), 1);
    place.run(&Program::Onggi, "repository repair copies --yes").ok();
    place.run(&Program::Onggi, "repository verify --read-data").ok();
    std::fs::write(place.path("password"), "password of this place").unwrap();
    place.run(&Program::Onggi, "snapshots").ends(12);
}

/// A repository of onggi with a key that restic added.
fn prepared_with_second_key(restic: &Program) -> Place {
    let place = Place::with_zoo();
    place.run(&Program::Onggi, "init").ok();
    place.run(&Program::Onggi, "backup {source}").ok();
    place.run(restic, "key add --new-password-file {second-password}").ok();
    place
}

#[test]
fn restic_shows_every_kind_of_file_of_onggi() {
    for restic in peer::restics() {
        let place = Place::with_zoo();
        place.run(&Program::Onggi, "init").ok();
        place.run(&Program::Onggi, "backup {source}").ok();
        for (kind, shown) in [("index", "\"packs\""), ("snapshots", "\"tree\""), ("packs", "")] {
            let ids = place.run(&restic, &format!("list {kind}")).ok();
            let id = ids.lines().last().expect("one at least");
            let word = kind.trim_end_matches('s');
            let mut command = place.command(&restic, &format!("cat {word} {id}"));
            let output = command.output().unwrap();
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
            assert!(String::from_utf8_lossy(&output.stdout).contains(shown));
        }
    }
}

#[test]
fn what_restic_forgot_and_pruned_onggi_no_longer_has() {
    for restic in peer::restics() {
        let place = Place::with_zoo();
        place.run(&Program::Onggi, "init").ok();
        place.run(&Program::Onggi, "backup {source}").ok();
        place.run(&Program::Onggi, "backup {source}").ok();
        place.run(&restic, "forget --keep-last 1 --prune").ok();
        assert_eq!(place.snapshots(&Program::Onggi).len(), 1);
    }
}

#[test]
fn a_repository_of_version_1_is_read_then_upgraded_and_never_written_before() {
    for restic in peer::restics() {
        let place = Place::new();
        std::fs::create_dir(place.path("source")).unwrap();
        std::fs::write(place.path("source/text"), "line by line\n".repeat(20_000)).unwrap();
        place.run(&restic, "init --repository-version 1").ok();
        place.run(&restic, "backup {source}").ok();
        place.run(&Program::Onggi, "repository verify --read-data").ok();
        place.run(&Program::Onggi, "restore latest --privileged --target {out}").ok();
        place.assert_restored("out", Aspects { times: false, ..Aspects::ALL });
        let refused = place.run(&Program::Onggi, "backup {source}").ends(5);
        assert!(refused.err.contains("onggi repository upgrade"), "{refused:?}");
        place.run(&restic, "check --read-data").ok();
        place.run(&Program::Onggi, "repository upgrade --dry-run").ok();
        place.run(&Program::Onggi, "repository upgrade --yes").ok();
        std::fs::write(place.path("source/more"), "other lines\n".repeat(20_000)).unwrap();
        place.run(&Program::Onggi, "backup {source}").ok();
        place.run(&restic, "check --read-data").ok();
        let again = place.run(&Program::Onggi, "repository upgrade --yes").ok();
        assert!(again.contains("already"), "{again}");
    }
}
