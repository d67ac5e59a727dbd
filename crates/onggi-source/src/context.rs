//! What a source is given by the engine: time, stop, memory, spool, reports. Nothing here is global.

use std::fmt;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::{FuturesUnordered, StreamExt};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tokio::sync::{Semaphore, watch};

use crate::path::TreePath;
use crate::source::{ByteStream, ReadAt, ReadError, SourceError};

macro_rules! text_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(String);

        impl $name {
            /// The id with this text.
            pub fn new(text: impl Into<String>) -> Self {
                Self(text.into())
            }

            /// Its text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }

        impl From<&str> for $name {
            fn from(text: &str) -> Self {
                Self::new(text)
            }
        }
    };
}

text_id! {
    /// Names one run; the first part of the mark.
    RunId
}
text_id! {
    /// Names a unit for good: it survives renames and is all that a source needs to find the unit again.
    UnitId
}
text_id! {
    /// Names a snapshot in a repository, in 64 hexadecimal digits; opaque to sources.
    SnapshotId
}

/// The rest of the world: clocks, randomness, disk space. In a simulation all of it is fake and seeded.
#[async_trait]
pub trait World: Send + Sync {
    /// The wall clock, to show and to store.
    fn now(&self) -> Timestamp;
    /// The monotonic clock, to measure: time since some fixed moment.
    fn elapsed(&self) -> Duration;
    /// Waits, for work that has nothing else to do. Adapters use [`Context::sleep`], which wakes when the run is stopped.
    async fn sleep(&self, duration: Duration);
    /// Waits until [`elapsed`](Self::elapsed) is at least this, beside work: a limit on a call. A simulated clock moves
    /// on for `sleep`, never for this.
    async fn reach(&self, elapsed: Duration) {
        while let Some(left) = elapsed.checked_sub(self.elapsed()).filter(|left| !left.is_zero()) {
            self.sleep(left).await;
        }
    }
    /// 64 random bits, not for secrets.
    fn random(&self) -> u64;
    /// Makes a private file of this run on onggi's own disk; the engine deletes it after release.
    async fn spool(&self, run: &RunId, name: &str) -> Result<Box<dyn Spool>, SourceError>;
}

/// A file on onggi's own disk: written by one, and what is there is read by others meanwhile.
#[async_trait]
pub trait Spool: ReadAt {
    /// Asks for room for so many bytes before the first is written; `Full` if there is none.
    async fn reserve(&self, _bytes: u64) -> Result<(), SourceError> {
        Ok(())
    }
    /// Writes at the end, one piece after the other; `Full` if there is no room any more.
    async fn append(&self, bytes: Bytes) -> Result<(), SourceError>;
    /// Bytes written so far.
    fn length(&self) -> u64;
}

/// Receives what the operator may see.
pub trait Monitor: Send + Sync {
    /// Takes one non-fatal fault.
    fn problem(&self, problem: Problem);
    /// Takes word of what is to come.
    fn progress(&self, progress: Progress);
}

/// What a source says of its progress. What is done the engine counts itself, in `push`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Progress {
    /// What it waits for: "waiting for the image".
    Phase(String),
    /// What is to come, as far as it is known.
    Expect {
        /// Number of items.
        items: Option<u64>,
        /// Their length together, in bytes.
        bytes: Option<u64>,
    },
    /// Items that are passed over without being a fault: sockets, mount points, vanished files.
    Passed {
        /// Why: a stable word such as `socket`, `crossing`, `vanished`, `excluded`.
        reason: &'static str,
        /// How many more.
        items: u64,
    },
}

/// One non-fatal fault, for the report.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// A stable word: `denied`, `io`, `changed`, `missing-root` and so on.
    pub class: &'static str,
    /// The item that it is about, if it is about one.
    pub path: Option<TreePath>,
    /// One line for the operator, without the path.
    pub text: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.path {
            Some(path) => write!(f, "{}: {path}: {}", self.class, self.text),
            None => write!(f, "{}: {}", self.class, self.text),
        }
    }
}

/// What a run is for; part of the mark, because it decides what may be removed without asking.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Purpose {
    /// What it makes is removed when it is over.
    Backup,
    /// What it makes is the operator's: never removed by itself.
    Restore,
    /// What it makes is removed when it is over.
    Drill,
}

