//! `onggi jcloud` from the script's own file: same names and folders on the backup server, and nothing lost on the way.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Instant;

use onggi_lab::openstack::{Openstack, desk};
use onggi_lab::program::{self, Ended};
use onggi_lab::service::Sshd;
use sha2::{Digest as _, Sha256, Sha512};
use tempfile::TempDir;

struct Desk<'a> {
    lab: &'a Openstack,
    desk: desk::Desk,
    place: TempDir,
}

impl<'a> Desk<'a> {
    fn new(lab: &'a Openstack, sshd: &Sshd, project: &'static str, more: &str) -> Self {
        let place = tempfile::tempdir().unwrap();
        let desk = desk::Desk::lay(lab, sshd, place.path().to_owned(), project, more).unwrap();
        Self { lab, desk, place }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.place.path().join(name)
    }

    fn onggi(&self, words: &[&str]) -> Ended {
        Ended::of(self.desk.onggi(program::onggi(), words).output().unwrap())
    }

    /// Where programs are looked for in these folders.
    fn onggi_in(&self, programs: &Path, words: &[&str]) -> Ended {
        let mut command = self.desk.onggi(program::onggi(), words);
        Ended::of(command.env("PATH", programs).output().unwrap())
    }

    fn run(&self) -> Ended {
        self.onggi(&["jcloud", "--env", ".env", "--strict"])
    }

    fn make_password(&self) {
        fs::write(self.path("password"), "of this place").unwrap();
        fs::set_permissions(self.path("password"), fs::Permissions::from_mode(0o600)).unwrap();
    }

    /// With these alone on the list.
    fn run_listed(&self, ids: &[&str]) -> Ended {
        self.joblist(ids);
        self.run()
    }

    /// The files on the backup server of a server, with their content.
    fn files(&self, server: &str) -> BTreeMap<String, Vec<u8>> {
        self.desk.stored(server).unwrap()
    }

    fn joblist(&self, ids: &[&str]) {
        self.desk.list(ids).unwrap();
    }

    fn images(&self, of: &str) -> Vec<String> {
        let listed = self.lab.json(&["image", "list", "--private"]);
        let names = listed.as_array().unwrap().iter().map(|one| one["Name"].as_str().unwrap().to_owned());
        names.filter(|name| name.starts_with("snapshot__") && name.contains(of)).collect()
    }
}

#[test]
fn the_scripts_work_is_done_from_its_own_file() {
    let Some(lab) = Openstack::start() else { return };
    let Some(sshd) = Sshd::start() else { return };
    let desk = Desk::new(&lab, &sshd, "demo", "");
    let (vm1, vol1) = (lab.id("server", "vm1"), lab.id("server", "vol1"));
    let unknown = "00000000-0000-4000-8000-000000000000";
    // Somebody's own image of the same server, with the id in its name.
    lab.client(&["server", "image", "create", "--wait", "--name", &format!("before upgrade of {vm1}"), "vm1"]);
    let first = desk.run_listed(&[&vm1, unknown]).expect(0);
    assert!(first.tells("the cloud has none"), "{first:?}");
    assert_eq!(desk.files(&vm1), BTreeMap::new(), "the newest stays in the cloud");
    let made = desk.images(&vm1);
    assert_eq!(made.len(), 1, "{made:?}");
    let saved = desk.path("saved");
    lab.client(&["image", "save", "--file", saved.to_str().unwrap(), &made[0]]);
    let (image, epoch) = (lab.id("image", &made[0]), made[0].rsplit("__").next().unwrap().to_owned());
    desk.run_listed(&[&vm1]).expect(0);
    let files = desk.files(&vm1);
    let name = format!("{epoch}_{image}");
    assert_eq!(files.keys().collect::<Vec<_>>(), [&name, &format!("{name}.json")]);
    let content = &files[&name];
    assert_eq!(Sha256::digest(content), Sha256::digest(fs::read(&saved).unwrap()));
    let said: serde_json::Value = serde_json::from_slice(&files[&format!("{name}.json")]).unwrap();
    assert_eq!(said["sha512"], Sha512::digest(content).iter().map(|byte| format!("{byte:02x}")).collect::<String>());
    desk.run_listed(&[&vm1]).expect(0);
    assert_eq!(desk.files(&vm1).len(), 2, "MAX_COUNT_OF_SNAPSHOT captures stay");
    assert!(!desk.files(&vm1).contains_key(&name), "and they are the newest");
    assert!(lab.client(&["image", "list"]).contains("before upgrade of"));
    a_server_on_a_volume_is_moved_with_its_bytes(&desk, &vol1);
    the_tree_is_imported(&desk);
    for image in desk.images("") {
        lab.client(&["image", "delete", &image]);
    }
}

