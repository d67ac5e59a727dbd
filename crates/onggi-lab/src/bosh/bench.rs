//! The benchmark of a Director's backup: kind `bosh` beside a program with the command line of `bbr`, on the same instance,
//! the same blobs, in the same run.
//!
//! onggi under that command line is measured in any case: the same scripts, full archives into an artifact directory, hashed
//! on both sides. It keeps one connection and hashes while it receives. Where the real `bbr` is to be had it is measured in
//! the same run, and both are compared with it; the report says who was measured.

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
    /// Days of the comparison of what is kept: by a repository, and by an artifact directory for each.
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
    /// Bytes that the instance sent.
    moved: u64,
    /// Bytes that what is kept has grown by.
    kept: u64,
}

/// Who backs up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Who {
    /// Kind `bosh`.
    Native,
    /// onggi with the command line of `bbr`.
    DropIn,
    /// The real one.
    Bbr,
}

impl Who {
    fn title(self) -> &'static str {
        match self {
            Self::Native => "onggi",
            Self::DropIn => "`onggi bbr`",
            Self::Bbr => "`bbr`",
        }
    }
}

/// Three backups of everybody: of everything, of what has little new, of what is unchanged.
type Turns = [Vec<(Who, Taken)>; 3];

/// Measures and returns the report as Markdown. `say` is told what is measured.
pub fn run(plan: &Plan, command_line: &str, say: &dyn Fn(&str)) -> Result<String> {
    let instance = Instance::start().context("an instance needs root, sshd, sudo and namespaces")?;
    let bed = Bed { plan, instance };
    bed.prepare()?;
    let mut all: Vec<Who> = vec![Who::Native, Who::DropIn];
    all.extend(plan.bbr.is_some().then_some(Who::Bbr));
    let mut turns = Turns::default();
    for run in 1..=plan.runs {
        bed.clear()?;
        for (turn, (title, new)) in turns.iter_mut().zip([("first", 0), ("second", plan.new), ("unchanged", 0)]) {
            bed.add(new)?;
            for who in all.iter().rev() {
                let taken = bed.taken(*who)?;
                say(&format!("run {run}, {title}: {} {:.2}", who.title(), taken.cost.wall.as_secs_f64()));
                turn.push((*who, taken));
            }
        }
    }
    bed.clear()?;
    let mut artifacts = 0;
    for day in 1..=plan.days {
        bed.add(plan.new)?;
        artifacts += bed.taken(Who::DropIn)?.kept;
        bed.taken(Who::Native)?;
        say(&format!("day {day}"));
    }
    report(plan, command_line, &turns, (usage(&plan.work.join("repository"))?, artifacts))
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
        fs::write(plan.work.join("onggi.yaml"), instance.configuration()).context("write the configuration")
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

    fn drop_in(&self, who: Who) -> Command {
        let work = &self.plan.work;
        let bbr = self.plan.bbr.as_ref().filter(|_| who == Who::Bbr);
        let mut command = Command::new(bbr.unwrap_or(&self.plan.onggi));
        if bbr.is_none() {
            command.arg("bbr");
        }
        command.env("HOME", work.join("home")).current_dir(work).args(["director", "--host"]);
        command.arg(format!("127.0.0.1:{}", self.instance.port)).args(["--username", USER, "--private-key-path"]);
        command.arg(self.instance.key()).args(["backup", "--artifact-path"]).arg(work.join("artifacts"));
        command
    }

    /// Backs up. An artifact directory is removed once it is measured, so that all of them find the same disk.
    fn taken(&self, who: Who) -> Result<Taken> {
        let (command, place) = match who {
            Who::Native => (self.native(), self.plan.work.join("repository")),
            Who::DropIn | Who::Bbr => (self.drop_in(who), self.plan.work.join("artifacts")),
        };
        let (connections, moved, kept) = (self.instance.connections(), self.instance.sent(), usage(&place)?);
        fs::remove_file(self.instance.path("/var/vcap/data/times")).ok();
        let cost = measured(&self.plan.measurer, &command, &self.plan.work.join("log"))?;
        let times = self.instance.read("/var/vcap/data/times").context("the lock scripts ran")?;
        let times: Vec<u64> = times.lines().filter_map(|line| line.parse().ok()).collect();
        let [locked, unlocked] = times[..] else { anyhow::bail!("it locked {} times", times.len()) };
        let taken = Taken {
            cost,
            locked: (unlocked.saturating_sub(locked)) as f64 / 1e9,
            connections: self.instance.connections() - connections,
            moved: self.instance.sent() - moved,
            kept: usage(&place)?.saturating_sub(kept),
        };
        if who != Who::Native {
            fs::remove_dir_all(&place)?;
            fs::create_dir(&place)?;
        }
        Ok(taken)
    }
}

