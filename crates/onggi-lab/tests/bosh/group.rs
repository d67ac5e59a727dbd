//! Instances that differ, orders across them, tokens that end meanwhile, and many deployments at once.

use std::fs;
use std::process::{Child, Command, Stdio};

use onggi_lab::bosh::Instance;
use onggi_lab::bosh::STORE;
use onggi_lab::bosh::bed::Bed;
use onggi_lab::bosh::jumpbox::{Jumpbox, install};
use onggi_lab::director::FakeDirector;
use rustix::process::{Pid, Signal, kill_process};

use super::signal::until;

/// A shell that says of itself what Windows says.
const WINDOWS: &str =
    "#!/bin/sh\n[ \"$2\" = 'echo %OS%' ] && { echo Windows_NT; exit; }\nexec /usr/bin/bash.real \"$@\"\n";
const WAIT: &str = "touch /var/vcap/data/started; while [ ! -e /var/vcap/data/go ]; do sleep 0.05; done";

#[test]
fn an_instance_with_windows_and_one_without_scripts_end_nothing_for_the_others() {
    let Some(bed) = Bed::start(&[("cf", 3)]) else { return };
    bed.instances[0].write("/usr/bin/windows", WINDOWS);
    let swap = "chmod 755 /usr/bin/windows && mv /usr/bin/bash /usr/bin/bash.real && mv /usr/bin/windows /usr/bin/bash";
    assert!(bed.instances[0].run(swap).status.success());
    install(&bed.instances[0], "a");
    install(&bed.instances[2], "b");
    let ended = bed.run("-d cf backup").expect(0);
    assert!(ended.out.contains("WARN - skipping Windows instance db/cf-0\n"), "{}", ended.out);
    assert!(bed.instances[0].calls().is_empty());
    assert!(bed.jumpbox.artifact().join("db-2-b.tar").exists());
    bed.nobody_is_left();
}

#[test]
fn jobs_of_different_instances_are_locked_in_order_and_unlocked_in_reverse() {
    let Some(bed) = Bed::start(&[("cf", 2)]) else { return };
    for (instance, job) in [(0, "b"), (1, "a")] {
        install(&bed.instances[instance], job);
        for script in ["pre-backup-lock", "post-backup-unlock"] {
            bed.instances[instance].script(job, script, &format!("date +%s%N > /var/vcap/data/{script}; sleep 0.01"));
        }
    }
    let before = "backup_should_be_locked_before: [{job_name: b, release: rel}, {job_name: b, release: other}]";
    bed.instances[1].metadata("a", before);
    let ended = bed.run("-d cf backup").expect(0);
    assert!(ended.out.contains("Detected order: a should be locked before rel/b during backup"), "{}", ended.out);
    let at = |instance: usize, script: &str| -> u64 {
        bed.instances[instance].read(&format!("/var/vcap/data/{script}")).unwrap().trim().parse().unwrap()
    };
    assert!(at(1, "pre-backup-lock") < at(0, "pre-backup-lock"));
    assert!(at(0, "post-backup-unlock") < at(1, "post-backup-unlock"));
}

#[test]
fn three_instances_take_what_one_gave_whichever_form_the_manifest_has() {
    let property = "properties: {bbr: {backup_one_restore_all: true}}";
    let new = format!("instance_groups:\n- name: db\n  jobs: [{{name: a, release: rel, {property}}}]\n");
    let old = format!("jobs:\n- name: db\n  templates: [{{name: a, release: rel}}]\n  {property}\n");
    let Some(bed) = Bed::start(&[("cf", 3)]) else { return };
    for manifest in [new, old] {
        bed.director.script(|script| script.deployments[0].manifest = manifest);
        for (number, instance) in bed.instances.iter().enumerate() {
            install(instance, "a");
            instance.write("/var/vcap/store/a", format!("of {number}"));
        }
        bed.run("-d cf backup").expect(0);
        bed.run(&format!("-d cf restore -a {}", bed.jumpbox.artifact().display())).expect(0);
        for instance in &bed.instances {
            assert_eq!(instance.read("/var/vcap/store/a").unwrap(), "of 0");
        }
        bed.jumpbox.clear();
    }
}

/// Starts a backup of the first instance whose script waits until it may go on.
#[track_caller]
fn waiting(bed: &Bed, line: &str) -> Child {
    let instance = &bed.instances[0];
    install(instance, "a");
    instance.script("a", "backup", WAIT);
    let child = bed.command(line).stdout(Stdio::null()).spawn().unwrap();
    until("the script starts", || instance.has("/var/vcap/data/started"));
    child
}

#[test]
fn a_token_that_ends_while_files_are_made_is_replaced_and_the_users_go() {
    let Some(bed) = Bed::start(&[("cf", 1)]) else { return };
    let mut child = waiting(&bed, "-d cf backup");
    bed.director.expire_tokens();
    bed.instances[0].write("/var/vcap/data/go", "");
    assert_eq!(child.wait().unwrap().code(), Some(0));
    bed.nobody_is_left();
}

