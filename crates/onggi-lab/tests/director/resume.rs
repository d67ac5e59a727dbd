//! Drains that break and runs that die: what was locked is unlocked, what was made is carried away without another lock
//! or removed, and what others left stays.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};

use onggi_lab::bosh::Instance;
use rustix::process::{Pid, Signal, kill_process};

use super::native::{Rig, STORE, with_jobs};

/// Rounds until something that must happen counts as never happening.
const TRIES: usize = 5000;
/// Writes down which files it is asked for. The first time it sends so much and then the connection breaks:
/// more than the window of a channel holds, so that the first file has surely arrived.
const CUT: &str = "#!/bin/bash\nnumber=$(ls /var/vcap/data/asked-* 2>/dev/null | wc -l)\nlist=/var/vcap/data/asked-$number\n\
    cat > $list\n[ $number = 0 ] || exec /usr/bin/tar \"$@\" < $list\n/usr/bin/tar \"$@\" < $list | head -c 8000000\n\
    pkill -9 -f '^sshd.*: bbr-lab'\n";
/// Waits in the middle of what it does until it may go on.
pub const WAIT: &str = "touch /var/vcap/data/started; while [ ! -e /var/vcap/data/go ]; do sleep 0.05; done";

fn program(instance: &Instance, name: &str, text: &str) {
    instance.write(&format!("/usr/local/bin/{name}"), text);
    assert!(instance.run(&format!("chmod 755 /usr/local/bin/{name}")).status.success());
}

