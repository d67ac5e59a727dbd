//! The benchmark of a fleet: onggi beside `rsync` over the same OpenSSH server, on the same files, in the same run.
//!
//! All lies on one machine, so the work of both ends of a connection shares its processors. What is measured once is said
//! to be so; all else is the median of several runs, one program after the other in each.

mod bed;
mod proxy;
mod set;
mod table;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Context, Result};
use clap::ValueEnum;

use crate::bench::load::Load;
use crate::measure::{Cost, median};
use bed::Bed;
use set::Set;

/// What to measure, and where.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Files of the one host that is compared.
    pub files: u64,
    /// Hosts that are read in one run, and files of each.
    pub hosts: (usize, u64),
    /// Days of the comparison with dated folders.
    pub days: u32,
    /// How often what is compared is done.
    pub runs: usize,
    /// What is measured; empty: all.
    pub only: Vec<Part>,
    /// Where files and dated folders are written: best a disk.
    pub disk: PathBuf,
    /// Where repositories and copies go: best a file system in memory.
    pub memory: PathBuf,
    /// The program that measures: this crate's own.
    pub measurer: PathBuf,
    /// The program that is measured; `onggi-node` lies beside it.
    pub onggi: PathBuf,
}

/// One part of the benchmark.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Part {
    /// One host: first, unchanged, far away, memory.
    One,
    /// Many hosts, unchanged.
    Many,
    /// Day by day beside dated folders of hard links.
    Days,
}

/// What is compared on one host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Row {
    First,
    Unchanged,
    Attributes,
    Far,
}

/// Costs of both programs.
#[derive(Clone, Debug, Default)]
struct Pair {
    onggi: Vec<Cost>,
    rsync: Vec<Cost>,
}

impl Pair {
    fn medians(&self) -> Option<(Cost, Cost)> {
        Some((median(&self.onggi)?, median(&self.rsync)?))
    }
}

/// What many hosts cost.
#[derive(Clone, Copy, Debug)]
struct Many {
    first: Cost,
    unchanged: Cost,
}

/// What days cost: all together, and bytes on the disk.
#[derive(Clone, Copy, Debug, Default)]
struct Days {
    onggi: (Cost, u64),
    rsync: (Cost, u64),
}

/// All that was found out.
#[derive(Debug, Default)]
struct Figures {
    rows: BTreeMap<Row, Pair>,
    /// Of the program on the host, in KiB.
    node_memory: Option<u64>,
    many: Option<Many>,
    days: Option<Days>,
    load: Load,
}

/// Measures and returns the report as Markdown; what happened if it ended early comes beside it. `say` is told what is
/// measured.
pub fn run(plan: &Plan, command_line: &str, say: &dyn Fn(&str)) -> Result<(String, Result<()>)> {
    let mut bench = Bench { plan, say, bed: Bed::start(plan)?, figures: Figures::default() };
    let ended = bench.run();
    Ok((table::report(plan, &bench.figures, &bench.bed.versions()?, command_line), ended))
}

struct Bench<'a> {
    plan: &'a Plan,
    say: &'a dyn Fn(&str),
    bed: Bed,
    figures: Figures,
}

impl Bench<'_> {
    fn run(&mut self) -> Result<()> {
        let is_wanted = |part| self.plan.only.is_empty() || self.plan.only.contains(&part);
        let parts = [Part::One, Part::Many, Part::Days].map(|part| (part, is_wanted(part)));
        for (part, _) in parts.into_iter().filter(|(_, is_wanted)| *is_wanted) {
            match part {
                Part::One => self.one()?,
                Part::Many => self.many()?,
                Part::Days => self.days()?,
            }
        }
        Ok(())
    }

    fn one(&mut self) -> Result<()> {
        let set = Set { files: self.plan.files };
        (self.say)(&format!("writing {} files", set.files));
        set.write(&self.bed.files()).context("write the set")?;
        for turn in 1..=self.plan.runs {
            self.bed.clear()?;
            for row in [Row::First, Row::Unchanged, Row::Attributes, Row::Far] {
                let rsync = self.bed.rsync(row);
                let rsync = self.measured(|bed| bed.measure(&rsync))?;
                // the same work of onggi: it always reads attributes
                let onggi = match self.figures.rows.get(&Row::Unchanged) {
                    Some(before) if row == Row::Attributes => before.onggi[turn - 1],
                    _ => self.measured(|bed| bed.back_up(if row == Row::Far { "far" } else { "near" }))?,
                };
                let pair = self.figures.rows.entry(row).or_default();
                pair.onggi.push(onggi);
                pair.rsync.push(rsync);
                let seconds = |cost: Cost| cost.wall.as_secs_f64();
                (self.say)(&format!("run {turn}, {row:?}: onggi {:.2}, rsync {:.2}", seconds(onggi), seconds(rsync)));
            }
        }
        self.figures.node_memory = Some(self.bed.node_memory()?);
        Ok(())
    }

    fn many(&mut self) -> Result<()> {
        let (hosts, files) = self.plan.hosts;
        (self.say)(&format!("{hosts} hosts of {files} files"));
        Set { files }.write(&self.bed.files()).context("write the set")?;
        self.bed.clear()?;
        let first = self.measured(|bed| bed.back_up("many"))?;
        (self.say)(&format!("first: {:.1}", first.wall.as_secs_f64()));
        let unchanged = self.measured(|bed| bed.back_up("many"))?;
        (self.say)(&format!("unchanged: {:.1}", unchanged.wall.as_secs_f64()));
        self.figures.many = Some(Many { first, unchanged });
        Ok(())
    }

    fn days(&mut self) -> Result<()> {
        let set = Set { files: self.plan.files };
        set.write(&self.bed.files()).context("write the set")?;
        self.bed.clear()?;
        let mut days = Days::default();
        for day in 0..self.plan.days {
            set.change(&self.bed.files(), day).context("change the set")?;
            let rsync = self.bed.rsync_of_day(day);
            let rsync = self.measured(|bed| bed.measure(&rsync))?;
            let onggi = self.measured(|bed| bed.back_up("days"))?;
            for (sum, cost) in [(&mut days.rsync.0, rsync), (&mut days.onggi.0, onggi)] {
                *sum = Cost {
                    wall: sum.wall + cost.wall,
                    processor: sum.processor + cost.processor,
                    memory_kib: sum.memory_kib.max(cost.memory_kib),
                };
            }
            (self.say)(&format!(
                "day {day}: onggi {:.2}, rsync {:.2}",
                onggi.wall.as_secs_f64(),
                rsync.wall.as_secs_f64()
            ));
        }
        (days.onggi.1, days.rsync.1) = self.bed.days_on_disk()?;
        self.figures.days = Some(days);
        Ok(())
    }

    /// Counts what else the machine does meanwhile.
    fn measured(&mut self, measure: impl FnOnce(&Bed) -> Result<Cost>) -> Result<Cost> {
        let (before, started) = (Load::now(), Instant::now());
        let cost = measure(&self.bed)?;
        self.figures.load.add(before, cost, started.elapsed());
        Ok(cost)
    }
}