/// Where a restore goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Destination {
    /// Back in place.
    Origin,
    /// To a new place, named by the options.
    Beside,
    /// To a throw-away place, for drills.
    Scratch,
}

/// Why work must end now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Stop {
    /// The operator said so.
    #[error("cancelled")]
    Cancelled,
    /// The run took too long.
    #[error("time limit reached")]
    TimeLimit,
    /// The system was held too long.
    #[error("freeze limit reached")]
    FreezeLimit,
    /// The group fails as one.
    #[error("another member of the group failed")]
    Group,
    /// There is no more place.
    #[error("repository cannot take more")]
    Repository,
}

/// What the engine gives to every call of one run. Cheap to clone.
///
/// Stopping is a flag with a reason, and a deadline: a call is never dropped in the middle but asks [`Context::check`]
/// between items, pages and polls, and unwinds with `?`.
#[derive(Clone)]
pub struct Context {
    /// Which run; with `purpose` and the unit's id this is the mark.
    pub run: RunId,
    /// What it is for.
    pub purpose: Purpose,
    /// Clocks, randomness, spool.
    pub world: Arc<dyn World>,
    /// Problems and progress.
    pub monitor: Arc<dyn Monitor>,
    /// The sources' share of memory, in bytes: buffers above 64 KiB are taken from it, before they are filled. At least
    /// 1 MiB, since no adapter asks for more than that at once.
    pub memory: Arc<Semaphore>,
    /// Bytes per second allowed now, for systems that can limit themselves; the engine keeps to it in `push`.
    pub rate: Option<u64>,
    /// Whether items are asked for as soon as the image is fixed, so that what must not wait may still be on its way when
    /// `capture` returns. Other members of a group may take their time.
    pub is_prompt: bool,
    stops: Vec<watch::Receiver<Option<Stop>>>,
    deadline: Option<(Duration, Stop)>,
}

impl Context {
    /// A run that ends when `stop` says so. `memory` has one permit per byte.
    pub fn new(
        run: RunId,
        purpose: Purpose,
        world: Arc<dyn World>,
        monitor: Arc<dyn Monitor>,
        memory: Arc<Semaphore>,
        stop: watch::Receiver<Option<Stop>>,
    ) -> Self {
        Self { run, purpose, world, monitor, memory, rate: None, is_prompt: false, stops: vec![stop], deadline: None }
    }

    /// Says whether work must end now; asked between items, pages and polls.
    pub fn check(&self) -> Result<(), Stop> {
        if let Some(stop) = self.stops.iter().find_map(|stop| *stop.borrow()) {
            return Err(stop);
        }
        match self.deadline {
            Some((at, stop)) if self.world.elapsed() >= at => Err(stop),
            _ => Ok(()),
        }
    }

    /// Waits, but not longer than the run is wanted.
    pub async fn sleep(&self, duration: Duration) -> Result<(), Stop> {
        self.check()?;
        let left = self.deadline.map_or(duration, |(at, _)| duration.min(at.saturating_sub(self.world.elapsed())));
        tokio::select! {
            biased;
            () = self.stopped() => {}
            () = self.world.sleep(left) => {}
        }
        self.check()
    }

    /// Waits until the run is stopped by a flag; the deadline does not end it. Never ends where nobody can stop.
    pub async fn stopped(&self) {
        let mut waiting: FuturesUnordered<_> = self.stops.iter().cloned().map(is_set).collect();
        if waiting.next().await.is_none() {
            std::future::pending::<()>().await;
        }
    }

