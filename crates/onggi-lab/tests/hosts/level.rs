//! What a host's user may read, and who may start what.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::Command;

use onggi_lab::peer;
use onggi_lab::program::Ended;

use super::bed::{Hub, listed};
use super::server::{Server, run};

/// A user of this machine that ends with the test.
pub struct User {
    pub name: String,
}

impl User {
    #[track_caller]
    pub fn make(name: &str) -> Option<Self> {
        let name = format!("{name}-{}", std::process::id());
        let mut command = Command::new("/usr/sbin/useradd");
        let made = command.args(["--create-home", "--shell", "/bin/bash", "--password", "*", &name]).output();
        if made.is_ok_and(|output| output.status.success()) {
            return Some(Self { name });
        }
        peer::skip("no user can be made here; it needs root and useradd");
        None
    }
}

impl Drop for User {
    fn drop(&mut self) {
        Command::new("/usr/sbin/userdel").args(["--remove", "--force", &self.name]).output().ok();
    }
}

/// Where an administrator would install the program; removed with the test.
struct Installed(std::path::PathBuf);

impl Installed {
    fn make(hub: &Hub) -> Self {
        let folder = Path::new("/usr/local/lib/onggi");
        fs::create_dir_all(folder).unwrap();
        hub.own_program();
        let path = folder.join(name_of_program(hub));
        fs::copy(hub.path("program"), &path).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        Self(path)
    }

    /// Another program in its place. The old one may still be ending, so it is not written over.
    fn replace(&self, program: &[u8]) {
        let new = self.0.with_extension("new");
        fs::write(&new, program).unwrap();
        fs::set_permissions(&new, fs::Permissions::from_mode(0o755)).unwrap();
        fs::rename(new, &self.0).unwrap();
    }
}

pub fn name_of_program(hub: &Hub) -> String {
    let digest = run(Command::new("sha256sum").arg(hub.path("program")));
    format!("onggi-node-{}-{}", env!("CARGO_PKG_VERSION"), &digest[..16])
}

impl Drop for Installed {
    fn drop(&mut self) {
        fs::remove_file(&self.0).ok();
    }
}

#[test]
fn each_level_reads_what_it_says_and_no_more() {
    let Some(server) = Server::start() else { return };
    let Some(user) = User::make("onggi-level") else { return };
    let hub = Hub::new();
    let installed = Installed::make(&hub);
    let path = installed.0.display().to_string();
    let rule = format!("/etc/sudoers.d/{}", user.name);
    let back_up = |level: &str| {
        let key = server.path("client").display().to_string();
        let connect = format!("user: {}, key: {key}, trust: pinned", user.name);
        hub.configure(
            &connect,
            &format!("become: {level}\npaths: [/etc/shadow, /etc/hostname]"),
            &[("n1", listed(&server))],
        );
        hub.back_up()
    };

    let ended = back_up("none");
    assert!(ended.code == Some(3) && ended.tells("denied"), "{ended:?}");

    let ended = back_up("sudo");
    assert!(ended.code == Some(13) && ended.tells("become-refused"), "{ended:?}");
    let digest = run(Command::new("sha256sum").arg(&installed.0));
    let digest = digest.split_whitespace().next().unwrap();
    let line = format!("{} ALL=(root) NOPASSWD: sha256:{digest} {path} read\n", user.name);
    fs::write(&rule, line).unwrap();
    fs::set_permissions(&rule, fs::Permissions::from_mode(0o440)).unwrap();
    let ended = back_up("sudo");
    assert_eq!(ended.code, Some(0), "{ended:?}");
    // one byte more, and the rule does not hold for it
    let mut altered = fs::read(&installed.0).unwrap();
    altered.push(0);
    installed.replace(&altered);
    let ended = back_up("sudo");
    assert!(ended.code == Some(13) && ended.tells("become-refused"), "{ended:?}");
    fs::remove_file(&rule).unwrap();
    installed.replace(&fs::read(hub.path("program")).unwrap());

    if Command::new("setcap").args(["cap_dac_read_search+ep", &path]).status().is_ok_and(|status| status.success()) {
        let ended = back_up("capability");
        assert_eq!(ended.code, Some(0), "{ended:?}");
        run(Command::new("setcap").args(["-r", &path]));
    } else {
        peer::skip("setcap does not work here");
    }
}

