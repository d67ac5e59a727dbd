//! The benchmark: onggi beside restic, rustic and borg, on the same set, in the same run.
//!
//! Each program keeps its repository on a file system in memory and reads its source from the page cache, so that what
//! is compared is work, not disks. Every restore is compared with its source before its time counts.

mod machine;
mod peer;
mod table;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::{fs, io};

use anyhow::{Context, Result, ensure};

use crate::compare::{Aspects, compare};
use crate::corpus::mixed::Mixed;
use crate::measure::{Cost, measured, median};
pub use peer::Peer;

/// What to measure, and where.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The size of the set.
    pub set: Mixed,
    /// How often everything is done; the medians are reported.
    pub runs: usize,
    /// Where the source is written: best a disk, since it is read once beforehand.
    pub source: PathBuf,
    /// Where repositories and restored files go: best a file system in memory.
    pub work: PathBuf,
    /// The program that measures: this crate's own.
    pub measurer: PathBuf,
}

/// One measured step of the life of a repository.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Step {
    /// Everything is new.
    First,
    /// Everything is read again, all of it is stored already; the parent is ignored.
    Reread,
    /// Nothing changed since.
    Unchanged,
    /// One byte in a hundred changed.
    Changed,
    /// The newest snapshot comes back into an empty folder.
    Restore,
    /// Structure only.
    Verify,
    /// Every stored byte.
    VerifyData,
}

impl Step {
    /// All steps in the order they are done in.
    pub const ALL: [Self; 7] =
        [Self::First, Self::Reread, Self::Unchanged, Self::Changed, Self::Restore, Self::Verify, Self::VerifyData];

    /// How reports call it.
    pub fn title(self) -> &'static str {
        match self {
            Self::First => "first backup",
            Self::Reread => "everything read again, all known",
            Self::Unchanged => "unchanged",
            Self::Changed => "1 % changed",
            Self::Restore => "restore",
            Self::Verify => "verify structure",
            Self::VerifyData => "verify all data",
        }
    }
}

/// What was found out about one program.
#[derive(Clone, Debug, Default)]
pub struct Figures {
    /// Medians by step.
    pub costs: BTreeMap<Step, Cost>,
    /// Bytes of the repository after the first backup.
    pub repository_bytes: u64,
}

/// Measures the peers and returns the report as Markdown. `say` is told what happens.
pub fn run(plan: &Plan, peers: &[Peer], command_line: &str, say: &dyn Fn(&str)) -> Result<String> {
    fs::create_dir_all(&plan.work).context("create the work folder")?;
    say(&format!("writing the set to {}", plan.source.display()));
    plan.set.write(&plan.source).context("write the set")?;
    let mut costs: BTreeMap<(usize, Step), Vec<Cost>> = BTreeMap::new();
    let mut figures = vec![Figures::default(); peers.len()];
    for turn in 1..=plan.runs {
        let mut measure = |number: usize, step| -> Result<()> {
            costs.entry((number, step)).or_default().push(plan.measure(&peers[number], step)?);
            Ok(())
        };
        for (number, peer) in peers.iter().enumerate() {
            say(&format!("run {turn} of {}: {}", plan.runs, peer.name()));
            peer.create(&plan.repository(peer))?;
            measure(number, Step::First)?;
            figures[number].repository_bytes = disk_usage(&plan.repository(peer))?;
            [Step::Reread, Step::Unchanged].into_iter().try_for_each(|step| measure(number, step))?;
        }
        plan.set.change_one_percent(&plan.source).context("change the set")?;
        for (number, peer) in peers.iter().enumerate() {
            say(&format!("run {turn} of {}: {}, changed", plan.runs, peer.name()));
            let steps = [Step::Changed, Step::Restore, Step::Verify, Step::VerifyData];
            steps.into_iter().try_for_each(|step| measure(number, step))?;
            Peer::remove(&plan.repository(peer))?;
        }
        plan.set.change_one_percent(&plan.source).context("change the set back")?;
    }
    for ((number, step), several) in costs {
        figures[number].costs.extend(median(&several).map(|cost| (step, cost)));
    }
    table::report(plan, peers, &figures, command_line)
}

impl Plan {
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
        let command = peer.command(step, &self.repository(peer), &self.source, &target);
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