    /// Awaits work that may be dropped half-way, such as reading from a child or a socket, but not longer than the run
    /// is wanted.
    pub async fn unless_stopped<T>(&self, work: impl Future<Output = T>) -> Result<T, Stop> {
        tokio::pin!(work);
        // what need not wait needs nobody who watches
        if self.stops.iter().all(|stop| stop.borrow().is_none())
            && let Poll::Ready(done) = futures::poll!(work.as_mut())
        {
            return Ok(done);
        }
        let deadline = async {
            match self.deadline {
                Some((at, _)) => self.world.reach(at).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            () = self.stopped() => {}
            done = work => return Ok(done),
            () = deadline => {}
        }
        self.check()?;
        Err(self.deadline.map_or(Stop::Cancelled, |(_, stop)| stop))
    }

    /// Time until the deadline, if there is one.
    pub fn left(&self) -> Option<Duration> {
        self.deadline.map(|(at, _)| at.saturating_sub(self.world.elapsed()))
    }

    /// Reports a non-fatal fault.
    pub fn problem(&self, problem: Problem) {
        self.monitor.problem(problem);
    }

    /// Awaits work for so long, as [`Self::unless_stopped`] does. `None` when the time is over; the end of the run is an error.
    pub async fn limited<T>(&self, limit: Duration, work: impl Future<Output = T>) -> Result<Option<T>, Stop> {
        if let Ok(done) = self.within(limit, Stop::TimeLimit).unless_stopped(work).await {
            return Ok(Some(done));
        }
        self.check()?;
        Ok(None)
    }

    /// The same run, ending earlier; a nearer deadline stays.
    #[must_use]
    pub fn within(&self, limit: Duration, stop: Stop) -> Self {
        let at = self.world.elapsed() + limit;
        let deadline = self.deadline.filter(|(earlier, _)| *earlier < at).or(Some((at, stop)));
        Self { deadline, ..self.clone() }
    }

    /// The same run, with a stop of its own beside the run's.
    pub fn stoppable(&self) -> (Self, watch::Sender<Option<Stop>>) {
        let (sender, receiver) = watch::channel(None);
        let stops = self.stops.iter().cloned().chain([receiver]).collect();
        (Self { stops, ..self.clone() }, sender)
    }

    /// For thaw and release: neither the stop nor the deadline of the run reaches them.
    #[must_use]
    pub fn for_cleanup(&self, limit: Duration) -> Self {
        Self { stops: Vec::new(), deadline: None, ..self.clone() }.within(limit, Stop::TimeLimit)
    }

    /// The same limits under another mark: to settle what a dead run left.
    #[must_use]
    pub fn for_run(&self, run: &RunId, purpose: Purpose) -> Self {
        Self { run: run.clone(), purpose, ..self.clone() }
    }

    /// The same run with another receiver of problems and progress: a fresh list per attempt.
    #[must_use]
    pub fn with_monitor(&self, monitor: Arc<dyn Monitor>) -> Self {
        Self { monitor, ..self.clone() }
    }
}

/// A sender that is gone without a word stops nobody.
async fn is_set(mut stop: watch::Receiver<Option<Stop>>) {
    if stop.wait_for(Option::is_some).await.is_err() {
        std::future::pending::<()>().await;
    }
}

/// Runs `work` for all inputs, at most `width` at once. After the first error none is started, but none is dropped
/// either: all that run are awaited, so that no call on a system is left half-way. Answers the first error.
pub async fn each<T, F>(
    width: usize,
    inputs: impl IntoIterator<Item = T>,
    work: impl Fn(T) -> F,
) -> Result<(), SourceError>
where
    F: Future<Output = Result<(), SourceError>>,
{
    let (mut inputs, mut running, mut first) = (inputs.into_iter(), FuturesUnordered::new(), None);
    loop {
        while running.len() < width.max(1) && first.is_none() {
            let Some(input) = inputs.next() else { break };
            running.push(work(input));
        }
        match running.next().await {
            Some(result) => first = first.or(result.err()),
            None => return first.map_or(Ok(()), Err),
        }
    }
}

/// Reads a stream to its confirmed end into a spool of this name.
pub async fn spool_all(cx: &Context, name: &str, stream: &mut dyn ByteStream) -> Result<Box<dyn Spool>, SourceError> {
    let spool = cx.world.spool(&cx.run, name).await?;
    loop {
        cx.check()?;
        match stream.next(cx).await {
            Ok(Some(bytes)) => spool.append(bytes).await?,
            Ok(None) => return Ok(spool),
            Err(ReadError::Unit(error)) => return Err(error),
            Err(ReadError::Item(problem)) => return Err(SourceError::Incomplete(problem.to_string())),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;
    use crate::bench::Bench;

    const SECOND: Duration = Duration::from_secs(1);

    #[tokio::test(start_paused = true)]
    async fn a_stop_reaches_what_belongs_to_the_run_and_no_clean_up() {
        let bench = Bench::new("r1");
        let (part, _part_stop) = bench.cx.stoppable();
        let limited = part.within(SECOND, Stop::FreezeLimit);
        let cleanup = limited.for_cleanup(SECOND);
        bench.stop.send_replace(Some(Stop::Cancelled));
        let checks = [&bench.cx, &part, &limited, &cleanup].map(Context::check);
        assert_eq!(checks, [Err(Stop::Cancelled), Err(Stop::Cancelled), Err(Stop::Cancelled), Ok(())]);
        assert_eq!(cleanup.sleep(2 * SECOND).await, Err(Stop::TimeLimit));
    }

    #[tokio::test(start_paused = true)]
    async fn the_nearer_deadline_counts() {
        let bench = Bench::new("r1");
        let near = bench.cx.within(SECOND, Stop::FreezeLimit);
        let wanted_longer = near.within(9 * SECOND, Stop::TimeLimit);
        assert_eq!(wanted_longer.sleep(5 * SECOND).await, Err(Stop::FreezeLimit));
        assert_eq!(bench.cx.world.elapsed(), SECOND);
        assert_eq!((bench.cx.check(), near.left()), (Ok(()), Some(Duration::ZERO)));
    }

    #[tokio::test(start_paused = true)]
    async fn a_stop_wakes_a_sleeper_and_ends_waiting_work() {
        let bench = Bench::new("r1");
        let stop = async {
            bench.cx.world.sleep(SECOND).await;
            bench.stop.send_replace(Some(Stop::Group));
        };
        let forever = bench.cx.unless_stopped(std::future::pending::<()>());
        let (slept, worked, ()) = tokio::join!(bench.cx.sleep(1000 * SECOND), forever, stop);
        assert_eq!((slept, worked), (Err(Stop::Group), Err(Stop::Group)));
        assert_eq!(bench.cx.world.elapsed(), SECOND);
    }

    #[tokio::test(start_paused = true)]
    async fn a_sender_that_is_gone_stops_nobody() {
        let bench = Bench::new("r1");
        let (part, stop) = bench.cx.stoppable();
        drop(stop);
        assert_eq!(part.sleep(SECOND).await, Ok(()));
        assert_eq!(part.world.elapsed(), SECOND);
    }

    #[tokio::test(start_paused = true)]
    async fn after_an_error_nothing_is_started_and_nothing_is_dropped() {
        let (bench, log) = (Bench::new("r1"), Mutex::new(Vec::new()));
        let say = |what: String| log.lock().unwrap().push(what);
        let result = each(2, [3, 1, 2], async |seconds: u32| {
            say(format!("begin {seconds}"));
            bench.cx.world.sleep(seconds * SECOND).await;
            say(format!("end {seconds}"));
            if seconds == 1 { Err(SourceError::Gone) } else { Ok(()) }
        })
        .await;
        assert!(matches!(result, Err(SourceError::Gone)));
        assert_eq!(*log.lock().unwrap(), ["begin 3", "begin 1", "end 1", "end 3"]);
    }

    #[tokio::test]
    async fn a_stream_is_spooled_to_its_confirmed_end_only() {
        struct Pieces(Vec<Result<Option<Bytes>, ReadError>>);
        #[async_trait]
        impl ByteStream for Pieces {
            async fn next(&mut self, _cx: &Context) -> Result<Option<Bytes>, ReadError> {
                self.0.remove(0)
            }
        }
        let bench = Bench::new("r1");
        let piece = |text: &'static str| Ok(Some(Bytes::from_static(text.as_bytes())));
        let mut whole = Pieces(vec![piece("ab"), piece("c"), Ok(None)]);
        let spool = spool_all(&bench.cx, "x", &mut whole).await.unwrap();
        let mut read = [0; 3];
        spool.read(&bench.cx, 0, &mut read).await.unwrap();
        assert_eq!((spool.length(), &read), (3, b"abc"));
        let mut cut = Pieces(vec![piece("ab"), Err(SourceError::Unreachable("gone".to_owned()).into())]);
        assert!(spool_all(&bench.cx, "x", &mut cut).await.is_err());
    }
}
