//! Exactness: what both programs make of the same files is the same, down to the ids.

use onggi_lab::corpus::mixed::Mixed;

use crate::peer;
use crate::place::{Place, Program, finish, message};

const SET: Mixed = Mixed { random: 24 << 20, logs: 2, log: 9 << 20, small: 300, image: 64 << 20, extents: 2 };

#[test]
fn the_second_program_adds_no_data() {
    for restic in peer::restics() {
        let place = Place::new();
        SET.write(&place.path("source")).unwrap();
        place.run(&restic, "init").ok();
        place.run(&restic, "backup --json --host one {source}").ok();
        let out = place.run(&Program::Onggi, "backup --json --force --host two {source}").ok();
        assert_eq!(message(&out, "summary")["data_blobs"], 0, "{out}");
        let out = place.run(&restic, "backup --json --force --host three {source}").ok();
        assert_eq!(message(&out, "summary")["data_blobs"], 0, "{out}");
    }
}

#[test]
fn trees_are_those_of_current_restic() {
    let Some(restic) = peer::current_restic() else { return };
    let place = Place::with_zoo();
    place.run(&restic, "init").ok();
    // From within, so that folders above, which others change meanwhile, are no part of the tree.
    for (program, line) in [(&restic, "backup ."), (&Program::Onggi, "backup --force .")] {
        let mut command = place.command(program, line);
        command.current_dir(place.path("source"));
        finish(command).ok();
    }
    let trees: Vec<_> = place.snapshots(&restic).iter().map(|snapshot| snapshot["tree"].clone()).collect();
    assert_eq!(trees.len(), 2);
    if trees[0] != trees[1] {
        let ids = trees.iter().map(|tree| tree.as_str().unwrap_or_default()).collect::<Vec<_>>();
        let shown: Vec<_> = ids.iter().map(|id| place.run(&restic, &format!("cat blob {id}")).ok()).collect();
        let diff = place.run(&restic, "diff --metadata latest latest~1");
        panic!("two trees\n{}\n{}\n{}", shown[0], shown[1], diff.out);
    }
}