#[test]
fn a_forced_command_reads_the_hosts_own_list_and_nothing_else() {
    let Some(server) = Server::start() else { return };
    let hub = Hub::new();
    let installed = Installed::make(&hub);
    hub.write("data/allowed/file", "x");
    hub.write("data/other/file", "x");
    let (allowed, other) =
        (hub.path("data/allowed").display().to_string(), hub.path("data/other").display().to_string());
    let journal = UnixDatagram::bind(hub.path("journal")).unwrap();
    journal.set_nonblocking(true).unwrap();
    hub.write(
        "policy",
        format!("root {allowed}\ndump words echo of the host\nlog {}\n", hub.path("journal").display()),
    );
    let command = format!("{} read --policy {}", installed.0.display(), hub.path("policy").display());
    let line = format!("restrict,command=\"{command}\" {}\n", server.public("client"));
    fs::write(server.path("authorized"), line).unwrap();
    let key = server.path("client").display().to_string();
    let connect = format!("user: root, key: {key}, trust: pinned");
    let keys = format!(
        "become: forced\npaths: [{allowed}, {other}]\ndumps: [{{ name: words }}, {{ name: other, command: [id], when: a=b }}]"
    );
    hub.configure(&connect, &keys, &[("n1", listed(&server))]);
    let ended = hub.back_up();
    assert!(ended.code == Some(3) && ended.tells("denied") && ended.tells("data/other"), "{ended:?}");
    let mut told = [0; 1000];
    let length = journal.recv(&mut told).expect("the refusal stands in the host's own journal");
    let told = String::from_utf8_lossy(&told[..length]).into_owned();
    assert!(told.contains("onggi-node[") && told.ends_with(&format!("refused to read \"{other}\"")), "{told}");
    let listing = hub.onggi("ls latest").out;
    assert!(listing.contains("data/allowed/file") && !listing.contains("data/other"), "{listing}");
    assert!(listing.contains("/onggi/dump/words"), "{listing}");

    let ssh = |more: &[&str]| {
        let known = format!("[127.0.0.1]:{} {}\n", server.port, server.public("host"));
        fs::write(server.path("known"), known).unwrap();
        let mut ssh = hub.command("ssh".as_ref());
        ssh.args(["-o", "BatchMode=yes", "-o", "ExitOnForwardFailure=yes", "-o", "IdentitiesOnly=yes"]);
        ssh.arg("-o").arg(format!("UserKnownHostsFile={}", server.path("known").display()));
        ssh.arg("-i").arg(&key).args(["-p", &server.port.to_string()]).args(more);
        Ended::of(ssh.stdin(std::process::Stdio::null()).output().unwrap())
    };
    let ended = ssh(&["root@127.0.0.1", "cat /etc/shadow"]);
    assert!(ended.out.starts_with("ONGGI-NODE 1 ") && !ended.out.contains("root:"), "{ended:?}");
    let ended = ssh(&["-W", "127.0.0.1:1", "root@127.0.0.1"]);
    assert_ne!(ended.code, Some(0), "{ended:?}");
    let ended = ssh(&["-tt", "root@127.0.0.1"]);
    assert!(ended.err.contains("PTY allocation request failed"), "{ended:?}");
}

#[test]
fn a_home_that_runs_no_program_is_passed_over_for_another_place() {
    let Some(server) = Server::start() else { return };
    let hub = Hub::new();
    hub.write("data/file", "x");
    hub.configure_one(&server, "");
    hub.own_program();
    let home = hub.path("closed-home");
    fs::create_dir(&home).unwrap();
    let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", "noexec", "none"]).arg(&home).output();
    if !mounted.is_ok_and(|output| output.status.success()) {
        return peer::say("no file system can be mounted here");
    }
    let line = |home: &str| {
        format!(
            "command=\"export XDG_CACHE_HOME={home}; eval \\\"$SSH_ORIGINAL_COMMAND\\\"\" {}\n",
            server.public("client")
        )
    };
    fs::write(server.path("authorized"), line(&home.display().to_string())).unwrap();
    let ended = hub.back_up();
    run(Command::new("umount").arg(&home));
    assert_eq!(ended.code, Some(0), "{ended:?}");
    fs::remove_file(Path::new("/var/tmp/onggi-0").join(name_of_program(&hub))).unwrap();
}

