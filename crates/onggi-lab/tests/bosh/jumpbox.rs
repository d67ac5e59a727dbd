//! The machine from which directors are backed up: a folder, a key, and the program under the name `bbr`.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use onggi_lab::bosh::{Instance, USER};
use onggi_lab::program::{self, Ended};
use tempfile::TempDir;

/// A machine with a folder.
pub struct Jumpbox {
    place: TempDir,
}

impl Jumpbox {
    pub fn new() -> Self {
        let jumpbox = Self { place: tempfile::tempdir().unwrap() };
        fs::create_dir(jumpbox.path("home")).unwrap();
        fs::create_dir(jumpbox.path("work")).unwrap();
        symlink(program::onggi(), jumpbox.path("bbr")).unwrap();
        jumpbox
    }

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
        command.env_clear().env("PATH", std::env::var("PATH").unwrap()).env("TZ", "UTC").env("HOME", self.path("home"));
        command.env("XDG_STATE_HOME", self.path("home/state"));
        command
    }

    /// `bbr director` for this instance with a verb and its flags.
    pub fn director_command(&self, instance: &Instance, verb: &str) -> Command {
        self.command(&format!("{} {verb}", director(instance)))
    }

    pub fn director(&self, instance: &Instance, verb: &str) -> Ended {
        Ended::of(self.director_command(instance, verb).output().unwrap())
    }

    /// The same, and it goes on; what it says is kept in files.
    pub fn start(&self, instance: &Instance, verb: &str, input: Stdio) -> Child {
        let file = |name: &str| fs::File::create(self.path(name)).unwrap();
        let mut command = self.director_command(instance, verb);
        command.stdin(input).stdout(file("out")).stderr(file("err"));
        command.spawn().unwrap()
    }

    /// The artifact directories in `work`.
    pub fn artifacts(&self) -> Vec<PathBuf> {
        let entries = fs::read_dir(self.path("work")).unwrap().map(|entry| entry.unwrap().path());
        let mut found: Vec<PathBuf> = entries.filter(|path| path.is_dir()).collect();
        found.sort();
        found
    }

    /// The one that there is.
    #[track_caller]
    pub fn artifact(&self) -> PathBuf {
        let [one] = self.artifacts().try_into().unwrap();
        one
    }

    /// What the one artifact directory says of itself.
    #[track_caller]
    pub fn metadata(&self) -> String {
        fs::read_to_string(self.artifact().join("metadata")).unwrap()
    }

    /// Files with the reasons of failures.
    pub fn error_logs(&self) -> usize {
        let entries = fs::read_dir(self.path("work")).unwrap();
        entries.filter(|entry| entry.as_ref().unwrap().path().to_string_lossy().ends_with(".err.log")).count()
    }

    pub fn clear(&self) {
        fs::remove_dir_all(self.path("work")).unwrap();
        fs::create_dir(self.path("work")).unwrap();
    }
}

/// The words up to the verb.
pub fn director(instance: &Instance) -> String {
    let key = instance.key();
    format!("director --host 127.0.0.1:{} --username {USER} --private-key-path {}", instance.port, key.display())
}

/// What is in an archive.
pub fn listed(archive: &Path) -> Vec<String> {
    let output = Command::new("tar").arg("-tf").arg(archive).output().unwrap();
    let mut names: Vec<String> = String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect();
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
