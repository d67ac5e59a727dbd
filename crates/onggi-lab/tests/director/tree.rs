//! Artifacts with many files, with none, and with what `bbr` cannot restore.

use std::fs;
use std::process::Command;
use std::sync::Arc;

use onggi_lab::bosh::Instance;

use super::native::{Rig, director_of, rig_of, users, with_jobs};

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

#[test]
fn a_repository_that_cannot_be_written_is_said_beforehand() {
    let Some(instance) = Instance::start() else { return };
    with_jobs(&instance);
    let rig = Rig::of_director(&instance, "");
    let command = rig.command(&["source", "preflight", "SOURCE"]);
    let mut confined = Command::new("unshare");
    let read_only =
        "mount --make-rprivate /; mount --bind $0 $0; mount -o remount,bind,ro $0; [ ! -w $0 ] || exit 99; exec \"$@\"";
    confined.args(["-m", "sh", "-c", read_only]).arg(rig.path("repository"));
    confined
        .arg(command.get_program())
        .args(command.get_args())
        .envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let output = confined.output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(13), "{said}");
    for text in ["error: write to the repository", "read-only", "hint: ", &format!("ok {}", rig.source())] {
        assert!(said.to_lowercase().contains(&text.to_lowercase()), "{text}: {said}");
    }
    fs::remove_dir_all(rig.path("repository")).unwrap();
    let output = rig.try_run(&["source", "preflight", "SOURCE"]);
    assert_eq!(output.status.code(), Some(10), "{}", String::from_utf8_lossy(&output.stderr));
    // whoever only asks what there is does not care
    rig.run(&["source", "discover", "SOURCE"]);
    assert!(instance.calls().is_empty());
}

#[test]
fn what_a_backup_will_not_hold_and_what_is_under_way_is_said_beforehand() {
    let Some(one) = Instance::start() else { return };
    let instances = Arc::new(vec![one]);
    let instance = &instances[0];
    with_jobs(instance);
    instance.job("s3-unversioned-blobstore-backup-restorer", "", "");
    instance.script("uaa", "post-restore-unlock", "");
    let Some(fake) = director_of(&instances) else { return };
    let (rig, _ca) = rig_of(&fake);
    fake.script(|script| {
        script.under_way = vec![("create deployment", Some("cf")), ("scan", None), ("update", Some("other"))];
    });
    let output = rig.try_run(&["-v", "source", "preflight", "SOURCE"]);
    let said = String::from_utf8_lossy(&output.stderr);
    for text in [
        "cf: task 9000 of the Director is processing: create deployment",
        "task 9001 of the Director is processing: scan",
        "job s3-unversioned-blobstore-backup-restorer stores only where its data lie in a bucket",
        "db/id0: jobs with a backup script: blobs, db, s3-unversioned-blobstore-backup-restorer",
        "db/id0: jobs without one: uaa",
        "data of none of these: /var/vcap/store/restored-blobs, /var/vcap/store/restored-db",
    ] {
        assert!(said.contains(text), "{text}: {said}");
    }
    assert!(!said.contains("cf: task 9002"), "{said}");
    assert_eq!(output.status.code(), Some(3), "{said}");
    assert!(instance.calls().is_empty());
    assert_eq!(users(instance), "0");
}

#[test]
fn the_space_that_the_last_backup_took_must_be_free_for_the_next() {
    let Some(instance) = Instance::start() else { return };
    with_jobs(&instance);
    assert!(instance.run("mount -t tmpfs -o size=24m tmpfs /var/vcap/store").status.success());
    instance.write("/var/vcap/store/db.sql", "x".repeat(9 << 20));
    instance.run("mkdir /var/vcap/store/blobs; head -c 1000 /dev/urandom > /var/vcap/store/blobs/a");
    let rig = Rig::of_director(&instance, "");
    rig.back_up();
    assert_eq!(rig.try_run(&["source", "preflight", "SOURCE"]).status.code(), Some(0));
    instance.write("/var/vcap/store/more", "x".repeat(8 << 20));
    let output = rig.try_run(&["source", "preflight", "SOURCE"]);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("MiB are free on /var/vcap/store, the last backup took 9"), "{said}");
    assert_eq!(output.status.code(), Some(3), "{said}");
}

#[test]
fn a_hole_of_a_gigabyte_comes_back() {
    let Some(instance) = Instance::start() else { return };
    with_jobs(&instance);
    let sparse = "cd /var/vcap/store/blobs && truncate -s 1G sparse && printf end >> sparse && \
        printf middle | dd of=sparse bs=1 seek=500000000 conv=notrunc status=none";
    assert!(instance.run(sparse).status.success());
    let rig = Rig::of_director(&instance, "");
    let summary = rig.back_up();
    assert!(summary["data_added"].as_u64().unwrap() < 20 << 20, "{summary}");
    rig.run(&["restore", "latest", "--to", "source", "--yes"]);
    let same = instance.run("cmp /var/vcap/store/blobs/sparse /var/vcap/store/restored-blobs/sparse");
    assert!(same.status.success(), "{}", String::from_utf8_lossy(&same.stderr));
}
