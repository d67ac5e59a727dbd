//! What is said where: the lines that scripts look for, and nothing on standard error of a success.

use std::fs;
use std::process::Command;

use onggi_lab::bosh::Instance;
use onggi_lab::bosh::jumpbox::{Jumpbox, director, install};
use onggi_lab::program;
use onggi_lab::program::Ended;

#[track_caller]
fn says(ended: &Ended, lines: &[&str]) {
    let mut rest = ended.out.as_str();
    for line in lines {
        let Some(at) = rest.find(line) else { panic!("{line} is missing, or too late:\n{}", ended.out) };
        rest = &rest[at + line.len()..];
    }
    for line in ended.out.lines().filter(|line| line.starts_with("[bbr]")) {
        let stamp = line.strip_prefix("[bbr] ").unwrap();
        assert!(stamp.as_bytes()[4] == b'/' && stamp.as_bytes()[10] == b' ' && stamp.as_bytes()[19] == b' ', "{line}");
    }
}

#[test]
fn a_backup_and_a_restore_say_what_scripts_look_for() {
    let Some(instance) = Instance::start() else { return };
    install(&instance, "db");
    instance.write("/var/vcap/store/db", vec![7; 300_000]);
    let jumpbox = Jumpbox::new();
    let ended = jumpbox.director(&instance, "backup").expect(0);
    assert_eq!(ended.err, "");
    says(
        &ended,
        &[
            "INFO - Looking for scripts\n",
            "INFO - bosh/0/db/pre-backup-lock\n",
            "INFO - bosh/0/db/backup\n",
            "INFO - Running pre-checks for backup of 127.0.0.1...\n",
            "INFO - Starting backup of 127.0.0.1...\n",
            "INFO - Running pre-backup-lock scripts...\n",
            "INFO - Locking db on bosh/0 for backup...\n",
            "INFO - Finished locking db on bosh/0 for backup.\n",
            "INFO - Finished running pre-backup-lock scripts.\n",
            "INFO - Running backup scripts...\n",
            "INFO - Backing up db on bosh/0...\n",
            "INFO - Finished backing up db on bosh/0.\n",
            "INFO - Finished running backup scripts.\n",
            "INFO - Running post-backup-unlock scripts...\n",
            "INFO - Unlocking db on bosh/0...\n",
            "INFO - Finished unlocking db on bosh/0.\n",
            "INFO - Finished running post-backup-unlock scripts.\n",
            "INFO - Copying backup -- 300K uncompressed -- for job db on bosh/0...\n",
            "INFO - Copying backup for job db on bosh/0 -- 100% complete\n",
            "INFO - Finished copying backup -- for job db on bosh/0...\n",
            "INFO - Starting validity checks -- for job db on bosh/0...\n",
            "INFO - Finished validity checks -- for job db on bosh/0...\n",
            "INFO - Backup created of 127.0.0.1 on 20",
            "INFO - Cleaning up...\n",
        ],
    );
    let ended = jumpbox.director(&instance, &format!("restore -a {}", jumpbox.artifact().display())).expect(0);
    assert_eq!(ended.err, "");
    says(
        &ended,
        &[
            "INFO - Starting restore of 127.0.0.1...\n",
            "INFO - Validating backup artifact for 127.0.0.1...\n",
            "INFO - Looking for scripts\n",
            "INFO - Copying backup -- ",
            "K uncompressed -- for job db on bosh/0...\n",
            "INFO - Copying backup for job db on bosh/0 -- 100% complete\n",
            "INFO - Finished copying backup for job db on bosh/0.\n",
            "INFO - Running pre-restore-lock scripts...\n",
            "INFO - Finished locking db on bosh/0 for restore.\n",
            "INFO - Finished running pre-restore-lock scripts.\n",
            "INFO - Running restore scripts...\n",
            "INFO - Restoring db on bosh/0...\n",
            "INFO - Finished restoring db on bosh/0.\n",
            "INFO - Finished running restore scripts.\n",
            "INFO - Completed restore of 127.0.0.1\n",
            "INFO - Running post-restore-unlock scripts...\n",
            "INFO - Finished running post-restore-unlock scripts.\n",
            "INFO - Cleaning up...\n",
        ],
    );
    says(&jumpbox.director(&instance, "backup-cleanup").expect(0), &["'127.0.0.1' cleaned up"]);
    says(&jumpbox.director(&instance, "pre-backup-check").expect(0), &["Director can be backed up.\n"]);
    assert_eq!(jumpbox.error_logs(), 0);
}

