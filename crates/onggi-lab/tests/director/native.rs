//! Kind `bosh` by the real program: over instances that are namespaces with a real SSH server, and over a Director that
//! makes users there.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::Arc;

use onggi_lab::bosh::{Instance, USER};
use onggi_lab::corpus::Random;
use onggi_lab::director::{self, Certificate, Deployment, FakeDirector, Script};
use onggi_lab::program;
use serde_json::Value;
use tempfile::TempDir;

/// Jobs that hold, back up and restore. The artifact of `blobs` is what lies in a folder, linked.
const BLOBS: &str = "cp -rlp /var/vcap/store/blobs/. $BBR_ARTIFACT_DIRECTORY";
const DB: &str = "cp /var/vcap/store/db.sql ${BBR_ARTIFACT_DIRECTORY}dump.sql";
pub const STORE: &str = "/var/vcap/store/bbr-backup";

/// A machine with onggi, a repository and one source.
pub struct Rig(TempDir);

impl Rig {
    fn new(sources: &str) -> Self {
        let rig = Self(tempfile::tempdir().unwrap());
        fs::create_dir(rig.path("home")).unwrap();
        fs::write(rig.path("password"), "of this place").unwrap();
        fs::set_permissions(rig.path("password"), fs::Permissions::from_mode(0o600)).unwrap();
        let text = format!("version: 1\nsources:\n  {}:\n    kind: bosh\n    {sources}\n", rig.source());
        fs::write(rig.path("onggi.yaml"), text).unwrap();
        rig.run(&["init"]);
        rig
    }

    pub fn of_director(instance: &Instance, more: &str) -> Self {
        Self::new(&format!(
            "mode: director\n    connect: {{ host: \"127.0.0.1:{}\", user: {USER}, key: \"file:{}\", host-key: \"{}\" }}\n    {more}",
            instance.port,
            instance.key().display(),
            instance.host_key()
        ))
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// The source's name, which no other test has.
    pub fn source(&self) -> String {
        format!("bosh-{}", self.0.path().file_name().unwrap().to_string_lossy().trim_start_matches('.').to_lowercase())
    }

    pub fn try_run(&self, words: &[&str]) -> Output {
        self.command(words).output().unwrap()
    }

    /// onggi with these words, of which `SOURCE` is the source.
    pub fn command(&self, words: &[&str]) -> Command {
        let source = self.source();
        let words = words.iter().map(|word| word.replace("SOURCE", &source));
        let mut command = Command::new(program::onggi());
        command.env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default()).env("TZ", "UTC");
        command.env("HOME", self.path("home")).env("CLIENT_SECRET", FakeDirector::SECRET).current_dir(self.0.path());
        command.arg("--config").arg(self.path("onggi.yaml")).arg("--repo").arg(self.path("repository"));
        command.arg("--password-file").arg(self.path("password")).args(words);
        command
    }

    #[track_caller]
    pub fn run(&self, words: &[&str]) -> String {
        let output = self.try_run(words);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{words:?}: {}{said}", String::from_utf8_lossy(&output.stdout));
        String::from_utf8(output.stdout).unwrap() + &said
    }

    /// Backs up; the summary.
    #[track_caller]
    pub fn back_up(&self) -> Value {
        let output = self.run(&["backup", "SOURCE", "--json"]);
        let last = output.lines().rev().find(|line| line.contains("\"summary\"")).unwrap();
        serde_json::from_str(last).unwrap()
    }
}

/// Gives an instance jobs with data.
pub fn with_jobs(instance: &Instance) {
    for (job, backup) in [("blobs", BLOBS), ("db", DB)] {
        instance.job(job, backup, &format!("cp -a $BBR_ARTIFACT_DIRECTORY/. /var/vcap/store/restored-{job}"));
        instance.run(&format!("mkdir -p /var/vcap/store/restored-{job}"));
    }
    instance.metadata("db", "backup_should_be_locked_before: [{job_name: blobs, release: r}]");
    instance.write("/var/vcap/store/db.sql", "insert 1;\n");
    instance.write("/var/vcap/store/blobs/ab/first", "blob ".repeat(50_000));
}

