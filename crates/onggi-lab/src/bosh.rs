//! An instance of a BOSH platform without a platform: a namespace of its own over this machine's files, with jobs that
//! the test writes and a real SSH server. What is changed there is gone with it.
//!
//! Needs root, OpenSSH's server, sudo and namespaces; without them a test says that it is skipped.

pub mod bed;
pub mod bench;
pub mod judge;
pub mod jumpbox;

use std::fs;
use std::io::{self, Write as _};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use tempfile::TempDir;

use crate::peer;

/// Where what scripts make lies until it is carried away.
pub const STORE: &str = "/var/vcap/store/bbr-backup";
/// Who is let in from the start.
pub const USER: &str = "bbr-lab";
/// A user and group id that nobody has.
const ID: u32 = 61_813;
/// The rounds that a server has to answer before it counts as dead.
const TRIES: usize = 1000;
/// What scripts write down, one call to a line.
const CALLS: &str = "/var/vcap/data/calls";

/// The first process of the namespace: mounts, then becomes the server.
const INIT: &str = r#"
set -e
mount --make-rprivate /
mount -t overlay overlay -o "lowerdir=/,upperdir=$1/up,workdir=$1/work" "$1/root"
cd "$1/root"
mount -t proc proc proc
mount --rbind /dev dev
mount -t tmpfs tmpfs tmp
mount -t tmpfs tmpfs run
mkdir -p run/sshd
exec chroot . /usr/sbin/sshd -D -e -f /etc/bosh-lab/sshd_config
"#;

/// A running instance.
pub struct Instance {
    /// Where its server listens, on 127.0.0.1.
    pub port: u16,
    place: TempDir,
    child: Child,
    /// The first process of its namespace.
    init: u32,
}

impl Instance {
    /// Starts one that has no jobs, or says why the test is skipped.
    #[track_caller]
    pub fn start() -> Option<Self> {
        Self::start_with("")
    }

    /// The same with further lines of the server's configuration.
    #[track_caller]
    pub fn start_with(lines: &str) -> Option<Self> {
        match Self::try_start(lines) {
            Ok(instance) => Some(instance),
            Err(why) => {
                peer::skip(&format!("no instance of BOSH can be made here: {why}"));
                None
            }
        }
    }

    fn try_start(lines: &str) -> Result<Self, String> {
        let missing = ["/usr/sbin/sshd", "/usr/bin/sudo", "/usr/bin/unshare", "/usr/bin/shasum"];
        if let Some(path) = missing.iter().find(|path| !Path::new(path).exists()) {
            return Err(format!("there is no {path}"));
        }
        if !rustix::process::geteuid().is_root() {
            return Err("only root can".to_owned());
        }
        let place = tempfile::tempdir().map_err(|error| error.to_string())?;
        let port = TcpListener::bind("127.0.0.1:0").and_then(|one| one.local_addr()).map_err(|e| e.to_string())?.port();
        prepare(place.path(), port, lines).map_err(|error| error.to_string())?;
        let log = fs::File::create(place.path().join("log")).map_err(|error| error.to_string())?;
        let mut command = Command::new("unshare");
        command.args(["-m", "-p", "-f", "--kill-child", "sh", "-c", INIT, "init"]).arg(place.path());
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        let child = command.spawn().map_err(|error| error.to_string())?;
        let mut instance = Self { port, place, child, init: 0 };
        instance.await_server()?;
        Ok(instance)
    }

    fn await_server(&mut self) -> Result<(), String> {
        for _ in 0..TRIES {
            let ended = self.child.try_wait().map_err(|error| error.to_string())?;
            if ended.is_some() {
                return Err(self.log());
            }
            if TcpStream::connect(("127.0.0.1", self.port)).is_ok() {
                self.init = first_child(self.child.id()).ok_or("its first process is not found")?;
                return Ok(());
            }
            Command::new("true").status().ok(); // as long as it takes to start a program
        }
        Err(format!("its server does not listen: {}", self.log()))
    }

    /// Its first process, the server, as this machine numbers it.
    pub fn init(&self) -> u32 {
        self.init
    }

    /// What its server said.
    pub fn log(&self) -> String {
        fs::read_to_string(self.place.path().join("log")).unwrap_or_default()
    }

