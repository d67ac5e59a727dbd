//! `cargo xtask test`: every test, with the programs they need.
//!
//! Debian packages are installed when run as root, other programs by `lab/peers/up`; services are brought up by the
//! tests that use them. What cannot come is named, and the tests that need it say that they skip. With CI=true nothing
//! may be missing.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, bail, ensure};

use crate::workspace::{self, Profile, cargo, in_ci, installed, root, run as execute};

/// A program that tests run, and the Debian package that brings it.
const PACKAGES: &[(&str, &str)] = &[
    ("sshd", "openssh-server"),
    ("ssh-keygen", "openssh-client"),
    ("rsync", "rsync"),
    ("sudo", "sudo"),
    ("setfacl", "acl"),
    ("setcap", "libcap2-bin"),
    ("fusermount3", "fuse3"),
    ("borg", "borgbackup"),
    ("openssl", "openssl"),
    ("curl", "curl"),
    ("strace", "strace"),
    ("xfs_io", "xfsprogs"),
    ("mkfs.ext4", "e2fsprogs"),
    ("pg_dump", "postgresql"),
    ("mariadbd", "mariadb-server"),
    ("mariadb-backup", "mariadb-backup"),
    ("sqlite3", "sqlite3"),
    ("qemu-img", "qemu-utils"),
    ("sfdisk", "fdisk"),
];

/// What `lab/peers/up` must bring. rustic takes long to build and is used where it is.
const PEERS: &[&str] = &["restic", "restic-0.14", "rclone"];

/// Tests at once for each processor: those that take long wait for services, connections and clocks.
const THREADS_PER_PROCESSOR: usize = 3;

/// The test program that waits for one cloud for many minutes, its package, and the module of its tests.
const ASIDE: [&str; 3] = ["openstack", "onggi-lab", "real_cloud::"];

/// What of the tests.
#[derive(clap::Args, Default)]
pub struct Arguments {
    /// Install nothing
    #[arg(long)]
    without_lab: bool,
    /// Passed on to cargo test: a name to filter by, or `-- --nocapture`
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    rest: Vec<String>,
}

/// Runs the tests.
pub fn run(arguments: &Arguments) -> Result<()> {
    let missing = if arguments.without_lab { Vec::new() } else { bring_programs()? };
    for what in &missing {
        eprintln!("MISSING: {what}; tests that need it are skipped");
    }
    if in_ci() && !missing.is_empty() {
        bail!("nothing may be skipped here");
    }
    let programs = workspace::build(&["onggi", "onggi-node"], Profile::Dev)?;
    let tests = || {
        let mut command = cargo("test");
        command.arg("--workspace");
        command.env("ONGGI_PROGRAM", programs.join("onggi")).env("ONGGI_NODE_PROGRAM", programs.join("onggi-node"));
        command
    };
    let mut all = tests();
    // One run names every test that fails; nobody wants to wait for the second fault behind the first.
    all.arg("--no-fail-fast").args(&arguments.rest);
    if std::env::var_os("RUST_TEST_THREADS").is_none() {
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        all.env("RUST_TEST_THREADS", (THREADS_PER_PROCESSOR * processors).to_string());
    }
    if !arguments.rest.is_empty() {
        return execute(&mut all);
    }
    // It takes longest and needs little of the processors: it starts before the other programs are compiled, and not by
    // cargo, which would wait until they are.
    let compiled = workspace::messages(tests().args(["--test", ASIDE[0], "--no-run"]))?;
    let mut executables = compiled.iter().filter(|message| message["profile"]["test"] == true);
    let executable = executables.find_map(|message| message["executable"].as_str());
    let mut real_cloud = Command::new(executable.context("cargo names no test program")?);
    real_cloud.envs(tests().get_envs().filter_map(|(name, value)| Some((name, value?))));
    real_cloud.current_dir(root().join("crates").join(ASIDE[1]));
    let aside = Aside::start(&mut real_cloud, &programs.join("tests-aside.log"))?;
    let done = execute(tests().arg("--no-run")).and_then(|()| execute(all.args(["--", "--skip", ASIDE[2]])));
    aside.wait().and(done)
}

/// Tests that run beside others, and what they say.
struct Aside {
    running: Child,
    shown: String,
    said: PathBuf,
}

impl Aside {
    /// Starts them; what they say goes to a file.
    fn start(command: &mut Command, said: &Path) -> Result<Self> {
        let shown = workspace::shown(command);
        let file = File::create(said).with_context(|| format!("create {}", said.display()))?;
        command.stdin(Stdio::null()).stdout(file.try_clone()?).stderr(file);
        println!("beside the others: {shown}");
        let running = command.spawn().with_context(|| format!("start {shown}"))?;
        Ok(Self { running, shown, said: said.to_owned() })
    }

    /// Waits for their end and shows what they said.
    fn wait(mut self) -> Result<()> {
        let status = self.running.wait().with_context(|| format!("wait for {}", self.shown))?;
        println!("\n{}\n{}", self.shown, std::fs::read_to_string(&self.said).unwrap_or_default());
        ensure!(status.success(), "{} ended with {status}", self.shown);
        Ok(())
    }
}

/// Installs what is not there and returns what could not be.
fn bring_programs() -> Result<Vec<String>> {
    let absent = || PACKAGES.iter().filter(|(program, _)| !installed(program));
    let wanted: Vec<_> = absent().map(|(_, package)| *package).collect();
    if !wanted.is_empty() && workspace::is_root() && installed("apt-get") {
        println!("installing {}", wanted.join(" "));
        let mut install = Command::new("apt-get");
        install.args(["install", "--quiet", "--yes", "--no-install-recommends"]).args(&wanted);
        // Without lists from today the second fails and says why.
        execute(Command::new("apt-get").args(["update", "--quiet"])).ok();
        execute(install.env("DEBIAN_FRONTEND", "noninteractive")).ok();
    }
    let mut missing: Vec<_> = absent().map(|(program, package)| format!("{program} (package {package})")).collect();
    let peers = root().join("lab/peers/up");
    if peers.is_file() {
        // It fails if anything at all is absent; what must be there is judged here.
        Command::new(&peers).current_dir(root()).status().context("start lab/peers/up")?;
    }
    let etcd =
        Command::new(root().join("lab/etcd/fetch")).current_dir(root()).status().context("start lab/etcd/fetch")?;
    if !etcd.success() {
        missing.push("etcd 3.4 and 3.5 (lab/etcd/fetch)".to_owned());
    }
    let lab = root().join(".lab/bin");
    missing.extend(PEERS.iter().filter(|name| !lab.join(name).exists()).map(|name| format!("{name} (lab/peers/up)")));
    Ok(missing)
}
