//! Servers with volumes: each is stored, and nothing of the way there stays.

use onggi_lab::openstack::Openstack;

use super::rig::Rig;

#[test]
fn a_volume_beside_the_root_is_stored_with_its_server() {
    let Some(lab) = Openstack::start() else { return };
    let rig = Rig::new(&lab, "cloud-keep-last: 0");
    lab.client(&["volume", "create", "--size", "1", "beside"]);
    // By id: the client looks names up in a way that Cinder refuses to who is no administrator.
    let volume = lab.id("volume", "beside");
    let until = |status: &str| {
        lab.until(status, || (lab.json(&["volume", "show", &volume])["status"] == status).then_some(()));
    };
    let mapping = format!("vdb={volume}");
    for root in [&[][..], &["--boot-from-volume", "1"]] {
        until("available");
        // There from its first moment, because the guest does not heed a disk that comes later.
        lab.create_server("two", &[&["--image", "lab-guest", "--block-device-mapping", &mapping], root].concat());
        until("in-use");
        let stored = rig.back_up(&["lab/demo/two"], 0);
        assert_eq!(stored.len(), 1, "{stored:?}");
        let folder = rig.files(&stored[0]["snapshot_id"].as_str().unwrap()[..12]);
        let notes = rig.notes(&folder);
        let roles = notes["disks"].as_array().unwrap().iter().map(|disk| disk["role"].as_str().unwrap());
        assert_eq!(roles.collect::<Vec<_>>(), ["root", "data"], "{notes}");
        let disks = std::fs::read_dir(folder.join("disks")).unwrap().map(|one| one.unwrap().metadata().unwrap().len());
        assert_eq!(disks.collect::<Vec<_>>(), [1 << 30; 2], "{root:?}");
        assert_eq!((lab.images(), lab.blocks()), (Vec::new(), Vec::new()), "{root:?}");
        lab.client(&["server", "delete", "--wait", "two"]);
    }
    until("available");
    lab.client(&["volume", "delete", &volume]);
}

/// Nova freezes the guest, and then Cinder's driver asks Nova for a snapshot, for which it freezes again.
#[test]
fn a_server_that_would_be_frozen_twice_is_explained_and_captured_at_rest() {
    let Some(lab) = Openstack::start() else { return };
    let rig = Rig::new(&lab, "cloud-keep-last: 0");
    lab.create_server("twice", &["--image", "lab-guest-agent", "--boot-from-volume", "1"]);
    let ended = rig.run(&["backup", "lab/demo/twice", "lab/demo/vm1"]).expect(5);
    assert!(ended.out.contains("snapshot"), "the other is stored: {ended:?}");
    assert!(ended.tells("second freeze is refused") && ended.tells("`freeze: stop` captures"), "{ended:?}");
    assert_eq!((lab.images(), lab.blocks()), (Vec::new(), Vec::new()));
    let (openrc, _) = rig.openrc();
    rig.log_in_with(&openrc, "cloud-keep-last: 0\n    freeze: stop");
    // The lab's guests do not heed the button, so that this one is switched off, and what is told of it is true.
    let ended = rig.run(&["backup", "lab/demo/twice"]).expect(3);
    assert!(ended.tells("a file system was not frozen") && ended.out.contains("snapshot"), "{ended:?}");
    lab.until_server("twice", "ACTIVE");
    lab.client(&["server", "delete", "--wait", "twice"]);
}
