//! One repository, one folder that changes, and the program; and the oracle that looks at both after a fault.

use onggi_lab::compare::{Aspects, compare};
use onggi_lab::corpus::Random;
use onggi_lab::program::onggi;
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// A repository with a history.
pub struct Rig {
    folder: tempfile::TempDir,
    pub repository: PathBuf,
    noise: Random,
    /// Acknowledged snapshots, and the copy of what each holds.
    acknowledged: BTreeMap<String, PathBuf>,
    turn: u32,
}

impl Rig {
    /// A repository at `repository`, or beside the source, with one snapshot.
    pub fn new(seed: u64, repository: Option<PathBuf>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let repository = repository.unwrap_or_else(|| folder.path().join("repository"));
        write_password(&folder.path().join("password"), "a password for a test");
        let mut rig = Self { folder, repository, noise: Random::new(seed), acknowledged: BTreeMap::new(), turn: 0 };
        succeed(rig.command(&["init"]));
        rig.store_change();
        assert_eq!(rig.acknowledged.len(), 1);
        rig
    }

    /// A number below the bound, from the rig's seed.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.noise.below(bound)
    }

    fn source(&self) -> PathBuf {
        self.folder.path().join("source")
    }

    /// Writes, changes and removes a few files.
    pub fn change(&mut self) {
        self.turn += 1;
        let source = self.source();
        fs::create_dir_all(source.join("folder")).unwrap();
        for number in 0..6 {
            let length = self.noise.below(400_000) as usize;
            let name = format!("folder/file {}", self.noise.below(20));
            fs::write(source.join(name), self.noise.bytes(length)).unwrap();
            fs::write(source.join(format!("text {number}")), format!("turn {}\n", self.turn).repeat(1000)).unwrap();
        }
        let doomed = source.join(format!("folder/file {}", self.noise.below(20)));
        fs::remove_file(doomed).ok();
    }

    /// Changes the source and stores it.
    pub fn store_change(&mut self) {
        self.change();
        let done = output(self.backup());
        self.acknowledge(&done);
    }

    /// A place beside the repository.
    pub fn beside(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The program on this repository.
    pub fn command(&self, words: &[&str]) -> Command {
        self.command_at(&self.repository, words)
    }

    /// The program on another repository with the same password.
    pub fn command_at(&self, repository: &Path, words: &[&str]) -> Command {
        let mut command = Command::new(onggi());
        command.env_clear().env("HOME", self.folder.path()).env("PATH", std::env::var_os("PATH").unwrap_or_default());
        command.arg("--repo").arg(repository).arg("--password-file").arg(self.beside("password"));
        command.args(["--no-cache", "--yes"]).args(words);
        command
    }

    /// A backup of the source as it is, which `acknowledge` can read.
    pub fn backup(&self) -> Command {
        let mut command = self.command(&["backup", "--json"]);
        command.arg(self.source());
        command
    }

    /// Takes note of a snapshot if the program said that it is there.
    pub fn acknowledge(&mut self, output: &Output) {
        if !matches!(output.status.code(), Some(0 | 3)) {
            return;
        }
        let id = String::from_utf8_lossy(&output.stdout)
            .lines()
            .filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok())
            .find_map(|message| message["snapshot_id"].as_str().map(str::to_owned))
            .expect("a backup that ends well names its snapshot");
        let copy = self.folder.path().join("copies").join(&id);
        fs::create_dir_all(&copy).unwrap();
        let status = Command::new("cp").arg("-a").arg(self.source()).arg(&copy).status().unwrap();
        assert!(status.success());
        self.acknowledged.insert(id, copy.join("source"));
    }

    /// Forgets all but the newest snapshots in the repository and here.
    pub fn forget_all_but(&mut self, count: usize) {
        succeed(self.forgetting_all_but(count));
    }

    /// The command that forgets all but the newest snapshots. What it is to forget is promised no more.
    pub fn forgetting_all_but(&mut self, count: usize) -> Command {
        let mut kept = self.listed();
        kept.drain(..kept.len().saturating_sub(count));
        self.acknowledged.retain(|id, _| kept.contains(id));
        self.command(&["repository", "forget", "--keep-last", &count.to_string(), "--forget-max", "100%"])
    }

    /// The snapshots that the program lists, the oldest first.
    pub fn snapshots_at(&self, repository: &Path) -> Vec<serde_json::Value> {
        let output = succeed(self.command_at(repository, &["snapshots", "--json"]));
        serde_json::from_slice(&output.stdout).unwrap()
    }

    /// Full ids of the snapshots that the program lists.
    fn listed(&self) -> Vec<String> {
        self.snapshots_at(&self.repository).iter().map(|one| one["id"].as_str().unwrap().to_owned()).collect()
    }

    /// Takes the locks of the dead away and insists that nothing is damaged.
    pub fn verify_at(&self, repository: &Path, at: &str) {
        succeed(self.command_at(repository, &["repository", "unlock", "--remove-all"]));
        let verified = output(self.command_at(repository, &["repository", "verify", "--read-data"]));
        let told = String::from_utf8_lossy(&verified.stderr);
        assert!(verified.status.success(), "{at}: verify: {}\n{told}", verified.status);
    }

    /// One acknowledged snapshot, drawn by lot, and the copy of what it holds.
    pub fn drawn(&mut self) -> (String, PathBuf) {
        let drawn = self.noise.below(self.acknowledged.len() as u64) as usize;
        self.acknowledged.iter().nth(drawn).map(|(id, copy)| (id.clone(), copy.clone())).unwrap()
    }

    /// The command that restores the source as it is in a snapshot.
    pub fn restore_from(&self, repository: &Path, id: &str, target: &Path) -> Command {
        let from = format!("{id}:{}", self.source().display());
        let mut command = self.command_at(repository, &["restore", &from, "--existing", "replace", "--target"]);
        command.arg(target);
        command
    }

    /// The oracle: after the locks of the dead are gone, everything acknowledged is listed, verify finds no damage, the
    /// next backup ends well, and one acknowledged snapshot, drawn by lot, restores to what it was.
    pub fn check(&mut self, at: &str) {
        self.verify_at(&self.repository, at);
        let listed = self.listed();
        for id in self.acknowledged.keys() {
            assert!(listed.contains(id), "{at}: snapshot {id} was acknowledged and is gone");
        }
        let again = output(self.backup());
        assert!(again.status.success(), "{at}: again: {}\n{}", again.status, String::from_utf8_lossy(&again.stderr));
        self.acknowledge(&again);
        let (id, copy) = self.drawn();
        self.check_restore(&self.repository, &id, &copy, at);
    }

    /// Insists that a snapshot restores to what was copied, whatever of it lies in `restored` already.
    #[track_caller]
    pub fn check_restore(&self, repository: &Path, id: &str, copy: &Path, at: &str) {
        let target = self.beside("restored");
        succeed(self.restore_from(repository, id, &target));
        let mut differences = compare(copy, &target, Aspects { owners: false, ..Aspects::ALL }).unwrap();
        // The target itself is the operator's and keeps its own time.
        differences.retain(|difference| !difference.path.as_os_str().is_empty());
        assert!(differences.is_empty(), "{at}: {differences:?}");
        fs::remove_dir_all(&target).unwrap();
    }
}

/// Runs a command and insists that it ends well.
#[track_caller]
pub fn succeed(command: Command) -> Output {
    let shown = format!("{command:?}");
    let done = output(command);
    assert!(done.status.success(), "{shown}: {}\n{}", done.status, String::from_utf8_lossy(&done.stderr));
    done
}

/// Runs a command to its end.
pub fn output(mut command: Command) -> Output {
    command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"))
}

/// How many faults a test puts in: `ONGGI_FAULT_RUNS`, else a sample.
pub fn runs(sample: u32) -> u32 {
    std::env::var("ONGGI_FAULT_RUNS").ok().and_then(|runs| runs.parse().ok()).unwrap_or(sample)
}

/// Says that a test cannot run here; where nothing may be skipped, fails.
pub fn skip(what: &str) {
    assert!(std::env::var_os("CI").is_none(), "nothing may be skipped here: {what}");
    eprintln!("SKIPPED: {what}");
}

/// A file with a password, which nobody else may read.
pub fn write_password(path: &Path, password: &str) {
    fs::write(path, format!("{password}\n")).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
}