#[test]
fn rsync_sends_the_files_where_that_is_asked_for() {
    let Some(lab) = Openstack::start() else { return };
    let Some(sshd) = Sshd::start() else { return };
    let desk = Desk::new(&lab, &sshd, "demo", "RSYNC=1\nPATH_TO_SNAPSHOT_DIR=\nMAX_COUNT_OF_SNAPSHOT=3\n");
    let vm1 = lab.id("server", "vm1");
    desk.run_listed(&[&vm1]).expect(0);
    let image = lab.id("image", &desk.images(&vm1)[0]);
    let saved = desk.path("saved");
    lab.client(&["image", "save", "--file", saved.to_str().unwrap(), &image]);
    let saved = fs::read(saved).unwrap();
    let staged = || fs::read_dir(desk.path("staging/demo").join(&vm1)).unwrap().map(|one| one.unwrap().path());
    // A machine without rsync, and with what the login's file is read by.
    let bare = desk.path("bare");
    fs::create_dir(&bare).unwrap();
    for name in ["bash", "env"] {
        std::os::unix::fs::symlink(Path::new("/usr/bin").join(name), bare.join(name)).unwrap();
    }
    desk.joblist(&[&vm1]);
    let without = desk.onggi_in(&bare, &["jcloud", "--env", ".env", "--strict"]).expect(3);
    assert!(without.tells("install it, or take RSYNC out"), "{without:?}");
    assert_eq!(desk.files(&vm1), BTreeMap::new());
    let kept: Vec<_> = staged().collect();
    assert!(kept.len() == 1 && fs::read(&kept[0]).unwrap() == saved, "{kept:?}");
    // What a dead run staged is sent, too, although its image is gone.
    let dead = kept[0].file_name().unwrap().to_str().unwrap().replace(&image, "00000000-0000-4000-8000-000000000000");
    fs::write(kept[0].with_file_name(&dead), "of a dead run").unwrap();
    desk.run_listed(&[&vm1]).expect(0);
    let files = desk.files(&vm1);
    let moved = files.iter().filter(|(name, _)| name.ends_with(&image)).collect::<Vec<_>>();
    assert!(moved.len() == 1 && *moved[0].1 == saved, "{:?}", files.keys());
    assert!(files.contains_key(&format!("{}.json", moved[0].0)));
    assert_eq!(files[&dead], b"of a dead run");
    assert_eq!(staged().count(), 0, "what was sent is staged no more");
    let left = lab.client(&["image", "list", "-f", "value", "-c", "ID"]);
    assert!(!left.contains(&image), "{left}");
    for image in desk.images("") {
        lab.client(&["image", "delete", &image]);
    }
}

fn a_server_on_a_volume_is_moved_with_its_bytes(desk: &Desk<'_>, vol1: &str) {
    desk.run_listed(&[vol1]).expect(0);
    let ended = desk.run_listed(&[vol1]).expect(0);
    let files = desk.files(vol1);
    assert!(files.iter().any(|(name, content)| !name.ends_with(".json") && content.len() > 1 << 20), "{ended:?}");
}

fn the_tree_is_imported(desk: &Desk<'_>) {
    desk.make_password();
    let run = |words: &[&str]| desk.onggi(&[&["--repo", "repository", "--password-file", "password"], words].concat());
    run(&["init"]).expect(0);
    let backup = desk.path("backup");
    let taken = run(&["import", "jcloud-tree", backup.to_str().unwrap(), "--json"]).expect(0);
    let count = taken.out.lines().filter(|line| line.contains("\"summary\"")).count();
    assert!(count >= 1, "{taken:?}");
    let again = run(&["import", "jcloud-tree", backup.to_str().unwrap(), "--json"]).expect(0);
    assert_eq!(again.out.lines().filter(|line| line.contains("\"summary\"")).count(), 0, "{again:?}");
    let listed = run(&["ls", "latest"]).expect(0).out;
    assert!(listed.contains("root.raw"), "{listed}");
}

#[test]
fn a_time_limit_leaves_the_rest_of_the_list_to_the_next_run() {
    let Some(lab) = Openstack::start() else { return };
    let Some(sshd) = Sshd::start() else { return };
    let desk = Desk::new(&lab, &sshd, "demo", "TIMELIMIT=1\n");
    let (vm1, vm2) = (lab.id("server", "vm1"), lab.id("server", "vm2"));
    desk.run_listed(&[&vm1, &vm2]).expect(3);
    assert_eq!(fs::read_to_string(desk.path("joblist")).unwrap(), format!("{vm2}\n"));
    assert_eq!((desk.images(&vm1).len(), desk.images(&vm2).len()), (1, 0));
    desk.run().expect(0);
    assert_eq!(fs::read_to_string(desk.path("joblist")).unwrap(), "");
    assert_eq!((desk.images(&vm1).len(), desk.images(&vm2).len()), (1, 1));
    for image in desk.images("") {
        lab.client(&["image", "delete", &image]);
    }
}

