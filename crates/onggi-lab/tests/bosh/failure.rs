//! What fails, what must still happen then, what is left behind, and the exit code: each row of the table of failures.

use std::fs;

use onggi_lab::bosh::Instance;
use onggi_lab::bosh::jumpbox::{Jumpbox, install};
use onggi_lab::program::Ended;

const STORE: &str = "/var/vcap/store/bbr-backup";
/// A script's last act that makes the store impossible to remove.
const BUSY: &str = "mkdir /var/vcap/store/bbr-backup/busy && mount -t tmpfs tmpfs /var/vcap/store/bbr-backup/busy";

/// An instance with two jobs and a jumpbox.
#[track_caller]
fn bed() -> Option<(Instance, Jumpbox)> {
    let instance = Instance::start()?;
    for job in ["a", "b"] {
        install(&instance, job);
    }
    Some((instance, Jumpbox::new()))
}

fn success(instance: &Instance) -> String {
    instance.read("/var/vcap/data/success").unwrap_or_default()
}

#[track_caller]
fn ran(instance: &Instance, names: &[&str]) {
    let calls = instance.calls();
    let mut expected: Vec<String> =
        names.iter().flat_map(|name| ["a", "b"].map(|job| format!("{job}/{name}"))).collect();
    let mut found = calls.clone();
    expected.sort();
    found.sort();
    assert_eq!(found, expected, "{calls:?}");
}

#[track_caller]
fn advises(ended: &Ended, expected: bool) {
    assert_eq!(ended.err.contains("`bbr backup-cleanup`"), expected, "{}", ended.err);
}

const BACKUP: &[&str] = &["pre-backup-lock", "backup", "post-backup-unlock"];
const NO_BACKUP: &[&str] = &["pre-backup-lock", "post-backup-unlock"];

#[test]
fn a_host_that_cannot_be_entered_ends_it_with_a_log_of_the_error() {
    let Some((instance, jumpbox)) = bed() else { return };
    let stranger = jumpbox.path("stranger");
    let made =
        std::process::Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(&stranger).status();
    assert!(made.unwrap().success());
    let words = format!("director --host 127.0.0.1:{} -u bbr-lab --key", instance.port);
    for (key, said) in [("nothing", "private key"), (stranger.to_str().unwrap(), "access is denied")] {
        jumpbox.clear();
        let ended = Ended::of(jumpbox.command(&format!("{words} {key} backup")).output().unwrap()).expect(1);
        assert!(ended.err.starts_with("1 error occurred:\nerror 1:\n") && ended.err.contains(said), "{}", ended.err);
        assert_eq!((jumpbox.error_logs(), jumpbox.artifacts().len()), (1, 0));
        advises(&ended, false);
    }
    ran(&instance, &[]);
}

#[test]
fn metadata_that_fails_or_is_no_mapping_ends_it_before_anything_is_locked() {
    let Some((instance, jumpbox)) = bed() else { return };
    for (script, said) in [("echo no >&2; exit 3", "no - exit code 3"), ("echo '- a'", "metadata")] {
        instance.script("a", "metadata", script);
        let ended = jumpbox.director(&instance, "backup").expect(1);
        assert!(ended.err.contains(said) && ended.err.contains("job a"), "{}", ended.err);
        ran(&instance, &[]);
    }
    instance.metadata("a", "restore_name: x");
    jumpbox.director(&instance, "pre-backup-check").expect(0);
}

#[test]
fn a_check_fails_without_backup_scripts_and_with_an_order_that_is_a_circle() {
    let Some(instance) = Instance::start() else { return };
    let jumpbox = Jumpbox::new();
    for verb in ["pre-backup-check", "backup"] {
        let ended = jumpbox.director(&instance, verb).expect(1);
        assert!(ended.err.contains("Deployment '127.0.0.1' has no backup scripts"), "{}", ended.err);
    }
    install(&instance, "a");
    jumpbox.director(&instance, "pre-backup-check").expect(0);
    instance.metadata("a", "backup_should_be_locked_before: [{job_name: a, release: x}]");
    let ended = jumpbox.director(&instance, "pre-backup-check").expect(1);
    assert!(ended.err.contains("job locking dependency graph is cyclic"), "{}", ended.err);
    assert!(ended.out.contains("Director cannot be backed up.\n"), "{}", ended.out);
    assert_eq!(jumpbox.artifacts().len(), 0);
    assert!(instance.calls().is_empty());
}

#[test]
fn what_another_run_left_is_not_deleted_but_told() {
    let Some((instance, jumpbox)) = bed() else { return };
    instance.write(&format!("{STORE}/a/half"), "x");
    for verb in ["pre-backup-check", "backup"] {
        let ended = jumpbox.director(&instance, verb).expect(1);
        assert!(ended.err.contains(&format!("Directory {STORE} already exists on instance bosh/0")), "{}", ended.err);
        advises(&ended, true);
        assert!(instance.has(&format!("{STORE}/a/half")));
    }
    ran(&instance, &[]);
    assert_eq!(jumpbox.artifacts().len(), 0);
    jumpbox.director(&instance, "backup-cleanup").expect(0);
    assert!(!instance.has(STORE));
    jumpbox.director(&instance, "backup").expect(0);
    instance.write(&format!("{STORE}/a/half"), "x");
    let restore = format!("restore -a {}", jumpbox.artifact().display());
    let ended = jumpbox.director(&instance, &restore).expect(1);
    assert!(ended.err.contains("already exists"), "{}", ended.err);
    advises(&ended, false);
    jumpbox.director(&instance, "restore-cleanup").expect(0);
    jumpbox.director(&instance, &restore).expect(0);
}