/// Every path below a folder with what matters of it.
fn tree(folder: &Path) -> BTreeMap<String, String> {
    fn below(folder: &Path, name: &str, found: &mut BTreeMap<String, String>) {
        let mut entries: Vec<_> = fs::read_dir(folder).unwrap().map(Result::unwrap).collect();
        entries.sort_by_key(fs::DirEntry::file_name);
        for entry in entries {
            let (path, metadata) = (entry.path(), entry.path().symlink_metadata().unwrap());
            let name = format!("{name}/{}", entry.file_name().to_string_lossy());
            let kind = metadata.file_type();
            let what = match () {
                () if kind.is_symlink() => format!("-> {}", fs::read_link(&path).unwrap().display()),
                () if kind.is_fifo() => "fifo".to_owned(),
                () if kind.is_dir() => "dir".to_owned(),
                () => format!(
                    "{:x?}",
                    fs::read(&path)
                        .unwrap()
                        .iter()
                        .fold(0_u64, |sum, byte| sum.wrapping_mul(31).wrapping_add((*byte).into()))
                ),
            };
            let mode = if kind.is_symlink() { 0 } else { metadata.mode() & 0o7777 };
            let owner = (metadata.uid(), metadata.gid());
            let time = if kind.is_dir() { 0 } else { metadata.mtime() };
            found.insert(name.clone(), format!("{what} {mode:o} {owner:?} {time}"));
            if kind.is_dir() {
                below(&path, &name, found);
            }
        }
    }
    let mut found = BTreeMap::new();
    below(folder, "", &mut found);
    found
}

/// More of them than the repository takes contents in at once, each more than a connection holds back.
#[test]
fn many_large_artifacts_come_over_one_connection() {
    const JOBS: u64 = 6;
    const BYTES: usize = 12 << 20;
    let Some(instance) = Instance::start() else { return };
    for job in 0..JOBS {
        instance.job(&format!("store{job}"), &format!("cp /var/vcap/store/{job} $BBR_ARTIFACT_DIRECTORY"), "");
        instance.write(&format!("/var/vcap/store/{job}"), Random::new(job).bytes(BYTES));
    }
    let stored = Rig::of_director(&instance, "").back_up();
    assert!(stored["data_added"].as_u64().unwrap() >= JOBS * BYTES as u64, "{stored}");
}

#[test]
fn a_director_is_backed_up_and_restored_by_its_scripts() {
    let Some(instance) = Instance::start() else { return };
    with_jobs(&instance);
    let rig = Rig::of_director(&instance, "");
    rig.back_up();
    let calls = instance.calls();
    let expected = [
        "db/pre-backup-lock",
        "blobs/pre-backup-lock",
        "blobs/backup",
        "db/backup",
        "blobs/post-backup-unlock",
        "db/post-backup-unlock",
    ];
    let mut sorted = calls.clone();
    sorted[2..4].sort();
    assert_eq!(sorted, expected, "backup scripts run side by side");
    assert_eq!(instance.read("/var/vcap/data/success").unwrap(), "true\ntrue\n");
    assert!(!instance.has(STORE), "nothing stays");
    let listed = rig.run(&["ls", "latest"]);
    for path in [
        "/bosh/127.0.0.1/bosh/0/blobs/ab/first",
        "/bosh/127.0.0.1/bosh/0/db/dump.sql",
        "/bosh/127.0.0.1/_meta/metadata",
    ] {
        assert!(listed.contains(path), "{path} in {listed}");
    }
    let planned = rig.run(&["restore", "latest", "--to", "source", "--dry-run"]);
    assert!(planned.contains("bosh/0/blobs, 1 files") && !instance.has(STORE), "{planned}");
    rig.run(&["restore", "latest", "--to", "source", "--yes"]);
    let restored = instance.calls();
    assert_eq!(restored.len(), 6, "{restored:?}");
    assert!(
        restored[..2].iter().all(|call| call.ends_with("lock"))
            && restored[2..4].iter().all(|call| call.ends_with("/restore"))
    );
    assert_eq!(instance.read("/var/vcap/store/restored-db/dump.sql").unwrap(), "insert 1;\n");
    assert_eq!(instance.read("/var/vcap/store/restored-blobs/ab/first").unwrap().len(), 250_000);
    assert!(!instance.has(STORE));
}

