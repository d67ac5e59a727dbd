//! What one process may hold, whatever it reads: the ceiling of a backup, of a verification and of a restore.

#![expect(clippy::unwrap_used, reason = "a test ends where its world is not as expected")]

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;

use onggi_lab::compare::{Aspects, compare};
use onggi_lab::corpus::mixed::Mixed;
use onggi_lab::measure::measured;
use onggi_lab::program;

const MIB: u64 = 1 << 20;
/// Resident bytes of a process, in MiB.
const CEILING: u64 = 256;
/// Of them what the shipped program holds without any work. A build for tests holds more code, so the test counts what is
/// held beyond that.
const IDLE: u64 = 46;
/// Several times what the process may hold, in each kind of file.
const SET: Mixed = Mixed { random: 320 * MIB, logs: 4, log: 80 * MIB, small: 4000, image: 768 * MIB, extents: 20 };

/// Runs onggi in the folder and returns how much memory it held, in MiB.
fn held(folder: &Path, line: &str) -> u64 {
    let mut command = Command::new(program::onggi());
    command.current_dir(folder).env("HOME", folder);
    command.args(["--yes", "--quiet", "--repo", "repository", "--password-file", "password"]).args(line.split(' '));
    let cost = measured(Path::new(env!("CARGO_BIN_EXE_onggi-lab")), &command, &folder.join("log")).unwrap();
    cost.memory_kib / 1024
}

#[test]
fn a_process_stays_below_its_ceiling_whatever_it_reads() {
    let folder = tempfile::tempdir().unwrap();
    let source = folder.path().join("source");
    SET.write(&source).unwrap();
    fs::write(folder.path().join("password"), "of this test").unwrap();
    fs::set_permissions(folder.path().join("password"), Permissions::from_mode(0o600)).unwrap();
    let steps = [
        "init",
        "backup source",
        "backup --force source",
        "repository verify --read-data",
        "restore latest --target restored",
    ];
    let held = steps.map(|line| (line, held(folder.path(), line)));
    println!("MiB held: {held:?}");
    let (_, idle) = held[0];
    assert!(held.iter().all(|(_, mib)| *mib <= CEILING - IDLE + idle), "too much, in MiB: {held:?}");
    assert_eq!(compare(&source, &folder.path().join("restored/source"), Aspects::CONTENT).unwrap(), []);
}