#[test]
fn a_folder_that_is_missing_ends_it_before_anything_is_locked() {
    let Some((instance, jumpbox)) = bed() else { return };
    fs::write(jumpbox.path("file"), "").unwrap();
    for parent in ["missing", "../file"] {
        jumpbox.director(&instance, &format!("backup --artifact-path {parent}")).expect(1);
    }
    ran(&instance, &[]);
}

#[test]
fn a_lock_that_fails_means_no_backup_and_all_unlocks() {
    let Some((instance, jumpbox)) = bed() else { return };
    instance.script("a", "pre-backup-lock", "echo 'cannot lock' >&2; exit 5");
    let ended = jumpbox.director(&instance, "backup").expect(4);
    assert!(ended.err.contains("cannot lock - exit code 5"), "{}", ended.err);
    ran(&instance, NO_BACKUP);
    assert_eq!(success(&instance), "false\nfalse\n");
    let metadata = jumpbox.metadata();
    assert!(metadata.contains("finish_time") && !metadata.contains("instances"), "{metadata}");
    assert!(!instance.has(STORE));
    advises(&ended, false);
}

#[test]
fn a_connection_that_is_lost_while_locking_is_a_lock_that_failed_and_unlocks_come_over_another() {
    let Some((instance, jumpbox)) = bed() else { return };
    instance.script("a", "pre-backup-lock", "pkill -9 -f '^sshd: bbr-lab'; sleep 100");
    jumpbox.director(&instance, "backup").expect(4);
    let calls = instance.calls();
    for job in ["a", "b"] {
        assert!(calls.contains(&format!("{job}/post-backup-unlock")), "{calls:?}");
    }
    assert!(!calls.iter().any(|call| call.ends_with("/backup")));
    let left = instance.run("pgrep -f bbr/[p]re-backup-lock");
    assert!(!left.status.success(), "the script was ended: {left:?}");
}

#[test]
fn a_backup_script_that_fails_lets_the_others_finish_and_nothing_is_carried_away() {
    let Some((instance, jumpbox)) = bed() else { return };
    instance.script("a", "backup", "exit 1");
    let ended = jumpbox.director(&instance, "backup").expect(1);
    ran(&instance, BACKUP);
    assert_eq!(success(&instance), "false\nfalse\n");
    assert!(!jumpbox.metadata().contains("instances"));
    assert!(!instance.has(STORE));
    assert!(ended.out.contains("ERROR - Error backing up a on bosh/0.\n"), "{}", ended.out);
    assert!(ended.out.contains("INFO - Finished backing up b on bosh/0.\n"), "{}", ended.out);
    assert!(!ended.out.contains("create"), "nothing was carried away: {}", ended.out);
    advises(&ended, false);
    // a lock that cannot be undone comes on top
    jumpbox.clear();
    instance.script("b", "post-backup-unlock", "exit 1");
    advises(&jumpbox.director(&instance, "backup").expect(9), true);
    jumpbox.clear();
    instance.script("a", "pre-backup-lock", "exit 1");
    jumpbox.director(&instance, "backup").expect(12);
}

#[test]
fn an_unlock_that_fails_leaves_a_whole_artifact() {
    let Some((instance, jumpbox)) = bed() else { return };
    instance.script("a", "post-backup-unlock", "exit 1");
    let ended = jumpbox.director(&instance, "backup").expect(8);
    for line in ["ERROR - Error unlocking a on bosh/0.\n", "INFO - Backup created of 127.0.0.1 on 20"] {
        assert!(ended.out.contains(line), "{line}: {}", ended.out);
    }
    ran(&instance, BACKUP);
    let metadata = jumpbox.metadata();
    assert_eq!(metadata.matches("./data").count(), 2, "{metadata}");
    assert!(!instance.has(STORE));
    advises(&ended, true);
}

#[test]
fn an_artifact_that_does_not_arrive_is_not_listed_and_the_others_are() {
    let Some((instance, jumpbox)) = bed() else { return };
    instance.script("a", "backup", "ln -s x $BBR_ARTIFACT_DIRECTORY/link");
    let ended = jumpbox.director(&instance, "backup").expect(1);
    assert!(ended.out.contains("Failed to create backup of 127.0.0.1 on 20"), "{}", ended.out);
    assert!(ended.out.contains(", failed during drain step\n"), "{}", ended.out);
    ran(&instance, BACKUP);
    assert_eq!(success(&instance), "true\ntrue\n");
    let metadata = jumpbox.metadata();
    assert!(metadata.contains("name: b") && !metadata.contains("name: a"), "{metadata}");
    assert!(!instance.has(STORE));
    advises(&ended, true);
}

