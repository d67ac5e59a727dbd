//! A place with a repository, and file systems in files.

use std::ffi::OsStr;
use std::fs::File;
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use onggi_lab::peer;
use onggi_lab::program::{self, Ended};
use tempfile::TempDir;

/// Whether these programs are here; said if not.
pub fn has(programs: &[&str]) -> bool {
    for program in programs {
        if Command::new(program).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status().is_err() {
            peer::skip(&format!("{program} is not here"));
            return false;
        }
    }
    true
}

/// Runs a program that must succeed.
#[track_caller]
pub fn run(program: &str, words: &[&OsStr]) {
    let output = Command::new(program).args(words).output().unwrap_or_else(|error| panic!("{program}: {error}"));
    assert!(output.status.success(), "{program} {words:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// A temporary folder with a repository.
pub struct Place {
    folder: TempDir,
}

impl Place {
    pub fn new() -> Self {
        let place = Self { folder: tempfile::tempdir().unwrap() };
        std::fs::create_dir(place.path("home")).unwrap();
        std::fs::write(place.path("password"), "of this place").unwrap();
        std::fs::set_permissions(place.path("password"), PermissionsExt::from_mode(0o600)).unwrap();
        place.onggi("init").expect(0);
        place
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Words separated by blanks; `{name}` stands for a path of this place.
    pub fn onggi(&self, line: &str) -> Ended {
        let mut command = Command::new(program::onggi());
        command.env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default());
        command.env("HOME", self.path("home")).env("TZ", "UTC").stdin(Stdio::null());
        command.arg("--repo").arg(self.path("repository")).arg("--password-file").arg(self.path("password"));
        command.args(line.split(' ').map(
            |word| match word.strip_prefix('{').and_then(|name| name.strip_suffix('}')) {
                Some(name) => self.path(name).into_os_string(),
                None => word.into(),
            },
        ));
        Ended::of(command.output().unwrap())
    }

    /// Stores a file and removes it, so that nothing but the repository can give it.
    pub fn store(&self, image: &str) {
        self.onggi(&format!("backup {{{image}}}")).expect(0);
        std::fs::remove_file(self.path(image)).unwrap();
    }
}

/// A file system in a file, mounted while it is filled.
pub struct Mounted {
    at: PathBuf,
}

impl Mounted {
    /// Makes one in a new file and mounts it. `None`, and said why, where that is not possible.
    pub fn make(place: &Place, image: &str, make: &str, megabytes: u64) -> Option<Self> {
        let words: Vec<&str> = make.split(' ').collect();
        if !has(&[words[0], "mount", "cp"]) {
            return None;
        }
        let path = place.path(image);
        File::create(&path).unwrap().set_len(megabytes << 20).unwrap();
        let options: Vec<&OsStr> = words[1..].iter().map(OsStr::new).chain([path.as_os_str()]).collect();
        run(words[0], &options);
        let at = place.path(&format!("{image}.mount"));
        std::fs::create_dir(&at).unwrap();
        let mounted = Command::new("mount").args(["-o", "loop"]).arg(&path).arg(&at).stderr(Stdio::null()).status();
        if !mounted.is_ok_and(|status| status.success()) {
            peer::skip(&format!("{make} cannot be mounted from a file"));
            return None;
        }
        Some(Self { at })
    }

    /// Copies a folder into it, with all that the kernel knows of files.
    pub fn fill(&self, from: &Path) {
        run("cp", &[OsStr::new("-a"), from.as_os_str(), self.at.join("tree").as_os_str()]);
    }

    /// Copies that folder as the kernel shows it.
    pub fn copy_out(&self, to: &Path) {
        run("cp", &[OsStr::new("-a"), self.at.join("tree").as_os_str(), to.as_os_str()]);
    }

    pub fn path(&self) -> &Path {
        &self.at
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(&self.at).status();
    }
}

/// How a disk is divided, and where the file system goes.
#[derive(Clone, Copy, Debug)]
pub struct Division {
    /// For `sfdisk`.
    pub script: &'static str,
    /// Where it goes, in sectors.
    pub start: u64,
    /// What onggi calls it.
    pub name: &'static str,
}

pub const GPT: Division =
    Division { script: "label: gpt\nstart=2048,size=8M\nstart=40960\n", start: 40960, name: "/part2" };
pub const LOGICAL: Division = Division {
    script: "label: dos\nstart=2048,size=8M,type=83\nstart=20480,type=5\nstart=24576,type=83\n",
    start: 24576,
    name: "/part5",
};

/// A disk with a file system of another file in it.
pub fn divide(place: &Place, disk: &str, file_system: &str, division: Division) -> bool {
    if !has(&["sfdisk"]) {
        return false;
    }
    let (from, path) = (File::open(place.path(file_system)).unwrap(), place.path(disk));
    let length = from.metadata().unwrap().len();
    let to = File::options().write(true).create_new(true).open(&path).unwrap();
    to.set_len(division.start * 512 + length + (2 << 20)).unwrap();
    let script = place.path("division");
    std::fs::write(&script, division.script).unwrap();
    let sfdisk = Command::new("sfdisk").arg("-q").arg(&path).stdin(File::open(script).unwrap()).status().unwrap();
    assert!(sfdisk.success());
    copy(&from, &to, division.start * 512, length);
    true
}

/// Copies what is not zero.
pub fn copy(from: &File, to: &File, at: u64, length: u64) {
    let mut buffer = vec![0; 1 << 16];
    for offset in (0..length).step_by(1 << 16) {
        let piece = &mut buffer[..(length - offset).min(1 << 16) as usize];
        from.read_exact_at(piece, offset).unwrap();
        if piece.iter().any(|byte| *byte != 0) {
            to.write_all_at(piece, at + offset).unwrap();
        }
    }
}
