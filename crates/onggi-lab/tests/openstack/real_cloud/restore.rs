//! A stored server comes back where it was, with what it had.

use onggi_lab::openstack::Openstack;

use super::rig::Rig;

#[test]
fn a_server_comes_back_in_its_place_elsewhere_and_on_a_volume() {
    let Some(lab) = Openstack::start() else { return };
    let rig = Rig::new(&lab, "cloud-keep-last: 0");
    let snapshot = rig.back_up(&["lab/demo/vm1"], 0)[0]["snapshot_id"].as_str().unwrap()[..12].to_owned();
    let restore = |words: &[&str]| {
        let words: Vec<_> = ["restore", &snapshot, "--to", "source", "--yes"].iter().chain(words).copied().collect();
        rig.run(&words).expect(0);
    };
    restic_reads_the_same_disk(&rig, &snapshot);
    restore(&["--boot", "volume", "--server-name", "onvol"]);
    let onvol = lab.json(&["server", "show", "onvol"]);
    assert_eq!(onvol["status"], "ACTIVE");
    assert!(onvol["volumes_attached"].to_string().contains("id"), "{onvol}");
    lab.client(&["server", "delete", "--wait", "onvol"]);
    restore(&["--project", "other__project", "--network", "none", "--server-name", "moved"]);
    let listed =
        lab.try_client("demo", "other__project", &["server", "list", "-f", "value", "-c", "Name", "-c", "Status"]);
    assert_eq!(String::from_utf8_lossy(&listed.stdout).trim(), "moved ACTIVE");
    lab.try_client("demo", "other__project", &["server", "delete", "--wait", "moved"]);
    let before = lab.json(&["server", "show", "vm1"]);
    restore(&["--mode", "in-place"]);
    let after = lab.json(&["server", "show", "vm1"]);
    assert_eq!((&after["id"], &after["addresses"]), (&before["id"], &before["addresses"]));
    assert_eq!(after["status"], "ACTIVE");
}

#[test]
fn a_server_is_replaced_by_one_with_its_addresses() {
    let Some(lab) = Openstack::start() else { return };
    let rig = Rig::new(&lab, "cloud-keep-last: 0");
    lab.create_server("spare", &["--image", "lab-guest"]);
    let addresses = || {
        let listed = lab.json(&["port", "list", "--server", "spare"]);
        let ports = listed.as_array().unwrap().iter();
        ports.map(|port| (port["MAC Address"].clone(), port["Fixed IP Addresses"].clone())).collect::<Vec<_>>()
    };
    let (id, before) = (lab.id("server", "spare"), addresses());
    let snapshot = rig.back_up(&["lab/demo/spare"], 0)[0]["snapshot_id"].as_str().unwrap()[..12].to_owned();
    let words = ["restore", &snapshot, "--to", "source", "--mode", "replace", "--delete-old", "--yes"];
    rig.run(&words).expect(0);
    assert_ne!(lab.id("server", "spare"), id);
    assert_eq!((addresses(), before.len()), (before, 1));
    lab.until_server("spare", "ACTIVE");
    lab.client(&["server", "delete", "--wait", "spare"]);
}

fn restic_reads_the_same_disk(rig: &Rig<'_>, snapshot: &str) {
    let Some(restic) = onggi_lab::peer::newest("restic") else { return };
    let folder = rig.files(snapshot);
    let below = folder.strip_prefix(rig.path(&format!("files-{snapshot}"))).unwrap();
    let mut command = std::process::Command::new(restic);
    command.env("RESTIC_PASSWORD_FILE", rig.path("password")).env("HOME", rig.path("home"));
    command.arg("-r").arg(rig.path("repository")).args(["--no-cache", "dump", snapshot]);
    let output = command.arg(std::path::Path::new("/").join(below).join("disks/00-root.raw")).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(output.stdout == std::fs::read(folder.join("disks/00-root.raw")).unwrap());
}
