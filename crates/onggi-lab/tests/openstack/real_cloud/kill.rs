//! A run that is killed anywhere is finished by the next, and nothing of it stays.

use onggi_lab::openstack::Openstack;

use super::rig::Rig;

#[test]
fn a_run_that_is_killed_while_a_volume_is_read_out_leaves_nothing_behind() {
    let Some(lab) = Openstack::start() else { return };
    // Cinder on NFS reads no snapshot out while an older one of the volume exists.
    let rig = Rig::new(&lab, "cloud-keep-last: 0");
    let volume = || lab.blocks().iter().any(|name| !name.starts_with("snapshot for")).then_some(());
    let export = || lab.images().iter().any(|name| name.contains("export")).then_some(());
    let steps: [(&str, &dyn Fn() -> Option<()>); 2] = [("a volume", &volume), ("its image", &export)];
    for (what, is_there) in steps {
        // So slow that it is still at it when a slow client has seen what it waits for.
        let mut running = rig.command(&["--limit-rate", "512KiB/s", "backup", "lab/demo/vol1"]).spawn().unwrap();
        lab.until(what, is_there);
        running.kill().unwrap();
        running.wait().unwrap();
        let stored = rig.back_up(&["lab/demo/vol1"], 0);
        assert_eq!(stored.len(), 1, "{stored:?}");
        assert_eq!(rig.run(&["openstack", "orphans", "--json"]).expect(0).out, "", "{what}");
        assert_eq!((lab.images(), lab.blocks()), (Vec::new(), Vec::new()), "{what}");
    }
}