    /// How often somebody connected.
    pub fn connections(&self) -> usize {
        self.log().matches("Accepted publickey for").count()
    }

    /// Bytes that its server has sent over connections that have ended. Those that are about to end are waited for.
    pub fn sent(&self) -> u64 {
        const MARK: &str = "Transferred: sent ";
        for _ in 0..TRIES {
            if self.log().matches(MARK).count() >= self.connections() {
                break;
            }
            Command::new("true").status().ok(); // as long as it takes to start a program
        }
        let log = self.log();
        let counts = log.lines().filter_map(|line| line.split_once(MARK)?.1.split(',').next()?.parse::<u64>().ok());
        counts.sum()
    }

    /// The private key that lets [`USER`] in.
    pub fn key(&self) -> PathBuf {
        self.place.path().join("client")
    }

    /// A configuration with this director as the source `director`.
    pub fn configuration(&self) -> String {
        format!(
            "version: 1\nsources:\n  director:\n    kind: bosh\n    mode: director\n    connect: {{ host: \"127.0.0.1:{}\", \
             user: {USER}, key: \"file:{}\", host-key: \"{}\" }}\n",
            self.port,
            self.key().display(),
            self.host_key()
        )
    }

    /// The server's own key, as a line of `known_hosts` has it behind the name.
    pub fn host_key(&self) -> String {
        let line = fs::read_to_string(self.place.path().join("up/etc/bosh-lab/host.pub")).unwrap_or_default();
        line.split_whitespace().take(2).collect::<Vec<_>>().join(" ")
    }

    /// A path of the instance as this machine reaches it.
    pub fn path(&self, path: &str) -> PathBuf {
        PathBuf::from(format!("/proc/{}/root{path}", self.init))
    }

    /// Gives it a job that is locked and unlocked, and backed up and restored by these texts. Whether a backup succeeded
    /// stands in `/var/vcap/data/success`, as unlocking was told.
    pub fn job(&self, job: &str, backup: &str, restore: &str) {
        let unlock = "echo \"$BBR_AFTER_BACKUP_SCRIPTS_SUCCESSFUL\" >> /var/vcap/data/success";
        for (name, text) in [
            ("pre-backup-lock", ""),
            ("backup", backup),
            ("post-backup-unlock", unlock),
            ("pre-restore-lock", ""),
            ("restore", restore),
            ("post-restore-unlock", ""),
        ] {
            self.script(job, name, text);
        }
    }

    /// Gives a job a script. It writes down that it was called, then does what the text says.
    pub fn script(&self, job: &str, name: &str, text: &str) {
        let folder = self.path(&format!("/var/vcap/data/jobs/{job}/bin/bbr"));
        fs::create_dir_all(&folder).expect("root writes there");
        let link = self.path(&format!("/var/vcap/jobs/{job}"));
        if link.symlink_metadata().is_err() {
            symlink(format!("/var/vcap/data/jobs/{job}"), link).expect("root writes there");
        }
        let script = format!("#!/bin/bash\necho {job}/{name} >> {CALLS}\n{text}\n");
        let path = folder.join(name);
        fs::write(&path, script).expect("root writes there");
        fs::set_permissions(path, fs::Permissions::from_mode(0o750)).expect("root may");
    }

    /// Gives a job a metadata script that says this.
    pub fn metadata(&self, job: &str, yaml: &str) {
        self.script(job, "metadata", &format!("cat <<'END'\n{yaml}\nEND"));
    }

    /// What scripts were called since the last question, in order.
    pub fn calls(&self) -> Vec<String> {
        let path = self.path(CALLS);
        let text = fs::read_to_string(&path).unwrap_or_default();
        fs::remove_file(path).ok();
        text.lines().filter(|line| !line.ends_with("/metadata")).map(str::to_owned).collect()
    }

    /// A file's content.
    pub fn read(&self, path: &str) -> io::Result<String> {
        fs::read_to_string(self.path(path))
    }

    /// Whether something is there.
    pub fn has(&self, path: &str) -> bool {
        self.path(path).symlink_metadata().is_ok()
    }

    /// Writes a file, and the folders above it.
    pub fn write(&self, path: &str, content: impl AsRef<[u8]>) {
        let path = self.path(path);
        fs::create_dir_all(path.parent().expect("no root")).expect("root writes there");
        fs::write(path, content).expect("root writes there");
    }