#[test]
fn blobs_that_are_unchanged_do_not_travel_again() {
    let Some(instance) = Instance::start() else { return };
    with_jobs(&instance);
    instance.run("head -c 20000000 /dev/urandom > /var/vcap/store/blobs/large");
    let rig = Rig::of_director(&instance, "");
    let first = rig.back_up();
    instance.write("/var/vcap/store/db.sql", "insert 2;\n");
    let second = rig.back_up();
    assert!(first["data_added"].as_u64().unwrap() > 20_000_000, "{first}");
    assert!(second["data_added"].as_u64().unwrap() < 200_000, "{second}");
    assert_eq!(second["files_unmodified"], 2, "{second}");
    assert!(instance.connections() <= 2 * 2, "{} connections for two backups", instance.connections());
}

#[test]
fn every_kind_of_file_comes_back_as_it_was() {
    let Some(instance) = Instance::start() else { return };
    with_jobs(&instance);
    instance.script("blobs", "backup", "cp -a /var/vcap/store/blobs/. $BBR_ARTIFACT_DIRECTORY");
    instance.run(
        "cd /var/vcap/store/blobs && mkdir empty 'a b' && printf x > 'a b/new\nline' && printf y > \"it's \\\\ \\\"\" && \
         ln -s 'a b' link && printf twice > one && ln one two && mkfifo pipe && : > zero && \
         printf z > $(printf 'n%.0s' $(seq 250)) && printf own > own && chown 61234:61235 own && chmod 0600 own && \
         mkdir -p $(printf 'd%.0s' $(seq 120))/$(printf 'e%.0s' $(seq 200)) && \
         printf deep > $(printf 'd%.0s' $(seq 120))/$(printf 'e%.0s' $(seq 200))/file && \
         truncate -s 30000000 sparse && touch -d '2020-01-02 03:04:05.678' own",
    );
    let rig = Rig::of_director(&instance, "");
    rig.back_up();
    let before = tree(&instance.path("/var/vcap/store/blobs"));
    assert!(before.len() > 14, "{before:#?}");
    rig.run(&["restore", "latest", "--target", "out", "--privileged"]);
    assert_eq!(tree(&rig.path("out/bosh/127.0.0.1/bosh/0/blobs")), before);
    rig.run(&["restore", "latest", "--to", "source", "--yes"]);
    assert_eq!(tree(&instance.path("/var/vcap/store/restored-blobs")), before);
}

#[test]
fn what_another_program_left_is_neither_stored_nor_touched() {
    let Some(instance) = Instance::start() else { return };
    with_jobs(&instance);
    instance.write(&format!("{STORE}/db/theirs"), "x");
    let rig = Rig::of_director(&instance, "");
    let output = rig.try_run(&["backup", "SOURCE"]);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && said.contains("another program"), "{said}");
    assert!(instance.has(&format!("{STORE}/db/theirs")) && instance.calls().is_empty());
}

#[test]
fn a_lock_that_fails_is_unlocked_and_nothing_is_stored() {
    let Some(instance) = Instance::start() else { return };
    with_jobs(&instance);
    instance.script("blobs", "pre-backup-lock", "echo no way >&2; exit 3");
    let rig = Rig::of_director(&instance, "");
    let output = rig.try_run(&["backup", "SOURCE"]);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && said.contains("no way"), "{said}");
    let calls = instance.calls();
    assert_eq!(calls.iter().filter(|call| call.ends_with("post-backup-unlock")).count(), 2, "{calls:?}");
    assert!(!calls.iter().any(|call| call.ends_with("/backup")), "{calls:?}");
    assert_eq!(instance.read("/var/vcap/data/success").unwrap(), "false\nfalse\n");
    assert!(!instance.has(STORE));
}

