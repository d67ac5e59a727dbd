//! SIGKILL just before a system call that changes something, drawn by lot, put in by `strace`.

use crate::rig::{Rig, output, runs, skip};
use std::process::Command;

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

/// The command under `strace`, which kills it before the n-th such call of one of its threads.
fn killed(command: &Command, call: &str, nth: u64) -> Command {
    let mut strace = Command::new("strace");
    strace.args(["--follow-forks", "--quiet=all", "--output=/dev/null"]);
    strace.arg(format!("--inject={call}:signal=SIGKILL:when={nth}")).arg("--").arg(command.get_program());
    strace.args(command.get_args()).env_clear();
    for (name, value) in command.get_envs() {
        if let Some(value) = value {
            strace.env(name, value);
        }
    }
    strace
}

fn has_strace() -> bool {
    Command::new("strace").arg("--version").output().is_ok()
}

#[test]
fn a_killed_backup_loses_nothing_and_can_be_repeated() {
    if !has_strace() {
        return skip("strace is not there; no process is killed at a call");
    }
    let mut rig = Rig::new(1, None);
    let mut died = 0;
    for run in 0..runs(8) {
        rig.change();
        let (call, bound) = CALLS[rig.below(CALLS.len() as u64) as usize];
        let nth = 1 + rig.below(bound);
        let done = output(killed(&rig.backup(), call, nth));
        died += u32::from(!done.status.success());
        rig.acknowledge(&done);
        rig.check(&format!("run {run}: backup killed at {call} {nth}"));
        if run % 10 == 9 {
            rig.forget_all_but(4);
        }
    }
    println!("ledger: program killed at a system call: backup | {} | {died}", runs(8));
}

#[test]
fn a_killed_forget_or_prune_loses_nothing_and_can_be_repeated() {
    if !has_strace() {
        return skip("strace is not there; no process is killed at a call");
    }
    let mut rig = Rig::new(2, None);
    let mut died = 0;
    for run in 0..runs(5) {
        for _ in 0..2 {
            rig.change();
            let done = output(rig.backup());
            rig.acknowledge(&done);
        }
        rig.forget_all_but(2);
        let (call, bound) = CALLS[rig.below(CALLS.len() as u64) as usize];
        let nth = 1 + rig.below(bound);
        let prune = rig.command(&["repository", "prune", "--instant", "--max-unused", "0"]);
        died += u32::from(!output(killed(&prune, call, nth)).status.success());
        rig.check(&format!("run {run}: prune killed at {call} {nth}"));
    }
    println!("ledger: program killed at a system call: prune | {} | {died}", runs(5));
}
