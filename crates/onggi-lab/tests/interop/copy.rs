//! Snapshots from repository to repository, by either program, share their data.

use std::collections::BTreeSet;

use onggi_lab::compare::Aspects;

use crate::peer;
use crate::place::{Place, Program};

#[test]
fn restic_copies_from_and_to_onggi() {
    for restic in peer::restics() {
        let place = Place::with_zoo();
        place.run(&Program::Onggi, "init").ok();
        place.run(&Program::Onggi, "backup {source}").ok();
        let from = "--from-repo {repository} --from-password-file {password}";
        place.run_on("second", &restic, &format!("init {from} --copy-chunker-params")).ok();
        place.run_on("second", &restic, &format!("copy {from}")).ok();
        assert_eq!(blobs(&place, "repository", &restic), blobs(&place, "second", &restic));
        place.run_on("third", &Program::Onggi, "init --chunker-from {second} --chunker-password-file {password}").ok();
        place.run_on("third", &restic, "copy --from-repo {second} --from-password-file {password}").ok();
        assert_eq!(blobs(&place, "repository", &restic), blobs(&place, "third", &restic));
        place.run_on("third", &Program::Onggi, "repository verify --read-data").ok();
        place.run_on("third", &Program::Onggi, "restore latest --privileged --target {out}").ok();
        place.assert_restored("out", Aspects { times: false, ..Aspects::ALL });
    }
}

/// What `restic list blobs` names.
fn blobs(place: &Place, repository: &str, restic: &Program) -> BTreeSet<String> {
    let listing = place.run_on(repository, restic, "list blobs").ok();
    let blobs: BTreeSet<_> = listing.lines().filter(|line| line.contains(' ')).map(str::to_owned).collect();
    assert!(!blobs.is_empty());
    blobs
}
