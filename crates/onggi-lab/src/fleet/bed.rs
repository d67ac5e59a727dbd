//! What is measured: a server, a hub with its repository, and the commands of both programs.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::{Plan, Row, proxy};
use crate::measure::{Cost, measured, shown, usage};
use crate::service::Sshd;

/// How long it takes to a host that is far away and back.
pub const ROUND_TRIP: Duration = Duration::from_millis(50);
/// Hosts that are read at once.
pub const PARALLEL: usize = 8;
/// Both programs ask for the ciphers that onggi prefers.
const CIPHERS: &str = "^aes256-gcm@openssh.com,aes128-gcm@openssh.com";

pub struct Bed {
    server: Sshd,
    far: u16,
    disk: PathBuf,
    memory: PathBuf,
    measurer: PathBuf,
    onggi: PathBuf,
}

impl Bed {
    pub fn start(plan: &Plan) -> Result<Self> {
        let server = Sshd::start().context("there is no OpenSSH server")?;
        for folder in [&plan.disk, &plan.memory] {
            fs::create_dir_all(folder).with_context(|| format!("create {}", folder.display()))?;
        }
        let far = proxy::start(server.port().parse()?, ROUND_TRIP).context("listen before the server")?;
        let Plan { disk, memory, measurer, onggi, .. } = plan.clone();
        let bed = Self { server, far, disk, memory, measurer, onggi };
        bed.configure(plan.hosts.0)?;
        Ok(bed)
    }

    /// Where the files of the host lie.
    pub fn files(&self) -> PathBuf {
        self.disk.join("files")
    }

    fn home(&self) -> PathBuf {
        self.memory.join("home")
    }

    fn dated(&self) -> PathBuf {
        self.disk.join("dated")
    }

    fn repository(&self, name: &str) -> PathBuf {
        if name == "days" { self.disk.join("repository") } else { self.memory.join("repository") }
    }

    fn configure(&self, hosts: usize) -> Result<()> {
        let home = self.home();
        fs::create_dir_all(&home)?;
        fs::write(home.join("password"), "bench")?;
        fs::set_permissions(home.join("password"), fs::Permissions::from_mode(0o600))?;
        let public = fs::read_to_string(self.server.file("host_ed25519.pub"))?;
        let key = public.split_whitespace().take(2).collect::<Vec<_>>().join(" ");
        let near = self.server.port();
        let known = format!("[127.0.0.1]:{near} {key}\n[127.0.0.1]:{} {key}\n", self.far);
        fs::write(home.join("known"), known)?;
        let far = self.far.to_string();
        for (name, port, count) in [("near", &near, 1), ("far", &far, 1), ("days", &near, 1), ("many", &near, hosts)] {
            let host =
                |number: usize| format!("  n{number}: {{ address: 127.0.0.1, port: {port}, host-key: \"{key}\" }}\n");
            fs::write(
                home.join(format!("{name}-hosts")),
                format!("hosts:\n{}", (1..=count).map(host).collect::<String>()),
            )?;
            fs::write(home.join(name), self.configuration(name, &self.server.key(), "none"))?;
        }
        fs::copy(home.join("near-hosts"), home.join("forced-hosts"))?;
        fs::write(home.join("forced"), self.configuration("forced", &self.server.file("stranger"), "forced"))?;
        self.force()
    }

    /// The same source in every configuration, so that one finds what another stored.
    fn configuration(&self, name: &str, key: &Path, r#become: &str) -> String {
        format!(
            "version: 1\nsources:\n  fleet:\n    kind: hosts\n    inventory: [{{ file: {} }}]\n    connect: {{ user: {}, \
             key: {}, trust: pinned, parallel-max: {PARALLEL} }}\n    become: {}\n    nice: 0\n    paths: [{}]\n",
            self.home().join(format!("{name}-hosts")).display(),
            self.server.user(),
            key.display(),
            r#become,
            self.files().display(),
        )
    }

    /// Lets another key start the program under what writes down its memory.
    fn force(&self) -> Result<()> {
        let policy = self.home().join("policy");
        fs::write(&policy, format!("root {}\n", self.files().display()))?;
        fs::set_permissions(&policy, fs::Permissions::from_mode(0o644))?;
        let (measurer, log, node) = (self.measurer.display(), self.home().join("memory"), self.node());
        let (log, node, policy) = (log.display(), node.display(), policy.display());
        let command = format!("{measurer} watched --log {log} -- {node} read --policy {policy}");
        let public = fs::read_to_string(self.server.file("stranger.pub"))?;
        let authorized = self.server.file("authorized_keys");
        let lines = format!("{}restrict,command=\"{command}\" {public}", fs::read_to_string(&authorized)?);
        fs::write(authorized, lines).context("let the second key in")
    }