#[test]
fn a_host_without_a_place_that_runs_programs_is_blocked_and_all_places_are_named() {
    let Some(server) = Server::start() else { return };
    let hub = Hub::new();
    hub.write("data/file", "x");
    hub.configure_one(&server, "");
    hub.own_program();
    let places = ["/var/tmp", "/dev/shm", "/run"];
    let mounts = places.map(|place| format!("mount -t tmpfs -o noexec none {place} || exit 99\n")).concat();
    let script = format!("{mounts}export XDG_CACHE_HOME=/var/tmp/cache\neval \"$SSH_ORIGINAL_COMMAND\"\n");
    hub.write("closed", script);
    // the mounts are seen by nobody else
    let command = format!("unshare --mount sh {}", hub.path("closed").display());
    fs::write(server.path("authorized"), format!("command=\"{command}\" {}\n", server.public("client"))).unwrap();
    let ended = hub.back_up();
    if ended.tells("status 99") || ended.tells("unshare") {
        return peer::say("no file system can be mounted here");
    }
    assert!(ended.code == Some(13) && ended.tells("program-blocked"), "{ended:?}");
    for place in ["/var/tmp/cache/onggi", "/var/tmp/onggi-0", "/dev/shm/onggi-0", "/run/user/0/onggi"] {
        assert!(ended.tells(place), "{place}: {ended:?}");
    }
}

#[test]
fn enrolling_makes_a_host_ready_and_twice_changes_nothing() {
    let Some(server) = Server::start() else { return };
    let Some(user) = User::make("onggi-enroll") else { return };
    let hub = Hub::new();
    hub.own_program();
    let (key, operator) = (server.path("stranger").display().to_string(), hub.operator(&server.path("client")));
    let connect = format!("user: {}, key: {key}, trust: pinned{operator}", user.name);
    hub.configure(&connect, "become: sudo\npaths: [/etc/shadow]", &[("n1", listed(&server))]);
    let ended = hub.back_up();
    assert_eq!(ended.code, Some(13), "{ended:?}");
    let program = Path::new("/usr/local/lib/onggi").join(name_of_program(&hub));
    let rule = Path::new("/etc/sudoers.d").join(&user.name);
    let state = || {
        let files = [Path::new("/home").join(&user.name).join(".ssh/authorized_keys"), rule.clone(), program.clone()];
        files.map(|file| (fs::read(&file).unwrap(), fs::metadata(&file).unwrap().permissions().mode()))
    };
    let enrolled = hub.onggi("hosts enroll n1 --login root");
    assert_eq!(enrolled.code, Some(0), "{enrolled:?}");
    let first = state();
    let again = hub.onggi("hosts enroll n1 --login root");
    assert_eq!(again.code, Some(0), "{again:?}");
    assert!(state() == first);
    let ended = hub.back_up();
    let other = hub.onggi("hosts authorize n1 --key @other.pub");
    fs::copy(server.path("other.pub"), hub.path("other.pub")).unwrap();
    let authorized = hub.onggi("hosts authorize n1 --key @other.pub");
    let lines = fs::read_to_string(Path::new("/home").join(&user.name).join(".ssh/authorized_keys")).unwrap();
    fs::remove_file(&rule).unwrap();
    fs::remove_file(&program).unwrap();
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert_eq!((other.code == Some(0), authorized.code), (false, Some(0)), "{authorized:?}");
    assert_eq!(lines.lines().count(), 2, "{lines}");
    let printed = hub.onggi("hosts enroll n1 --print cloud-init");
    assert!(printed.out.starts_with("#cloud-config") && printed.out.contains("sha256:"), "{printed:?}");
}
