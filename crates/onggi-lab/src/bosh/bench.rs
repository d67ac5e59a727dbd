//! The benchmark of a Director's backup: kind `bosh` beside a program with the command line of `bbr`, on the same instance,
//! the same blobs, in the same run.
//!
//! Where the real `bbr` is not to be had, onggi under that command line stands for it: the same scripts, full archives into
//! an artifact directory, hashed on both sides. It keeps one connection and hashes while it receives, which `bbr` does not,
//! so that the ratios are worse than beside the original; the report says who was measured.

use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use super::{Instance, USER};
use crate::bench::{machine, table};
use crate::corpus::Random;
use crate::measure::{Cost, measured, median, shown, usage};

/// Where the live blobs are.
const BLOBS: &str = "/var/vcap/store/blobs";
/// Writes down when the lock began and when it was gone.
const NOTE: &str = "date +%s%N >> /var/vcap/data/times";

/// What to measure, and where.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Blobs of the first backup, and bytes of all of them.
    pub blobs: (u64, u64),
    /// Blobs that are new in the second backup and on each day.
    pub new: u64,
    /// Days of the comparison of disks.
    pub days: u64,
    /// How often the first two are done; the medians are reported.
    pub runs: usize,
    /// Where repositories and artifact directories go.
    pub work: PathBuf,
    /// The program that measures: this crate's own.
    pub measurer: PathBuf,
    /// The program that is measured.
    pub onggi: PathBuf,
    /// The real `bbr`, where there is one.
    pub bbr: Option<PathBuf>,
}

/// What one backup cost.
#[derive(Clone, Copy, Debug)]
struct Taken {
    cost: Cost,
    /// Seconds from the first lock script to the last unlock script.
    locked: f64,
    connections: usize,
}

/// The same of both.
#[derive(Debug, Default)]
struct Pair {
    onggi: Vec<Taken>,
    peer: Vec<Taken>,
}

/// Measures and returns the report as Markdown. `say` is told what is measured.
pub fn run(plan: &Plan, command_line: &str, say: &dyn Fn(&str)) -> Result<String> {
    let instance = Instance::start().context("an instance needs root, sshd, sudo and namespaces")?;
    let bed = Bed { plan, instance };
    bed.prepare()?;
    let (mut first, mut second) = (Pair::default(), Pair::default());
    for turn in 1..=plan.runs {
        bed.clear()?;
        for (pair, title, new) in [(&mut first, "first", 0), (&mut second, "second", plan.new)] {
            bed.add(new)?;
            let peer = bed.taken(&bed.peer())?;
            let onggi = bed.taken(&bed.native())?;
            let seconds = |taken: Taken| taken.cost.wall.as_secs_f64();
            say(&format!("run {turn}, {title}: onggi {:.2}, beside {:.2}", seconds(onggi), seconds(peer)));
            pair.onggi.push(onggi);
            pair.peer.push(peer);
        }
    }
    bed.clear()?;
    for day in 1..=plan.days {
        bed.add(plan.new)?;
        bed.taken(&bed.peer())?;
        bed.taken(&bed.native())?;
        say(&format!("day {day}"));
    }
    let disk = (usage(&plan.work.join("repository"))?, usage(&plan.work.join("artifacts"))?);
    report(plan, command_line, (&first, &second), disk)
}

struct Bed<'a> {
    plan: &'a Plan,
    instance: Instance,
}