fn report(plan: &Plan, command_line: &str, turns: &Turns, disk: (u64, u64)) -> Result<String> {
    let today = jiff::Zoned::now().date();
    let (blobs, bytes) = plan.blobs;
    let whom = if plan.bbr.is_some() {
        "Beside it onggi with the command line of `bbr`, and the real `bbr`."
    } else {
        "The real `bbr` was not to be had; beside it is onggi with the command line of `bbr`, which writes full archives \
         into an artifact directory over one connection: a faster peer than the original."
    };
    let mut page = format!("### {today}, a BOSH director\n\n{}.\n\n", machine::description());
    let _ = writeln!(
        page,
        "A director of {blobs} blobs, {} MB, and a database of 1 MB, on this machine over OpenSSH; medians of {} runs, of \
         memory and connections the most. {whom} Ratios that miss their aim are bold.\n\nCommand: `{command_line}`",
        bytes / 1_000_000,
        plan.runs
    );
    let pairs: &[(Who, Who)] = match plan.bbr {
        Some(_) => &[(Who::Native, Who::Bbr), (Who::DropIn, Who::Bbr)],
        None => &[(Who::Native, Who::DropIn)],
    };
    for (who, peer) in pairs {
        let (left, right) = (who.title(), peer.title());
        let _ = writeln!(page, "\n| | {left} | {right} | ratio | aim |\n|---|---|---|---|---|");
        rows(&mut page, plan, turns, *who, *peer)?;
        if *who == Who::Native {
            let days = format!("{} daily backups, {} blobs new a day, MiB on disk", plan.days, plan.new);
            table::row(&mut page, &days, mib(disk.0), mib(disk.1), Some(0.25));
        }
    }
    Ok(page)
}

/// What one of them is to stay below, as shares of the other: seconds, bytes that travel, bytes that are kept.
fn aims(who: Who, turn: usize) -> [Option<f64>; 3] {
    match (who, turn) {
        (Who::Native, 0) => [Some(0.6), None, None],
        (Who::Native, 1) => [Some(0.1), None, None],
        (Who::Native, _) => [Some(0.1), Some(0.01), Some(0.01)],
        (Who::DropIn | Who::Bbr, _) => [Some(1.0), None, None],
    }
}

fn rows(page: &mut String, plan: &Plan, turns: &Turns, who: Who, peer: Who) -> Result<()> {
    let second = format!("second, {} blobs new", plan.new);
    for (turn, title) in ["first backup", &second, "third, unchanged"].into_iter().enumerate() {
        let of = |whose: Who| turns[turn].iter().filter(move |(who, _)| *who == whose).map(|(_, taken)| *taken);
        let cost = |whose| median(&of(whose).map(|taken| taken.cost).collect::<Vec<_>>()).context("it was measured");
        let (left, right) = (cost(who)?, cost(peer)?);
        let [seconds, moved, kept] = aims(who, turn);
        let mut row = |what: &str, figure: &dyn Fn(Who) -> f64, aim| {
            table::row(page, &format!("{title}, {what}"), figure(who), figure(peer), aim);
        };
        let cost = |whose| if whose == who { left } else { right };
        row("s", &|whose| cost(whose).wall.as_secs_f64(), seconds);
        row("memory MiB", &|whose| (cost(whose).memory_kib >> 10) as f64, None);
        row("locked s", &|whose| middle(of(whose).map(|taken| taken.locked)), Some(1.0));
        row("connections", &|whose| of(whose).map(|taken| taken.connections).max().unwrap_or_default() as f64, None);
        row("MiB from the instance", &|whose| middle(of(whose).map(|taken| mib(taken.moved))), moved);
        row("MiB kept", &|whose| middle(of(whose).map(|taken| mib(taken.kept))), kept);
    }
    Ok(())
}

fn mib(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}

fn middle(figures: impl Iterator<Item = f64>) -> f64 {
    let mut all: Vec<f64> = figures.collect();
    all.sort_by(f64::total_cmp);
    all.get(all.len() / 2).copied().unwrap_or_default()
}
