//! Artifacts with many files, with none, and with what `bbr` cannot restore.

use std::fs;
use std::process::Command;

use onggi_lab::bosh::Instance;

use super::native::{Rig, with_jobs};

#[test]
fn five_thousand_files_and_none_at_all_come_back() {
    let Some(instance) = Instance::start() else { return };
    with_jobs(&instance);
    instance.job("none", "", "touch /var/vcap/store/none-restored");
    let many = "mkdir -p /var/vcap/store/blobs/many && cd /var/vcap/store/blobs/many && for i in $(seq 5000); do echo $i > $i; done";
    assert!(instance.run(many).status.success());
    let rig = Rig::of_director(&instance, "");
    rig.back_up();
    rig.run(&["restore", "latest", "--to", "source", "--yes"]);
    let same = instance.run("diff -r /var/vcap/store/blobs /var/vcap/store/restored-blobs");
    assert!(same.status.success(), "{}", String::from_utf8_lossy(&same.stdout));
    assert!(instance.has("/var/vcap/store/none-restored"));
}

#[test]
fn what_bbr_cannot_restore_goes_out_only_if_it_may_be_left_out() {
    let Some(instance) = Instance::start() else { return };
    with_jobs(&instance);
    instance.script("blobs", "backup", "cp -a /var/vcap/store/blobs/. $BBR_ARTIFACT_DIRECTORY");
    let odd = "cd /var/vcap/store/blobs && ln -s ab link && mkfifo pipe && echo 1 > 'a b' && echo 2 > \"it's\" && \
        echo 3 > 'back\\slash' && echo 4 > one && ln one two";
    assert!(instance.run(odd).status.success());
    let rig = Rig::of_director(&instance, "");
    rig.back_up();
    let refused = rig.try_run(&["export", "bbr-artifact", "latest", "."]);
    let said = String::from_utf8_lossy(&refused.stderr);
    assert!(!refused.status.success() && said.contains("bosh/0/blobs"), "{said}");
    rig.try_run(&["export", "bbr-artifact", "latest", ".", "--allow-lossy"]);
    let mut entries = fs::read_dir(rig.path("")).unwrap().map(|entry| entry.unwrap().path());
    let directory = entries.find(|path| path.to_string_lossy().contains("/127.0.0.1_")).unwrap();
    let listed = Command::new("tar").arg("-tf").arg(directory.join("bosh-0-blobs.tar")).output().unwrap();
    let mut names: Vec<String> = String::from_utf8(listed.stdout).unwrap().lines().map(str::to_owned).collect();
    names.sort();
    assert_eq!(names, ["./", "./ab/", "./ab/first", "./one", "./two"]);
}

#[test]
fn what_would_be_in_a_backups_way_is_said_beforehand() {
    let Some(instance) = Instance::start() else { return };
    with_jobs(&instance);
    let rig = Rig::of_director(&instance, "");
    assert_eq!(rig.try_run(&["source", "preflight", "SOURCE"]).status.code(), Some(0));
    instance.script("lone", "pre-backup-lock", "");
    instance.write("/var/vcap/store/bbr-backup/x", "");
    assert!(instance.run("rm /usr/bin/xargs").status.success());
    let output = rig.try_run(&["source", "preflight", "SOURCE"]);
    let said = String::from_utf8_lossy(&output.stderr);
    for text in ["it has no xargs", "holds artifacts of another program", "job lone is locked by pre-backup-lock"] {
        assert!(said.contains(text), "{text}: {said}");
    }
    assert_eq!(output.status.code(), Some(3), "{said}");
    assert!(instance.calls().is_empty() && instance.has("/var/vcap/store/bbr-backup/x"));
}