#[test]
fn a_server_without_shasum_fails_the_copy_and_not_in_silence() {
    let Some((instance, jumpbox)) = bed() else { return };
    assert!(instance.run("rm /usr/bin/shasum").status.success());
    let ended = jumpbox.director(&instance, "backup").expect(1);
    assert!(ended.err.contains("shasum"), "{}", ended.err);
    assert!(!jumpbox.metadata().contains("instances"));
}

#[test]
fn what_cannot_be_removed_leaves_a_whole_artifact_and_says_so() {
    let Some((instance, jumpbox)) = bed() else { return };
    instance.script("a", "backup", &format!("touch $BBR_ARTIFACT_DIRECTORY/data; {BUSY}"));
    let ended = jumpbox.director(&instance, "backup").expect(16);
    let metadata = jumpbox.metadata();
    assert!(metadata.contains("finish_time") && metadata.matches("./data").count() == 2, "{metadata}");
    advises(&ended, true);
    assert!(
        instance.run("umount /var/vcap/store/bbr-backup/busy && rm -r /var/vcap/store/bbr-backup").status.success()
    );
    instance.script("a", "backup", &format!("{BUSY}; exit 1"));
    jumpbox.clear();
    jumpbox.director(&instance, "backup").expect(17);
    // the same in the command that cleans up is an error as any other
    let ended = jumpbox.director(&instance, "backup-cleanup").expect(1);
    assert!(ended.err.contains("busy"), "{}", ended.err);
}

#[test]
fn a_restore_that_cannot_be_complete_touches_nothing() {
    let Some((instance, jumpbox)) = bed() else { return };
    jumpbox.director(&instance, "backup").expect(0);
    let restore = format!("restore -a {}", jumpbox.artifact().display());
    instance.calls();
    // a job more than the backup has, and one of an older contract: both are told
    install(&instance, "c");
    instance.metadata("b", "restore_name: old");
    let ended = jumpbox.director(&instance, &restore).expect(1);
    assert!(ended.err.starts_with("2 errors occurred:"), "{}", ended.err);
    assert!(ended.err.contains("bosh-0-c.tar is missing") && ended.err.contains("restore_name"), "{}", ended.err);
    assert!(instance.calls().is_empty() && !instance.has(STORE));
}

#[test]
fn an_upload_that_fails_touches_no_job() {
    let Some((instance, jumpbox)) = bed() else { return };
    jumpbox.director(&instance, "backup").expect(0);
    let restore = format!("restore -a {}", jumpbox.artifact().display());
    instance.calls();
    instance.write("/usr/local/bin/tar", "#!/bin/sh\necho 'no tar' >&2; exit 1");
    assert!(instance.run("chmod 755 /usr/local/bin/tar").status.success());
    let ended = jumpbox.director(&instance, &restore).expect(1);
    assert!(ended.err.contains("no tar"), "{}", ended.err);
    assert!(instance.calls().is_empty());
    assert!(!instance.has(STORE), "also what arrived in part is removed");
}

#[test]
fn a_restore_lock_that_fails_means_no_restore_and_all_unlocks() {
    let Some((instance, jumpbox)) = bed() else { return };
    jumpbox.director(&instance, "backup").expect(0);
    let restore = format!("restore -a {}", jumpbox.artifact().display());
    instance.calls();
    instance.script("a", "pre-restore-lock", "exit 1");
    jumpbox.director(&instance, &restore).expect(1);
    ran(&instance, &["pre-restore-lock", "post-restore-unlock"]);
    assert!(!instance.has(STORE));
    instance.script("a", "pre-restore-lock", "");
    instance.script("a", "restore", "exit 1");
    jumpbox.director(&instance, &restore).expect(1);
    ran(&instance, &["pre-restore-lock", "restore", "post-restore-unlock"]);
    instance.script("a", "restore", "");
    instance.script("a", "post-restore-unlock", "exit 1");
    let ended = jumpbox.director(&instance, &restore).expect(8);
    assert!(ended.out.contains("INFO - Completed restore of 127.0.0.1\n"), "{}", ended.out);
    ran(&instance, &["pre-restore-lock", "restore", "post-restore-unlock"]);
    advises(&ended, false);
}

#[test]
fn a_clean_up_removes_what_is_left_although_an_unlock_fails() {
    let Some((instance, jumpbox)) = bed() else { return };
    instance.script("a", "post-backup-unlock", "exit 1");
    instance.script("a", "post-restore-unlock", "exit 1");
    for (verb, script) in [("backup-cleanup", "post-backup-unlock"), ("restore-cleanup", "post-restore-unlock")] {
        instance.write(&format!("{STORE}/a/half"), "x");
        jumpbox.director(&instance, verb).expect(8);
        ran(&instance, &[script]);
        assert!(!instance.has(STORE));
    }
    assert!(!success(&instance).contains("true"));
}
