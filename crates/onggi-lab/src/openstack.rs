//! A real OpenStack on loopback, brought up by `lab/openstack` once and left for the next test program: its state takes
//! minutes to make and seconds to find. Whoever has it, has it alone.

pub mod bench;
pub mod desk;
pub mod judge;

use std::fs::{self, File};
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, ExitStatus, Output, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::peer;

/// Where the lab keeps everything; outside the tree, because a share in it is mounted.
const STATE: &str = "/var/tmp/onggi-lab-openstack/state";
/// Until something becomes as a test wants it.
const PATIENCE: Duration = Duration::from_mins(5);
/// How many bytes of a service's log tell why something failed.
const LAST_WORDS: usize = 8 << 10;

/// Whether `up` was called and no test has failed since.
static IS_UP: Mutex<bool> = Mutex::new(false);
/// OpenStack's own client, once it was asked for something.
static CLIENT: Mutex<Option<(Child, ChildStdin, BufReader<ChildStdout>)>> = Mutex::new(None);

/// The lab while this process holds it.
pub struct Openstack {
    /// Others wait for it.
    _claim: File,
}

impl Openstack {
    /// Brings it up, or says that the test is skipped.
    ///
    /// # Panics
    /// If nothing may be skipped.
    #[track_caller]
    pub fn start() -> Option<Self> {
        if !rustix::process::geteuid().is_root() {
            peer::skip("lab/openstack needs root");
            return None;
        }
        let folder = Path::new(STATE).parent().expect("it is below a folder");
        fs::create_dir_all(folder).expect("create the folder of the lab");
        let claim = File::create(folder.join("claim")).expect("create the claim");
        rustix::fs::flock(&claim, rustix::fs::FlockOperation::LockExclusive).expect("claim the lab");
        // Once for all tests of a process, unless one failed and may have left anything.
        let mut is_up = IS_UP.lock().unwrap_or_else(PoisonError::into_inner);
        if !*is_up {
            let output = script("up").arg(STATE).output().expect("lab/openstack/up starts");
            if !output.status.success() {
                peer::skip(&format!("lab/openstack/up: {}", String::from_utf8_lossy(&output.stderr).trim()));
                return None;
            }
            *is_up = true;
        }
        drop(is_up);
        let lab = Self { _claim: claim };
        lab.clean();
        Some(lab)
    }

    /// Takes away what earlier tests left: all servers but the lab's own, what onggi made, what was restored.
    fn clean(&self) {
        let listed = |words: &[&str]| self.json(words).as_array().cloned().unwrap_or_default();
        let text = |one: &Value, key: &str| one[key].as_str().unwrap_or_default().to_owned();
        for server in listed(&["server", "list"]) {
            if !["vm1", "vm2", "vol1"].contains(&server["Name"].as_str().unwrap_or_default()) {
                self.client(&["server", "delete", "--wait", &text(&server, "ID")]);
            }
        }
        let moved = self.try_client("demo", "other__project", &["server", "list", "-f", "value", "-c", "ID"]);
        for id in String::from_utf8_lossy(&moved.stdout).lines() {
            self.try_client("demo", "other__project", &["server", "delete", "--wait", id]);
        }
        let moved =
            self.try_client("demo", "other__project", &["image", "list", "--private", "-f", "value", "-c", "ID"]);
        for id in String::from_utf8_lossy(&moved.stdout).lines() {
            self.try_client("demo", "other__project", &["image", "delete", id]);
        }
        for image in listed(&["image", "list", "--private"]) {
            self.client(&["image", "delete", &text(&image, "ID")]);
        }
        for snapshot in listed(&["volume", "snapshot", "list"]) {
            self.client(&["volume", "snapshot", "delete", &text(&snapshot, "ID")]);
        }
        for volume in listed(&["volume", "list"]).iter().filter(|volume| volume["Status"] == "available") {
            self.client(&["volume", "delete", &text(volume, "ID")]);
        }
        self.until("an end of the snapshots", || self.blocks().is_empty().then_some(()));
    }

    /// One of its files.
    pub fn file(&self, name: &str) -> PathBuf {
        Path::new(STATE).join(name)
    }

    /// Does something to one of its daemons: `pause nova-compute`.
    ///
    /// # Panics
    /// If it cannot be done.
    #[track_caller]
    pub fn service(&self, words: &[&str]) {
        let output = script("svc").arg(STATE).args(words).output().expect("lab/openstack/svc starts");
        assert!(output.status.success(), "svc {words:?}: {}", String::from_utf8_lossy(&output.stderr));
    }

