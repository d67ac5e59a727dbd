//! Shows a run while it goes on: problems at once, items if wanted, and the line of progress.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use onggi_engine::report::ReportProblem;
use onggi_engine::watch::{Event, Live, Watch};
use serde_json::json;
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinHandle;
use tokio::time::{Instant, MissedTickBehavior, interval};

use crate::ask;
use crate::escape::{escape, escape_prose, escape_text};
use crate::interrupt;
use crate::output::{Color, Output, Verbosity};
use crate::progress::{self, Meter, Position};

const ON_TERMINAL: Duration = Duration::from_millis(100);
const AS_JSON: Duration = Duration::from_secs(1);
const ELSEWHERE: Duration = Duration::from_secs(30);

/// Sees one run and tells of it.
pub struct Watcher {
    output: Arc<Output>,
    act: &'static str,
    started: Instant,
    state: Mutex<State>,
}

/// Tells a position for work that has no [`Live`] counters.
type Measure = Box<dyn Fn() -> Position + Send>;

#[derive(Default)]
struct State {
    works: Vec<Arc<Live>>,
    measure: Option<Measure>,
    below: Option<PathBuf>,
    current: String,
    meter: Meter,
}

/// Draws until it is dropped.
pub struct Ticker {
    task: JoinHandle<()>,
    output: Arc<Output>,
}

impl Watcher {
    /// Watches an act: `backup`, `restore`.
    pub fn new(output: &Arc<Output>, act: &'static str) -> Arc<Self> {
        Arc::new(Self { output: Arc::clone(output), act, started: Instant::now(), state: Mutex::default() })
    }

    /// Asks this for the position, instead of counters that events bring.
    pub fn measure(&self, measure: impl Fn() -> Position + Send + 'static) {
        self.state().measure = Some(Box::new(measure));
    }

    /// Prints each item that is restored, as a path below this folder.
    pub fn print_items_below(&self, folder: &Path) {
        self.state().below = Some(folder.to_owned());
    }

    /// Draws the progress from now on, as the output and the operator want it.
    pub fn draw(self: &Arc<Self>) -> Ticker {
        let (watcher, output) = (Arc::clone(self), Arc::clone(&self.output));
        Ticker { task: tokio::spawn(async move { watcher.tick().await }), output }
    }

    async fn tick(&self) {
        let style = self.output.style();
        let period = match (style.json, style.talk_on_terminal) {
            (true, _) => AS_JSON,
            (false, true) => ON_TERMINAL,
            (false, false) => ELSEWHERE,
        };
        let is_shown = self.output.says(Verbosity::Normal);
        let mut asked = signal(SignalKind::user_defined1()).ok();
        let mut ticks = interval(period);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
        ticks.tick().await;
        loop {
            tokio::select! {
                _ = ticks.tick(), if is_shown => self.show(false),
                () = interrupt::next(asked.as_mut()) => self.show(true),
            }
        }
    }

    /// Shows how far it is; `as_line` if the operator asked by a signal.
    fn show(&self, as_line: bool) {
        let elapsed = self.started.elapsed();
        let (position, line) = {
            let mut state = self.state();
            let position = state.position();
            state.meter.note(elapsed, position.bytes);
            let style = self.output.style();
            let columns = if style.talk_on_terminal { ask::columns().saturating_sub(1) } else { usize::MAX };
            let line = progress::line(self.act, &position, &state.meter, elapsed, self.output.dot(), columns);
            (position, line)
        };
        match (self.output.is_json(), self.output.style().talk_on_terminal && !as_line) {
            (true, _) => self.output.json_now(self.status(&position, elapsed)),
            (false, true) => self.output.bar(&line),
            (false, false) => self.output.say(line),
        }
    }