#[test]
fn scripts_that_take_too_long_are_ended_and_unlocked() {
    let Some(instance) = Instance::start() else { return };
    with_jobs(&instance);
    instance.script("db", "backup", "sleep 600");
    let rig = Rig::of_director(&instance, "lock-time-max: 1s");
    let output = rig.try_run(&["backup", "SOURCE"]);
    assert!(!output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(instance.read("/var/vcap/data/success").unwrap(), "false\nfalse\n");
    assert!(!instance.has(STORE));
    let left = instance.run("pgrep -x sleep");
    assert!(!left.status.success(), "it still sleeps: {}", String::from_utf8_lossy(&left.stdout));
}

#[test]
fn a_job_that_is_left_out_is_not_even_locked() {
    let Some(instance) = Instance::start() else { return };
    with_jobs(&instance);
    let rig = Rig::of_director(&instance, "exclude: { jobs: [\"*/blobs\"] }");
    rig.back_up();
    let calls = instance.calls();
    assert!(calls.len() == 3 && calls.iter().all(|call| call.starts_with("db/")), "{calls:?}");
}

#[test]
fn a_snapshot_goes_out_as_an_artifact_directory_and_comes_in_again() {
    let Some(instance) = Instance::start() else { return };
    with_jobs(&instance);
    let rig = Rig::of_director(&instance, "");
    rig.back_up();
    rig.run(&["export", "bbr-artifact", "latest", "."]);
    let find = || {
        let names = fs::read_dir(rig.path("")).unwrap().map(|entry| entry.unwrap().path());
        names.into_iter().find(|path| path.to_string_lossy().contains("/127.0.0.1_")).unwrap()
    };
    let directory = find();
    assert_eq!(fs::metadata(&directory).unwrap().mode() & 0o777, 0o700);
    let record = fs::read_to_string(directory.join("metadata")).unwrap();
    assert!(record.contains("./ab/first: ") && directory.join("bosh-0-db.tar").exists(), "{record}");
    // The drop-in command restores it by the same scripts.
    fs::write(rig.path("key"), fs::read(instance.key()).unwrap()).unwrap();
    instance.calls();
    let host = format!("127.0.0.1:{}", instance.port);
    let key = rig.path("key").display().to_string();
    let words =
        ["bbr", "director", "--host", &host, "-u", USER, "--key", &key, "restore", "-a", directory.to_str().unwrap()];
    let mut command = Command::new(program::onggi());
    command.env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default()).env("TZ", "UTC");
    command.env("HOME", rig.path("home")).current_dir(rig.0.path());
    let output = command.args(words).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(instance.read("/var/vcap/store/restored-db/dump.sql").unwrap(), "insert 1;\n");
    instance.run("rm /var/vcap/store/restored-db/dump.sql");
    // Into another repository, and from there into the platform.
    fs::remove_dir_all(rig.path("repository")).unwrap();
    rig.run(&["init"]);
    rig.run(&["import", "bbr-artifact", directory.to_str().unwrap(), "--source", "SOURCE"]);
    assert!(rig.run(&["ls", "latest"]).contains("/bosh/127.0.0.1/bosh/0/blobs/ab/first"));
    rig.run(&["restore", "latest", "--to", "source", "--yes"]);
    assert_eq!(instance.read("/var/vcap/store/restored-db/dump.sql").unwrap(), "insert 1;\n");
}

/// A machine with onggi and a source that is what this Director deploys; and the file of its authority.
pub fn rig_of(fake: &FakeDirector) -> (Rig, tempfile::NamedTempFile) {
    let ca = tempfile::NamedTempFile::new().unwrap();
    fs::write(ca.path(), fake.ca()).unwrap();
    let rig = Rig::new(&format!(
        "mode: deployment\n    director: {{ url: \"{}\", client: {}, client-secret: \"env:CLIENT_SECRET\", ca: {} }}",
        fake.url(),
        FakeDirector::CLIENT,
        ca.path().display()
    ));
    (rig, ca)
}