#[test]
fn of_twelve_deployments_two_fail_and_ten_are_backed_up() {
    let names = ["d0", "d1", "d2", "d3", "d4", "d5", "d6", "d7", "d8", "d9", "da", "db"];
    let Some(bed) = Bed::start(&names.map(|name| (name, 1))) else { return };
    bed.instances.iter().for_each(|instance| install(instance, "a"));
    bed.instances[3].script("a", "pre-backup-lock", "exit 1");
    bed.instances[7].write(&format!("{STORE}/x"), "");
    let ended = bed.run("--all-deployments backup").expect(1);
    assert!(ended.out.contains("Successfully backed up: d0, d1, d2, d4, d5, d6, d8, d9, da, db\n"), "{}", ended.out);
    assert!(ended.out.contains("FAILED: d3, d7\n"), "{}", ended.out);
    assert!(ended.err.starts_with("2 out of 12 deployments cannot be backed up:\n"), "{}", ended.err);
    assert!(bed.instances[7].has(&format!("{STORE}/x")));
    bed.nobody_is_left();
}

#[test]
fn the_log_of_a_deployment_is_there_after_a_kill() {
    let Some(bed) = Bed::start(&[("one", 1)]) else { return };
    let mut child = waiting(&bed, "--all-deployments backup");
    kill_process(Pid::from_child(&child), Signal::KILL).unwrap();
    child.wait().unwrap();
    bed.instances[0].write("/var/vcap/data/go", "");
    let logs = fs::read_dir(bed.jumpbox.path("work")).unwrap().map(|entry| entry.unwrap().path());
    let log = logs.into_iter().find(|path| path.extension().is_some_and(|ending| ending == "log")).unwrap();
    let text = fs::read_to_string(log).unwrap();
    assert!(
        text.contains("Locking a on db/one-0 for backup...") && text.contains("Backing up a on db/one-0"),
        "{text}"
    );
}

#[test]
fn no_secret_is_said_or_written_but_in_the_manifest() {
    let Some(bed) = Bed::start(&[("cf", 1)]) else { return };
    install(&bed.instances[0], "a");
    let good = bed.run("--debug -d cf backup --with-manifest").expect(0);
    bed.instances[0].script("a", "backup", "exit 1");
    let bad = bed.run("--debug -d cf backup").expect(1);
    assert!(good.out.contains("Sending GET request to endpoint"), "{}", good.out);
    for said in [&good.out, &good.err, &bad.out, &bad.err] {
        assert!(!said.contains(FakeDirector::SECRET) && !said.contains("PRIVATE KEY"), "{said}");
    }
    let words = ["-r", "-l", "-e", FakeDirector::SECRET, "-e", "PRIVATE KEY", "--exclude=manifest.yml"];
    let found = Command::new("grep").args(words).args(["work", "home"]).current_dir(bed.jumpbox.path("")).output();
    let found = found.unwrap();
    assert!(!found.status.success(), "{}", String::from_utf8_lossy(&found.stdout));
}

#[test]
fn what_is_wrong_with_the_words_for_a_deployment_stands_on_the_right_stream() {
    let Some(bed) = Bed::start(&[]) else { return };
    for (words, said) in [
        ("backup", "--deployment or --all-deployments"),
        ("-d cf --all-deployments backup", "--deployment and --all-deployments"),
        ("--all-deployments backup --unsafe-lock-free", "--unsafe-lock-free"),
        ("--all-deployments restore -a x", "--all-deployments cannot be restored"),
        ("-d cf restore", "--artifact-path flag is required"),
    ] {
        let ended = bed.run(words).expect(1);
        assert!(ended.err.contains(said) && ended.out.starts_with("NAME:\n"), "{words}: {ended:?}");
    }
    let ended = bed.run("-d cf backup --nope").expect(1);
    assert!(ended.out.starts_with("Incorrect Usage") && ended.err.is_empty(), "{ended:?}");
    let mut command = bed.jumpbox.command("deployment backup");
    let ended = onggi_lab::program::Ended::of(command.output().unwrap()).expect(1);
    assert!(ended.err.contains("--target flag is required."), "{ended:?}");
}

#[test]
fn archives_that_other_programs_make_are_restored() {
    let Some(instance) = Instance::start() else { return };
    let (long, jumpbox) = ("n".repeat(180), Jumpbox::new());
    install(&instance, "db");
    let backup =
        format!("mkdir -p ${{BBR_ARTIFACT_DIRECTORY}}deep; echo x > \"${{BBR_ARTIFACT_DIRECTORY}}deep/{long}é\"");
    instance.script("db", "backup", &backup);
    instance.script("db", "restore", "rm -rf /var/vcap/store/back; cp -r $BBR_ARTIFACT_DIRECTORY /var/vcap/store/back");
    jumpbox.director(&instance, "backup").expect(0);
    let archive = jumpbox.artifact().join("bosh-0-db.tar");
    fs::create_dir(jumpbox.path("tree")).unwrap();
    let tar = |words: &[&str]| {
        let mut command = Command::new("tar");
        command.args(words).arg("-f").arg(&archive).arg("-C").arg(jumpbox.path("tree"));
        if words[0] == "-c" {
            command.arg(".");
        }
        assert!(command.status().unwrap().success());
    };
    tar(&["-x"]);
    for format in ["gnu", "pax"] {
        tar(&["-c", &format!("--format={format}")]);
        jumpbox.director(&instance, &format!("restore -a {}", jumpbox.artifact().display())).expect(0);
        assert_eq!(instance.read(&format!("/var/vcap/store/back/deep/{long}é")).unwrap(), "x\n");
    }
}