    fn status(&self, position: &Position, elapsed: Duration) -> serde_json::Value {
        let share = position.bytes_total.filter(|total| *total > 0).map(|total| position.bytes as f64 / total as f64);
        let remaining = self.state().meter.remaining(elapsed, position).map(|left| left.as_secs());
        let (files, bytes) =
            if self.act == "restore" { ("files_restored", "bytes_restored") } else { ("files_done", "bytes_done") };
        let mut status = json!({
            "message_type": "status",
            "seconds_elapsed": elapsed.as_secs(),
            "percent_done": share.unwrap_or(0.0).min(1.0),
            "total_files": position.items_total.unwrap_or(position.items),
            files: position.items,
            "total_bytes": position.bytes_total.unwrap_or(position.bytes),
            bytes: position.bytes,
            "error_count": position.problems,
        });
        if let Some(seconds) = remaining {
            status["seconds_remaining"] = seconds.into();
        }
        if !position.current.is_empty() && self.act != "restore" {
            status["current_files"] = json!([position.current]);
        }
        status
    }

    fn item(&self, path: &[u8], what: &str) {
        let printed = {
            let mut state = self.state();
            state.current = format!("/{}", escape(path));
            state.below.as_ref().map(|folder| folder.join(OsStr::from_bytes(path)))
        };
        if let Some(printed) = printed
            && !self.output.is_json()
        {
            if what == "restored" && self.output.says(Verbosity::Normal) {
                self.output.data(escape(printed.as_os_str().as_bytes()));
            }
            return;
        }
        if self.output.says(Verbosity::Debug) || (self.output.says(Verbosity::Verbose) && what != "unmodified") {
            if self.output.is_json() {
                let action = match what {
                    "changed" => "modified",
                    "unmodified" => "unchanged",
                    other => other,
                };
                let item = String::from_utf8_lossy(path);
                self.output.json(json!({"message_type": "verbose_status", "action": action, "item": item}));
            } else {
                self.output.say(format_args!("{what:<10} {}", escape(path)));
            }
        }
    }

    fn problem(&self, problem: &ReportProblem) {
        show_problem(&self.output, problem, if self.act == "restore" { "restore" } else { "archival" });
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Tells of a problem at once, however quiet.
pub fn show_problem(output: &Output, problem: &ReportProblem, during: &str) {
    let path = problem.path.as_deref().unwrap_or_default();
    if output.is_json() {
        output.json_talk(json!({
            "message_type": "error",
            "error": { "message": problem.text },
            "during": during,
            "item": path,
            "class": problem.class,
            "message": problem.text,
        }));
        return;
    }
    let word = output.paint(Color::Yellow, "problem:");
    let text = escape_prose(&problem.text);
    if path.is_empty() {
        output.say(format_args!("{word} {text} ({})", problem.class));
    } else {
        output.say(format_args!("{word} {}: {text} ({})", escape_text(path), problem.class));
    }
}

impl Watch for Watcher {
    fn event(&self, event: Event) {
        match event {
            Event::Started { name, live } => {
                self.output.detail(format_args!("{} {}", self.act, escape_text(&name)));
                self.state().works.push(live);
            }
            Event::Phase { name, text } => {
                self.output.detail(format_args!("{}: {}", escape_text(&name), escape_prose(&text)));
            }
            Event::Item { path, what } => self.item(path.as_bytes(), what),
            Event::Problem(problem) => self.problem(&problem),
            Event::Ended { .. } => self.state().current.clear(),
        }
    }
}

impl State {
    /// The sum over all works.
    fn position(&self) -> Position {
        if let Some(measure) = &self.measure {
            return measure();
        }
        let sum = |of: fn(&Live) -> u64| self.works.iter().map(|live| of(live)).sum::<u64>();
        let known = |of: fn(&Live) -> u64| {
            let is_known = !self.works.is_empty() && self.works.iter().all(|live| of(live) > 0);
            is_known.then(|| sum(of))
        };
        Position {
            bytes: sum(|live| live.bytes.get()),
            bytes_total: known(|live| live.bytes_expected.get()),
            items: sum(|live| live.files.get()),
            items_total: known(|live| live.items_expected.get()),
            problems: sum(|live| live.problems.get()),
            current: self.current.clone(),
        }
    }
}

impl Drop for Ticker {
    fn drop(&mut self) {
        self.task.abort();
        self.output.hide_bar();
    }
}
