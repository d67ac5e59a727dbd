//! What scripts may rely on: who they are, what they are told, in which order they run.

use onggi_lab::bosh::Instance;
use onggi_lab::bosh::jumpbox::{Jumpbox, install};

#[test]
fn each_script_is_root_and_has_the_variables_of_the_contract_and_no_others() {
    let Some(instance) = Instance::start() else { return };
    let seen = "{ id -u; env | grep -E 'BBR|ARTIFACT|STRANGE' | sort; } > /var/vcap/data/seen-$(basename $0)";
    for name in
        ["pre-backup-lock", "backup", "post-backup-unlock", "pre-restore-lock", "restore", "post-restore-unlock"]
    {
        instance.script("db", name, seen);
    }
    instance.script("db", "metadata", &format!("{seen}; echo {{}}"));
    let jumpbox = Jumpbox::new();
    let mut command = jumpbox.director_command(&instance, "backup");
    command.env("STRANGE", "1");
    assert!(command.status().unwrap().success());
    let artifact = jumpbox.artifact();
    jumpbox.director(&instance, &format!("restore --artifact-path {}", artifact.display())).expect(0);
    let directory =
        "ARTIFACT_DIRECTORY=/var/vcap/store/bbr-backup/db/\nBBR_ARTIFACT_DIRECTORY=/var/vcap/store/bbr-backup/db/\n";
    let check = |name: &str, variables: &str| {
        assert_eq!(instance.read(&format!("/var/vcap/data/seen-{name}")).unwrap(), format!("0\n{variables}"), "{name}");
    };
    check("metadata", "BBR_VERSION=1.9.81\n");
    check("pre-backup-lock", "");
    check("backup", directory);
    check("post-backup-unlock", "BBR_AFTER_BACKUP_SCRIPTS_SUCCESSFUL=true\n");
    check("pre-restore-lock", "");
    check("restore", directory);
    check("post-restore-unlock", "");
    jumpbox.director(&instance, "backup-cleanup").expect(0);
    check("post-backup-unlock", "BBR_AFTER_BACKUP_SCRIPTS_SUCCESSFUL=false\n");
}

#[test]
fn jobs_are_locked_in_the_order_they_want_and_unlocked_the_other_way_round() {
    let Some(instance) = Instance::start() else { return };
    for job in ["api", "db", "web"] {
        install(&instance, job);
    }
    let before = |job: &str| format!("backup_should_be_locked_before: [{{job_name: {job}, release: any}}]");
    instance.metadata("web", &before("api"));
    instance.metadata("api", &before("db"));
    instance.metadata("db", &before("nobody"));
    let jumpbox = Jumpbox::new();
    let ended = jumpbox.director(&instance, "backup").expect(0);
    let calls: Vec<String> = instance.calls().into_iter().filter(|call| call.ends_with("lock")).collect();
    assert_eq!(
        calls,
        [
            "web/pre-backup-lock",
            "api/pre-backup-lock",
            "db/pre-backup-lock",
            "db/post-backup-unlock",
            "api/post-backup-unlock",
            "web/post-backup-unlock"
        ]
    );
    assert!(ended.out.contains("Detected order: web should be locked before api during backup"), "{}", ended.out);
}

#[test]
fn jobs_that_are_ignored_or_that_disable_themselves_take_no_part() {
    let Some(instance) = Instance::start() else { return };
    for job in ["db", "mysql-backup", "s3"] {
        install(&instance, job);
    }
    instance.metadata("s3", "skip_bbr_scripts: true");
    let jumpbox = Jumpbox::new();
    let ended = jumpbox.director(&instance, "backup").expect(0);
    assert!(instance.calls().iter().all(|call| call.starts_with("db/")));
    assert!(ended.out.contains("INFO - bosh/0/db/backup\n"), "{}", ended.out);
    assert!(!ended.out.contains("disabled") && !ended.out.contains("/s3/"), "{}", ended.out);
    assert!(!jumpbox.metadata().contains("s3"));
}

#[test]
fn a_backup_of_twenty_jobs_needs_two_connections_at_most() {
    let Some(instance) = Instance::start_with("MaxStartups 10:30:100\nMaxSessions 10") else { return };
    for number in 0..20 {
        install(&instance, &format!("job{number}"));
    }
    let jumpbox = Jumpbox::new();
    jumpbox.director(&instance, "backup").expect(0);
    assert!((1..=2).contains(&instance.connections()), "{}", instance.log());
    assert_eq!(jumpbox.metadata().matches("./data:").count(), 20);
}

#[test]
fn restore_scripts_run_one_after_the_other_and_the_others_of_the_instance_still_run() {
    let Some(instance) = Instance::start() else { return };
    for job in ["a", "b"] {
        install(&instance, job);
    }
    let jumpbox = Jumpbox::new();
    jumpbox.director(&instance, "backup").expect(0);
    instance.calls();
    instance.script("a", "restore", "exit 1");
    jumpbox.director(&instance, &format!("restore -a {}", jumpbox.artifact().display())).expect(1);
    let calls = instance.calls();
    let place = |call: &str| calls.iter().position(|other| other == call).unwrap();
    assert!(place("a/pre-restore-lock") < place("a/restore") && place("b/pre-restore-lock") < place("a/restore"));
    assert!(place("b/restore") < place("a/post-restore-unlock") && place("b/restore") < place("b/post-restore-unlock"));
}