    /// Runs something there as root.
    pub fn run(&self, script: &str) -> Output {
        let mut command = Command::new("nsenter");
        command.args(["-t", &self.init.to_string(), "-m", "-p", "-r", "-w", "--", "sh", "-c", script]);
        command.output().expect("nsenter is where unshare is")
    }

    /// Makes a user who becomes root without a password, known by this key.
    pub fn add_user(&self, name: &str, public_key: &str) -> Output {
        self.run(&format!(
            "useradd -m -s /bin/bash -p '*' -G sudo,vcap,bosh_sshers {name} && cd /home/{name} && mkdir -m 700 .ssh && \
             echo '{public_key}' > .ssh/authorized_keys && chown -R {name} .ssh"
        ))
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
        // the folder can be removed when the last process that holds it is gone
        for _ in 0..TRIES {
            if !Path::new(&format!("/proc/{}", self.init)).exists() {
                return;
            }
            Command::new("true").status().ok();
        }
    }
}

/// Writes what the instance has beyond this machine's files.
fn prepare(place: &Path, port: u16, lines: &str) -> io::Result<()> {
    let up = place.join("up");
    for folder in ["root", "work", "up/etc/bosh-lab", "up/etc/sudoers.d", "up/var/vcap/jobs", "up/var/vcap/store"] {
        fs::create_dir_all(place.join(folder))?;
    }
    fs::create_dir_all(up.join("var/vcap/data/jobs"))?;
    for folder in [place, &up] {
        fs::set_permissions(folder, fs::Permissions::from_mode(0o755))?;
    }
    // as on a stemcell: what jobs have is closed to others
    fs::set_permissions(up.join("var/vcap/data/jobs"), fs::Permissions::from_mode(0o750))?;
    make_key(&place.join("client"))?;
    make_key(&up.join("etc/bosh-lab/host"))?;
    let home = up.join("home").join(USER).join(".ssh");
    fs::create_dir_all(&home)?;
    fs::copy(place.join("client.pub"), home.join("authorized_keys"))?;
    for path in [home.parent().expect("it has one").to_owned(), home.clone(), home.join("authorized_keys")] {
        std::os::unix::fs::chown(path, Some(ID), Some(ID))?;
    }
    let add = |file: &str, text: String| -> io::Result<()> {
        let mut whole = fs::read_to_string(Path::new("/").join(file))?;
        whole.push_str(&text);
        let mut made = fs::File::create(up.join(file))?;
        made.write_all(whole.as_bytes())
    };
    add("etc/passwd", format!("{USER}:x:{ID}:{ID}::/home/{USER}:/bin/bash\n"))?;
    add("etc/group", format!("{USER}:x:{ID}:\nvcap:x:{}:\nbosh_sshers:x:{}:\n", ID + 1, ID + 2))?;
    add("etc/shadow", format!("{USER}:*:19000:0:99999:7:::\n"))?;
    fs::set_permissions(up.join("etc/shadow"), fs::Permissions::from_mode(0o600))?;
    let rule = up.join("etc/sudoers.d/bosh-lab");
    fs::write(&rule, format!("{USER} ALL=(ALL) NOPASSWD: ALL\n%sudo ALL=(ALL) NOPASSWD: ALL\n"))?;
    fs::set_permissions(rule, fs::Permissions::from_mode(0o440))?;
    let config = format!(
        "ListenAddress 127.0.0.1\nPort {port}\nHostKey /etc/bosh-lab/host\nPidFile none\nUsePAM no\nStrictModes no\n\
         PasswordAuthentication no\nKbdInteractiveAuthentication no\nLogLevel VERBOSE\n{lines}\n"
    );
    fs::write(up.join("etc/bosh-lab/sshd_config"), config)
}

fn make_key(path: &Path) -> io::Result<()> {
    let mut command = Command::new("ssh-keygen");
    let made = command.args(["-q", "-t", "ed25519", "-N", "", "-C", "lab", "-f"]).arg(path).status()?;
    if made.success() { Ok(()) } else { Err(io::Error::other("ssh-keygen failed")) }
}

fn first_child(parent: u32) -> Option<u32> {
    let children = fs::read_to_string(format!("/proc/{parent}/task/{parent}/children")).ok()?;
    children.split_whitespace().next()?.parse().ok()
}
