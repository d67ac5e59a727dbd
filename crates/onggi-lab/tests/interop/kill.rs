//! A killed writer leaves nothing that hurts: the repository is whole and the next run goes on.

use std::time::{Duration, Instant};

use onggi_lab::compare::Aspects;
use onggi_lab::corpus::Random;
use onggi_lab::corpus::mixed::Mixed;

use crate::peer;
use crate::place::{Place, Program};

const SET: Mixed = Mixed { random: 24 << 20, logs: 2, log: 4 << 20, small: 400, image: 32 << 20, extents: 1 };
const KILLS: u64 = 20;

#[test]
fn a_backup_killed_at_any_moment_leaves_a_repository_that_restic_finds_whole() {
    let Some(restic) = peer::restics().pop() else { return };
    let place = Place::new();
    SET.write(&place.path("source")).unwrap();
    place.run(&Program::Onggi, "init").ok();
    let started = Instant::now();
    place.run(&Program::Onggi, "backup --host whole {source}").ok();
    let usual = started.elapsed();
    let mut random = Random::new(20);
    for turn in 0..KILLS {
        // Every turn has new content, so that there is something to write at every moment.
        SET.change_one_percent(&place.path("source")).unwrap();
        std::fs::write(place.path("source/turn"), random.bytes(12 << 20)).unwrap();
        let mut command = place.command(&Program::Onggi, &format!("backup --force --host turn{turn} {{source}}"));
        let mut child = command.stdout(std::process::Stdio::null()).spawn().expect("onggi starts");
        let moment = Instant::now() + usual.mul_f64(random.below(1000) as f64 / 1000.0);
        while Instant::now() < moment && child.try_wait().expect("a child").is_none() {
            std::thread::sleep(Duration::from_millis(1));
        }
        child.kill().expect("onggi is killed");
        child.wait().expect("onggi ends");
        place.run(&restic, "check --read-data --no-lock").ok();
    }
    place.run(&Program::Onggi, "repository unlock").ok();
    place.run(&Program::Onggi, "backup --host whole {source}").ok();
    place.run(&restic, "prune").ok();
    place.run(&restic, "check --read-data").ok();
    place.run(&Program::Onggi, "restore latest --target {out}").ok();
    place.assert_restored("out", Aspects::CONTENT);
}

#[test]
fn three_backups_at_once_leave_a_repository_that_restic_finds_whole() {
    for restic in peer::restics() {
        let place = Place::new();
        SET.write(&place.path("source")).unwrap();
        place.run(&Program::Onggi, "init").ok();
        let children: Vec<_> = (0..3)
            .map(|number| place.command(&Program::Onggi, &format!("backup --host host{number} {{source}}")))
            .map(|mut command| command.stdout(std::process::Stdio::null()).spawn().expect("onggi starts"))
            .collect();
        for mut child in children {
            assert!(child.wait().expect("onggi ends").success());
        }
        assert_eq!(place.snapshots(&restic).len(), 3);
        place.run(&restic, "check --read-data").ok();
    }
}
