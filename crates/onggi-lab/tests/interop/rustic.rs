//! rustic and onggi on one repository.

use onggi_lab::compare::Aspects;

use crate::peer;
use crate::place::{Place, Program, message};

#[test]
fn rustic_reads_what_onggi_wrote() {
    let Some(rustic) = peer::rustic() else { return };
    let place = Place::with_zoo();
    place.run(&Program::Onggi, "init").ok();
    place.run(&Program::Onggi, "backup {source}").ok();
    assert!(place.run(&rustic, "ls latest").ok().contains("links/far/third"));
    place.run(&rustic, "check --read-data").ok();
    place.run(&rustic, "restore latest {out}").ok();
    place.assert_restored("out", Aspects::CONTENT);
}

#[test]
fn onggi_reads_what_rustic_wrote_and_adds_nothing() {
    let Some(rustic) = peer::rustic() else { return };
    let place = Place::with_zoo();
    place.run(&rustic, "init").ok();
    place.run(&rustic, "backup {source}").ok();
    place.run(&Program::Onggi, "repository verify --read-data").ok();
    place.run(&Program::Onggi, "restore latest --privileged --target {out}").ok();
    place.assert_restored("out", Aspects { times: false, ..Aspects::ALL });
    let out = place.run(&Program::Onggi, "backup --json --force {source}").ok();
    assert_eq!(message(&out, "summary")["data_blobs"], 0, "{out}");
}

#[test]
fn packs_that_rustic_marked_are_read_but_not_counted_on() {
    let Some(rustic) = peer::rustic() else { return };
    let place = Place::with_zoo();
    place.run(&Program::Onggi, "init").ok();
    place.run(&Program::Onggi, "backup {source}").ok();
    place.run(&rustic, "forget --keep-none --prune").ok();
    assert!(place.snapshots(&Program::Onggi).is_empty());
    place.run(&Program::Onggi, "backup {source}").ok();
    place.run(&rustic, "prune --instant-delete").ok();
    place.run(&Program::Onggi, "repository verify --read-data").ok();
    place.run(&Program::Onggi, "restore latest --privileged --target {out}").ok();
    place.assert_restored("out", Aspects { times: false, ..Aspects::ALL });
}

#[test]
fn onggi_keeps_to_the_chunk_sizes_of_rustic() {
    let Some(rustic) = peer::rustic() else { return };
    let place = Place::with_zoo();
    place.run(&rustic, "init --set-chunk-size 64KiB --set-chunk-min-size 16KiB --set-chunk-max-size 256KiB").ok();
    place.run(&rustic, "backup {source}").ok();
    let out = place.run(&Program::Onggi, "backup --json --force {source}").ok();
    // Of some hundred chunks. Up to 0.11 rustic now and then cuts where the fingerprint of the 64 bytes says no; its
    // release notes of 0.12 tell of it.
    let added = message(&out, "summary")["data_blobs"].as_u64();
    assert!(added.is_some_and(|added| added <= 6), "{out}");
}
