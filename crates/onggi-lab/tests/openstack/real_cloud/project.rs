//! A project's configuration over the real cloud: its documents come back as files, and a change of one is that one's.

use std::fs;
use std::path::{Path, PathBuf};

use onggi_lab::openstack::Openstack;
use serde_json::Value;

use super::rig::Rig;

#[test]
fn a_projects_configuration_is_stored_and_a_change_of_it_is_seen() {
    let Some(lab) = Openstack::start() else { return };
    let rig = Rig::new(&lab, "");
    let listed = rig.run(&["source", "discover", "lab"]).expect(0).out;
    assert!(listed.contains("project-") && listed.contains("demo/vm1"), "{listed}");
    let stored = || rig.back_up(&["lab/demo"], 0)[0]["snapshot_id"].as_str().unwrap()[..12].to_owned();
    let first = stored();
    let target = rig.path("documents");
    rig.run(&["restore", &first, "--target", target.to_str().unwrap()]).expect(0);
    let folder = project_of(&target);
    let named = |kind: &str, name: &str| {
        let all = documents(&folder.join(kind));
        all.into_iter().find(|one| one["name"] == name).unwrap_or_else(|| panic!("no {name} in {kind}"))
    };
    named("networks", "demo-net");
    let rules = named("security-groups", "demo-sg")["security_group_rules"].as_array().map_or(0, Vec::len);
    assert!(rules > 0);
    assert!(named("keypairs", "demo-key")["public_key"].as_str().unwrap().starts_with("ssh-"));
    assert!(named("flavors", "lab.tiny")["ram"].is_number());
    named("images", "lab-guest");
    assert_eq!(documents(&folder.join("subnets"))[0]["cidr"], "10.77.0.0/24");
    for quota in ["compute", "volume"] {
        assert!(folder.join("quotas").join(quota).with_extension("json").exists(), "{quota}");
    }
    // A capture of a server makes an image, which is none of the project's.
    rig.back_up(&["lab/demo/vm1"], 0);
    let second = stored();
    let changes = |from: &str, to: &str| {
        let said = rig.run(&["diff", from, to]).expect(0).out;
        let of_documents = said.lines().filter(|line| line.contains("/project/"));
        of_documents.map(ToOwned::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(changes(&first, &second), Vec::<String>::new());
    lab.client(&["security", "group", "rule", "create", "--protocol", "udp", "--dst-port", "5353", "demo-sg"]);
    let third = stored();
    let changed = changes(&second, &third);
    let told = rig.run(&["diff", &second, &third, "--text"]).expect(0).out;
    for one in lab.json(&["security", "group", "rule", "list", "demo-sg", "--protocol", "udp"]).as_array().unwrap() {
        lab.client(&["security", "group", "rule", "delete", one["ID"].as_str().unwrap()]);
    }
    assert_eq!(changed.len(), 1, "{changed:?}");
    assert!(changed[0].contains("/security-groups/") && told.contains("5353"), "{changed:?} {told}");
}

/// The folder of the documents below a restored snapshot.
fn project_of(target: &Path) -> PathBuf {
    let mut folder = target.join("openstack");
    while !folder.join("networks").exists() {
        let mut entries = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path());
        folder = entries.find(|path| path.is_dir()).unwrap();
    }
    folder
}

fn documents(folder: &Path) -> Vec<Value> {
    let files = fs::read_dir(folder).into_iter().flatten().map(|entry| entry.unwrap().path());
    files.map(|file| serde_json::from_slice(&fs::read(file).unwrap()).unwrap()).collect()
}
