//! Power cuts: the file system under the repository is shut down without flushing its log, unmounted and mounted again.
//! It then holds what was synced, and of the rest anything or nothing.

use crate::rig::{Rig, output, runs, skip};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

/// Where the file of a disk lies: in memory, because what is synced there waits for nothing else that this machine writes.
/// The file system in it syncs all the same.
const MEMORY: &str = "/dev/shm";

/// A file system in a file.
struct Disk {
    folder: tempfile::TempDir,
}

impl Disk {
    /// `None`, and said why, where it cannot be had.
    fn new(file_system: &str) -> Option<Self> {
        let folder = tempfile::tempdir_in(MEMORY).or_else(|_| tempfile::tempdir()).unwrap();
        let make = format!("mkfs.{file_system}");
        for program in [make.as_str(), "xfs_io", "mount"] {
            if Command::new(program).arg("-V").output().is_err() {
                skip(&format!("{program} is not there; no power is cut on {file_system}"));
                return None;
            }
        }
        let disk = Self { folder };
        std::fs::File::create(disk.image()).unwrap().set_len(512 << 20).unwrap();
        std::fs::create_dir(disk.place()).unwrap();
        let made = Command::new(make).arg("-q").arg(disk.image()).status().unwrap();
        if !made.success() || !disk.mount() {
            skip(&format!("no {file_system} can be mounted from a file; no power is cut on it"));
            return None;
        }
        Some(disk)
    }

    fn image(&self) -> PathBuf {
        self.folder.path().join("image")
    }

    fn place(&self) -> PathBuf {
        self.folder.path().join("disk")
    }

    fn mount(&self) -> bool {
        quiet(Command::new("mount").args(["-o", "loop"]).arg(self.image()).arg(self.place()))
    }

    /// Cuts the power. What the log held in memory is gone.
    fn cut(&self) {
        assert!(quiet(Command::new("xfs_io").args(["-x", "-c", "shutdown"]).arg(self.place())), "xfs_io shutdown");
    }

    fn power_up(&self) {
        assert!(quiet(Command::new("umount").arg(self.place())), "umount");
        assert!(self.mount(), "mount");
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        quiet(Command::new("umount").arg("--lazy").arg(self.place()));
    }
}

fn quiet(command: &mut Command) -> bool {
    command.stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok_and(|status| status.success())
}

fn cut_power_on(file_system: &str, sample: u32) {
    let Some(disk) = Disk::new(file_system) else { return };
    let mut rig = Rig::new(3, Some(disk.place().join("repository")));
    let mut cut = 0;
    for run in 0..runs(sample) {
        rig.change();
        let (wait, more) = (rig.below(900), rig.below(200));
        let mut started = rig.backup().stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        // Real time: the program cannot be told when the power goes.
        std::thread::sleep(Duration::from_millis(wait));
        disk.cut();
        // A disk may lose power before the processor does; left alone, the program would try again for its whole window.
        std::thread::sleep(Duration::from_millis(more));
        started.kill().unwrap();
        let done = started.wait_with_output().unwrap();
        cut += u32::from(!done.status.success());
        rig.acknowledge(&done);
        disk.power_up();
        assert_no_final_name_lies(&rig.repository);
        rig.check(&format!("{file_system} run {run}: power cut after {wait} ms"));
        if run % 10 == 9 {
            rig.forget_all_but(4);
            assert!(output(rig.command(&["repository", "prune", "--instant"])).status.success());
        }
    }
    println!("ledger: power cut under a backup on {file_system} | {} | {cut}", runs(sample));
}

/// No file under the name of a hash has other content: a crash must not leave one.
fn assert_no_final_name_lies(repository: &Path) {
    let mut open = vec![repository.to_owned()];
    while let Some(folder) = open.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let entry = entry.unwrap();
            let name = entry.file_name().into_string().unwrap();
            if entry.file_type().unwrap().is_dir() {
                open.push(entry.path());
            } else if name.len() == 64 {
                let sum = Command::new("sha256sum").arg(entry.path()).output().unwrap();
                assert!(sum.stdout.starts_with(name.as_bytes()), "{} is torn", entry.path().display());
            }
        }
    }
}

#[test]
fn a_power_cut_on_ext4_loses_nothing_acknowledged() {
    cut_power_on("ext4", 4);
}

#[test]
fn a_power_cut_on_xfs_loses_nothing_acknowledged() {
    cut_power_on("xfs", 3);
}
