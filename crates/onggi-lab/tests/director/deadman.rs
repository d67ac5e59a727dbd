//! Dead-men on instances: what a run that died or cannot be reached locked is unlocked there, and nothing that a living run
//! holds.

use std::process::Command;
use std::time::{Duration, Instant};

use onggi_lab::bosh::Instance;
use rustix::process::{Pid, Signal, kill_process};

use super::native::{Rig, STORE, with_jobs};
use super::resume::{WAIT, kill, locks, unlocks};

/// The stated time without a sign of life, what a loaded machine takes beyond it, and the pause in which scripts end.
const BOUND: Duration = Duration::from_secs(4 + 6 + 3);

#[track_caller]
fn until(what: &str, is_so: impl Fn() -> bool) {
    let started = Instant::now();
    while !is_so() {
        assert!(started.elapsed() < 4 * BOUND, "never: {what}");
        Command::new("true").status().unwrap(); // as long as it takes to start a program
    }
}

#[track_caller]
fn bed() -> Option<(Instance, Rig)> {
    let instance = Instance::start()?;
    with_jobs(&instance);
    let rig = Rig::of_director(&instance, "lock-deadman: 4s");
    Some((instance, rig))
}

fn success(instance: &Instance) -> String {
    instance.read("/var/vcap/data/success").unwrap_or_default()
}

/// A process of the instance, seen from this machine.
fn server(instance: &Instance) -> Pid {
    let said = instance.run("pgrep -o -x sshd");
    assert_eq!(String::from_utf8_lossy(&said.stdout).trim(), "1", "the server is the first process there");
    Pid::from_raw(i32::try_from(instance.init()).unwrap()).unwrap()
}

#[test]
fn what_a_killed_run_locked_is_unlocked_without_it() {
    for script in ["pre-backup-lock", "backup"] {
        let Some((instance, rig)) = bed() else { return };
        instance.script("db", script, "touch /var/vcap/data/started; sleep 1000");
        kill(&rig, &instance);
        let killed = Instant::now();
        until("both jobs are unlocked", || success(&instance) == "false\nfalse\n");
        assert!(killed.elapsed() < BOUND, "{:?}", killed.elapsed());
        assert!(!instance.run("pgrep -x sleep").status.success(), "{script}: what held the jobs was ended");
        let calls = instance.calls();
        let order: Vec<&String> = calls.iter().filter(|call| call.ends_with("/post-backup-unlock")).collect();
        assert_eq!(order, ["blobs/post-backup-unlock", "db/post-backup-unlock"], "the last locked first");
        until("the dead-man is gone", || !instance.run("pgrep -f [.]lease-").status.success());
        instance.script("db", script, "");
        rig.back_up();
        assert!(!instance.has(STORE));
    }
}

#[test]
fn a_run_that_cannot_reach_what_it_locked_finds_it_unlocked_and_stores_nothing() {
    let Some((instance, rig)) = bed() else { return };
    instance.script("db", "backup", WAIT);
    let mut child = rig.command(&["backup", "SOURCE"]).spawn().unwrap();
    until("the script runs", || instance.has("/var/vcap/data/started"));
    let server = server(&instance);
    kill_process(server, Signal::STOP).unwrap();
    instance.run("pkill -9 -f '^sshd.*: bbr-lab'");
    let cut = Instant::now();
    until("both jobs are unlocked", || success(&instance) == "false\nfalse\n");
    assert!(cut.elapsed() < BOUND, "{:?}", cut.elapsed());
    kill_process(server, Signal::CONT).unwrap();
    assert!(!child.wait().unwrap().success());
    assert!(!rig.run(&["snapshots", "--json"]).contains("\"tree\""));
    instance.script("db", "backup", "");
    rig.back_up();
    assert!(!instance.has(STORE));
}

#[test]
fn what_a_living_run_holds_is_unlocked_by_it_alone() {
    let Some((instance, rig)) = bed() else { return };
    instance.script("db", "backup", &format!("sleep 7; {}", "touch ${BBR_ARTIFACT_DIRECTORY}x"));
    rig.back_up();
    let calls = instance.calls();
    assert_eq!((locks(&calls), unlocks(&calls), success(&instance)), (2, 2, "true\ntrue\n".to_owned()), "{calls:?}");
    assert!(!instance.run("pgrep -f [.]lease-").status.success(), "the dead-man went home");
    assert!(!instance.has(STORE));
}

#[test]
fn a_run_that_hung_does_not_believe_what_was_made_after_its_locks_were_gone() {
    let Some((instance, rig)) = bed() else { return };
    instance.script("db", "backup", WAIT);
    let mut child = rig.command(&["backup", "SOURCE"]).spawn().unwrap();
    until("the script runs", || instance.has("/var/vcap/data/started"));
    // It is stopped as a machine that sleeps is; the script is ended by the dead-man.
    kill_process(Pid::from_child(&child), Signal::STOP).unwrap();
    until("both jobs are unlocked", || success(&instance) == "false\nfalse\n");
    kill_process(Pid::from_child(&child), Signal::CONT).unwrap();
    assert!(!child.wait().unwrap().success());
    assert!(!rig.run(&["snapshots", "--json"]).contains("\"tree\"") && !instance.has(STORE));
}

#[test]
fn a_restore_that_is_killed_is_unlocked_too() {
    let Some((instance, rig)) = bed() else { return };
    rig.back_up();
    instance.calls();
    instance.script("db", "restore", "touch /var/vcap/data/restoring; sleep 1000");
    instance.script("db", "post-restore-unlock", "touch /var/vcap/data/unlocked");
    let mut child = rig.command(&["restore", "latest", "--to", "source", "--yes"]).spawn().unwrap();
    until("the script runs", || instance.has("/var/vcap/data/restoring"));
    kill_process(Pid::from_child(&child), Signal::KILL).unwrap();
    child.wait().unwrap();
    until("it is unlocked", || instance.has("/var/vcap/data/unlocked"));
    assert!(instance.calls().contains(&"blobs/post-restore-unlock".to_owned()));
}