/// Has a program wait before it does what it is called for.
fn wait_in(instance: &Instance, name: &str) {
    program(instance, name, &format!("#!/bin/bash\n{WAIT}; exec /usr/bin/{name} \"$@\"\n"));
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

/// Where a run of root notes what it began: a folder for each source, named by a hash of its name.
fn marks(rig: &Rig) -> Vec<PathBuf> {
    let hash = format!("printf %s {} | sha256sum | cut -c1-32", rig.source());
    let hash = String::from_utf8(Command::new("sh").args(["-c", &hash]).output().unwrap().stdout).unwrap();
    let folder = Path::new("/var/lib/onggi/marks/bosh").join(hash.trim());
    std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect()
}

pub fn locks(calls: &[String]) -> usize {
    calls.iter().filter(|call| call.ends_with("/pre-backup-lock")).count()
}

pub fn unlocks(calls: &[String]) -> usize {
    calls.iter().filter(|call| call.ends_with("/post-backup-unlock")).count()
}

/// Starts a backup and kills it when something waits on the instance, which then may go on.
#[track_caller]
pub fn kill(rig: &Rig, instance: &Instance) {
    let mut child: Child = rig.command(&["backup", "SOURCE"]).spawn().unwrap();
    until("something waits", || instance.has("/var/vcap/data/started"));
    kill_process(Pid::from_child(&child), Signal::KILL).unwrap();
    child.wait().unwrap();
    instance.write("/var/vcap/data/go", "");
}

#[test]
fn a_connection_that_breaks_in_a_drain_costs_no_second_lock_and_no_file_twice() {
    let Some(instance) = Instance::start() else { return };
    with_jobs(&instance);
    instance.run("head -c 1000000 /dev/urandom > /var/vcap/store/blobs/ab/here; head -c 9000000 /dev/urandom > /var/vcap/store/blobs/zz");
    let rig = Rig::of_director(&instance, "drain: { parallel-max: 1 }");
    program(&instance, "tar", CUT);
    rig.back_up();
    let calls = instance.calls();
    assert_eq!((locks(&calls), unlocks(&calls)), (2, 2), "{calls:?}");
    let asked = |number: usize| instance.read(&format!("/var/vcap/data/asked-{number}")).unwrap();
    assert!(asked(0).contains("./ab/here\0") && asked(0).contains("./zz\0"), "{}", asked(0));
    assert_eq!(asked(1), "./zz\0", "what had arrived is not asked for again");
    let restored = rig.run(&["restore", "latest", "--target", "out"]);
    let mut compare = Command::new("cmp");
    compare.arg(instance.path("/var/vcap/store/blobs/zz")).arg(rig.path("out/bosh/127.0.0.1/bosh/0/blobs/zz"));
    assert!(compare.status().unwrap().success(), "{restored}");
    assert!(!instance.has(STORE));
}

#[test]
fn a_run_that_is_killed_while_jobs_are_held_is_undone_by_the_next() {
    for script in ["pre-backup-lock", "backup"] {
        let Some(instance) = Instance::start() else { return };
        with_jobs(&instance);
        instance.script("db", script, &format!("{WAIT}; touch ${{BBR_ARTIFACT_DIRECTORY:-/tmp/}}x"));
        let rig = Rig::of_director(&instance, "");
        kill(&rig, &instance);
        assert!(!instance.has("/var/vcap/data/success"), "nothing is unlocked");
        instance.calls();
        rig.back_up();
        let calls = instance.calls();
        let again = calls.iter().position(|call| call.ends_with("/pre-backup-lock")).unwrap();
        assert_eq!((unlocks(&calls[..again]), locks(&calls)), (2, 2), "{script}: {calls:?}");
        assert_eq!(instance.read("/var/vcap/data/success").unwrap(), "false\nfalse\ntrue\ntrue\n");
        assert!(!instance.has(STORE));
    }
}

#[test]
fn a_run_that_is_killed_in_its_drain_is_finished_without_another_lock() {
    let Some(instance) = Instance::start() else { return };
    with_jobs(&instance);
    let rig = Rig::of_director(&instance, "auto-cleanup: never");
    wait_in(&instance, "tar");
    kill(&rig, &instance);
    let key = std::fs::read_to_string(instance.key()).unwrap();
    let marks = marks(&rig);
    assert!(marks.len() > 1, "{marks:?}");
    for mark in marks {
        assert_eq!(mark.metadata().unwrap().permissions().mode() & 0o077, 0, "{}", mark.display());
        assert!(!std::fs::read_to_string(mark).unwrap().contains(key.lines().nth(1).unwrap()));
    }
    let refused = rig.try_run(&["backup", "SOURCE"]);
    assert!(!refused.status.success() && instance.has(STORE), "nothing is settled by itself");
    let said = rig.run(&["bosh", "resume", "SOURCE"]);
    assert!(said.contains("stored") && said.contains("as snapshot"), "{said}");
    let calls = instance.calls();
    assert_eq!((locks(&calls), unlocks(&calls)), (2, 2), "{calls:?}");
    assert!(rig.run(&["ls", "latest"]).contains("/bosh/127.0.0.1/bosh/0/blobs/ab/first"));
    assert!(!instance.has(STORE));
    rig.back_up();
}

#[test]
fn what_a_dead_run_left_too_long_ago_is_removed_and_captured_anew() {
    let Some(instance) = Instance::start() else { return };
    with_jobs(&instance);
    let rig = Rig::of_director(&instance, "drain: { keep: 0s }");
    wait_in(&instance, "tar");
    kill(&rig, &instance);
    rig.back_up();
    let calls = instance.calls();
    assert_eq!(locks(&calls), 4, "{calls:?}");
    assert_eq!(rig.run(&["snapshots", "--json"]).matches("\"tree\"").count(), 1);
}

#[test]
fn a_run_that_is_killed_at_its_end_leaves_one_snapshot_and_its_rests_go() {
    let Some(instance) = Instance::start() else { return };
    with_jobs(&instance);
    let rig = Rig::of_director(&instance, "");
    wait_in(&instance, "rm");
    kill(&rig, &instance);
    rig.run(&["bosh", "resume", "SOURCE"]);
    assert!(!instance.has(STORE));
    let calls = instance.calls();
    assert_eq!((locks(&calls), unlocks(&calls)), (2, 2), "{calls:?}");
    assert_eq!(rig.run(&["snapshots", "--json"]).matches("\"tree\"").count(), 1);
}

#[test]
fn a_cleanup_takes_away_its_own_and_nothing_else() {
    let Some(instance) = Instance::start() else { return };
    with_jobs(&instance);
    instance.script("db", "backup", WAIT);
    let rig = Rig::of_director(&instance, "auto-cleanup: never");
    kill(&rig, &instance);
    let said = rig.run(&["bosh", "cleanup", "SOURCE"]);
    assert!(said.contains("removed"), "{said}");
    assert_eq!(unlocks(&instance.calls()), 2);
    assert!(!instance.has(STORE));
    instance.write(&format!("{STORE}/db/theirs"), "x");
    assert_eq!(rig.run(&["bosh", "cleanup", "SOURCE"]), "");
    assert!(instance.has(&format!("{STORE}/db/theirs")) && instance.calls().is_empty());
}

/// Breaks every connection, once.
const CUT_ONCE: &str =
    "[ -e /var/vcap/data/cut ] || { touch /var/vcap/data/cut; pkill -9 -f '^sshd.*: bbr-lab'; sleep 0.5; }";

#[test]
fn a_connection_that_is_cut_while_scripts_run_leaves_nothing_locked() {
    for script in ["pre-backup-lock", "backup", "post-backup-unlock"] {
        let Some(instance) = Instance::start() else { return };
        with_jobs(&instance);
        let unlock = "echo \"$BBR_AFTER_BACKUP_SCRIPTS_SUCCESSFUL\" >> /var/vcap/data/success";
        let more = if script == "post-backup-unlock" { unlock } else { "true" };
        instance.script("db", script, &format!("{CUT_ONCE}; {more}"));
        let rig = Rig::of_director(&instance, "");
        let output = rig.try_run(&["backup", "SOURCE"]);
        assert!(instance.has("/var/vcap/data/cut"), "{script}: {output:?}");
        rig.back_up();
        let calls = instance.calls();
        let last_lock = calls.iter().rposition(|call| call.ends_with("/pre-backup-lock")).unwrap();
        assert!(unlocks(&calls[last_lock..]) >= 2, "{script}: {calls:?}");
        let first_unlock = calls.iter().position(|call| call.ends_with("/post-backup-unlock")).unwrap();
        let again = calls[first_unlock..].iter().position(|call| call.ends_with("/pre-backup-lock"));
        assert!(again.is_none_or(|again| unlocks(&calls[first_unlock..][..again]) >= 2), "{script}: {calls:?}");
        assert!(!instance.has(STORE), "{script}");
    }
}

#[test]
fn a_connection_that_is_cut_while_it_cleans_up_costs_no_snapshot_and_leaves_nothing() {
    let Some(instance) = Instance::start() else { return };
    with_jobs(&instance);
    let rig = Rig::of_director(&instance, "");
    program(&instance, "rm", &format!("#!/bin/bash\n{CUT_ONCE}; exec /usr/bin/rm \"$@\"\n"));
    rig.try_run(&["backup", "SOURCE"]);
    assert!(instance.has("/var/vcap/data/cut"));
    assert_eq!(rig.run(&["snapshots", "--json"]).matches("\"tree\"").count(), 1);
    let calls = instance.calls();
    assert_eq!((locks(&calls), unlocks(&calls)), (2, 2), "{calls:?}");
    rig.run(&["bosh", "resume", "SOURCE"]);
    assert_eq!(rig.run(&["snapshots", "--json"]).matches("\"tree\"").count(), 1);
    assert!(!instance.has(STORE));
}

#[test]
fn a_drain_that_stays_broken_is_seen_as_incomplete_until_the_rest_is_there() {
    let Some(instance) = Instance::start() else { return };
    with_jobs(&instance);
    instance.run("head -c 3000000 /dev/urandom > /var/vcap/store/blobs/ab/here");
    let rig = Rig::of_director(&instance, "drain: { parallel-max: 1, keep: 1h }");
    // The second archive never comes, and there is no use in trying again.
    program(&instance, "tar", "#!/bin/bash\ncase \"$*\" in */db\\ *) exit 9;; esac\nexec /usr/bin/tar \"$@\"\n");
    let output = rig.try_run(&["backup", "SOURCE"]);
    assert!(!output.status.success());
    let listed = rig.run(&["snapshots", "--json"]);
    assert!(listed.contains("\"incomplete\"") && listed.contains("\"mode:director\""), "{listed}");
    let id = serde_json::from_str::<serde_json::Value>(listed.lines().next().unwrap()).unwrap();
    let id = id[0]["id"].as_str().unwrap().to_owned();
    assert!(rig.run(&["ls", &id]).contains("/bosh/127.0.0.1/bosh/0/blobs/ab/here"));
    // It is no backup: nothing means it that does not name it, and it is not restored unasked.
    assert!(!rig.try_run(&["ls", "latest"]).status.success());
    let refused = rig.try_run(&["restore", &id, "--target", "out"]);
    let said = String::from_utf8_lossy(&refused.stderr);
    assert!(!refused.status.success() && said.contains("--allow-incomplete"), "{said}");
    rig.run(&["restore", &id, "--target", "out", "--allow-incomplete"]);
    assert_eq!(std::fs::read(rig.path("out/bosh/127.0.0.1/bosh/0/blobs/ab/here")).unwrap().len(), 3_000_000);
    assert!(instance.run("rm /usr/local/bin/tar").status.success());
    let summary = rig.back_up();
    assert!(summary["data_added"].as_u64().unwrap() < 1_000_000, "what came is not stored twice: {summary}");
    assert!(rig.run(&["ls", "latest"]).contains("/bosh/127.0.0.1/bosh/0/db/dump.sql"));
    rig.run(&["forget", "--keep-last", "5", "--yes"]);
    let listed = rig.run(&["snapshots", "--json"]);
    assert!(!listed.contains("incomplete") && listed.matches("\"tree\"").count() == 1, "{listed}");
}
