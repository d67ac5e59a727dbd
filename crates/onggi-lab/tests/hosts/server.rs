//! One sshd of a test: keys made for it, and a configuration to add to.

use std::fmt::Write as _;
use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use onggi_lab::peer;
use tempfile::TempDir;

/// The rounds that a server has to answer before it counts as dead.
const TRIES: usize = 500;

/// A server that ends with the test.
pub struct Server {
    pub port: u16,
    state: TempDir,
    child: Child,
}

impl Server {
    /// Starts one that lets the key `client` in.
    #[track_caller]
    pub fn start() -> Option<Self> {
        Self::start_with(|_| String::new())
    }

    /// The same with further lines of its configuration, which may make keys in the folder first.
    #[track_caller]
    pub fn start_with(more: impl FnOnce(&Path) -> String) -> Option<Self> {
        if !Path::new("/usr/sbin/sshd").exists() {
            peer::skip("there is no /usr/sbin/sshd; on Debian: apt-get install openssh-server");
            return None;
        }
        let state = tempfile::tempdir().unwrap();
        // other users than this one look for the authorized keys there
        fs::set_permissions(state.path(), fs::Permissions::from_mode(0o755)).unwrap();
        fs::create_dir_all("/run/sshd").ok();
        for name in ["host", "other", "client", "stranger"] {
            make_key(&state.path().join(name));
        }
        fs::copy(state.path().join("client.pub"), state.path().join("authorized")).unwrap();
        let more = more(state.path());
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let child = launch(state.path(), port, &more);
        Some(Self { port, state, child })
    }

    /// The process that sessions are children of.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.state.path().join(name)
    }

    pub fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap()
    }

    /// Type and data of a public key.
    pub fn public(&self, name: &str) -> String {
        self.read(&format!("{name}.pub")).split_whitespace().take(2).collect::<Vec<_>>().join(" ")
    }

    /// Starts it anew, with other lines.
    pub fn restart(&mut self, more: &str) {
        self.stop();
        self.child = launch(self.state.path(), self.port, more);
    }

    fn stop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop();
    }
}

fn launch(state: &Path, port: u16, more: &str) -> Child {
    let at = |name: &str| state.join(name).display().to_string();
    let mut config = String::new();
    for line in [
        "ListenAddress 127.0.0.1".to_owned(),
        format!("Port {port}"),
        "PidFile none".to_owned(),
        format!("AuthorizedKeysFile {} .ssh/authorized_keys", at("authorized")),
        "StrictModes no\nPasswordAuthentication no\nKbdInteractiveAuthentication no\nUsePAM no\nPrintMotd no"
            .to_owned(),
        "PermitRootLogin prohibit-password\nMaxStartups 100\nLogLevel VERBOSE".to_owned(),
        more.to_owned(),
    ] {
        writeln!(config, "{line}").unwrap();
    }
    if !more.contains("HostKey ") {
        writeln!(config, "HostKey {}", at("host")).unwrap();
    }
    fs::write(at("config"), config).unwrap();
    let log = fs::OpenOptions::new().create(true).append(true).open(at("log")).unwrap();
    let mut command = Command::new("/usr/sbin/sshd");
    command.args(["-D", "-e", "-f", &at("config")]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
    let mut child = command.spawn().unwrap();
    for _ in 0..TRIES {
        if std::net::TcpStream::connect(("127.0.0.1", port)).is_ok() {
            return child;
        }
        assert!(child.try_wait().unwrap().is_none(), "sshd ended: {}", fs::read_to_string(at("log")).unwrap());
        std::thread::yield_now();
        Command::new("true").status().unwrap(); // as long as it takes to start a program
    }
    panic!("sshd does not listen: {}", fs::read_to_string(at("log")).unwrap());
}

pub fn make_key(path: &Path) {
    run(Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-C", "test", "-f"]).arg(path));
}

/// Signs a key: a user's, or with `-h` a host's.
pub fn sign(authority: &Path, key: &Path, arguments: &[&str]) {
    let mut command = Command::new("ssh-keygen");
    command.args(["-q", "-s"]).arg(authority).args(["-I", "test"]).args(arguments);
    run(command.arg(key.with_extension("pub")));
}

#[track_caller]
pub fn run(command: &mut Command) -> String {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}
