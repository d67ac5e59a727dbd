//! A home, a repository and a configuration for one source of kind `openstack`.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use onggi_lab::openstack::Openstack;
use onggi_lab::program::{self, Ended};
use serde_json::Value;
use tempfile::TempDir;

pub struct Rig<'a> {
    pub lab: &'a Openstack,
    place: TempDir,
}

impl<'a> Rig<'a> {
    /// With a source `lab` that logs in with the lab's openrc, and these keys beside.
    pub fn new(lab: &'a Openstack, keys: &str) -> Self {
        let rig = Self { lab, place: tempfile::tempdir().unwrap() };
        fs::create_dir(rig.path("home")).unwrap();
        fs::write(rig.path("password"), "of this place").unwrap();
        fs::set_permissions(rig.path("password"), fs::Permissions::from_mode(0o600)).unwrap();
        let openrc = lab.file("demo-openrc");
        rig.configure(&format!("openrc: {{ file: {} }}\n    {keys}", openrc.display()));
        rig.run(&["init"]).expect(0);
        rig
    }

    /// The lab's openrc, and the address of Keystone in it.
    pub fn openrc(&self) -> (String, String) {
        let whole = fs::read_to_string(self.lab.file("demo-openrc")).unwrap();
        let line = whole.lines().find(|line| line.contains("OS_AUTH_URL")).unwrap();
        let url = line.split_once('=').unwrap().1.trim_matches(['"', '\'']).to_owned();
        (whole, url)
    }

    /// Logs in with an openrc of this text, and has these keys beside.
    pub fn log_in_with(&self, text: &str, keys: &str) {
        fs::write(self.path("openrc"), text).unwrap();
        self.configure(&format!("openrc: {{ file: {} }}\n    {keys}", self.path("openrc").display()));
    }

    /// With these keys alone.
    pub fn configure(&self, keys: &str) {
        let text = format!("version: 1\nsources:\n  lab:\n    kind: openstack\n    {keys}\n");
        fs::write(self.path("onggi.yaml"), text).unwrap();
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.place.path().join(name)
    }

    pub fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(program::onggi());
        command.env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default());
        command.env("HOME", self.path("home")).env("TZ", "UTC").current_dir(self.place.path());
        command.arg("--config").arg(self.path("onggi.yaml")).arg("--repo").arg(self.path("repository"));
        command.arg("--password-file").arg(self.path("password")).args(words);
        command
    }

    pub fn run(&self, words: &[&str]) -> Ended {
        Ended::of(self.command(words).output().unwrap())
    }

    /// The documents of a backup that say what became of each unit.
    pub fn back_up(&self, words: &[&str], code: i32) -> Vec<Value> {
        let words: Vec<_> = ["backup", "--json"].into_iter().chain(words.iter().copied()).collect();
        let ended = self.run(&words).expect(code);
        let documents = ended.out.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        documents.filter(|one| one["message_type"] == "summary").collect()
    }

    /// Restores a snapshot into a folder, and answers the folder of its server.
    pub fn files(&self, snapshot: &str) -> PathBuf {
        let target = self.path(&format!("files-{snapshot}"));
        self.run(&["restore", snapshot, "--target", target.to_str().unwrap()]).expect(0);
        let mut folder = target;
        while !folder.join("server.json").exists() {
            let mut entries = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path());
            folder = entries.find(|path| path.is_dir() && !path.ends_with(".onggi")).unwrap();
        }
        folder
    }

    /// What was noted of a server's disks.
    pub fn notes(&self, folder: &Path) -> Value {
        serde_json::from_slice(&fs::read(folder.join("disks.json")).unwrap()).unwrap()
    }

    /// The lab's image, decoded by QEMU.
    pub fn decoded(&self, image: &str) -> PathBuf {
        let (file, raw) = (self.path("peer.qcow2"), self.path("peer.raw"));
        self.lab.client(&["image", "save", "--file", file.to_str().unwrap(), image]);
        let mut convert = Command::new("qemu-img");
        convert.args(["convert", "-O", "raw"]).args([&file, &raw]);
        Ended::of(convert.output().unwrap()).expect(0);
        raw
    }
}