/// A Director with one deployment of these instances; its agents make real users there.
pub fn director_of(instances: &Arc<Vec<Instance>>) -> Option<FakeDirector> {
    let known = |(index, instance): (usize, &Instance)| director::Instance::of(instance, format!("id{index}"), index);
    let deployment = Deployment {
        name: "cf".to_owned(),
        manifest:
            "name: cf\ninstance_groups:\n- name: db\n  jobs: [{name: db, release: r}, {name: blobs, release: r}]\n"
                .to_owned(),
        instances: instances.iter().enumerate().map(known).collect(),
    };
    let other = Deployment { name: "other".to_owned(), ..Deployment::default() };
    let script = Script { deployments: vec![deployment, other], entry: director::EntryKind::Uaa, ..Script::default() };
    let there = instances.clone();
    FakeDirector::start_with(script, Certificate::OwnAuthority, move |order| {
        let instance = &there[order.instance.index as usize];
        let done = match &order.command {
            director::Command::Setup { user, public_key } => instance.add_user(user, public_key),
            director::Command::Cleanup { user_regex } => {
                instance.run(&format!("getent passwd | cut -d: -f1 | grep '{user_regex}' | xargs -r -n1 userdel -f -r"))
            }
        };
        if done.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&done.stderr).into_owned()) }
    })
}

pub fn users(instance: &Instance) -> String {
    String::from_utf8(instance.run("grep -c '^bosh_[0-9a-f]' /etc/passwd").stdout).unwrap().trim().to_owned()
}

#[test]
fn a_deployment_is_entered_by_users_that_go_again() {
    let Some(one) = Instance::start() else { return };
    let instances = Arc::new(vec![one, Instance::start().unwrap()]);
    instances.iter().for_each(with_jobs);
    instances[1].write("/var/vcap/store/db.sql", "insert 9;\n");
    let Some(fake) = director_of(&instances) else { return };
    let ca = tempfile::NamedTempFile::new().unwrap();
    fs::write(ca.path(), fake.ca()).unwrap();
    let rig = Rig::new(&format!(
        "mode: deployment\n    director: {{ url: \"{}\", client: {}, client-secret: \"env:CLIENT_SECRET\", ca: {} }}\n    with-manifest: true",
        fake.url(),
        FakeDirector::CLIENT,
        ca.path().display()
    ));
    assert!(rig.run(&["source", "discover", "SOURCE"]).contains("cf"));
    rig.run(&["backup", "SOURCE/cf"]);
    let listed = rig.run(&["ls", "latest"]);
    for path in ["/bosh/cf/db/0/db/dump.sql", "/bosh/cf/db/1/db/dump.sql", "/bosh/cf/_meta/manifest.yml"] {
        assert!(listed.contains(path), "{path} in {listed}");
    }
    for instance in instances.iter() {
        assert_eq!((users(instance).as_str(), instance.has(STORE)), ("0", false));
        assert_eq!(instance.calls().len(), 6);
    }
    rig.run(&["restore", "latest", "--to", "source", "--yes"]);
    assert_eq!(instances[1].read("/var/vcap/store/restored-db/dump.sql").unwrap(), "insert 9;\n");
    instances.iter().for_each(|instance| drop(instance.calls()));
    // One job alone, and on the second instance what the first one gave.
    let words = ["restore", "latest", "--to", "source", "--job", "db", "--instance", "db/0=db/1"];
    let planned = rig.run(&[&words[..], &["--dry-run"]].concat());
    assert!(
        planned.contains("leave   db/0/blobs") && planned.contains("leave   what is stored of db/1/db"),
        "{planned}"
    );
    rig.run(&[&words[..], &["--yes"]].concat());
    assert_eq!(instances[1].read("/var/vcap/store/restored-db/dump.sql").unwrap(), "insert 1;\n");
    for instance in instances.iter() {
        let calls = instance.calls();
        assert!(calls.contains(&"blobs/pre-restore-lock".to_owned()) && calls.contains(&"db/restore".to_owned()));
        assert!(!calls.contains(&"blobs/restore".to_owned()), "{calls:?}");
        assert_eq!((users(instance).as_str(), instance.has(STORE)), ("0", false));
    }
}

