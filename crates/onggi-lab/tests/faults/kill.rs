//! SIGKILL just before a system call that changes something, drawn by lot, put in by `strace`.

use std::fs;
use std::process::Command;

use crate::rig::{Rig, output, runs, skip, succeed, write_password};

/// What changes files. Of each, the first calls are hit: a small backup makes no more.
const CALLS: [(&str, u64); 7] = [
    ("renameat2", 8),
    ("fsync", 16),
    ("write", 40),
    ("pwrite64", 8),
    ("openat", 120),
    ("unlink,unlinkat", 6),
    ("mkdir", 4),
];

/// What a restore changes files with: every file is renamed with a call of its own, directories are made below one.
const CALLS_OF_A_RESTORE: [(&str, u64); 5] =
    [("renameat", 30), ("pwrite64,write", 40), ("openat", 120), ("mkdirat", 3), ("utimensat", 30)];

/// Kills commands of one kind, each at a place of its own.
struct Killer {
    what: &'static str,
    calls: &'static [(&'static str, u64)],
    runs: u32,
    died: u32,
}

impl Killer {
    /// Says that a test cannot run here if nothing can be killed at a call.
    fn new(what: &'static str, sample: u32) -> Option<Self> {
        if Command::new("strace").arg("--version").output().is_err() {
            skip("strace is not there; no process is killed at a call");
            return None;
        }
        Some(Self { what, calls: &CALLS, runs: runs(sample), died: 0 })
    }

    /// Runs a command under `strace`, which kills it before the n-th call of a kind of one of its threads. What it said,
    /// and where it was to die.
    fn kill(&mut self, rig: &mut Rig, command: &Command) -> (std::process::Output, String) {
        let (call, bound) = self.calls[rig.below(self.calls.len() as u64) as usize];
        // Early calls are drawn more often: not every command makes many.
        let last = 1 + rig.below(bound);
        let nth = 1 + rig.below(last);
        let mut strace = Command::new("strace");
        strace.args(["--follow-forks", "--quiet=all", "--output=/dev/null"]);
        strace.arg(format!("--inject={call}:signal=SIGKILL:when={nth}")).arg("--").arg(command.get_program());
        strace.args(command.get_args()).env_clear();
        for (name, value) in command.get_envs() {
            if let Some(value) = value {
                strace.env(name, value);
            }
        }
        let done = output(strace);
        self.died += u32::from(!done.status.success());
        (done, format!("{} killed at {call} {nth}", self.what))
    }
}

impl Drop for Killer {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            println!("ledger: program killed at a system call: {} | {} | {}", self.what, self.runs, self.died);
        }
    }
}

#[test]
fn a_killed_init_is_ended_by_the_next() {
    let Some(mut killer) = Killer::new("init", 3) else { return };
    let mut rig = Rig::new(3, None);
    for run in 0..killer.runs {
        let place = rig.beside(&format!("new {run}"));
        let init = rig.command_at(&place, &["init"]);
        let (done, at) = killer.kill(&mut rig, &init);
        if !done.status.success() {
            let again = output(rig.command_at(&place, &["init"]));
            let told = String::from_utf8_lossy(&again.stderr);
            let is_there = told.contains("already: config");
            assert!(again.status.success() || is_there, "{at}: again: {}\n{told}", again.status);
        }
        let mut backup = rig.command_at(&place, &["backup"]);
        backup.arg(rig.beside("source"));
        succeed(backup);
        rig.verify_at(&place, &at);
        fs::remove_dir_all(&place).unwrap();
    }
}

#[test]
fn a_killed_backup_loses_nothing_and_can_be_repeated() {
    let Some(mut killer) = Killer::new("backup", 8) else { return };
    let mut rig = Rig::new(1, None);
    for run in 0..killer.runs {
        rig.change();
        let backup = rig.backup();
        let (done, at) = killer.kill(&mut rig, &backup);
        rig.acknowledge(&done);
        rig.check(&at);
        if run % 10 == 9 {
            rig.forget_all_but(4);
        }
    }
}

