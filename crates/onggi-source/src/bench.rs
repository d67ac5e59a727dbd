//! A world and a monitor for tests: seeded, in memory, with tokio's clock (paused or not, as the test says).

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use jiff::Timestamp;
use secrecy::SecretString;
use tokio::sync::{Semaphore, watch};
use tokio::time::Instant;

use crate::carrier::SystemLauncher;
use crate::config::Surroundings;
use crate::context::{Context, Monitor, Problem, Progress, Purpose, RunId, Spool, Stop, World};
use crate::item::Layout;
use crate::secret::{SecretReference, Secrets};
use crate::source::{Known, ReadAt, ReadError, Result, SourceError};

/// The sources' share of memory on the bench, in bytes.
pub const MEMORY_BYTES: usize = 8 << 20;

/// All that a test needs to call a source.
pub struct Bench {
    /// For the calls.
    pub cx: Context,
    /// What the source reported.
    pub seen: Arc<Seen>,
    /// Stops the run.
    pub stop: watch::Sender<Option<Stop>>,
}

impl Bench {
    /// A run of this name, for a backup. Must be called inside a tokio runtime.
    pub fn new(run: &str) -> Self {
        Self::with_seed(run, 7)
    }

    /// A run whose randomness is fixed by the seed.
    pub fn with_seed(run: &str, seed: u64) -> Self {
        let (stop, receiver) = watch::channel(None);
        let seen = Arc::new(Seen::default());
        let world = Arc::new(BenchWorld { start: Instant::now(), state: AtomicU64::new(seed) });
        let memory = Arc::new(Semaphore::new(MEMORY_BYTES));
        let mut cx = Context::new(RunId::from(run), Purpose::Backup, world, seen.clone(), memory, receiver);
        cx.is_prompt = true;
        Self { cx, seen, stop }
    }
}

/// What a source of this name is built with on the bench: real processes, no secret, marks in this folder.
pub fn surroundings(source: &str, state: &Path) -> Surroundings {
    Surroundings {
        source: source.to_owned(),
        host: "here".to_owned(),
        working_directory: PathBuf::from("/"),
        state: state.to_owned(),
        never: Vec::new(),
        environment: BTreeMap::new(),
        programs: Vec::new(),
        launcher: Arc::new(SystemLauncher),
        secrets: Arc::new(NoSecrets),
        attended: false,
    }
}

/// Has no secret at all.
#[derive(Debug)]
pub struct NoSecrets;

#[async_trait]
impl Secrets for NoSecrets {
    async fn fetch(&self, reference: &SecretReference) -> Result<SecretString> {
        Err(SourceError::Denied(format!("{reference}: there is no secret on the bench")))
    }
}

/// Keeps what a source reports.
#[derive(Debug, Default)]
pub struct Seen {
    problems: Mutex<Vec<Problem>>,
    progress: Mutex<Vec<Progress>>,
}

impl Seen {
    /// The problems so far.
    pub fn problems(&self) -> Vec<Problem> {
        lock(&self.problems).clone()
    }

    /// The problems so far as `class path`, sorted.
    pub fn problem_lines(&self) -> Vec<String> {
        let line = |problem: &Problem| match &problem.path {
            Some(path) => format!("{} {path}", problem.class),
            None => problem.class.to_owned(),
        };
        let mut lines: Vec<_> = lock(&self.problems).iter().map(line).collect();
        lines.sort();
        lines
    }

    /// What the problems so far say, in the order in which they came.
    pub fn problem_texts(&self) -> Vec<String> {
        lock(&self.problems).iter().map(|problem| problem.text.clone()).collect()
    }

    /// How many items were passed over for this reason.
    pub fn passed(&self, wanted: &str) -> u64 {
        let count = |progress: &Progress| match progress {
            Progress::Passed { reason, items } if *reason == wanted => *items,
            _ => 0,
        };
        lock(&self.progress).iter().map(count).sum()
    }
}

impl Monitor for Seen {
    fn problem(&self, problem: Problem) {
        lock(&self.problems).push(problem);
    }

    fn progress(&self, progress: Progress) {
        lock(&self.progress).push(progress);
    }
}

struct BenchWorld {
    start: Instant,
    state: AtomicU64,
}

#[async_trait]
impl World for BenchWorld {
    /// Starts on 2026-01-01 and goes with the monotonic clock.
    fn now(&self) -> Timestamp {
        let seconds = 1_767_225_600 + self.elapsed().as_secs().cast_signed();
        Timestamp::from_second(seconds).expect("a test ends before the year 9999")
    }

    fn elapsed(&self) -> Duration {
        self.start.elapsed()
    }

    async fn sleep(&self, duration: Duration) {
        tokio::time::sleep(duration).await;
    }

    /// SplitMix64.
    fn random(&self) -> u64 {
        let mut z = self.state.fetch_add(0x9E37_79B9_7F4A_7C15, Ordering::Relaxed);
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    async fn spool(&self, _run: &RunId, _name: &str) -> Result<Box<dyn Spool>> {
        Ok(Box::<MemorySpool>::default())
    }
}

/// A spool in memory.
#[derive(Debug, Default)]
pub struct MemorySpool(Mutex<Vec<u8>>);

#[async_trait]
impl ReadAt for MemorySpool {
    async fn open(&self, _cx: &Context, _known: &Known<'_>) -> Result<Layout, ReadError> {
        Ok(Layout::dense(self.length()))
    }

    async fn read(&self, _cx: &Context, offset: u64, buffer: &mut [u8]) -> Result<(), ReadError> {
        let start = usize::try_from(offset).expect("a test's spool fits into memory");
        buffer.copy_from_slice(&lock(&self.0)[start..start + buffer.len()]);
        Ok(())
    }
}

#[async_trait]
impl Spool for MemorySpool {
    async fn append(&self, bytes: Bytes) -> Result<()> {
        lock(&self.0).extend_from_slice(&bytes);
        Ok(())
    }

    fn length(&self) -> u64 {
        lock(&self.0).len() as u64
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
