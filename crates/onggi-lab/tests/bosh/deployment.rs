//! Deployments of a Director: users that it makes and removes, releases, instances that share a backup, and all
//! deployments at once.

use std::fs;

use onggi_lab::bosh::STORE;
use onggi_lab::bosh::bed::{Bed, manifest};
use onggi_lab::bosh::jumpbox::install;

#[test]
fn a_deployment_is_backed_up_and_restored_and_the_users_go() {
    let Some(bed) = Bed::start(&[("cf", 2)]) else { return };
    install(&bed.instances[0], "a");
    install(&bed.instances[1], "b");
    let ended = bed.run("-d cf pre-backup-check").expect(0);
    let stamp = ended.out.lines().find_map(|line| line.strip_suffix("] Deployment 'cf' can be backed up."));
    assert!(stamp.is_some_and(|stamp| stamp.starts_with('[') && stamp.len() == "[11:11:31".len()), "{}", ended.out);
    bed.nobody_is_left();
    let ended = bed.run("-d cf backup --with-manifest").expect(0);
    bed.nobody_is_left();
    assert_eq!(ended.err, "");
    for line in [
        "Finished copying backup -- for job a on db/cf-0...\n",
        "Finished validity checks -- for job b on db/cf-1...\n",
    ] {
        assert!(ended.out.contains(line), "{line}: {}", ended.out);
    }
    let artifact = bed.jumpbox.artifact();
    assert!(artifact.file_name().unwrap().to_str().unwrap().starts_with("cf_"));
    assert_eq!(fs::read_to_string(artifact.join("manifest.yml")).unwrap(), manifest("a"));
    for file in ["db-0-a.tar", "db-1-b.tar"] {
        assert!(artifact.join(file).exists(), "{file}");
    }
    bed.instances[0].write("/var/vcap/store/a", "spoiled");
    bed.run(&format!("-d cf restore -a {}", artifact.display())).expect(0);
    assert_eq!(bed.instances[0].read("/var/vcap/store/a").unwrap(), "the data of a");
    bed.nobody_is_left();
    bed.run("-d cf backup-cleanup").expect(0);
    bed.run("-d cf restore-cleanup").expect(0);
    bed.nobody_is_left();
}

#[test]
fn whatever_fails_the_users_go() {
    let Some(bed) = Bed::start(&[("cf", 2)]) else { return };
    install(&bed.instances[0], "a");
    bed.run("-d other backup").expect(1);
    bed.instances[1].metadata("b", "- no mapping");
    bed.run("-d cf backup").expect(1);
    bed.nobody_is_left();
    bed.instances[1].metadata("b", "{}");
    bed.instances[0].script("a", "pre-backup-lock", "exit 1");
    bed.run("-d cf backup").expect(4);
    bed.nobody_is_left();
    bed.jumpbox.clear();
    bed.instances[1].write(&format!("{STORE}/x"), "");
    let ended = bed.run("-d cf backup").expect(1);
    assert!(ended.err.contains("already exists on instance db/cf-1") && ended.err.contains("`bbr backup-cleanup`"));
    bed.nobody_is_left();
}

#[test]
fn without_locks_a_deployment_is_backed_up_unlocked() {
    let Some(bed) = Bed::start(&[("cf", 1)]) else { return };
    install(&bed.instances[0], "a");
    let ended = bed.run("-d cf backup --unsafe-lock-free").expect(0);
    assert_eq!(bed.instances[0].calls(), ["a/backup"]);
    for line in ["Skipping lock for deployment\n", "Skipping unlock after successful backup for deployment\n"] {
        assert!(ended.out.contains(line), "{}", ended.out);
    }
}

#[test]
fn one_backup_is_restored_on_all_instances_of_a_job_that_wants_it() {
    let Some(bed) = Bed::start(&[("cf", 2)]) else { return };
    let shared = "instance_groups:\n- name: db\n  jobs: [{name: a, release: rel, properties: {bbr: {backup_one_restore_all: true}}}]\n";
    bed.director.script(|script| script.deployments[0].manifest = shared.to_owned());
    for instance in &bed.instances {
        install(instance, "a");
    }
    bed.instances[1].write("/var/vcap/store/a", "of the second");
    bed.run("-d cf backup").expect(0);
    let artifact = bed.jumpbox.artifact();
    assert!(artifact.join("a-rel-backup-one-restore-all.tar").exists() && artifact.join("db-1-a.tar").exists());
    bed.run(&format!("-d cf restore -a {}", artifact.display())).expect(0);
    assert_eq!(bed.instances[1].read("/var/vcap/store/a").unwrap(), "the data of a");
}

