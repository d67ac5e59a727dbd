//! Hosts of a fleet out of the real cloud: its servers with their addresses, its hypervisors for administrators alone.

use std::fs;

use onggi_lab::openstack::Openstack;

use super::rig::Rig;

#[test]
fn a_fleet_takes_its_hosts_from_the_cloud() {
    let Some(lab) = Openstack::start() else { return };
    let rig = Rig::new(&lab, "");
    let listed = |openrc: &str, keys: &str| {
        let login = lab.file(openrc).display().to_string();
        let text = format!(
            "version: 1\nsources:\n  nodes:\n    kind: hosts\n    paths: [/etc]\n    inventory:\n      - openstack: {{ openrc: \
             {{ file: {login} }}, {keys} }}\n        labels: {{ site: here }}\n"
        );
        fs::write(rig.path("onggi.yaml"), text).unwrap();
        rig.run(&["hosts", "list", "--json"])
    };
    let hosts = listed("demo-openrc", "include: { name: [\"vm*\"] }, network: demo-net").expect(0).out;
    let address = lab.json(&["server", "show", "vm1"])["addresses"]["demo-net"][0].as_str().unwrap().to_owned();
    assert!(hosts.contains("vm1") && hosts.contains("vm2") && !hosts.contains("vol1"), "{hosts}");
    assert!(hosts.contains(&address) && hosts.contains("here"), "{address}: {hosts}");
    let elsewhere = listed("demo-openrc", "floating: only").expect(0);
    assert!(!elsewhere.out.contains(&address) && elsewhere.tells("no floating address"), "{elsewhere:?}");
    let refused = listed("demo-openrc", "list: hypervisors").expect(13);
    assert!(refused.tells("inventory[0].openstack") && refused.tells("list: hypervisors"), "{refused:?}");
    let hypervisors = listed("admin-openrc", "list: hypervisors").expect(0).out;
    assert!(hypervisors.contains("openstack.state") && hypervisors.contains("enabled"), "{hypervisors}");
    let wrong = listed("demo-openrc", "list: hypervisors, ip-version: 5");
    assert!(wrong.code == Some(2) && wrong.tells("inventory[0].openstack.ip-version"), "{wrong:?}");
}
