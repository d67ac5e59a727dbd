//! One life of the lab's servers: stored, stored again, interrupted, restored.
//!
//! One test, because the lab is one and every part of it changes what the next one finds.

use std::fs;

use onggi_lab::openstack::Openstack;
use sha2::{Digest as _, Sha256};

use super::rig::Rig;

#[test]
fn servers_are_stored_restored_and_nothing_is_left_behind() {
    let Some(lab) = Openstack::start() else { return };
    let rig = Rig::new(&lab, "cloud-keep-last: 1");
    let first = every_server_is_stored_as_the_disk_that_the_cloud_has(&rig);
    the_next_backup_costs_little(&rig, first);
    a_killed_run_is_finished_by_the_next(&rig);
    a_new_server_runs_from_the_stored_disk(&rig);
}

/// Answers what was added to the repository, in bytes.
fn every_server_is_stored_as_the_disk_that_the_cloud_has(rig: &Rig<'_>) -> u64 {
    let stored = rig.back_up(&["lab"], 0);
    assert_eq!(stored.len(), 4, "three servers and their project: {stored:?}");
    for (name, frozen) in [("demo/vm1", "journal-pending"), ("demo/vm2", "clean")] {
        let unit = stored.iter().find(|one| one["name"] == name).unwrap();
        let folder = rig.files(&unit["snapshot_id"].as_str().unwrap()[..12]);
        let notes = rig.notes(&folder);
        assert_eq!(notes["consistency"]["observed"], frozen, "{name}: {notes}");
        let image = rig.lab.images().into_iter().find(|image| image.ends_with(unit["unit"].as_str().unwrap())).unwrap();
        let ours = fs::read(folder.join("disks/00-root.raw")).unwrap();
        let theirs = fs::read(rig.decoded(&image)).unwrap();
        assert_eq!(Sha256::digest(&ours), Sha256::digest(&theirs), "{name}");
    }
    assert_eq!(rig.lab.images().len(), 3, "one of each server stays");
    assert_eq!(rig.lab.blocks().len(), 1, "that of the volume");
    stored.iter().filter_map(|unit| unit["data_added_packed"].as_u64()).sum()
}

fn the_next_backup_costs_little(rig: &Rig<'_>, first: u64) {
    let stored = rig.back_up(&["lab/demo/vm1"], 0);
    let added = stored[0]["data_added_packed"].as_u64().unwrap();
    assert!(added < first / 100, "{added} of {first}");
    assert_eq!(rig.lab.images().len(), 3);
}

/// Once its image is there, and once Nova may still be at work on it.
fn a_killed_run_is_finished_by_the_next(rig: &Rig<'_>) {
    let before = rig.lab.images();
    let mut running = rig.command(&["backup", "lab/demo/vm1"]).spawn().unwrap();
    let made = rig.lab.until("an image", || rig.lab.images().into_iter().find(|image| !before.contains(image)));
    running.kill().unwrap();
    running.wait().unwrap();
    let stored = rig.back_up(&["lab/demo/vm2"], 0);
    assert_eq!(stored.len(), 1, "{stored:?}");
    let listed = rig.run(&["snapshots", "--json"]).expect(0).out;
    let run = made.trim_start_matches("onggi-").rsplitn(6, '-').last().unwrap().to_owned();
    assert!(listed.contains(&run) || !rig.lab.images().contains(&made), "run {run} is neither stored nor gone");
    let orphans = rig.run(&["openstack", "orphans", "--json"]).expect(0);
    assert_eq!(orphans.out, "");
    assert_eq!(rig.lab.images().len(), 3);
}

fn a_new_server_runs_from_the_stored_disk(rig: &Rig<'_>) {
    for server in ["vm1", "vol1"] {
        let snapshot = rig.back_up(&[&format!("lab/demo/{server}")], 0)[0]["snapshot_id"].as_str().unwrap().to_owned();
        let words = ["restore", &snapshot[..12], "--to", "source", "--prove", "--server-name", "back"];
        rig.run(&words).expect(0);
        let (old, new) = (rig.lab.json(&["server", "show", server]), rig.lab.json(&["server", "show", "back"]));
        assert_eq!(new["status"], "ACTIVE");
        for key in ["flavor", "key_name"] {
            assert_eq!(new[key], old[key]);
        }
        assert!(!new["properties"].to_string().contains("onggi"), "{new}");
        let console = rig.lab.until_console("back");
        assert!(!console.contains("journal has 0 lines"), "{console}");
        rig.lab.client(&["server", "delete", "--wait", "back"]);
    }
}
