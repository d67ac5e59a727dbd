//! onggi writes, restic reads.

use std::os::unix::fs::MetadataExt;

use onggi_lab::compare::Aspects;
use serde_json::Value;

use crate::peer;
use crate::place::{Place, Program, message};

#[test]
fn restic_lists_what_onggi_wrote() {
    for restic in peer::restics() {
        let place = written_twice();
        assert_eq!(place.snapshots(&restic).len(), 2);
        let listing = place.run(&restic, "ls latest").ok();
        assert!(listing.contains("/links/far/third"), "{listing}");
        let nodes = place.run(&restic, "ls --json latest").ok();
        assert!(nodes.lines().filter(|line| line.contains("\"struct_type\":\"node\"")).count() > 300);
        assert!(place.run(&restic, "find new-file").ok().contains("new-file"));
        for mode in ["restore-size", "files-by-contents", "blobs-per-file", "raw-data"] {
            let stats = place.run(&restic, &format!("stats --json --mode {mode}")).ok();
            let stats: Value = serde_json::from_str(&stats).expect("statistics are JSON");
            assert!(stats["total_size"].as_u64().is_some_and(|size| size > 5 << 20), "{stats}");
        }
    }
}

#[test]
fn restic_tells_two_snapshots_of_onggi_apart() {
    for restic in peer::restics() {
        let place = written_twice();
        let ids: Vec<_> = place.snapshots(&restic).iter().map(|one| one["id"].as_str().unwrap().to_owned()).collect();
        let difference = place.run(&restic, &format!("diff {} {}", ids[0], ids[1])).ok();
        assert!(difference.lines().any(|line| line.starts_with('+') && line.ends_with("/new-file")), "{difference}");
    }
}

#[test]
fn restic_finds_no_fault_after_each_command_of_onggi() {
    for restic in peer::restics() {
        let place = Place::with_zoo();
        for line in [
            "init",
            "backup {source}",
            "backup {source}",
            "backup --force --tag again {source}",
            "backup --compression off {place.rs}",
            "repository forget --keep-last 2 --yes",
            "repository prune --instant --yes",
            "repository verify --read-data",
        ] {
            std::fs::write(place.path("place.rs"), include_bytes!("place.rs")).unwrap();
            place.run(&Program::Onggi, line).ok();
            place.run(&restic, "check --read-data").ok();
        }
    }
}

#[test]
fn restic_restores_everything_that_onggi_stored() {
    for restic in peer::restics() {
        let place = Place::with_zoo();
        onggi_init_and_backup(&place);
        place.run(&restic, "restore latest --target {out}").ok();
        // Older ones know no link targets that are not text.
        if Some(&restic) != peer::current_restic().as_ref() {
            std::fs::remove_file(place.path("source/links/not text")).unwrap();
            let restored = place.path("out").join(place.path("source").strip_prefix("/").unwrap());
            std::fs::remove_file(restored.join("links/not text")).ok();
        }
        place.assert_restored("out", Aspects { times: false, ..Aspects::ALL });
        let restored = place.path("out").join(place.path("source").strip_prefix("/").unwrap());
        crate::place::assert_equal(&place.path("source/times"), &restored.join("times"), Aspects::ALL);
    }
}

#[test]
fn current_restic_restores_holes_as_holes() {
    let Some(restic) = peer::current_restic() else { return };
    let place = Place::with_zoo();
    onggi_init_and_backup(&place);
    place.run(&restic, "restore latest --sparse --target {out}").ok();
    place.assert_restored("out", Aspects { times: false, ..Aspects::ALL });
    // It makes holes of whole chunks of zeros, so the edges of the data count.
    let restored = place.path("out").join(place.path("source").strip_prefix("/").unwrap());
    let taken = |name: &str| restored.join("contents").join(name).metadata().unwrap().blocks() * 512;
    assert_eq!(taken("one hole"), 0);
    assert!(taken("sparse") <= 2 << 20, "{}", taken("sparse"));
}