impl Bed<'_> {
    fn prepare(&self) -> Result<()> {
        let (instance, plan) = (&self.instance, self.plan);
        let backup = format!("cp -rlp {BLOBS}/. $BBR_ARTIFACT_DIRECTORY");
        instance.job("blobstore", &backup, "");
        instance.job("director", "head -c 1000000 /var/vcap/store/db > ${BBR_ARTIFACT_DIRECTORY}dump.sql", "");
        instance.script("blobstore", "pre-backup-lock", NOTE);
        instance.script("blobstore", "post-backup-unlock", NOTE);
        instance.write("/var/vcap/store/db", Random::new(0).bytes(1_000_000));
        for number in 0..plan.blobs.0 {
            self.blob(number)?;
        }
        fs::create_dir_all(plan.work.join("home"))?;
        let password = plan.work.join("password");
        fs::write(&password, "bench")?;
        fs::set_permissions(&password, fs::Permissions::from_mode(0o600))?;
        let config = format!(
            "version: 1\nsources:\n  director:\n    kind: bosh\n    mode: director\n    connect: {{ host: \"127.0.0.1:{}\", \
             user: {USER}, key: \"file:{}\", host-key: \"{}\" }}\n",
            instance.port,
            instance.key().display(),
            instance.host_key()
        );
        fs::write(plan.work.join("onggi.yaml"), config).context("write the configuration")
    }

    /// As many more blobs.
    fn add(&self, count: u64) -> Result<()> {
        let there = fs::read_dir(self.instance.path(BLOBS))?.count() as u64;
        (there..there + count).try_for_each(|number| self.blob(number))
    }

    fn blob(&self, number: u64) -> Result<()> {
        let folder = self.instance.path(BLOBS);
        fs::create_dir_all(&folder)?;
        let (count, bytes) = self.plan.blobs;
        fs::write(
            folder.join(format!("blob-{number:05}")),
            Random::new(number + 1).bytes(usize::try_from(bytes / count)?),
        )
        .context("write a blob")
    }

    /// No backup is there.
    fn clear(&self) -> Result<()> {
        for name in ["repository", "artifacts", "home"] {
            let path = self.plan.work.join(name);
            if path.exists() {
                fs::remove_dir_all(&path).with_context(|| format!("remove {}", path.display()))?;
            }
        }
        fs::create_dir_all(self.plan.work.join("artifacts"))?;
        fs::create_dir_all(self.plan.work.join("home"))?;
        let mut command = self.command(&self.plan.onggi);
        let output = command.args(["--yes", "init"]).output().context("start onggi")?;
        ensure!(output.status.success(), "{}: {}", shown(&command), String::from_utf8_lossy(&output.stderr));
        Ok(())
    }

    /// onggi with its repository.
    fn command(&self, program: &Path) -> Command {
        let work = &self.plan.work;
        let mut command = Command::new(program);
        command.env("HOME", work.join("home")).env_remove("ONGGI_CONFIG").current_dir(work);
        command.arg("--repo").arg(work.join("repository")).arg("--password-file").arg(work.join("password"));
        command.arg("--config").arg(work.join("onggi.yaml")).arg("--quiet");
        command
    }

    fn native(&self) -> Command {
        let mut command = self.command(&self.plan.onggi);
        command.args(["backup", "director"]);
        command
    }

    fn peer(&self) -> Command {
        let work = &self.plan.work;
        let mut command = Command::new(self.plan.bbr.as_ref().unwrap_or(&self.plan.onggi));
        if self.plan.bbr.is_none() {
            command.arg("bbr");
        }
        command.env("HOME", work.join("home")).current_dir(work).args(["director", "--host"]);
        command.arg(format!("127.0.0.1:{}", self.instance.port)).args(["--username", USER, "--private-key-path"]);
        command.arg(self.instance.key()).args(["backup", "--artifact-path"]).arg(work.join("artifacts"));
        command
    }

    fn taken(&self, command: &Command) -> Result<Taken> {
        let before = self.instance.connections();
        fs::remove_file(self.instance.path("/var/vcap/data/times")).ok();
        let cost = measured(&self.plan.measurer, command, &self.plan.work.join("log"))?;
        let times = self.instance.read("/var/vcap/data/times").context("the lock scripts ran")?;
        let times: Vec<u64> = times.lines().filter_map(|line| line.parse().ok()).collect();
        let [locked, unlocked] = times[..] else { anyhow::bail!("it locked {} times", times.len()) };
        let locked = (unlocked.saturating_sub(locked)) as f64 / 1e9;
        Ok(Taken { cost, locked, connections: self.instance.connections() - before })
    }
}

fn report(plan: &Plan, command_line: &str, pairs: (&Pair, &Pair), disk: (u64, u64)) -> Result<String> {
    let today = jiff::Zoned::now().date();
    let (blobs, bytes) = plan.blobs;
    let peer = if plan.bbr.is_some() { "`bbr`" } else { "`onggi bbr`" };
    let whom = match &plan.bbr {
        Some(_) => "Beside it the real `bbr`.",
        None => {
            "The real `bbr` was not to be had; beside it is onggi with the command line of `bbr`, which writes full archives \
             into an artifact directory over one connection: a faster peer than the original."
        }
    };
    let mut page = format!("### {today}, a BOSH director\n\n{}.\n\n", machine::description());
    let _ = writeln!(
        page,
        "A director of {blobs} blobs, {} MB, and a database of 1 MB, on this machine over OpenSSH; medians of {} runs. {whom} \
         Ratios that miss their aim are bold.\n\nCommand: `{command_line}`\n",
        bytes / 1_000_000,
        plan.runs
    );
    let _ = writeln!(page, "| | onggi | {peer} | ratio | aim |\n|---|---|---|---|---|");
    let new = plan.new;
    let titles = [("first backup".to_owned(), 0.6), (format!("second, {new} blobs new"), 0.1)];
    for ((title, aim), pair) in titles.iter().zip([pairs.0, pairs.1]) {
        let costs = |taken: &[Taken]| taken.iter().map(|taken| taken.cost).collect::<Vec<_>>();
        let (onggi, peer) = (median(&costs(&pair.onggi)), median(&costs(&pair.peer)));
        let (onggi, peer) = (onggi.context("it was measured")?, peer.context("it was measured")?);
        table::row(&mut page, &format!("{title}, s"), onggi.wall.as_secs_f64(), peer.wall.as_secs_f64(), Some(*aim));
        let mib = |cost: Cost| (cost.memory_kib >> 10) as f64;
        table::row(&mut page, &format!("{title}, memory MiB"), mib(onggi), mib(peer), None);
        table::row(&mut page, &format!("{title}, locked s"), locked(&pair.onggi), locked(&pair.peer), Some(1.0));
        table::row(
            &mut page,
            &format!("{title}, connections"),
            connections(&pair.onggi),
            connections(&pair.peer),
            None,
        );
    }
    let mib = |bytes: u64| (bytes >> 20) as f64;
    let days = format!("{} daily backups, {new} blobs new a day, MiB on disk", plan.days);
    table::row(&mut page, &days, mib(disk.0), mib(disk.1), Some(0.25));
    Ok(page)
}

fn locked(taken: &[Taken]) -> f64 {
    let mut all: Vec<f64> = taken.iter().map(|taken| taken.locked).collect();
    all.sort_by(f64::total_cmp);
    all[all.len() / 2]
}

/// The most of any run.
fn connections(taken: &[Taken]) -> f64 {
    taken.iter().map(|taken| taken.connections).max().unwrap_or_default() as f64
}
