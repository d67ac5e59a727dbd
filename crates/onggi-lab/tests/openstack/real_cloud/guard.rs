//! What onggi did not make stays, however much it looks like onggi's.

use onggi_lab::openstack::Openstack;

use super::rig::Rig;

#[test]
fn nothing_that_others_made_is_ever_removed() {
    let Some(lab) = Openstack::start() else { return };
    let rig = Rig::new(&lab, "cloud-keep-last: 0");
    let vm1 = lab.id("server", "vm1");
    let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
    std::fs::write(rig.path("tiny"), [7; 512]).unwrap();
    let tiny = rig.path("tiny");
    let image = |name: &str, marks: &[String]| {
        let mut words = vec!["image", "create", "--private", "--disk-format", "raw", "--file", tiny.to_str().unwrap()];
        words.extend(marks.iter().flat_map(|mark| ["--property", mark.as_str()]));
        words.push(name);
        lab.client(&words);
    };
    let marks = |source: &str, server: &str| {
        let pairs = [("run", "r1"), ("purpose", "backup"), ("server", server), ("source", source)];
        pairs.map(|(key, value)| format!("onggi.{key}={value}"))
    };
    // Of somebody who started a server from an image of ours: its marks are inherited.
    image("mine", &marks(&format!("{host}/lab"), &vm1));
    image("onggi-r1-unmarked", &[]);
    image("onggi-r1-elsewhere", &marks("elsewhere/lab", &vm1));
    lab.client(&["volume", "create", "--size", "1", "--property", "onggi.run=r1", "theirs"]);
    lab.until("a volume", || (lab.json(&["volume", "show", "theirs"])["status"] == "available").then_some(()));
    lab.client(&["volume", "snapshot", "create", "--volume", "theirs", "snapshot for onggi-r1-gone"]);
    for _ in 0..2 {
        rig.back_up(&["lab/demo/vm1"], 0);
    }
    rig.run(&["openstack", "orphans", "--delete", "--older-than", "0s", "--yes"]).expect(0);
    let listed = lab.client(&["image", "list", "--private", "-f", "value", "-c", "Name"]);
    let mut names: Vec<_> = listed.lines().collect();
    names.sort_unstable();
    assert_eq!(names, ["mine", "onggi-r1-elsewhere", "onggi-r1-unmarked"]);
    assert_eq!(lab.blocks(), ["snapshot for onggi-r1-gone"]);
    assert!(lab.client(&["volume", "list"]).contains("theirs"));
}
