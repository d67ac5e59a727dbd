//! Commands before and after a capture, as freeze and thaw.
//!
//! A file in the state directory is the mark: it is written before the first command and removed after the last one, so
//! that another process finds what a dead run left and thaws it.

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::carrier::{Launch, Launcher, run_to_end};
use crate::config::{ConfigFault, Surroundings};
use crate::context::{Context, Purpose, RunId, Stop};
use crate::marks::{self, failed, remove};
use crate::quantity::Period;
use crate::source::{Remnant, Result, SourceError, Unit};

/// How long a hook may take unless it says otherwise.
const TIME_LIMIT_DEFAULT: Duration = Duration::from_mins(10);

/// One command, as an argument list: no shell reads it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(from = "WrittenHook")]
#[schemars(with = "WrittenHook")]
pub struct Hook {
    /// Program and arguments.
    pub command: Vec<String>,
    /// It is killed after this time, and has failed.
    pub time_limit: Duration,
}

/// As it is written.
#[derive(Deserialize, JsonSchema)]
#[serde(untagged, expecting = "a hook is a list of arguments, or a map with `command` and `time-limit`")]
enum WrittenHook {
    /// Program and arguments.
    Arguments(Vec<String>),
    /// With a time limit of its own.
    #[serde(rename_all = "kebab-case")]
    Limited {
        /// Program and arguments.
        command: Vec<String>,
        /// It is killed after this time.
        time_limit: Period,
    },
}

impl From<WrittenHook> for Hook {
    fn from(written: WrittenHook) -> Self {
        match written {
            WrittenHook::Arguments(command) => Self { command, time_limit: TIME_LIMIT_DEFAULT },
            WrittenHook::Limited { command, time_limit } => Self { command, time_limit: time_limit.0 },
        }
    }
}

/// Names every hook that has no program.
pub(crate) fn faults(key: &str, hooks: &[Hook]) -> impl Iterator<Item = ConfigFault> {
    let empty = hooks.iter().enumerate().filter(|(_, hook)| hook.command.first().is_none_or(String::is_empty));
    empty.map(move |(number, _)| {
        ConfigFault::new(format!("{key}[{number}]"), "the command is empty", "write a list: [program, argument]")
    })
}

/// The hooks of one source.
pub(crate) struct Hooks {
    before: Vec<Hook>,
    after: Vec<Hook>,
    source: String,
    marks: PathBuf,
    launcher: Arc<dyn Launcher>,
}

/// What stands in a mark's file.
#[derive(Serialize, Deserialize)]
struct Mark {
    run: RunId,
    purpose: Purpose,
    unit: Unit,
    made_at: Timestamp,
}

impl Hooks {
    pub(crate) fn new(before: Vec<Hook>, after: Vec<Hook>, surroundings: &Surroundings) -> Self {
        Self {
            before,
            after,
            source: surroundings.source.clone(),
            marks: surroundings.state.clone(),
            launcher: surroundings.launcher.clone(),
        }
    }

    /// Whether there is anything to run.
    pub(crate) fn freezes(&self) -> bool {
        !(self.before.is_empty() && self.after.is_empty())
    }

    /// Runs the commands before a capture; the first that fails ends it.
    ///
    /// The mark is written again around every command: a `thaw` beside this freeze may have removed it.
    pub(crate) async fn freeze(&self, cx: &Context, unit: &Unit) -> Result<()> {
        if !self.freezes() {
            return Ok(());
        }
        self.write_mark(cx, unit)?;
        for hook in &self.before {
            cx.check()?;
            self.write_mark(cx, unit)?;
            let result = self.run(cx, unit, hook).await;
            self.write_mark(cx, unit)?;
            result?;
        }
        Ok(())
    }

    /// Runs all commands after a capture if the mark lies there, also when one fails; answers the first failure and then
    /// leaves the mark.
    pub(crate) async fn thaw(&self, cx: &Context, unit: &Unit) -> Result<()> {
        let mark = self.mark_path(&cx.run, cx.purpose, unit);
        if !self.freezes() || !mark.exists() {
            return Ok(());
        }
        let mut first = None;
        for hook in &self.after {
            cx.check()?;
            first = first.or(self.run(cx, unit, hook).await.err());
        }
        match first {
            Some(error) => Err(error),
            None => remove(&mark).map_err(|error| failed("remove", &mark, &error)),
        }
    }

    /// The marks that lie in the state directory. One that cannot be understood is shown as a foreign one of `unit`.
    pub(crate) fn remnants(&self, unit: &Unit) -> Result<Vec<Remnant>> {
        let mut paths = marks::listed(&self.marks).map_err(|error| failed("list", &self.marks, &error))?;
        paths.retain(|path| path.extension().is_some_and(|extension| extension == "mark"));
        let mut found = Vec::new();
        for path in paths {
            let bytes = match std::fs::read(&path) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue, // thawed meanwhile
                bytes => bytes.map_err(|error| failed("read", &path, &error))?,
            };
            found.push(match serde_json::from_slice::<Mark>(&bytes) {
                Ok(mark) => self.remnant(mark),
                Err(error) => Remnant {
                    unit: unit.clone(),
                    mark: None,
                    seen_at: Timestamp::UNIX_EPOCH,
                    complete: false,
                    what: format!("a mark that cannot be understood, {}: {error}", path.display()),
                },
            });
        }
        Ok(found)
    }

    fn remnant(&self, mark: Mark) -> Remnant {
        let what = format!("commands of {} ran before a capture", self.source);
        let (seen_at, unit) = (mark.made_at, mark.unit);
        Remnant { unit, mark: Some((mark.run, mark.purpose)), seen_at, complete: false, what }
    }

    async fn run(&self, cx: &Context, unit: &Unit, hook: &Hook) -> Result<()> {
        let launch = Launch::new([hook.command.clone()]).with_environment(mark_variables(cx, &self.source, unit));
        let limited = cx.within(hook.time_limit, Stop::TimeLimit);
        let ended = run_to_end(&limited, &*self.launcher, &launch).await;
        match ended {
            Err(SourceError::Stopped(Stop::TimeLimit)) if cx.check().is_ok() => {
                let text = format!("`{}` did not end within {}", hook.command.join(" "), Period(hook.time_limit));
                Err(SourceError::Incomplete(text))
            }
            other => other,
        }
    }

    fn write_mark(&self, cx: &Context, unit: &Unit) -> Result<()> {
        let path = self.mark_path(&cx.run, cx.purpose, unit);
        let mark = Mark { run: cx.run.clone(), purpose: cx.purpose, unit: unit.clone(), made_at: cx.world.now() };
        let written = serde_json::to_vec(&mark).map_err(io::Error::from);
        let written = written.and_then(|bytes| marks::write(&path, &bytes));
        written.map_err(|error| failed("write", &path, &error))
    }

    fn mark_path(&self, run: &RunId, purpose: Purpose, unit: &Unit) -> PathBuf {
        self.marks.join(marks::name(run, purpose, unit)).with_extension("mark")
    }
}

/// The mark as a started process sees it.
pub(crate) fn mark_variables(cx: &Context, source: &str, unit: &Unit) -> BTreeMap<String, String> {
    let purpose = match cx.purpose {
        Purpose::Backup => "backup",
        Purpose::Restore => "restore",
        Purpose::Drill => "drill",
    };
    let pairs = [("RUN", cx.run.as_str()), ("PURPOSE", purpose), ("SOURCE", source), ("UNIT", unit.id.as_str())];
    pairs.iter().map(|(name, value)| (format!("ONGGI_{name}"), (*value).to_owned())).collect()
}
