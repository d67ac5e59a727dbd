//! Locks of one program hold the other back.

use std::process::Child;

use crate::peer;
use crate::place::{Place, Program};

/// The code with which onggi, and restic since 0.17, say "locked".
const LOCKED: i32 = 11;

#[test]
fn onggi_removes_nothing_while_restic_writes() {
    for restic in peer::restics() {
        let place = prepared();
        let writer = Writer::start(&place, &restic);
        place.run(&Program::Onggi, "repository prune --yes").ends(LOCKED);
        place.run(&Program::Onggi, "repository forget --keep-last 1 --yes").ends(LOCKED);
        place.run(&Program::Onggi, "backup {source}").ok();
        place.run(&Program::Onggi, "snapshots").ok();
        writer.finish();
        place.run(&Program::Onggi, "repository prune --yes").ok();
    }
}

#[test]
fn restic_removes_nothing_while_onggi_writes() {
    for restic in peer::restics() {
        let place = prepared();
        let writer = Writer::start(&place, &Program::Onggi);
        place.run(&restic, "prune").fails();
        place.run(&restic, "backup {source}").ok();
        writer.finish();
        place.run(&restic, "prune").ok();
        place.run(&restic, "check --read-data").ok();
    }
}

#[test]
fn a_lock_that_stays_is_removed_by_either_program() {
    for restic in peer::restics() {
        for (owner, remover) in [(&restic, "repository unlock"), (&Program::Onggi, "unlock")] {
            let place = prepared();
            Writer::start(&place, owner).kill();
            let remover_program = if remover == "unlock" { &restic } else { &Program::Onggi };
            place.run(remover_program, remover).ok();
            place.run(&Program::Onggi, "repository prune --yes").ok();
            place.run(&restic, "prune").ok();
        }
    }
}

fn prepared() -> Place {
    let place = Place::new();
    std::fs::create_dir(place.path("source")).unwrap();
    std::fs::write(place.path("source/file"), "content").unwrap();
    place.run(&Program::Onggi, "init").ok();
    place.run(&Program::Onggi, "backup {source}").ok();
    place
}

/// A backup of stdin that goes on until it is told to end.
struct Writer(Child);

impl Writer {
    /// Returns when its lock is there.
    fn start(place: &Place, program: &Program) -> Self {
        let writer = Self(place.start_stdin_backup(program));
        let locks = place.path("repository/locks");
        let deadline = std::time::Instant::now() + std::time::Duration::from_mins(1);
        while locks.read_dir().map_or(0, Iterator::count) == 0 {
            assert!(std::time::Instant::now() < deadline, "the writer takes no lock");
            std::thread::yield_now();
        }
        writer
    }

    fn finish(mut self) {
        drop(self.0.stdin.take());
        // An empty stream is refused by one and stored by the other; here only the lock matters.
        self.0.wait().expect("the writer ends");
    }

    fn kill(mut self) {
        self.0.kill().expect("the writer is killed");
        self.0.wait().expect("the writer ends");
    }
}
