//! A repository in memory and runs over it, as the tests of the engine need them.

use jiff::{SignedDuration, Timestamp};
use onggi_engine::{
    backup::{ATTEMPTS_DEFAULT, HOLD_DEFAULT, History, Job, Member, Parents, UnitPlan, back_up},
    edge::Leases,
    recover::{Recovery, recover},
    report::{RunReport, UnitOutcome, UnitReport},
    watch::{Unwatched, Watch},
};
use onggi_repo::{
    Compute, Environment, Host, Lock, LockKind, NewRepository, Repository, WriteBudget,
    format::{Compression, KdfCost, Node, Snapshot},
};
use onggi_source::{
    Context, Remnant, Source, TreePath, Unit,
    bench::Bench,
    fake::{FakeOptions, FakeSource, FakeSystem},
};
use onggi_storage::{clock::TestClock, memory::Memory};
use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering::Relaxed},
    },
    time::Duration,
};

/// A repository with a lock on it.
pub struct Bed {
    pub repo: Repository,
    pub lock: Lock,
    /// Minutes between the snapshots of one test, whose clocks stand still.
    runs: AtomicI64,
}

/// How a run deviates from the usual.
#[derive(Clone)]
pub struct Wish {
    pub hold: Duration,
    pub full_read_every: u32,
    pub rate: Option<u64>,
    pub time_limit: Option<Duration>,
    pub parents: Parents,
    pub dry_run: bool,
    pub journal: Option<PathBuf>,
    pub leases: Option<Leases>,
    pub watch: Arc<dyn Watch>,
}

impl Default for Wish {
    fn default() -> Self {
        Self {
            hold: HOLD_DEFAULT,
            full_read_every: 0,
            rate: None,
            time_limit: None,
            parents: Parents::Newest,
            dry_run: false,
            journal: None,
            leases: None,
            watch: Arc::new(Unwatched),
        }
    }
}

impl Bed {
    pub async fn new() -> Self {
        let clock = TestClock::new(7);
        let host = Host { hostname: "hub".into(), username: "operator".into(), pid: 7, uid: 0, gid: 0 };
        let env = Environment { clock: Arc::new(clock), host, compute: Compute::new(2) };
        let new = NewRepository { polynomial: Some("3da3358b4dc173".parse().unwrap()), kdf: KdfCost::testing() };
        let repo = Repository::create(Arc::new(Memory::new()), &"secret".into(), new, env).await.unwrap();
        let lock = repo.lock(LockKind::Shared, Duration::ZERO).await.unwrap();
        Self { repo, lock, runs: AtomicI64::new(0) }
    }

    fn job<'a>(&'a self, history: &'a History, wish: &'a Wish) -> Job<'a> {
        Job {
            repo: &self.repo,
            lock: &self.lock,
            history,
            hold: wish.hold,
            attempts: ATTEMPTS_DEFAULT,
            drains: 2,
            budget: WriteBudget::STANDARD,
            spill: None,
            dry_run: wish.dry_run,
            program_version: "onggi test".into(),
            leases: wish.leases.as_ref(),
            watch: wish.watch.clone(),
        }
    }

    /// One run of one source.
    pub async fn one(&self, cx: &Context, source: &dyn Source, unit: &Unit) -> UnitReport {
        self.one_with(cx, source, unit, &Wish::default()).await
    }

    pub async fn one_with(&self, cx: &Context, source: &dyn Source, unit: &Unit, wish: &Wish) -> UnitReport {
        self.group(cx, &[(source, unit)], wish).await.units.remove(0)
    }

    /// One run of a group.
    pub async fn group(&self, cx: &Context, members: &[(&dyn Source, &Unit)], wish: &Wish) -> RunReport {
        let history = History::load(&self.repo).await.unwrap();
        let minute = self.runs.fetch_add(1, Relaxed);
        let time = "2026-09-01T12:00:00Z".parse::<Timestamp>().unwrap() + SignedDuration::from_mins(minute);
        let plans = members.iter().map(|(_, unit)| UnitPlan { time: Some(time), ..plan(unit, wish) });
        let plans: Vec<_> = plans.collect();
        let members = members.iter().zip(&plans).map(|((source, unit), plan)| Member { source: *source, unit, plan });
        let members: Vec<_> = members.collect();
        back_up(cx, &self.job(&history, wish), &members).await
    }

    /// What a next process does first.
    pub async fn recover(
        &self,
        cx: &Context,
        source: &dyn Source,
        is_alive: &(dyn Fn(&Remnant) -> bool + Sync),
    ) -> Recovery {
        let history = History::load(&self.repo).await.unwrap();
        let wish = Wish::default();
        recover(cx, &self.job(&history, &wish), source, &|unit| plan(unit, &wish), &|remnant| is_alive(remnant)).await
    }

    pub async fn snapshots(&self) -> Vec<Snapshot> {
        let found = self.repo.snapshots().await.unwrap().found;
        found.into_iter().map(|(_, snapshot)| snapshot).collect()
    }

    /// The node at a path of the newest snapshot.
    pub async fn node(&self, path: &str) -> Option<Node> {
        let mut tree = self.snapshots().await.last()?.tree;
        let mut components = path.split('/').peekable();
        while let Some(component) = components.next() {
            let node = self.repo.tree(tree).await.unwrap().find(component.as_bytes())?.clone();
            if components.peek().is_none() {
                return Some(node);
            }
            tree = node.subtree?;
        }
        None
    }

    /// The content of a file of the newest snapshot.
    pub async fn content(&self, path: &str) -> Vec<u8> {
        let node = self.node(path).await.unwrap_or_else(|| panic!("{path} is not stored"));
        let reader = self.repo.content_reader(node.chunks()).unwrap();
        let mut bytes = vec![0; usize::try_from(reader.len()).unwrap()];
        reader.read_at(0, &mut bytes).await.unwrap();
        bytes
    }
}

fn plan(unit: &Unit, wish: &Wish) -> UnitPlan {
    UnitPlan {
        source: format!("source-of-{}", unit.name),
        kind: "fake".into(),
        hostname: unit.name.clone(),
        paths: Vec::new(),
        tags: Vec::new(),
        excludes: Vec::new(),
        manifest: Some(TreePath::root()),
        chunker: None,
        compression: Compression::DEFAULT,
        hold: None,
        full_read_every: wish.full_read_every,
        rate: wish.rate,
        time_limit: wish.time_limit,
        parents: wish.parents.clone(),
        time: None,
        journal: wish.journal.clone(),
    }
}

/// A run whose clock is tokio's.
pub fn bench(run: &str) -> Bench {
    Bench::new(run)
}

pub const SECOND: Duration = Duration::from_secs(1);

pub fn system(name: &str) -> FakeSystem {
    filled(FakeSystem::new(name))
}

pub fn filled(system: FakeSystem) -> FakeSystem {
    system.put("a/one", vec![1; 3000]);
    system.put("a/two", "two");
    system.put("b/hole", [vec![9; 4096], vec![0; 40_960], vec![7; 100]].concat());
    system
}

pub fn source(system: &FakeSystem) -> FakeSource {
    FakeSource::new(system, FakeOptions::default())
}

#[track_caller]
pub fn check(report: &UnitReport, outcome: UnitOutcome, code: u8) {
    assert_eq!((report.outcome, report.exit.code()), (outcome, code), "{report:#?}");
}

pub fn stored(report: &UnitReport) {
    check(report, UnitOutcome::Stored, 0);
    assert!(report.snapshot.is_some());
}