    fn node(&self) -> PathBuf {
        self.onggi.with_file_name("onggi-node")
    }

    /// Empty repositories, and nothing copied.
    pub fn clear(&self) -> Result<()> {
        for old in
            [self.memory.join("repository"), self.disk.join("repository"), self.memory.join("copy"), self.dated()]
        {
            if old.exists() {
                fs::remove_dir_all(&old).with_context(|| format!("remove {}", old.display()))?;
            }
        }
        fs::create_dir_all(self.dated())?;
        for name in ["near", "days"] {
            let mut command = self.command(name);
            let output = command.args(["--yes", "init"]).output().context("start onggi")?;
            ensure!(output.status.success(), "{}: {}", shown(&command), String::from_utf8_lossy(&output.stderr));
        }
        Ok(())
    }

    fn command(&self, name: &str) -> Command {
        let mut command = Command::new(&self.onggi);
        let home = self.home();
        for (variable, folder) in [("HOME", ""), ("XDG_STATE_HOME", "state"), ("XDG_CACHE_HOME", "cache")] {
            command.env(variable, home.join(folder));
        }
        command.env("ONGGI_NODE_PROGRAM", self.node()).env_remove("ONGGI_CONFIG").env_remove("XDG_CONFIG_HOME");
        command.arg("--repo").arg(self.repository(name)).arg("--quiet");
        command.arg("--password-file").arg(home.join("password")).arg("--config").arg(home.join(name));
        command
    }

    pub fn back_up(&self, name: &str) -> Result<Cost> {
        let mut command = self.command(name);
        self.measure(command.args(["backup", "fleet"]))
    }

    pub fn measure(&self, command: &Command) -> Result<Cost> {
        measured(&self.measurer, command, &self.home().join("log"))
    }

    /// What rsync does for a row.
    pub fn rsync(&self, row: Row) -> Command {
        let mut command = self.rsync_from(&if row == Row::Far { self.far.to_string() } else { self.server.port() });
        command.args((row == Row::Attributes).then_some("-HAX")).arg(self.address()).arg(self.memory.join("copy"));
        command
    }

    /// A folder a day, where what is unchanged is a hard link to the day before.
    pub fn rsync_of_day(&self, day: u32) -> Command {
        let mut command = self.rsync_from(&self.server.port());
        if let Some(before) = day.checked_sub(1) {
            // From the root: Debian's rsync 3.2.7 takes no basis of a folder above since CVE-2024-12086 was mended.
            command.arg(format!("--link-dest={}", self.dated().join(format!("day-{before}")).display()));
        }
        command.arg(self.address()).arg(self.dated().join(format!("day-{day}")));
        command
    }

    fn rsync_from(&self, port: &str) -> Command {
        let (key, known) = (self.server.key(), self.home().join("known"));
        let (key, known) = (key.display(), known.display());
        let mut command = Command::new("rsync");
        command.args(["-a", "--delete", "-e"]).arg(format!(
            "ssh -F none -p {port} -i {key} -o IdentitiesOnly=yes -o BatchMode=yes -o UserKnownHostsFile={known} -o \
             Ciphers={CIPHERS}"
        ));
        command
    }

    fn address(&self) -> String {
        format!("{}@127.0.0.1:{}/", self.server.user(), self.files().display())
    }

    /// The most that the program on the host held in a first backup and in one without changes, in KiB.
    pub fn node_memory(&self) -> Result<u64> {
        self.clear()?;
        for _ in 0..2 {
            self.back_up("forced")?;
        }
        let log = fs::read_to_string(self.home().join("memory")).context("the program on the host was watched")?;
        log.lines().filter_map(|line| line.parse().ok()).max().context("a line says how much it held")
    }

    /// Bytes of all that onggi and rsync keep of the days.
    pub fn days_on_disk(&self) -> Result<(u64, u64)> {
        Ok((usage(&self.disk.join("repository"))?, usage(&self.dated())?))
    }

    /// What the programs say of themselves.
    pub fn versions(&self) -> Result<Vec<String>> {
        let first = |program: &Path, argument: &str| -> Result<String> {
            let output = Command::new(program).arg(argument).output().context("ask for a version")?;
            let said = [output.stdout, output.stderr].concat();
            let line = String::from_utf8_lossy(&said).lines().next().unwrap_or_default().to_owned();
            Ok(line.split("  protocol").next().unwrap_or_default().to_owned())
        };
        Ok(vec![first(&self.onggi, "--version")?, first("rsync".as_ref(), "--version")?, first("ssh".as_ref(), "-V")?])
    }
}