    /// Sets an option of a service and starts that anew; an empty value takes it out.
    pub fn configure(&self, section: &str, key: &str, value: &str, file: &str, service: &str) {
        self.service(&["set", section, key, value, file]);
        self.service(&["restart", service]);
    }

    /// Starts Glance anew with a store that reads ranges, as that of files does, or refuses them, as others do.
    pub fn let_images_be_read_by_range(&self, is_allowed: bool) {
        let refusal = self.file("run/glance-refuses-ranges");
        if is_allowed {
            fs::remove_file(refusal).ok();
        } else {
            fs::write(refusal, "").expect("write into the lab");
        }
        self.service(&["restart", "glance-api"]);
    }

    /// OpenStack's own client, as this user in this project.
    pub fn try_client(&self, user: &str, project: &str, words: &[&str]) -> Output {
        let mut client = CLIENT.lock().unwrap_or_else(PoisonError::into_inner);
        let (_, asked, answers) = client.get_or_insert_with(|| {
            // It ends with this process, when nobody can ask it any more.
            let line = ". \"$1\"; exec /usr/bin/python3 \"$2\"";
            let mut command = Command::new("bash");
            command
                .env_clear()
                .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
                .env("HOME", STATE)
                .env("LC_ALL", "C.UTF-8");
            command.args(["-c", line, "bash"]).arg(self.file("demo-openrc")).arg(place("client.py"));
            let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("bash starts");
            let answers = BufReader::new(child.stdout.take().expect("it is piped"));
            let asked = child.stdin.take().expect("it is piped");
            (child, asked, answers)
        });
        writeln!(asked, "{}", json!([user, project, words])).expect("ask OpenStack's client");
        let mut answer = String::new();
        answers.read_line(&mut answer).expect("hear OpenStack's client");
        let answer: Value = serde_json::from_str(&answer).expect("it answers with a document");
        let bytes = |key: &str| answer[key].as_str().unwrap_or_default().as_bytes().to_vec();
        let code = answer["code"].as_i64().and_then(|code| i32::try_from(code).ok()).unwrap_or(1);
        // As `wait` gives it: the code is the second byte.
        Output { status: ExitStatus::from_raw((code & 0xff) << 8), stdout: bytes("out"), stderr: bytes("err") }
    }

    /// What it says as `demo`; it must end well.
    ///
    /// # Panics
    /// If it fails.
    #[track_caller]
    pub fn client(&self, words: &[&str]) -> String {
        let output = self.try_client("demo", "demo", words);
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "openstack {}: {said}", words.join(" "));
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// The same as a document.
    #[track_caller]
    pub fn json(&self, words: &[&str]) -> Value {
        let words: Vec<_> = words.iter().copied().chain(["-f", "json"]).collect();
        serde_json::from_str(&self.client(&words)).expect("it prints JSON")
    }

    /// The id of a thing by its name.
    #[track_caller]
    pub fn id(&self, kind: &str, name: &str) -> String {
        self.json(&[kind, "show", name])["id"].as_str().expect("it has an id").to_owned()
    }

    /// The names of all images that onggi made.
    pub fn images(&self) -> Vec<String> {
        names(&self.json(&["image", "list"]))
    }

    /// The names of all snapshots and volumes that bear our name, or Nova's name of an image of ours.
    pub fn blocks(&self) -> Vec<String> {
        let mut found = names(&self.json(&["volume", "snapshot", "list"]));
        found.extend(names(&self.json(&["volume", "list"])));
        found
    }

    /// Makes a server that starts like this, and waits until its guest runs.
    #[track_caller]
    pub fn create_server(&self, name: &str, from: &[&str]) {
        let place = ["--flavor", "lab.tiny", "--network", "demo-net"];
        self.client(&[&["server", "create", "--wait"], from, &place[..], &[name]].concat());
        self.until_console(name);
    }

    /// What a server's guest says once it runs.
    #[track_caller]
    pub fn until_console(&self, name: &str) -> String {
        self.until("a console", || {
            let said = self.client(&["console", "log", "show", name]);
            said.contains("guest: ready").then_some(said)
        })
    }