#[test]
fn restic_dumps_a_file_and_an_archive() {
    for restic in peer::restics() {
        let place = Place::with_zoo();
        onggi_init_and_backup(&place);
        let leaf = format!("{}/contents/deep/deeper/deepest/leaf", place.path("source").display());
        assert_eq!(place.run(&restic, &format!("dump latest {leaf}")).ok(), "leaf\n");
        let archive = place.run(&restic, &format!("dump latest {}/contents", place.path("source").display())).ok();
        assert!(archive.len() > 10 << 20, "{} bytes", archive.len());
    }
}

#[test]
fn restic_dumps_the_image_of_a_disk() {
    use std::os::unix::fs::FileExt as _;

    for restic in peer::restics() {
        let place = Place::new();
        std::fs::create_dir(place.path("source")).unwrap();
        let image = std::fs::File::create(place.path("source/disk.img")).unwrap();
        image.set_len(64 << 20).unwrap();
        for block in 0..40_u64 {
            image.write_all_at(&block.to_be_bytes().repeat(512), block * 1_600_000).unwrap();
        }
        onggi_init_and_backup(&place);
        let mut dump = place.command(&restic, "dump latest {source}/disk.img");
        let dumped = dump.output().unwrap();
        assert!(dumped.status.success(), "{}", String::from_utf8_lossy(&dumped.stderr));
        assert!(dumped.stdout == std::fs::read(place.path("source/disk.img")).unwrap(), "another image came out");
    }
}

#[test]
fn a_mount_of_restic_shows_what_onggi_wrote() {
    let Some(restic) = peer::current_restic() else { return };
    let helper = std::process::Command::new("fusermount3").arg("--version").output();
    if !std::path::Path::new("/dev/fuse").exists() || helper.is_err() {
        // A kernel or a machine without it is no fault of either program.
        return onggi_lab::peer::say("no file system of a program can be mounted here");
    }
    let place = Place::with_zoo();
    onggi_init_and_backup(&place);
    std::fs::create_dir(place.path("mounted")).unwrap();
    let mut mount = place.command(&restic, "mount {mounted}").spawn().expect("restic starts");
    let leaf = place
        .path("mounted/snapshots/latest")
        .join(place.path("source/contents/deep/deeper/deepest/leaf").strip_prefix("/").unwrap());
    let deadline = std::time::Instant::now() + std::time::Duration::from_mins(1);
    while !leaf.exists() && std::time::Instant::now() < deadline && mount.try_wait().unwrap().is_none() {
        std::thread::yield_now();
    }
    let read = std::fs::read_to_string(&leaf);
    let unmounted = std::process::Command::new("fusermount3").arg("-u").arg(place.path("mounted")).status();
    if !unmounted.is_ok_and(|status| status.success()) {
        mount.kill().unwrap();
    }
    mount.wait().unwrap();
    assert_eq!(read.unwrap(), "leaf\n");
}

#[test]
fn restic_takes_a_snapshot_of_onggi_as_parent() {
    for restic in peer::restics() {
        let place = Place::with_zoo();
        place.run(&Program::Onggi, "init").ok();
        place.run(&Program::Onggi, "backup --host here {source}").ok();
        let out = place.run(&restic, "backup --json --host here {source}").ok();
        let summary = message(&out, "summary");
        assert_eq!(summary["files_new"], 0, "{summary}");
        assert_eq!(summary["files_changed"], 0, "{summary}");
        assert_eq!(summary["data_blobs"], 0, "{summary}");
    }
}

/// A repository of onggi with two snapshots, the second with one file more.
fn written_twice() -> Place {
    let place = Place::with_zoo();
    onggi_init_and_backup(&place);
    std::fs::write(place.path("source/new-file"), "new").unwrap();
    place.run(&Program::Onggi, "backup {source}").ok();
    place
}

fn onggi_init_and_backup(place: &Place) {
    place.run(&Program::Onggi, "init").ok();
    place.run(&Program::Onggi, "backup {source}").ok();
}