#[test]
fn what_scripts_say_is_shown_only_where_it_is_asked_for() {
    let Some(instance) = Instance::start() else { return };
    install(&instance, "db");
    instance.script("db", "pre-backup-lock", "echo quietly; echo loudly >&2");
    instance.metadata("s3", "skip_bbr_scripts: true");
    let jumpbox = Jumpbox::new();
    let ended = jumpbox.director(&instance, "backup").expect(0);
    assert!(!ended.out.contains("quietly") && !ended.out.contains("DEBUG"), "{}", ended.out);
    let words = format!("{} --debug backup", director(&instance));
    fs::create_dir(jumpbox.path("work/more")).unwrap();
    let ended = Ended::of(jumpbox.command(&format!("{words} -a more")).output().unwrap()).expect(0);
    for text in ["DEBUG - Found disabled jobs on instance bosh/0 jobs: s3", "stdout: quietly", "stderr: loudly"] {
        assert!(ended.out.contains(text), "{text}: {}", ended.out);
    }
}

#[test]
fn a_key_may_come_through_a_pipe_and_the_host_with_a_scheme() {
    let Some(instance) = Instance::start() else { return };
    install(&instance, "db");
    let jumpbox = Jumpbox::new();
    let line = format!(
        "exec {} director --host ssh://127.0.0.1:{} -u bbr-lab --key <(cat {}) c",
        jumpbox.path("bbr").display(),
        instance.port,
        instance.key().display()
    );
    let mut command = Command::new("bash");
    command.args(["-c", &line]).env("HOME", jumpbox.path("home")).env("XDG_STATE_HOME", jumpbox.path("home/state"));
    let ended = Ended::of(command.current_dir(jumpbox.path("work")).output().unwrap()).expect(0);
    assert!(ended.out.contains("Director can be backed up."), "{}", ended.out);
}

#[test]
fn another_host_key_is_a_warning_or_with_the_variable_a_refusal() {
    let Some(instance) = Instance::start() else { return };
    install(&instance, "db");
    let jumpbox = Jumpbox::new();
    let strict = || {
        let mut command = jumpbox.director_command(&instance, "pre-backup-check");
        Ended::of(command.env("ONGGI_BBR_STRICT_HOST_KEY", "1").output().unwrap())
    };
    strict().expect(1);
    let ended = jumpbox.director(&instance, "pre-backup-check").expect(0);
    assert!(!ended.out.contains("WARN"), "{}", ended.out);
    let known = jumpbox.path("home/state/onggi/hosts.known");
    assert!(fs::read_to_string(&known).unwrap().contains(&instance.host_key()));
    strict().expect(0);
    let other = fs::read_to_string(instance.key().with_extension("pub")).unwrap();
    fs::write(&known, format!("[127.0.0.1]:{} {other}", instance.port)).unwrap();
    let ended = jumpbox.director(&instance, "pre-backup-check").expect(0);
    assert!(ended.out.contains("WARN - the host key of [127.0.0.1]:"), "{}", ended.out);
    let ended = strict().expect(1);
    assert!(ended.err.contains("has changed"), "{}", ended.err);
}

#[test]
fn help_version_and_wrong_words_stand_where_they_stand_elsewhere() {
    let jumpbox = Jumpbox::new();
    let run = |words: &str| Ended::of(jumpbox.command(words).output().unwrap());
    assert_eq!(run("version").expect(0).out, "bbr version 1.9.81\n");
    for words in ["", "help", "--help", "director --help", "director backup --help", "director --host h -u u --key k"] {
        let ended = run(words).expect(0);
        assert!(ended.out.starts_with("NAME:\n   bbr") && ended.err.is_empty(), "{words}: {}", ended.out);
    }
    let ended = run("restart").expect(0);
    assert!(ended.out.starts_with("Error command 'restart' not found\n\nNAME:"), "{}", ended.out);
    // what stands before the verb is told with the help of what stands before the verb
    for (words, name) in [("director", "host"), ("director --host h backup", "username")] {
        let ended = run(words).expect(1);
        assert_eq!(ended.err, format!("\x1b[0;31m--{name} flag is required.\x1b[0m\n"));
        assert!(ended.out.starts_with("NAME:\n   bbr director - "), "{ended:?}");
    }
    for (words, mark) in
        [("--nope", '.'), ("director --nope backup", '.'), ("director --host h -u u --key k b --nope", ':')]
    {
        let ended = run(words).expect(1);
        let said = format!("Incorrect Usage{mark} flag provided but not defined: -nope\n\nNAME:\n");
        assert!(ended.out.starts_with(&said) && ended.err.is_empty(), "{ended:?}");
    }
    let ended = run("director --host h -u u --key k restore").expect(1);
    assert_eq!(ended.err, "\x1b[0;31m--artifact-path flag is required.\x1b[0m\n");
    // a misspelt verb is no success
    let ended = run("director --host h -u u --key k backpu").expect(1);
    assert!(ended.out.starts_with("Error command 'backpu' not found\n\nNAME:"), "{ended:?}");
    // the same as a verb of onggi
    let mut command = Command::new(program::onggi());
    command.args(["bbr", "--version"]).current_dir(jumpbox.path("work"));
    assert_eq!(Ended::of(command.output().unwrap()).expect(0).out, "bbr version 1.9.81\n");
}
