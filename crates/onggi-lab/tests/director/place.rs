//! What these tests call a Director with: a clock that only sleep moves, and a deployment.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use onggi_lab::director::{Certificate, Deployment, FakeDirector, Instance, Script};
use onggi_source::bosh::director::{Authorities, Director, DirectorError, Guest, Route, Target};
use onggi_source::{Context, Monitor, Problem, Progress, Purpose, RunId, SourceError, Spool, Timestamp, World};
use tokio::sync::{Semaphore, watch};

/// A Director, and a client that trusts it.
pub struct Place {
    pub fake: FakeDirector,
    pub cx: Context,
    pub world: Arc<Clock>,
    pub trace: Arc<Mutex<Vec<String>>>,
}

/// Sleep is over at once and moves the clock; limits are never reached by themselves.
#[derive(Default)]
pub struct Clock(AtomicU64);

impl Clock {
    pub fn pass(&self, duration: Duration) {
        self.0.fetch_add(u64::try_from(duration.as_millis()).unwrap(), Ordering::SeqCst);
    }
}

#[async_trait::async_trait]
impl World for Clock {
    fn now(&self) -> Timestamp {
        Timestamp::UNIX_EPOCH
    }

    fn elapsed(&self) -> Duration {
        Duration::from_millis(self.0.load(Ordering::SeqCst))
    }

    async fn sleep(&self, duration: Duration) {
        self.pass(duration);
    }

    async fn reach(&self, _elapsed: Duration) {
        std::future::pending().await
    }

    fn random(&self) -> u64 {
        0x0123_4567_89ab_cdef
    }

    async fn spool(&self, _run: &RunId, _name: &str) -> Result<Box<dyn Spool>, SourceError> {
        Err(SourceError::Unsupported("a spool"))
    }
}

struct Deaf;

impl Monitor for Deaf {
    fn problem(&self, _problem: Problem) {}
    fn progress(&self, _progress: Progress) {}
}

impl Place {
    /// With a certificate of an authority; `None` says that the test is skipped.
    pub fn new(script: Script) -> Option<Self> {
        Some(Self::with(FakeDirector::start(script, Certificate::Signed)?))
    }

    pub fn with(fake: FakeDirector) -> Self {
        let world = Arc::new(Clock::default());
        let (_, stop) = watch::channel(None);
        let memory = Arc::new(Semaphore::new(1 << 20));
        let cx = Context::new(RunId::from("r1"), Purpose::Backup, world.clone(), Arc::new(Deaf), memory, stop);
        Self { fake, cx, world, trace: Arc::default() }
    }

    pub fn target(&self) -> Target {
        let trace = self.trace.clone();
        Target {
            url: self.fake.url(),
            client: FakeDirector::CLIENT.to_owned(),
            secret: FakeDirector::SECRET.to_owned().into(),
            authorities: Authorities::Given(self.fake.ca().to_vec()),
            route: Arc::new(Route::Direct),
            trace: Some(Arc::new(move |line: &str| trace.lock().unwrap().push(line.to_owned()))),
        }
    }

    pub async fn connect(&self) -> Result<Arc<Director>, DirectorError> {
        Director::connect(&self.cx, self.target()).await.map(Arc::new)
    }

    pub fn guest(&self) -> Guest {
        Guest::new(&self.cx, "ssh-rsa AAAA us".to_owned())
    }
}

/// Two groups, three instances.
pub fn script() -> Script {
    let instance = |group: &str, index: u32, bootstrap| Instance {
        group: group.to_owned(),
        id: format!("{group}-id{index}"),
        index,
        bootstrap,
        address: format!("10.0.{}.{index}", group.len()),
        host_key: format!("ssh-rsa HOST{index}"),
    };
    let instances = vec![instance("db", 0, true), instance("blobs", 0, true), instance("db", 1, false)];
    let manifest = "name: cf\nreleases: []\n".to_owned();
    let cf = Deployment { name: "cf".to_owned(), manifest, instances };
    let empty = Deployment { name: "empty".to_owned(), ..Deployment::default() };
    Script { deployments: vec![cf, empty], ..Script::default() }
}