#[test]
fn after_a_failed_script_no_user_and_no_lock_stays() {
    let Some(one) = Instance::start() else { return };
    let instances = Arc::new(vec![one]);
    instances.iter().for_each(with_jobs);
    instances[0].script("db", "backup", "exit 1");
    let Some(fake) = director_of(&instances) else { return };
    let (rig, _ca) = rig_of(&fake);
    assert!(!rig.try_run(&["backup", "SOURCE/cf"]).status.success());
    assert_eq!((users(&instances[0]).as_str(), instances[0].has(STORE)), ("0", false));
    assert_eq!(instances[0].read("/var/vcap/data/success").unwrap(), "false\nfalse\n");
}

#[test]
fn jobs_are_held_hardly_longer_than_their_scripts_run() {
    let Some(instance) = Instance::start() else { return };
    with_jobs(&instance);
    instance.run("head -c 20000000 /dev/urandom > /var/vcap/store/blobs/large");
    let note = "date +%s%N >> /var/vcap/data/times; sleep 0.4; date +%s%N >> /var/vcap/data/times";
    for (job, script) in [("db", "pre-backup-lock"), ("db", "backup"), ("db", "post-backup-unlock")] {
        instance.script(job, script, note);
    }
    let rig = Rig::of_director(&instance, "");
    rig.back_up();
    let times = instance.read("/var/vcap/data/times").unwrap();
    let times: Vec<f64> = times.lines().map(|line| line.parse::<u64>().unwrap() as f64 / 1e9).collect();
    let own: f64 = times.chunks(2).map(|pair| pair[1] - pair[0]).sum();
    rig.run(&["restore", "latest:/.onggi", "--target", "notes"]);
    let mut found = Command::new("find");
    let found =
        found.arg(rig.path("notes")).args(["-name", "manifest.json", "-exec", "cat", "{}", ";"]).output().unwrap();
    let manifest: Value = serde_json::from_slice(&found.stdout).unwrap();
    let held = manifest["facts"]["notes"]["held-seconds"].as_f64().unwrap();
    assert!((own..own + 1.0).contains(&held), "held for {held} s, scripts ran for {own} s");
}

#[test]
fn no_secret_is_said_or_kept_on_this_machine() {
    let Some(one) = Instance::start() else { return };
    let instances = Arc::new(vec![one]);
    instances.iter().for_each(with_jobs);
    let Some(fake) = director_of(&instances) else { return };
    let (rig, _ca) = rig_of(&fake);
    for words in [&["-vv", "source", "preflight", "SOURCE"][..], &["-vv", "backup", "SOURCE/cf"], &["config", "show"]] {
        let output = rig.try_run(words);
        let said = [output.stdout, output.stderr].concat();
        let said = String::from_utf8_lossy(&said);
        assert!(!said.contains(FakeDirector::SECRET) && !said.contains("PRIVATE KEY"), "{words:?}: {said}");
    }
    let listed = rig.run(&["ls", "latest"]);
    assert!(!listed.contains("manifest.yml"), "it was not asked for: {listed}");
    let words = ["-r", "-l", "-e", FakeDirector::SECRET, "-e", "PRIVATE KEY"];
    for place in [rig.path("home"), PathBuf::from("/var/lib/onggi/marks/bosh")] {
        let found = Command::new("grep").args(words).arg(place).output().unwrap();
        assert!(!found.status.success(), "{}", String::from_utf8_lossy(&found.stdout));
    }
}
