//! What a run came to: the truth for the operator, in full for machines.

use crate::exit::Exit;
use jiff::Timestamp;
pub use onggi_repo::format::Figures;
use onggi_source::Problem;
use serde::Serialize;
use std::{fmt, time::Duration};

/// Problems of one unit that are kept with their texts; more are only counted.
pub const PROBLEMS_MAX: usize = 10_000;

/// What a run came to.
#[derive(Debug, Clone, Serialize)]
pub struct RunReport {
    /// Version of this format.
    pub schema: u32,
    /// Its id.
    pub run: String,
    /// When it began.
    pub started_at: Timestamp,
    /// When it ended.
    pub ended_at: Timestamp,
    /// Each unit.
    pub units: Vec<UnitReport>,
    /// Problems of no unit: an unreadable snapshot, a source that could not be asked.
    pub problems: Problems,
}

/// How a unit ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum UnitOutcome {
    /// Stored and read back, without a problem.
    Stored,
    /// Stored; the report lists what is missing or doubtful.
    StoredWithProblems,
    /// As the newest snapshot has it; none was made.
    Unchanged,
    /// Stopped at a limit; can be resumed.
    Stopped,
    /// Not stored.
    Failed,
}

/// What became of one unit.
#[derive(Debug, Clone, Serialize)]
pub struct UnitReport {
    /// The source's name.
    pub source: String,
    /// The unit's id.
    pub unit: String,
    /// Its name.
    pub name: String,
    /// How it ended.
    pub outcome: UnitOutcome,
    /// Its own exit code.
    pub exit: Exit,
    /// The snapshot, in 64 hexadecimal digits.
    pub snapshot: Option<String>,
    /// The snapshot that it was compared with.
    pub parent: Option<String>,
    /// The moment that the snapshot shows.
    pub taken_at: Option<Timestamp>,
    /// Why it failed: each cause a line, the act first.
    pub causes: Vec<String>,
    /// What is missing or doubtful.
    pub problems: Problems,
    /// Items that were passed over without being a fault, by reason.
    pub passed: Vec<(String, u64)>,
    /// Figures.
    pub figures: Figures,
    /// Bytes of content that were read.
    pub bytes_read: u64,
    /// From the first freeze to the last thaw, in seconds, if it was frozen.
    pub frozen_seconds: Option<f64>,
    /// How long it took, in seconds.
    pub seconds: f64,
}

/// One problem.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ReportProblem {
    /// Stable word.
    pub class: String,
    /// Which item, file or unit; shown escaped.
    pub path: Option<String>,
    /// What happened.
    pub text: String,
}

/// Problems, the first ones with their texts.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Problems {
    /// All.
    pub count: u64,
    /// The first [`PROBLEMS_MAX`].
    pub first: Vec<ReportProblem>,
}

impl Problems {
    /// Adds one.
    pub fn push(&mut self, problem: ReportProblem) {
        self.count += 1;
        if self.first.len() < PROBLEMS_MAX {
            self.first.push(problem);
        }
    }

    /// Adds those of another list.
    pub fn append(&mut self, other: Self) {
        self.count += other.count;
        let room = PROBLEMS_MAX.saturating_sub(self.first.len());
        self.first.extend(other.first.into_iter().take(room));
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Whether one of this class is among the first.
    pub fn has(&self, class: &str) -> bool {
        self.first.iter().any(|problem| problem.class == class)
    }
}

impl From<Problem> for ReportProblem {
    fn from(problem: Problem) -> Self {
        Self { class: problem.class.to_owned(), path: problem.path.map(|path| path.to_string()), text: problem.text }
    }
}

impl From<onggi_repo::Problem> for ReportProblem {
    fn from(problem: onggi_repo::Problem) -> Self {
        Self { class: problem.class.to_owned(), path: Some(problem.what), text: problem.text }
    }
}

impl fmt::Display for ReportProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.path {
            Some(path) => write!(f, "{path}: {}", self.text),
            None => f.write_str(&self.text),
        }
    }
}

impl RunReport {
    /// The exit code of the run.
    pub fn exit(&self) -> Exit {
        let own = if self.problems.is_empty() { Exit::Done } else { Exit::Partial };
        Exit::of_units(self.units.iter().map(|unit| unit.exit)).and(own)
    }

    /// `done`, `partial`, `stopped` or `failed`.
    pub fn result(&self) -> &'static str {
        match self.exit() {
            Exit::Done => "done",
            Exit::Partial => "partial",
            Exit::TimeEnded => "stopped",
            _ if self.units.iter().any(|unit| unit.snapshot.is_some()) => "partial",
            _ => "failed",
        }
    }
}

/// Seconds with fractions, for reports.
pub(crate) fn seconds(time: Duration) -> f64 {
    time.as_secs_f64()
}

/// The lines of an error and its causes, the act first.
pub fn causes(error: &dyn std::error::Error) -> Vec<String> {
    let mut lines = vec![error.to_string()];
    let mut next = error.source();
    while let Some(cause) = next {
        lines.push(cause.to_string());
        next = cause.source();
    }
    lines
}

/// The same in one line.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    causes(error).join(": ")
}
