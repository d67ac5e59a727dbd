//! The benchmark: onggi beside restic, rustic and borg, on the same set, in the same run.
//!
//! Each program keeps its repository on a file system in memory and reads its source from the page cache, so that what
//! is compared is work, not disks. Every restore is compared with its source before its time counts.

mod etcd;
pub(crate) mod load;
pub(crate) mod machine;
mod peer;
mod refusals;
mod step;
pub(crate) mod table;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Instant;
use std::{fs, io};

use anyhow::{Context, Result, ensure};

use crate::compare::{Aspects, compare};
use crate::corpus::mixed::Mixed;
use crate::measure::{Cost, measured, median};
pub use etcd::EtcdPlan;
pub use etcd::run as run_etcd;
use load::Load;
pub use peer::Peer;
pub use step::Step;

/// What to measure, and where.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The size of the set.
    pub set: Mixed,
    /// How often everything is done; the medians are reported.
    pub runs: usize,
    /// The steps that are reported; those that they build on are done too.
    pub only: Vec<Step>,
    /// Where the source is written: best a disk, since it is read once beforehand.
    pub source: PathBuf,
    /// Where repositories and restored files go: best a file system in memory.
    pub work: PathBuf,
    /// The program that measures: this crate's own.
    pub measurer: PathBuf,
}

/// What was found out about one program.
#[derive(Clone, Debug, Default)]
pub struct Figures {
    /// By step, of all runs.
    costs: BTreeMap<Step, Vec<Cost>>,
    /// Bytes of the repository after the first backup.
    repository_bytes: u64,
}

impl Figures {
    fn median(&self, step: Step) -> Option<Cost> {
        median(self.costs.get(&step)?)
    }
}

/// Measures the peers and returns the report as Markdown; what happened if it ended early comes beside it. `say` is
/// told each row as it is measured.
pub fn run(plan: &Plan, peers: &[Peer], command_line: &str, say: &dyn Fn(&str)) -> Result<(String, Result<()>)> {
    let mut bench = Bench { plan, peers, say, figures: vec![Figures::default(); peers.len()], load: Load::default() };
    let ended = bench.run();
    let report = table::report(plan, peers, &bench.figures, &bench.load, command_line)?;
    Ok((report, ended))
}

struct Bench<'a> {
    plan: &'a Plan,
    peers: &'a [Peer],
    say: &'a dyn Fn(&str),
    figures: Vec<Figures>,
    load: Load,
}

impl Bench<'_> {
    fn run(&mut self) -> Result<()> {
        let Plan { set, source, work, runs, .. } = self.plan;
        fs::create_dir_all(work).context("create the work folder")?;
        (self.say)(&format!("writing the set to {}", source.display()));
        set.write(source).context("write the set")?;
        for turn in 1..=*runs {
            (self.say)(&format!("run {turn} of {runs}"));
            self.create()?;
            self.steps(&[Step::First, Step::Reread, Step::Unchanged])?;
            if Step::LATER.iter().any(|step| self.plan.needs(*step)) {
                set.change_one_percent(source).context("change the set")?;
                self.steps(&Step::LATER)?;
                set.change_one_percent(source).context("change the set back")?;
            }
            if self.plan.needs(Step::Large) {
                self.create()?;
                self.steps(&[Step::Large])?;
            }
            for peer in self.peers {
                Peer::remove(&self.plan.repository(peer))?;
            }
        }
        Ok(())
    }

    fn create(&self) -> Result<()> {
        self.peers.iter().try_for_each(|peer| peer.create(&self.plan.repository(peer)))
    }

    /// Step by step, each by all programs in turn, so that what else the machine does meets all of them.
    fn steps(&mut self, steps: &[Step]) -> Result<()> {
        for step in steps.iter().copied().filter(|step| self.plan.needs(*step)) {
            for (peer, figures) in self.peers.iter().zip(&mut self.figures) {
                let (before, started) = (Load::now(), Instant::now());
                let cost = self.plan.measure(peer, step)?;
                self.load.add(before, cost, started.elapsed());
                figures.costs.entry(step).or_default().push(cost);
                if step == Step::First {
                    figures.repository_bytes = disk_usage(&self.plan.repository(peer))?;
                }
            }
            (self.say)(&table::measured(self.peers, &self.figures, step));
        }
        Ok(())
    }
}

impl Plan {
    /// Whether a step is reported, or another one builds on it.
    fn needs(&self, step: Step) -> bool {
        let is_wanted = |step| self.only.is_empty() || self.only.contains(&step);
        match step {
            Step::First => Step::ALL.into_iter().any(|other| other != Step::Large && is_wanted(other)),
            Step::Changed => is_wanted(step) || is_wanted(Step::Restore),
            _ => is_wanted(step),
        }
    }

    fn repository(&self, peer: &Peer) -> PathBuf {
        self.work.join(format!("repository-{}", peer.name()))
    }

    fn measure(&self, peer: &Peer, step: Step) -> Result<Cost> {
        let target = self.work.join("restored");
        if step == Step::Restore {
            if target.exists() {
                fs::remove_dir_all(&target).context("remove what an earlier run left")?;
            }
            fs::create_dir(&target).context("create the folder to restore into")?;
        }
        let large = self.source.join(Mixed::LARGE);
        let source = if step == Step::Large { &large } else { &self.source };
        let command = peer.command(step, &self.repository(peer), source, &target);
        warm(&self.source).context("read the set")?;
        let cost = measured(&self.measurer, &command, &self.work.join(format!("{}.log", peer.name())))?;
        if step == Step::Restore {
            let found = compare(&self.source, &Peer::restored(&target, &self.source), Aspects::CONTENT)?;
            ensure!(found.is_empty(), "{} restored something else: {}", peer.name(), found[0]);
            fs::remove_dir_all(&target).context("remove what was restored")?;
        }
        Ok(cost)
    }
}

/// Brings a folder's files into the page cache.
fn warm(folder: &Path) -> io::Result<()> {
    walk(folder, &mut |path, _| io::copy(&mut fs::File::open(path)?, &mut io::sink()).map(drop))
}

/// Bytes of all files below a folder.
fn disk_usage(folder: &Path) -> io::Result<u64> {
    let mut bytes = 0;
    walk(folder, &mut |_, length| {
        bytes += length;
        Ok(())
    })?;
    Ok(bytes)
}

fn walk(folder: &Path, visit: &mut dyn FnMut(&Path, u64) -> io::Result<()>) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let metadata = entry.metadata()?;
        if metadata.is_dir() {
            walk(&entry.path(), visit)?;
        } else if metadata.is_file() {
            visit(&entry.path(), metadata.len())?;
        }
    }
    Ok(())
}
