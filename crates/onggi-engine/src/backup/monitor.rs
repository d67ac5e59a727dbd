//! Takes what a source reports of one unit: counts it, keeps it for the report, and passes it on to the watcher.

use crate::{
    report::{Problems, ReportProblem},
    watch::{Event, Live, Watch},
};
use onggi_source::{Monitor, Problem, Progress};
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

pub(super) struct UnitMonitor {
    name: String,
    watch: Arc<dyn Watch>,
    live: Arc<Live>,
    seen: Mutex<Seen>,
}

#[derive(Default)]
struct Seen {
    problems: Problems,
    passed: BTreeMap<&'static str, u64>,
}

impl UnitMonitor {
    pub fn new(name: String, watch: Arc<dyn Watch>, live: Arc<Live>) -> Self {
        Self { name, watch, live, seen: Mutex::default() }
    }

    /// One with empty lists: what a failed attempt reported is not true of the next.
    pub fn fresh(&self) -> Self {
        Self::new(self.name.clone(), Arc::clone(&self.watch), Arc::clone(&self.live))
    }

    /// Takes the problems, and leaves none.
    pub fn take_problems(&self) -> Problems {
        std::mem::take(&mut self.seen().problems)
    }

    /// Forgets what an attempt saw that is made again; what could not be released stays.
    pub fn forget_attempt(&self) {
        let mut seen = self.seen();
        let Problems { first, .. } = std::mem::take(&mut seen.problems);
        for problem in first.into_iter().filter(|problem| problem.class == "release-failed") {
            seen.problems.push(problem);
        }
        seen.passed.clear();
    }

    /// A copy of the problems.
    pub fn problems(&self) -> Problems {
        self.seen().problems.clone()
    }

    pub fn has_problems(&self) -> bool {
        !self.seen().problems.is_empty()
    }

    /// Adds what an attempt saw, once that is the one that counts.
    pub fn absorb(&self, attempt: &Self) {
        let Seen { problems, passed } = std::mem::take(&mut *attempt.seen());
        let mut seen = self.seen();
        seen.problems.append(problems);
        for (reason, items) in passed {
            *seen.passed.entry(reason).or_default() += items;
        }
    }

    /// Items that were passed over, by reason.
    pub fn passed(&self) -> Vec<(String, u64)> {
        self.seen().passed.iter().map(|(reason, items)| ((*reason).to_owned(), *items)).collect()
    }

    pub fn event(&self, event: Event) {
        self.watch.event(event);
    }

    pub fn ended(&self) {
        self.watch.event(Event::Ended { name: self.name.clone() });
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Monitor for UnitMonitor {
    fn problem(&self, problem: Problem) {
        let problem = ReportProblem::from(problem);
        self.live.problems.add(1);
        self.watch.event(Event::Problem(problem.clone()));
        self.seen().problems.push(problem);
    }

    fn progress(&self, progress: Progress) {
        match progress {
            Progress::Phase(text) => self.watch.event(Event::Phase { name: self.name.clone(), text }),
            Progress::Expect { items, bytes } => {
                if let Some(items) = items {
                    self.live.items_expected.set(items);
                }
                if let Some(bytes) = bytes {
                    self.live.bytes_expected.set(bytes);
                }
            }
            Progress::Passed { reason, items } => *self.seen().passed.entry(reason).or_default() += items,
        }
    }
}