#[test]
fn a_killed_forget_keeps_what_it_was_to_keep() {
    let Some(mut killer) = Killer::new("forget", 3) else { return };
    let mut rig = Rig::new(4, None);
    for _ in 0..killer.runs {
        rig.store_change();
        let forget = rig.forgetting_all_but(1);
        let (_, at) = killer.kill(&mut rig, &forget);
        rig.check(&at);
    }
}

#[test]
fn a_killed_prune_loses_nothing_and_can_be_repeated() {
    let Some(mut killer) = Killer::new("prune", 5) else { return };
    let mut rig = Rig::new(2, None);
    for _ in 0..killer.runs {
        for _ in 0..2 {
            rig.store_change();
        }
        rig.forget_all_but(2);
        let prune = rig.command(&["repository", "prune", "--instant", "--max-unused", "0"]);
        let (_, at) = killer.kill(&mut rig, &prune);
        rig.check(&at);
    }
}

#[test]
fn a_killed_copy_is_ended_by_the_next() {
    let Some(mut killer) = Killer::new("copy", 3) else { return };
    let mut rig = Rig::new(5, None);
    let there = rig.beside("copies of the repository");
    succeed(rig.command_at(&there, &["init"]));
    for run in 0..killer.runs {
        rig.store_change();
        let mut copy = rig.command_at(&there, &["copy", "run", "--from"]);
        copy.arg(&rig.repository);
        let (_, at) = killer.kill(&mut rig, &copy);
        rig.verify_at(&there, &at);
        rig.verify_at(&rig.repository, &at);
        succeed(copy);
        let (id, held) = rig.drawn();
        let copies = rig.snapshots_at(&there);
        let of_it: Vec<_> = copies.iter().filter(|one| one["original"] == id.as_str()).collect();
        assert_eq!(of_it.len(), 1, "{at}: {id} is there once: {copies:?}");
        rig.check_restore(&there, of_it[0]["id"].as_str().unwrap(), &held, &at);
        if run % 10 == 9 {
            rig.forget_all_but(4);
        }
    }
}

#[test]
fn after_a_killed_change_of_the_password_the_old_or_the_new_one_opens() {
    let Some(mut killer) = Killer::new("change of the password", 3) else { return };
    let mut rig = Rig::new(6, None);
    for run in 0..killer.runs {
        let (old, new) = (rig.beside("password"), rig.beside("password.new"));
        write_password(&new, &format!("password number {run}"));
        let mut change = rig.command(&["repository", "key", "passwd", "--new-password-file"]);
        change.arg(&new);
        let (_, at) = killer.kill(&mut rig, &change);
        // Whoever does not know how it ended tries both; 12 is the wrong password.
        if output(rig.command(&["snapshots"])).status.code() == Some(12) {
            fs::rename(&new, &old).unwrap();
        }
        rig.check(&at);
    }
}

#[test]
fn a_killed_restore_leaves_only_whole_files_and_is_ended_by_the_next() {
    let Some(mut killer) = Killer::new("restore", 4) else { return };
    killer.calls = &CALLS_OF_A_RESTORE;
    let mut rig = Rig::new(7, None);
    for _ in 0..killer.runs {
        rig.store_change();
        let (id, held) = rig.drawn();
        let target = rig.beside("restored");
        let restore = rig.restore_from(&rig.repository, &id, &target);
        let (_, at) = killer.kill(&mut rig, &restore);
        for folder in ["", "folder"] {
            let Ok(there) = fs::read_dir(target.join(folder)) else { continue };
            for entry in there.map(Result::unwrap).filter(|entry| entry.file_type().unwrap().is_file()) {
                if entry.file_name().to_string_lossy().starts_with(".onggi-restore-") {
                    // Under a name that nobody takes for a restored file.
                    fs::remove_file(entry.path()).unwrap();
                    continue;
                }
                let whole = fs::read(held.join(folder).join(entry.file_name())).unwrap();
                assert!(fs::read(entry.path()).unwrap() == whole, "{at}: {:?} is not whole", entry.path());
            }
        }
        rig.check_restore(&rig.repository, &id, &held, &at);
        rig.verify_at(&rig.repository, &at);
        rig.forget_all_but(3);
    }
}
