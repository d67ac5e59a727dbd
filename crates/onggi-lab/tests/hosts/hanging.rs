//! What a host has changes or does not answer while it is read.

use std::fs;
use std::os::fd::AsRawFd as _;
use std::path::Path;

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use onggi_lab::peer;

use super::bed::{Hub, listed, pinned};
use super::server::Server;

#[test]
fn what_vanishes_between_listing_and_reading_is_counted_and_no_fault() {
    let Some(server) = Server::start() else { return };
    let hub = Hub::new();
    let count = 2000;
    for number in 0..count {
        hub.write(&format!("data/{number:04}"), vec![number as u8; 16 << 10]);
    }
    // slow enough that what is listed first is read long after
    let keys =
        format!("paths: [{}]\nrate-windows: [{{ at: '00:00-24:00', rate: 512KiB/s }}]", hub.path("data").display());
    hub.configure(&pinned(&server), &keys, &[("n1", listed(&server))]);
    hub.listen_in(&server);
    let ended = std::thread::scope(|scope| {
        let run = scope.spawn(|| hub.onggi("--verbose backup fleet"));
        // content comes once all is listed
        while !run.is_finished() && fs::metadata(hub.path("received")).map_or(0, |status| status.len()) < 100 << 10 {
            std::thread::yield_now();
        }
        (count / 2..count).for_each(|number| fs::remove_file(hub.path(&format!("data/{number:04}"))).unwrap());
        run.join().unwrap()
    });
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert!(ended.tells("vanished") && !ended.tells("problem"), "{ended:?}");
}

/// A file system whose server never answers, as that of a machine that is gone.
struct Hanging<'a> {
    place: &'a Path,
    _server: fs::File,
}

impl<'a> Hanging<'a> {
    fn mount(place: &'a Path) -> Option<Self> {
        fs::create_dir_all(place).unwrap();
        let server = fs::OpenOptions::new().read(true).write(true).open("/dev/fuse").ok()?;
        let options = format!("fd={},rootmode=40000,user_id=0,group_id=0", server.as_raw_fd());
        mount(Some("gone"), place, Some("fuse.gone"), MsFlags::empty(), Some(options.as_str())).ok()?;
        Some(Self { place, _server: server })
    }
}

impl Drop for Hanging<'_> {
    fn drop(&mut self) {
        umount2(self.place, MntFlags::MNT_DETACH | MntFlags::MNT_FORCE).ok();
    }
}

#[test]
fn a_mount_whose_machine_is_gone_does_not_stop_the_run() {
    let Some(server) = Server::start() else { return };
    let hub = Hub::new();
    hub.write("data/before", "x");
    hub.write("data/zzz/after", "x");
    let place = hub.path("data/gone");
    let Some(_hanging) = Hanging::mount(&place) else { return peer::skip("no file system can be mounted here") };
    for crossing in [true, false] {
        hub.configure_one(&server, &format!("one-file-system: {crossing}"));
        let ended = hub.onggi("backup fleet --json --timeout 60s");
        assert_eq!(ended.code, Some(0), "{ended:?}");
        assert_eq!(ended.summary()["total_files_processed"], 2);
    }
}

#[test]
fn a_root_whose_machine_is_gone_is_told_and_the_others_are_stored() {
    let Some(server) = Server::start() else { return };
    let hub = Hub::new();
    hub.write("data/here/file", "x");
    let place = hub.path("data/gone");
    let Some(_hanging) = Hanging::mount(&place) else { return peer::skip("no file system can be mounted here") };
    let keys = format!("paths: [{0}/gone, {0}/here]", hub.path("data").display());
    hub.configure(&pinned(&server), &keys, &[("n1", listed(&server))]);
    let ended = hub.onggi("backup fleet --json --timeout 60s");
    assert_eq!(ended.code, Some(3), "{ended:?}");
    assert!(ended.tells("stale-mount") && ended.tells("data/gone"), "{ended:?}");
    assert_eq!(ended.summary()["total_files_processed"], 1);
}
