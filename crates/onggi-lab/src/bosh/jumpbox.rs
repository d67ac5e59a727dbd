//! The machine from which directors are backed up: a folder, a key, and the program under the name `bbr`.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;

use super::{Instance, USER};
use crate::program::{self, Ended};

/// A machine with a folder.
pub struct Jumpbox {
    place: TempDir,
}

impl Default for Jumpbox {
    fn default() -> Self {
        Self::new()
    }
}

impl Jumpbox {
    /// One where onggi goes by the name `bbr`.
    pub fn new() -> Self {
        Self::with(program::onggi())
    }

    /// One where this program does.
    ///
    /// # Panics
    /// If there is no place for temporary files.
    pub fn with(program: &Path) -> Self {
        let jumpbox = Self { place: tempfile::tempdir().expect("a temporary folder") };
        fs::create_dir(jumpbox.path("home")).expect("the folder is new");
        fs::create_dir(jumpbox.path("work")).expect("the folder is new");
        symlink(program, jumpbox.path("bbr")).expect("the folder is new");
        jumpbox
    }

    /// From now on another program goes by the name `bbr`.
    ///
    /// # Panics
    /// If the link cannot be written.
    pub fn switch(&self, program: &Path) {
        fs::remove_file(self.path("bbr")).expect("it is there");
        symlink(program, self.path("bbr")).expect("its place is free");
    }

    /// A place on it.
    pub fn path(&self, name: &str) -> PathBuf {
        self.place.path().join(name)
    }

    /// `bbr` with these words, in the folder `work`.
    pub fn command(&self, words: &str) -> Command {
        let mut command = self.program(&self.path("bbr"));
        command.args(words.split_whitespace());
        command
    }

    /// A program of this machine, in the folder `work`.
    pub fn program(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        command.current_dir(self.path("work"));
        command
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("TZ", "UTC")
            .env("HOME", self.path("home"));
        command.env("XDG_STATE_HOME", self.path("home/state"));
        command
    }

    /// `bbr director` for this instance with a verb and its flags.
    pub fn director_command(&self, instance: &Instance, verb: &str) -> Command {
        self.command(&format!("{} {verb}", director(instance)))
    }

    /// Runs it.
    ///
    /// # Panics
    /// If it does not start.
    pub fn director(&self, instance: &Instance, verb: &str) -> Ended {
        Ended::of(self.director_command(instance, verb).output().expect("it starts"))
    }

    /// The same, and it goes on; what it says is kept in files.
    ///
    /// # Panics
    /// If it does not start.
    pub fn start(&self, instance: &Instance, verb: &str, input: Stdio) -> Child {
        let file = |name: &str| fs::File::create(self.path(name)).expect("the folder is its own");
        let mut command = self.director_command(instance, verb);
        command.stdin(input).stdout(file("out")).stderr(file("err"));
        command.spawn().expect("it starts")
    }

    /// What is in `work`, in order.
    ///
    /// # Panics
    /// If it cannot be read.
    pub fn work(&self) -> Vec<PathBuf> {
        let entries = fs::read_dir(self.path("work")).expect("the folder is its own");
        let mut found: Vec<PathBuf> = entries.map(|entry| entry.expect("it can be read").path()).collect();
        found.sort();
        found
    }

    /// The artifact directories in `work`.
    pub fn artifacts(&self) -> Vec<PathBuf> {
        self.work().into_iter().filter(|path| path.is_dir()).collect()
    }

    /// The one that there is.
    ///
    /// # Panics
    /// If there is none, or more than one.
    #[track_caller]
    pub fn artifact(&self) -> PathBuf {
        let [one] = self.artifacts().try_into().expect("one artifact directory");
        one
    }

    /// What the one artifact directory says of itself.
    ///
    /// # Panics
    /// If it says nothing.
    #[track_caller]
    pub fn metadata(&self) -> String {
        fs::read_to_string(self.artifact().join("metadata")).expect("an artifact directory has metadata")
    }

    /// Files with the reasons of failures.
    pub fn error_logs(&self) -> usize {
        self.work().iter().filter(|path| path.to_string_lossy().ends_with(".err.log")).count()
    }

    /// Empties `work`.
    ///
    /// # Panics
    /// If it cannot.
    pub fn clear(&self) {
        fs::remove_dir_all(self.path("work")).expect("the folder is its own");
        fs::create_dir(self.path("work")).expect("its place is free");
    }
}

/// The words up to the verb.
pub fn director(instance: &Instance) -> String {
    let key = instance.key();
    format!("director --host 127.0.0.1:{} --username {USER} --private-key-path {}", instance.port, key.display())
}

/// What is in an archive.
///
/// # Panics
/// If there is no tar.
pub fn listed(archive: &Path) -> Vec<String> {
    let output = Command::new("tar").arg("-tf").arg(archive).output().expect("tar is everywhere");
    let mut names: Vec<String> = String::from_utf8_lossy(&output.stdout).lines().map(str::to_owned).collect();
    names.sort();
    names
}

/// Gives an instance a job that keeps a file, locks and unlocks.
pub fn install(instance: &Instance, job: &str) {
    let backup = format!("cp -p /var/vcap/store/{job} $BBR_ARTIFACT_DIRECTORY/data");
    let restore = format!("cp -p $BBR_ARTIFACT_DIRECTORY/data /var/vcap/store/{job}");
    instance.job(job, &backup, &restore);
    instance.write(&format!("/var/vcap/store/{job}"), format!("the data of {job}"));
}
