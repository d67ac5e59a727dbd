//! Downloads on their way: what came is stored meanwhile, and what breaks off goes on where the store reads ranges; where
//! it does not, it comes again.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::ops::ControlFlow;
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use onggi_lab::openstack::{Endpoint, Openstack};
use onggi_lab::relay;
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use super::rig::Rig;

/// Only the connection of an image passes on so many bytes, fewer than the lab's images have.
const CUT_AFTER: usize = 4 << 20;

/// So much of the disk was read while the rest of its image was held back: more than all documents have.
const READ: u64 = 1 << 20;
/// The rest is held back no longer, whatever was read.
const PATIENCE: Duration = Duration::from_mins(2);

#[test]
fn a_disk_is_read_while_its_image_arrives() {
    let Some(lab) = Openstack::start() else { return };
    let rig = Rig::new(&lab, "cloud-keep-last: 1");
    let of_images = Endpoint::of(&lab, "image");
    let (read, told) = mpsc::channel();
    let (told, was_held, was_read) = (Mutex::new(told), AtomicBool::new(false), Arc::new(AtomicBool::new(false)));
    let noted = Arc::clone(&was_read);
    let glance = relay::start(of_images.url().trim_start_matches("http://"), move |so_far, _| {
        if so_far > CUT_AFTER && !was_held.swap(true, Relaxed) {
            noted.store(told.lock().unwrap().recv_timeout(PATIENCE).is_ok(), Relaxed);
        }
        ControlFlow::Continue(())
    });
    of_images.lead_to(&format!("http://{glance}"));
    let mut child = rig.command(&["backup", "--json", "lab/demo/vm1"]).stdout(Stdio::piped()).spawn().unwrap();
    for line in BufReader::new(child.stdout.take().unwrap()).lines() {
        let said: Value = serde_json::from_str(&line.unwrap()).unwrap();
        if said["bytes_done"].as_u64().is_some_and(|bytes| bytes > READ) {
            read.send(()).ok();
        }
    }
    assert!(child.wait().unwrap().success());
    assert!(was_read.load(Relaxed), "nothing of the disk was read before all of its image was there");
    let folder = rig.files("latest");
    let theirs = fs::read(rig.decoded(&lab.images().pop().unwrap())).unwrap();
    assert!(fs::read(folder.join("disks/00-root.raw")).unwrap() == theirs, "the disk is another one");
}

#[test]
fn a_download_that_is_cut_goes_on() {
    let Some(lab) = Openstack::start() else { return };
    let rig = Rig::new(&lab, "cloud-keep-last: 1");
    // Its kernel and what else it starts with are known afterwards and come no more.
    rig.back_up(&["lab/demo/vm1"], 0);
    let of_images = Endpoint::of(&lab, "image");
    let (was_cut, passed) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let (cut, sum) = (Arc::clone(&was_cut), Arc::clone(&passed));
    let glance = relay::start(of_images.url().trim_start_matches("http://"), move |so_far, piece| {
        sum.fetch_add(piece.len(), Relaxed);
        if so_far > CUT_AFTER && !cut.swap(true, Relaxed) { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    });
    of_images.lead_to(&format!("http://{glance}"));
    for reads_ranges in [true, false] {
        lab.let_images_be_read_by_range(reads_ranges);
        was_cut.store(false, Relaxed);
        passed.store(0, Relaxed);
        let stored = rig.back_up(&["lab/demo/vm1"], 0);
        let passed = passed.load(Relaxed);
        assert!(was_cut.load(Relaxed), "only {passed} bytes came");
        let image = lab.images().pop().unwrap();
        let size = lab.json(&["image", "show", &image])["size"].as_u64().unwrap() as usize;
        assert_eq!(passed < size + CUT_AFTER, reads_ranges, "{passed} bytes came for {size}");
        let folder = rig.files(&stored[0]["snapshot_id"].as_str().unwrap()[..12]);
        let ours = fs::read(folder.join("disks/00-root.raw")).unwrap();
        let theirs = fs::read(rig.decoded(&image)).unwrap();
        assert_eq!(Sha256::digest(&ours), Sha256::digest(&theirs), "by range: {reads_ranges}");
    }
    lab.let_images_be_read_by_range(true);
}