    /// Waits until a server is in a state and nobody works on it.
    #[track_caller]
    pub fn until_server(&self, name: &str, status: &str) {
        if let Some(instead) = self.not_in_state(name, status) {
            panic!("{name} does not become {status}: {instead}");
        }
    }

    /// Has a server brought into a state by an action of its administrator. Where Nova fails at it, as it may on a busy
    /// machine, what it says is shown, the server is started anew, and Nova is asked once more.
    #[expect(clippy::print_stderr, reason = "what a test met on its way is talk")]
    #[track_caller]
    pub fn bring(&self, name: &str, action: &[&str], status: &str) {
        self.administrate(&[action, &[name]].concat());
        let Some(instead) = self.not_in_state(name, status) else { return };
        eprintln!("{name} does not become {status}, and is started anew: {instead}");
        self.administrate(&["server", "set", "--state", "active", name]);
        self.administrate(&["server", "reboot", "--hard", "--wait", name]);
        if status != "ACTIVE" {
            self.administrate(&[action, &[name]].concat());
            self.until_server(name, status);
        }
    }

    /// What OpenStack's own client says to the administrator.
    #[track_caller]
    fn administrate(&self, words: &[&str]) -> String {
        let done = self.try_client("admin", "demo", words);
        assert!(done.status.success(), "{words:?}: {done:?}");
        String::from_utf8_lossy(&done.stdout).into_owned()
    }

    /// What a server is instead, if it has failed or is not in this state after a while.
    #[track_caller]
    fn not_in_state(&self, name: &str, status: &str) -> Option<String> {
        let began = Instant::now();
        loop {
            let server = self.json(&["server", "show", name]);
            let is_idle = server["OS-EXT-STS:task_state"].is_null();
            if is_idle && server["status"] == status {
                return None;
            }
            if is_idle && server["status"] == "ERROR" || began.elapsed() > PATIENCE {
                let events = self.client(&["server", "event", "list", "--long", name]);
                let log = fs::read(self.file("log/nova-compute.log")).unwrap_or_default();
                let end = String::from_utf8_lossy(&log[log.len().saturating_sub(LAST_WORDS)..]).into_owned();
                return Some(format!("{server:#}\n{events}\n{end}"));
            }
        }
    }

    /// Asks again until it is so.
    ///
    /// # Panics
    /// If it never is.
    #[track_caller]
    pub fn until<T>(&self, what: &str, mut look: impl FnMut() -> Option<T>) -> T {
        let began = Instant::now();
        loop {
            if let Some(found) = look() {
                return found;
            }
            assert!(began.elapsed() < PATIENCE, "{what} does not come");
        }
    }
}

/// Where the catalog says that a service is; goes back to what it was.
pub struct Endpoint<'a> {
    lab: &'a Openstack,
    id: String,
    url: String,
}

impl<'a> Endpoint<'a> {
    /// That of a kind of service, `image` for example, which everybody uses.
    ///
    /// # Panics
    /// If the catalog has none.
    #[track_caller]
    pub fn of(lab: &'a Openstack, service: &str) -> Self {
        let words = ["endpoint", "list", "--service", service, "--interface", "public", "-f", "json"];
        let listed = lab.administrate(&words);
        let listed: Value = serde_json::from_str(&listed).expect("it prints JSON");
        let text = |key: &str| listed[0][key].as_str().expect("the service has an endpoint").to_owned();
        Self { lab, id: text("ID"), url: text("URL") }
    }

    /// What the catalog said first.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Lets the catalog say another place.
    #[track_caller]
    pub fn lead_to(&self, url: &str) {
        self.lab.administrate(&["endpoint", "set", "--url", url, &self.id]);
    }
}

impl Drop for Endpoint<'_> {
    fn drop(&mut self) {
        self.lead_to(&self.url);
    }
}

fn names(listed: &Value) -> Vec<String> {
    let all = listed.as_array().into_iter().flatten().filter_map(|one| one["Name"].as_str());
    all.filter(|name| name.contains("onggi-")).map(ToOwned::to_owned).collect()
}

impl Drop for Openstack {
    fn drop(&mut self) {
        if std::thread::panicking() {
            *IS_UP.lock().unwrap_or_else(PoisonError::into_inner) = false;
        }
    }
}

fn script(name: &str) -> Command {
    Command::new(place(name))
}

/// Where a file of the lab lies.
fn place(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../lab/openstack").join(name)
}