#[test]
fn of_all_deployments_those_that_can_are_backed_up_and_the_others_are_named() {
    let Some(bed) = Bed::start(&[("good", 1), ("locked", 1), ("left", 1)]) else { return };
    for instance in &bed.instances {
        install(instance, "a");
    }
    bed.instances[1].script("a", "pre-backup-lock", "exit 1");
    bed.instances[2].write(&format!("{STORE}/x"), "");
    let ended = bed.run("--all-deployments backup").expect(1);
    bed.nobody_is_left();
    assert!(ended.out.starts_with("Starting backup...\n["), "{}", ended.out);
    for text in [
        "log file: good_",
        "Pending: good, locked, left\n",
        "Finished backup of good\n",
        "ERROR: failed to backup locked\n",
        "Successfully backed up: good\n",
        "FAILED: locked, left\n",
    ] {
        assert!(ended.out.contains(text), "{text}: {}", ended.out);
    }
    assert!(ended.err.starts_with("2 out of 3 deployments cannot be backed up:\n"), "{}", ended.err);
    assert!(ended.err.contains("`bbr deployment --all-deployments backup-cleanup`"), "{}", ended.err);
    let logs = fs::read_dir(bed.jumpbox.path("work")).unwrap().map(|entry| entry.unwrap().path());
    let logs: Vec<_> = logs.filter(|path| path.extension().is_some_and(|ending| ending == "log")).collect();
    let good = logs.iter().find(|path| path.file_name().unwrap().to_str().unwrap().starts_with("good_")).unwrap();
    assert!(fs::read_to_string(good).unwrap().contains("Backup created of good"));
    bed.instances[0].script("a", "post-backup-unlock", "exit 1");
    let ended = bed.run("--all-deployments backup-cleanup").expect(1);
    assert!(ended.out.contains("Failed to cleanup deployment 'good'\n"), "{}", ended.out);
    assert!(
        ended.err.starts_with("1 out of 3 deployments could not be cleaned up:\n  good\n\nDeployment 'good':\n  1 ")
    );
    install(&bed.instances[0], "a");
    let ended = bed.run("--all-deployments backup-cleanup").expect(0);
    assert!(ended.out.contains("Successfully cleaned up: good, locked, left"), "{}", ended.out);
    bed.jumpbox.clear();
    let ended = bed.run("--all-deployments pre-backup-check").expect(0);
    assert!(bed.jumpbox.work().is_empty(), "a check leaves no log");
    assert!(ended.out.contains("Deployment 'left' can be backed up."), "{}", ended.out);
}

/// What fails, the exit code of a backup, and what must have happened nevertheless.
const ROWS: [(&[(&str, &str)], i32, &[&str]); 7] = [
    (&[], 0, &["pre-backup-lock", "backup", "post-backup-unlock"]),
    (&[("pre-backup-lock", "exit 1")], 4, &["pre-backup-lock", "post-backup-unlock"]),
    (&[("backup", "exit 1")], 1, &["pre-backup-lock", "backup", "post-backup-unlock"]),
    (&[("post-backup-unlock", "exit 1")], 8, &["pre-backup-lock", "backup", "post-backup-unlock"]),
    (
        &[("pre-backup-lock", "exit 1"), ("post-backup-unlock", "exit 1")],
        12,
        &["pre-backup-lock", "post-backup-unlock"],
    ),
    (
        &[("backup", "exit 1"), ("post-backup-unlock", "exit 1")],
        9,
        &["pre-backup-lock", "backup", "post-backup-unlock"],
    ),
    (&[("backup", "ln -s x $BBR_ARTIFACT_DIRECTORY/x")], 1, &["pre-backup-lock", "backup", "post-backup-unlock"]),
];

