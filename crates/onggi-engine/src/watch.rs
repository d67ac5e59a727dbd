//! What a run lets its watcher see while it goes on: events, and counters that a progress bar may read at any time.

use crate::report::ReportProblem;
use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering::Relaxed},
};

/// Sees a run as it goes on. Called from many tasks; must not block.
pub trait Watch: Send + Sync {
    /// Something happened.
    fn event(&self, event: Event);
}

/// What can happen.
#[derive(Debug, Clone)]
pub enum Event {
    /// Work on a unit or a restore began; its counters move from now on.
    Started {
        /// The unit's name, or the destination.
        name: String,
        /// Its counters.
        live: Arc<Live>,
    },
    /// It waits for something or entered a phase.
    Phase {
        /// The unit's name.
        name: String,
        /// For the operator: `freeze`, `waiting for the image`.
        text: String,
    },
    /// A file is being read or written; for verbose output.
    Item {
        /// Its path.
        path: onggi_source::TreePath,
        /// `new`, `changed`, `unmodified`, `restored`, `lost`.
        what: &'static str,
    },
    /// A problem was found.
    Problem(ReportProblem),
    /// Work on a unit or a restore ended.
    Ended {
        /// The unit's name, or the destination.
        name: String,
    },
}

/// Nobody watches.
#[derive(Debug, Clone, Copy, Default)]
pub struct Unwatched;

impl Watch for Unwatched {
    fn event(&self, _event: Event) {}
}

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// Counters of one piece of work. All only grow, save the expected ones.
        #[derive(Debug, Default)]
        pub struct Live {
            $($(#[$doc])* pub $name: Counter,)*
        }
    };
}

counters! {
    /// Files done.
    files,
    /// Directories done.
    dirs,
    /// Bytes of content done, unread ones included.
    bytes,
    /// Bytes that were read or written.
    bytes_moved,
    /// Problems.
    problems,
    /// Items to come, 0 while unknown.
    items_expected,
    /// Bytes to come, 0 while unknown.
    bytes_expected,
}

/// A number that many tasks add to.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Its value.
    pub fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }

    /// Adds.
    pub fn add(&self, count: u64) {
        self.0.fetch_add(count, Relaxed);
    }

    /// Replaces.
    pub(crate) fn set(&self, value: u64) {
        self.0.store(value, Relaxed);
    }
}