#[test]
fn a_bandwidth_limit_is_kept() {
    let Some(lab) = Openstack::start() else { return };
    let Some(sshd) = Sshd::start() else { return };
    let desk = Desk::new(&lab, &sshd, "demo", "BANDWIDTH_LIMIT=1024\n");
    let vm1 = lab.id("server", "vm1");
    desk.run_listed(&[&vm1]).expect(0);
    let began = Instant::now();
    desk.run_listed(&[&vm1]).expect(0);
    let took = began.elapsed();
    let moved: usize = desk.files(&vm1).values().map(Vec::len).sum();
    let least = moved as f64 / f64::from(1 << 20) * 0.9;
    // How much longer it takes is the machine's affair.
    assert!(least > 5.0 && took.as_secs_f64() >= least, "{moved} bytes in {took:?}");
    for image in desk.images("") {
        lab.client(&["image", "delete", &image]);
    }
}

#[test]
fn the_scripts_work_goes_into_a_repository_where_that_is_asked_for() {
    let Some(lab) = Openstack::start() else { return };
    let Some(sshd) = Sshd::start() else { return };
    let desk = Desk::new(&lab, &sshd, "demo", "KEEP_OWN=1\n");
    desk.make_password();
    let run = |words: &[&str]| desk.onggi(&[&["--repo", "repository", "--password-file", "password"], words].concat());
    run(&["init"]).expect(0);
    let vm1 = lab.id("server", "vm1");
    let round = || {
        desk.joblist(&[&vm1]);
        run(&["jcloud", "--env", ".env", "--strict", "--source", "demo"]).expect(0)
    };
    let snapshots = || {
        let listed: serde_json::Value = serde_json::from_str(&run(&["snapshots", "--json"]).expect(0).out).unwrap();
        listed.as_array().unwrap().clone()
    };
    round();
    assert_eq!(snapshots().len(), 0, "the newest stays in the cloud");
    let epoch = desk.images(&vm1)[0].rsplit("__").next().unwrap().parse::<i64>().unwrap();
    round();
    let first = snapshots();
    assert_eq!((first.len(), desk.images(&vm1).len()), (1, 1));
    assert_eq!(first[0]["time"].as_str().unwrap().parse::<jiff::Timestamp>().unwrap().as_second(), epoch);
    assert_eq!(desk.files(&vm1), BTreeMap::new(), "nothing goes to the backup server");
    // MAX_COUNT_OF_SNAPSHOT is 1, until the server says itself that it wants two.
    round();
    assert_eq!(snapshots().len(), 1);
    assert_ne!(snapshots()[0]["id"], first[0]["id"]);
    lab.client(&["server", "set", "--property", "onggi_keep=2", "vm1"]);
    round();
    round();
    lab.client(&["server", "unset", "--property", "onggi_keep", "vm1"]);
    assert_eq!(snapshots().len(), 2);
    let id = snapshots()[1]["id"].as_str().unwrap()[..12].to_owned();
    let login = lab.file("demo-openrc").display().to_string();
    let text = format!("version: 1\nsources:\n  demo: {{ kind: openstack, openrc: {{ file: {login} }} }}\n");
    fs::write(desk.path("onggi.yaml"), text).unwrap();
    run(&["--config", "onggi.yaml", "restore", &id, "--to", "source", "--server-name", "back", "--yes"]).expect(0);
    assert_eq!(lab.json(&["server", "show", "back"])["status"], "ACTIVE");
    lab.client(&["server", "delete", "--wait", "back"]);
    for image in desk.images("") {
        lab.client(&["image", "delete", &image]);
    }
}

#[test]
fn two_underscores_in_a_projects_name_are_not_taken_for_the_time() {
    const PROJECT: &str = "other__project";
    let Some(lab) = Openstack::start() else { return };
    let Some(sshd) = Sshd::start() else { return };
    let ask = |words: &[&str]| {
        let output = lab.try_client("demo", PROJECT, words);
        assert!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    };
    // Since this version of the interface a server needs no network.
    let version = ["--os-compute-api-version", "2.37", "server", "create", "--wait", "--nic", "none"];
    ask(&[&version[..], &["--image", "lab-guest", "--flavor", "lab.tiny", "two"]].concat());
    let id = ask(&["server", "show", "-f", "value", "-c", "id", "two"]);
    let desk = Desk::new(&lab, &sshd, PROJECT, "");
    let images = || ask(&["image", "list", "--private", "-f", "value", "-c", "ID", "-c", "Name"]);
    desk.run_listed(&[&id]).expect(0);
    let made = images();
    let (image, epoch) = made.split_once(&format!(" snapshot__{PROJECT}/{id}__")).expect("it has an image");
    let content = fs::read(lab.file("glance/images").join(image)).unwrap();
    desk.run_listed(&[&id]).expect(0);
    let files = desk.files(&id);
    assert!(files.get(&format!("{epoch}_{image}")) == Some(&content), "{:?}", files.keys());
    for line in images().lines() {
        ask(&["image", "delete", line.split(' ').next().unwrap()]);
    }
    ask(&["server", "delete", "--wait", "two"]);
}