#[track_caller]
fn ran(bed: &Bed, scripts: &[&str]) {
    for (instance, job) in bed.instances.iter().zip(["a", "b"]) {
        let expected: Vec<String> = scripts.iter().map(|script| format!("{job}/{script}")).collect();
        assert_eq!(instance.calls(), expected);
        assert!(!instance.has(STORE));
    }
    bed.nobody_is_left();
}

#[test]
fn each_failure_of_a_backup_has_its_code_and_lets_the_other_instance_end_well() {
    let Some(bed) = Bed::start(&[("cf", 2)]) else { return };
    for (failing, code, scripts) in ROWS {
        install(&bed.instances[0], "a");
        install(&bed.instances[1], "b");
        for (script, text) in failing {
            bed.instances[0].script("a", script, text);
        }
        bed.jumpbox.clear();
        let ended = bed.run("-d cf backup").expect(code);
        ran(&bed, scripts);
        let metadata = bed.jumpbox.metadata();
        let is_whole = matches!(code, 0 | 8);
        assert_eq!(metadata.contains("name: a"), is_whole, "{failing:?}: {metadata}");
        assert_eq!(metadata.contains("name: b"), is_whole || failing[0].1.starts_with("ln"), "{failing:?}: {metadata}");
        let wants_clean_up = failing.iter().any(|(script, text)| script.ends_with("unlock") || text.starts_with("ln"));
        assert_eq!(ended.err.contains("`bbr backup-cleanup`"), wants_clean_up, "{failing:?}: {}", ended.err);
    }
}

#[test]
fn each_failure_of_a_restore_has_its_code_and_reaches_no_later_instance() {
    let Some(bed) = Bed::start(&[("cf", 2)]) else { return };
    install(&bed.instances[0], "a");
    install(&bed.instances[1], "b");
    bed.run("-d cf backup").expect(0);
    let restore = format!("-d cf restore -a {}", bed.jumpbox.artifact().display());
    ran(&bed, &["pre-backup-lock", "backup", "post-backup-unlock"]);
    bed.instances[0].script("a", "pre-restore-lock", "exit 1");
    bed.run(&restore).expect(1);
    ran(&bed, &["pre-restore-lock", "post-restore-unlock"]);
    install(&bed.instances[0], "a");
    bed.instances[0].script("a", "restore", "exit 1");
    bed.run(&restore).expect(1);
    assert_eq!(bed.instances[0].calls(), ["a/pre-restore-lock", "a/restore", "a/post-restore-unlock"]);
    assert_eq!(bed.instances[1].calls(), ["b/pre-restore-lock", "b/post-restore-unlock"]);
    install(&bed.instances[0], "a");
    bed.instances[0].script("a", "post-restore-unlock", "exit 1");
    bed.run(&restore).expect(8);
    ran(&bed, &["pre-restore-lock", "restore", "post-restore-unlock"]);
    for (verb, script) in [("backup-cleanup", "post-backup-unlock"), ("restore-cleanup", "post-restore-unlock")] {
        bed.instances[0].script("a", script, "exit 1");
        bed.instances[1].write(&format!("{STORE}/b/half"), "x");
        bed.run(&format!("-d cf {verb}")).expect(8);
        ran(&bed, &[script]);
    }
    bed.director.script(|script| script.deployments[0].instances.truncate(1));
    let ended = bed.run(&restore).expect(1);
    assert!(ended.err.contains("does not match the structure") && ended.err.contains("db/1"), "{}", ended.err);
    assert!(bed.instances[0].calls().is_empty());
}

#[test]
fn a_director_that_does_not_let_users_go_is_told_and_the_artifact_is_whole() {
    let Some(bed) = Bed::start(&[("cf", 1)]) else { return };
    install(&bed.instances[0], "a");
    bed.director.script(|script| script.refuses_cleanup = true);
    let ended = bed.run("-d cf backup").expect(16);
    assert!(bed.jumpbox.metadata().contains("name: a") && ended.err.contains("`bbr backup-cleanup`"), "{}", ended.err);
    bed.jumpbox.clear();
    bed.instances[0].script("a", "backup", "exit 1");
    bed.run("-d cf backup").expect(17);
    assert!(!bed.instances[0].has(STORE));
    let ended = bed.run("-d cf backup-cleanup").expect(1);
    assert!(ended.err.contains("cannot clean up instance db/cf-0"), "{}", ended.err);
}
