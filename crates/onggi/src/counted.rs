//! Passes on what a source says, and counts what is wrong with it: the exit code must know.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use onggi_engine::exit::Exit;
use onggi_source::{Context, Monitor, Problem, Progress};

/// A monitor before another.
pub struct Counted {
    told: Arc<dyn Monitor>,
    problems: AtomicU64,
}

impl Counted {
    /// Counts what is said under this context; the context to say it under.
    pub fn over(cx: &Context) -> (Arc<Self>, Context) {
        let counted = Arc::new(Self { told: Arc::clone(&cx.monitor), problems: AtomicU64::new(0) });
        (Arc::clone(&counted), cx.with_monitor(counted))
    }

    /// How many problems there were.
    pub fn problems(&self) -> u64 {
        self.problems.load(Ordering::Relaxed)
    }

    /// How what was done ends.
    pub fn exit(&self) -> Exit {
        if self.problems() == 0 { Exit::Done } else { Exit::Partial }
    }
}

impl Monitor for Counted {
    fn problem(&self, problem: Problem) {
        self.problems.fetch_add(1, Ordering::Relaxed);
        self.told.problem(problem);
    }

    fn progress(&self, progress: Progress) {
        self.told.progress(progress);
    }
}
