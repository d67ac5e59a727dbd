//! What one run of a program costs: wall time, processor time and the most memory it held.
//!
//! The kernel adds up the children of a process, so each measured program gets a parent of its own: this crate's program
//! started again as `onggi-lab measured`, which runs the command and reports on it alone.

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike;
use serde_json::{Value, json};

/// The cost of one finished command.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cost {
    /// From start to end.
    pub wall: Duration,
    /// User and system time of all its threads and children.
    pub processor: Duration,
    /// Largest resident set, in KiB.
    pub memory_kib: u64,
}

/// Runs a command through `measurer` (the path of the program `onggi-lab`) and returns its cost; its own output goes to
/// `log`. A status other than zero is an error with the end of that output.
pub fn measured(measurer: &Path, command: &Command, log: &Path) -> Result<Cost> {
    let mut outer = Command::new(measurer);
    outer.arg("measured").arg("--log").arg(log).arg("--").arg(command.get_program()).args(command.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => outer.env(name, value),
            None => outer.env_remove(name),
        };
    }
    if let Some(folder) = command.get_current_dir() {
        outer.current_dir(folder);
    }
    let output = outer.stdin(Stdio::null()).output().context("start the measurer")?;
    ensure!(output.status.success(), "{}: {}", shown(command), String::from_utf8_lossy(&output.stderr));
    let answer: Value = serde_json::from_slice(&output.stdout).context("read the measurer's answer")?;
    let number = |key: &str| answer[key].as_u64().with_context(|| format!("the measurer gives no {key}"));
    Ok(Cost {
        wall: Duration::from_micros(number("wall_us")?),
        processor: Duration::from_micros(number("processor_us")?),
        memory_kib: number("memory_kib")?,
    })
}

/// The inner side: runs the words as a command, waits, and answers with its cost as JSON.
pub fn run_and_report(words: &[String], log: &Path) -> Result<Value> {
    let (program, arguments) = words.split_first().context("nothing to run")?;
    let file = std::fs::File::create(log).with_context(|| format!("create {}", log.display()))?;
    let started = Instant::now();
    let status = Command::new(program).args(arguments).stdout(file.try_clone()?).stderr(file).status();
    let wall = started.elapsed();
    let status = status.with_context(|| format!("start {program}"))?;
    let said = std::fs::read_to_string(log).unwrap_or_default();
    let end = said.len().saturating_sub(2000);
    ensure!(status.success(), "{status}\n{}", said.get(end..).unwrap_or(&said));
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN).context("ask for the cost")?;
    let processor = usage.user_time().num_microseconds() + usage.system_time().num_microseconds();
    Ok(json!({"wall_us": wall.as_micros() as u64, "processor_us": processor, "memory_kib": usage.max_rss()}))
}

/// Runs the words as a command in this program's place, and appends to `log` how much memory it held, in KiB.
pub fn watch(words: &[String], log: &Path) -> Result<()> {
    let (program, arguments) = words.split_first().context("nothing to run")?;
    let status = Command::new(program).args(arguments).status().with_context(|| format!("start {program}"))?;
    let held = getrusage(UsageWho::RUSAGE_CHILDREN).context("ask for the cost")?.max_rss();
    let mut file = std::fs::OpenOptions::new().create(true).append(true).open(log)?;
    writeln!(file, "{held}")?;
    ensure!(status.success(), "{status}");
    Ok(())
}

/// A command as one would type it.
pub fn shown(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(|word| word.to_string_lossy().into_owned()).collect::<Vec<_>>().join(" ")
}

/// Bytes that a folder takes on its disk, each file once however many names it has.
pub fn usage(folder: &Path) -> Result<u64> {
    let output = Command::new("du").args(["-s", "-B1"]).arg(folder).output().context("start du")?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let bytes = said.split_whitespace().next().and_then(|word| word.parse().ok());
    bytes.with_context(|| format!("du says {said:?}"))
}

/// The middle one of several costs, each figure by itself; of memory the most, since it is to stay below a ceiling.
pub fn median(costs: &[Cost]) -> Option<Cost> {
    fn middle<T: Ord + Copy>(costs: &[Cost], figure: impl Fn(&Cost) -> T) -> Option<T> {
        let mut figures: Vec<T> = costs.iter().map(figure).collect();
        figures.sort_unstable();
        figures.get(figures.len() / 2).copied()
    }
    Some(Cost {
        wall: middle(costs, |cost| cost.wall)?,
        processor: middle(costs, |cost| cost.processor)?,
        memory_kib: costs.iter().map(|cost| cost.memory_kib).max()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_takes_each_figure_by_itself_and_the_most_memory() {
        let cost = |wall, processor, memory_kib| Cost {
            wall: Duration::from_secs(wall),
            processor: Duration::from_secs(processor),
            memory_kib,
        };
        assert_eq!(median(&[cost(1, 9, 5), cost(3, 7, 6), cost(2, 8, 4)]), Some(cost(2, 8, 6)));
        assert_eq!(median(&[]), None);
    }

    #[test]
    fn a_failed_command_shows_what_it_said() {
        let folder = tempfile::tempdir().unwrap();
        let words = ["sh", "-c", "echo broken; exit 3"].map(str::to_owned);
        let error = run_and_report(&words, &folder.path().join("log")).unwrap_err();
        assert_eq!(error.to_string(), "exit status: 3\nbroken\n");
    }

    #[test]
    fn a_command_costs_something() {
        let folder = tempfile::tempdir().unwrap();
        let answer = run_and_report(&["true".to_owned()], &folder.path().join("log")).unwrap();
        assert!(answer["wall_us"].as_u64().unwrap() > 0 && answer["memory_kib"].as_u64().unwrap() > 0);
    }
}
