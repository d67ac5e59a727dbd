//! Somebody wants it to end: the question and its answers, signals, and what is undone in every case.

use std::fs::{self, File};
use std::io::Write as _;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use onggi_lab::bosh::Instance;
use onggi_lab::bosh::jumpbox::{Jumpbox, install};
use rustix::process::{Pid, Signal, kill_process};

/// Rounds until something that must happen counts as never happening.
const TRIES: usize = 5000;
const QUESTION: &str = "Are you sure you want to cancel? [yes/no]";
const STORE: &str = "/var/vcap/store/bbr-backup";

/// An instance whose backup script waits for a file.
#[track_caller]
fn bed() -> Option<(Instance, Jumpbox)> {
    let instance = Instance::start()?;
    install(&instance, "db");
    let wait = "touch /var/vcap/data/started; while [ ! -e /var/vcap/data/go ]; do sleep 0.05; done; touch $BBR_ARTIFACT_DIRECTORY/x";
    instance.script("db", "backup", wait);
    Some((instance, Jumpbox::new()))
}

#[track_caller]
pub fn until(what: &str, is_so: impl Fn() -> bool) {
    for _ in 0..TRIES {
        if is_so() {
            return;
        }
        Command::new("true").status().unwrap(); // as long as it takes to start a program
    }
    panic!("never: {what}");
}

fn send(child: &Child, signal: Signal) {
    kill_process(Pid::from_child(child), signal).unwrap();
}

fn out(jumpbox: &Jumpbox) -> String {
    fs::read_to_string(jumpbox.path("out")).unwrap()
}

#[track_caller]
fn is_undone(instance: &Instance) {
    let calls = instance.calls();
    assert_eq!(calls, ["db/pre-backup-lock", "db/backup", "db/post-backup-unlock"]);
    assert_eq!(instance.read("/var/vcap/data/success").unwrap(), "false\n");
    assert!(!instance.has(STORE));
    assert!(!instance.run("pgrep -f bbr/[b]ackup").status.success(), "the script was ended");
}

#[test]
fn yes_ends_it_unlocks_and_cleans_up() {
    let Some((instance, jumpbox)) = bed() else { return };
    let mut child = jumpbox.start(&instance, "backup", Stdio::piped());
    until("the script starts", || instance.has("/var/vcap/data/started"));
    send(&child, Signal::INT);
    until("the question is asked", || out(&jumpbox).contains(QUESTION));
    let asked = Instant::now();
    child.stdin.take().unwrap().write_all(b"YES\n").unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(1));
    assert!(asked.elapsed() < Duration::from_secs(10), "{:?}", asked.elapsed());
    assert!(out(&jumpbox).contains("`bbr backup-cleanup`"), "{}", out(&jumpbox));
    assert!(!out(&jumpbox).contains("Not everything"), "{}", out(&jumpbox));
    is_undone(&instance);
}

#[test]
fn no_goes_on_and_what_was_held_back_is_said() {
    let Some((instance, jumpbox)) = bed() else { return };
    let mut child = jumpbox.start(&instance, "backup", Stdio::piped());
    until("the script starts", || instance.has("/var/vcap/data/started"));
    send(&child, Signal::INT);
    until("the question is asked", || out(&jumpbox).contains(QUESTION));
    let wait = "touch /var/vcap/data/unlocking; while [ ! -e /var/vcap/data/on ]; do sleep 0.05; done";
    instance.script("db", "post-backup-unlock", wait);
    instance.write("/var/vcap/data/go", "");
    until("it unlocks", || instance.has("/var/vcap/data/unlocking"));
    assert!(out(&jumpbox).trim_end().ends_with(QUESTION), "{}", out(&jumpbox));
    child.stdin.take().unwrap().write_all(b"no\n").unwrap();
    until("what was held back is said", || out(&jumpbox).contains("Finished backing up db on bosh/0."));
    instance.write("/var/vcap/data/on", "");
    assert_eq!(child.wait().unwrap().code(), Some(0));
    assert!(out(&jumpbox).contains("Backup created of 127.0.0.1"), "{}", out(&jumpbox));
}

#[test]
fn a_closed_input_answers_nothing_and_the_run_goes_on() {
    let Some((instance, jumpbox)) = bed() else { return };
    let nothing = File::open("/dev/null").unwrap();
    let mut child = jumpbox.start(&instance, "backup", nothing.into());
    until("the script starts", || instance.has("/var/vcap/data/started"));
    send(&child, Signal::INT);
    until("it is said", || out(&jumpbox).contains("SIGTERM"));
    instance.write("/var/vcap/data/go", "");
    assert_eq!(child.wait().unwrap().code(), Some(0));
}

#[test]
fn signals_that_do_not_ask_undo_everything_too() {
    for (signal, code) in [(Signal::TERM, 143), (Signal::HUP, 129)] {
        let Some((instance, jumpbox)) = bed() else { return };
        let mut child = jumpbox.start(&instance, "backup", Stdio::null());
        until("the script starts", || instance.has("/var/vcap/data/started"));
        send(&child, signal);
        assert_eq!(child.wait().unwrap().code(), Some(code));
        is_undone(&instance);
    }
}

#[test]
fn a_second_signal_ends_it_at_once_and_tells_what_is_left() {
    let Some((instance, jumpbox)) = bed() else { return };
    instance.script(
        "db",
        "post-backup-unlock",
        "touch /var/vcap/data/unlocking; while [ ! -e /var/vcap/data/go ]; do sleep 0.05; done",
    );
    let mut child = jumpbox.start(&instance, "backup", Stdio::null());
    until("the script starts", || instance.has("/var/vcap/data/started"));
    send(&child, Signal::TERM);
    until("it unlocks", || instance.has("/var/vcap/data/unlocking"));
    send(&child, Signal::TERM);
    assert_eq!(child.wait().unwrap().code(), Some(143));
    let out = out(&jumpbox);
    assert!(out.contains("Not everything could be undone:") && out.contains("db on bosh/0 was not unlocked"), "{out}");
    assert!(out.contains(&format!("{STORE} is left on bosh/0")), "{out}");
    instance.write("/var/vcap/data/go", "");
    jumpbox.director(&instance, "backup-cleanup").expect(0);
    assert!(!instance.has(STORE));
}

#[test]
fn a_restore_that_is_cancelled_unlocks_and_cleans_up() {
    let Some((instance, jumpbox)) = bed() else { return };
    instance.write("/var/vcap/data/go", "");
    jumpbox.director(&instance, "backup").expect(0);
    instance.calls();
    instance.script("db", "restore", "touch /var/vcap/data/restoring; sleep 1000");
    let verb = format!("restore -a {}", jumpbox.artifact().display());
    let mut child = jumpbox.start(&instance, &verb, Stdio::piped());
    until("the script starts", || instance.has("/var/vcap/data/restoring"));
    send(&child, Signal::INT);
    until("the question is asked", || out(&jumpbox).contains("Stopping a restore"));
    child.stdin.take().unwrap().write_all(b"yes\n").unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(1));
    assert!(out(&jumpbox).contains("`bbr restore-cleanup`"));
    assert_eq!(instance.calls(), ["db/pre-restore-lock", "db/restore", "db/post-restore-unlock"]);
    assert!(!instance.has(STORE));
}
