//! What every command has: flags, streams, the machine; and the frame in which commands work on a repository, so that
//! its lock is released however the work ends.

mod opened;

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use onggi_engine::budget::Memory;
use onggi_engine::config::value::is_name;
use onggi_engine::config::{self, Config, SourceConfig};
use onggi_engine::edge::SystemFiles;
use onggi_engine::exit::Exit;
use onggi_engine::report::{ReportProblem, causes};
use onggi_repo::lock::{Lock, LockKind};
use onggi_repo::{RepoError, Repository, Which};
use onggi_source::{Context, Monitor, Problem, Progress, Purpose, RunId, Stop};
use onggi_storage::Clock;
use onggi_storage::location::Location;
use onggi_storage::stack::Stack;
use secrecy::SecretString;
use tokio::sync::OnceCell;

pub use self::opened::Opened;
use crate::ask;
use crate::cli::Globals;
use crate::escape::escape;
use crate::failure::Failure;
use crate::interrupt::Interrupt;
use crate::machine::Machine;
use crate::opening::{self, PasswordSource, Place};
use crate::output::Output;
use crate::query::{self, Found};
use crate::watcher::show_problem;
use crate::world::Machinery;

/// What every command has.
pub struct Session {
    /// The flags before and after every verb.
    pub globals: Globals,
    /// Data and talk.
    pub output: Arc<Output>,
    /// Control-C.
    pub interrupt: Interrupt,
    /// Environment and folders.
    pub machine: Machine,
    config: OnceCell<Option<Arc<Config>>>,
    place: OnceCell<Place>,
    clock: Arc<dyn Clock>,
    started: Duration,
    zone: TimeZone,
}

/// One run: its context and when it began.
pub struct Run {
    /// For sources and restores.
    pub context: Context,
    clock: Arc<dyn Clock>,
    started: Duration,
}

/// Whether the cache is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Caching {
    Used,
    Passed,
}

/// Who ends work when the operator asks for an end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ending {
    /// It is simply left where it waits.
    Left,
    /// The work itself, by its context.
    Own,
    /// Nobody: it is done because the end was asked for.
    Nobody,
}

impl Session {
    /// A session of this process.
    pub fn new(globals: Globals, output: &Arc<Output>) -> Result<Self, Failure> {
        Ok(Self::on(Machine::read()?, globals, output))
    }

    /// The same where the machine is known.
    pub fn on(machine: Machine, globals: Globals, output: &Arc<Output>) -> Self {
        let clock = machine.clock();
        Self {
            globals,
            output: Arc::clone(output),
            interrupt: Interrupt::listen(output),
            machine,
            config: OnceCell::new(),
            place: OnceCell::new(),
            started: clock.elapsed(),
            clock,
            zone: TimeZone::system(),
        }
    }

    /// The same with these sources beside those of the configuration.
    pub fn with_sources(self, sources: BTreeMap<String, SourceConfig>) -> Result<Self, Failure> {
        let mut config = self.load_config()?.unwrap_or_default();
        config.sources.extend(sources);
        Ok(Self { config: OnceCell::from(Some(Arc::new(config))), ..self })
    }

    /// What time it is.
    pub fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// Reads what stands for snapshots, before anything is opened.
    pub fn queries(&self, texts: &[String]) -> Result<Vec<Which>, Failure> {
        let read = texts.iter().map(|text| query::parse(text, &self.zone));
        read.collect::<Result<_, _>>().map_err(|error| Failure::no_snapshot(&error))
    }

    /// Reads SNAPSHOT:PATH.
    pub fn query_with_path(&self, text: &OsStr) -> Result<(Which, Vec<u8>), Failure> {
        query::parse_with_path(text.as_bytes(), &self.zone).map_err(|error| Failure::no_snapshot(&error))
    }

    /// An absolute path, also for one that does not exist yet.
    pub fn absolute(&self, path: &Path) -> Result<PathBuf, Failure> {
        let absolute = self.machine.absolute(path);
        match absolute.canonicalize() {
            Ok(real) => Ok(real),
            Err(_) => std::path::absolute(&absolute)
                .map_err(|error| Failure::local(format!("find {}", path.display()), &error)),
        }
    }

    /// The configuration, if there is one; an unreadable one is a failure.
    pub async fn config(&self) -> Result<Option<Arc<Config>>, Failure> {
        let load = async || Ok(self.load_config()?.map(Arc::new));
        self.config.get_or_try_init(load).await.cloned()
    }

    fn load_config(&self) -> Result<Option<Config>, Failure> {
        let Some(path) = self.config_path() else { return Ok(None) };
        let loaded = config::load(&SystemFiles { variables: &self.machine.variables }, &path);
        loaded.accept().map(Some).map_err(|faults| Failure::configuration(&path, &faults))
    }

    /// Where the configuration is, if it is named or where it is looked for.
    pub fn config_path(&self) -> Option<PathBuf> {
        let named = self.globals.config.as_ref().map(|path| self.machine.absolute(path));
        named.or_else(|| self.machine.config_file())
    }

    /// The repository of this command.
    pub async fn place(&self) -> Result<&Place, Failure> {
        self.place
            .get_or_try_init(async || {
                let named = self.globals.repo.as_deref();
                self.place_at(named.or_else(|| self.machine.variable(&["ONGGI_REPOSITORY", "RESTIC_REPOSITORY"]))).await
            })
            .await
    }

    /// The repository that a text means. An address needs no configuration, so that a wrong one is in nobody's way.
    pub async fn place_at(&self, text: Option<&str>) -> Result<Place, Failure> {
        let may_be_name = text.is_none_or(is_name);
        let config = if may_be_name { self.config().await? } else { None };
        opening::place(text, config.as_deref(), &self.machine).await
    }

    /// A restore into the repository would destroy what it restores from.
    pub async fn refuse_inside_repository(&self, verb: &str, path: &Path) -> Result<(), Failure> {
        let Some(repository) = self.repository_folder().await? else { return Ok(()) };
        let repository = self.absolute(&repository)?;
        if !path.starts_with(&repository) {
            return Ok(());
        }
        Err(Failure::usage(format!("{verb} into {}", path.display()))
            .because("that is inside the repository")
            .hint("choose another folder"))
    }

    /// The local folder of the repository, if it is one.
    pub async fn repository_folder(&self) -> Result<Option<PathBuf>, Failure> {
        Ok(match &self.place().await?.location {
            Location::Local(path) => Some(path.clone()),
            _ => None,
        })
    }

    /// Works on the repository under a lock. Control-C leaves the work where it waits.
    pub async fn with(
        &self,
        kind: LockKind,
        work: impl AsyncFnOnce(&Opened) -> Result<Exit, Failure>,
    ) -> Result<Exit, Failure> {
        self.work(kind, Caching::Used, Ending::Left, work).await
    }

    /// The same, reading only what is really in the storage.
    pub async fn with_uncached(
        &self,
        kind: LockKind,
        work: impl AsyncFnOnce(&Opened) -> Result<Exit, Failure>,
    ) -> Result<Exit, Failure> {
        self.work(kind, Caching::Passed, Ending::Left, work).await
    }

    /// The same, with work that ends by itself when its context or the interrupt says so.
    pub async fn with_own_end(
        &self,
        kind: LockKind,
        work: impl AsyncFnOnce(&Opened) -> Result<Exit, Failure>,
    ) -> Result<Exit, Failure> {
        self.work(kind, Caching::Used, Ending::Own, work).await
    }

    /// Works on the repository after the operator asked for an end, to store what would be lost.
    pub async fn with_last(
        &self,
        kind: LockKind,
        work: impl AsyncFnOnce(&Opened) -> Result<Exit, Failure>,
    ) -> Result<Exit, Failure> {
        self.work(kind, Caching::Used, Ending::Nobody, work).await
    }

    /// Works on the repository without any lock.
    pub async fn with_unlocked(
        &self,
        work: impl AsyncFnOnce(&Repository) -> Result<Exit, Failure>,
    ) -> Result<Exit, Failure> {
        let repo = self.open(Caching::Passed).await?;
        work(&repo).await
    }

    async fn work(
        &self,
        kind: LockKind,
        caching: Caching,
        ending: Ending,
        work: impl AsyncFnOnce(&Opened) -> Result<Exit, Failure>,
    ) -> Result<Exit, Failure> {
        let repo = tokio::select! {
            repo = self.open(caching) => repo?,
            exit = self.asked_to_end(ending) => return ended(exit),
        };
        self.work_on(&repo, kind, ending, work).await
    }

    /// Works on a repository that is open already, under a lock.
    pub async fn with_at(
        &self,
        repo: &Repository,
        kind: LockKind,
        work: impl AsyncFnOnce(&Opened) -> Result<Exit, Failure>,
    ) -> Result<Exit, Failure> {
        self.work_on(repo, kind, Ending::Left, work).await
    }

    async fn work_on(
        &self,
        repo: &Repository,
        kind: LockKind,
        ending: Ending,
        work: impl AsyncFnOnce(&Opened) -> Result<Exit, Failure>,
    ) -> Result<Exit, Failure> {
        let asked = OnceCell::new();
        let stop = async { drop(asked.set(self.asked_to_end(ending).await)) };
        let lock = self.lock(repo, kind, stop).await;
        let asked = asked.into_inner().or_else(|| self.interrupt.exit());
        if let Some(exit) = asked.filter(|_| ending != Ending::Nobody) {
            if let Ok(lock) = lock {
                lock.release().await.map_err(|error| Failure::repository("release the lock", &error))?;
            }
            return ended(exit);
        }
        let lock = lock?;
        let opened = Opened { repo: repo.clone(), lock };
        let result = tokio::select! {
            result = work(&opened) => result,
            exit = self.asked_to_end(ending), if ending == Ending::Left => ended(exit),
        };
        let released = opened.lock.release().await;
        let exit = result?;
        released.map_err(|error| Failure::repository("release the lock", &error))?;
        Ok(self.interrupt.exit().filter(|_| ending == Ending::Left).unwrap_or(exit))
    }

    /// By Control-C, or because the time is over.
    async fn asked_to_end(&self, ending: Ending) -> Exit {
        if ending == Ending::Nobody {
            return std::future::pending().await;
        }
        let limit = async {
            match self.globals.timeout {
                Some(limit) => {
                    let passed = self.clock.elapsed().saturating_sub(self.started);
                    self.clock.sleep(limit.0.saturating_sub(passed)).await;
                }
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            exit = self.interrupt.asked() => exit,
            () = limit => Exit::TimeEnded,
        }
    }

    /// Never left half-way: a lock file that nobody holds would keep others out. `stop` ends the wait.
    async fn lock(&self, repo: &Repository, kind: LockKind, stop: impl Future<Output = ()>) -> Result<Lock, Failure> {
        if self.globals.no_lock {
            if kind == LockKind::Exclusive {
                return Err(Failure::usage("work without a lock")
                    .because("this needs one")
                    .hint("leave --no-lock out"));
            }
            return Ok(Lock::none());
        }
        let wait = self.globals.lock_wait.map_or(Duration::ZERO, |wait| wait.0);
        repo.lock_unless(kind, wait, stop).await.map_err(|error| {
            let is_refused = Failure::repository("", &error).exit() == Exit::Denied;
            let failure = Failure::repository("lock the repository", &error);
            if is_refused { failure.hint("for reading only, say --no-lock") } else { failure }
        })
    }

    async fn open(&self, caching: Caching) -> Result<Repository, Failure> {
        let place = self.place().await?;
        let source = opening::password_source(&self.globals, &self.machine, place);
        self.open_with(place, &source, caching).await
    }

    /// Opens another repository than that of the command line.
    pub async fn open_place(&self, place: &Place, source: &PasswordSource) -> Result<Repository, Failure> {
        self.open_with(place, source, Caching::Used).await
    }

    async fn open_with(&self, place: &Place, source: &PasswordSource, caching: Caching) -> Result<Repository, Failure> {
        let stack = self.stack(place, caching).await?;
        if *source == PasswordSource::Terminal {
            opening::refuse_absent(place, &stack).await?;
        }
        let question = format!("password of {}: ", place.location);
        let password = opening::password(source, &self.machine, &question).await?;
        let repo = opening::repository(place, &stack, &password, &self.globals, &self.machine).await?;
        for problem in repo.problems() {
            show_problem(&self.output, &problem.clone().into(), "open");
        }
        Ok(repo)
    }

    /// The storage of a repository, with the limits of the command line.
    pub async fn stack_at(&self, place: &Place) -> Result<Stack, Failure> {
        self.stack(place, Caching::Used).await
    }

    async fn stack(&self, place: &Place, caching: Caching) -> Result<Stack, Failure> {
        let mut globals = self.globals.clone();
        globals.no_cache |= caching == Caching::Passed;
        opening::stack(place, &globals, &self.machine).await
    }

    /// A folder for files of onggi that only this user can read.
    pub fn private_folder(&self, name: &str) -> Result<PathBuf, Failure> {
        let path = self.machine.state_folder().join(name);
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&path)
            .map_err(|error| Failure::local(format!("create {}", path.display()), &error))?;
        Ok(path)
    }

    /// A context whose end is Control-C or the time limit.
    pub fn run(&self, purpose: Purpose) -> Run {
        let mut random = [0; 8];
        self.clock.fill_random(&mut random);
        let id = RunId::new(format!("{}-{:016x}", self.now().strftime("%Y%m%dT%H%M%S"), u64::from_le_bytes(random)));
        let world = Machinery { clock: Arc::clone(&self.clock), spool: self.machine.state_folder().join("spool") };
        let monitor = Arc::new(Told(Arc::clone(&self.output)));
        let memory = Memory::STANDARD.for_sources();
        let context = Context::new(id, purpose, Arc::new(world), monitor, memory, self.interrupt.stop());
        let context = match self.globals.timeout {
            Some(limit) => context.within(limit.0, Stop::TimeLimit),
            None => context,
        };
        Run { context, clock: Arc::clone(&self.clock), started: self.clock.elapsed() }
    }

    /// Lets the operator consent to what cannot be undone: on a terminal by an answer, else by `--yes`.
    pub async fn consent(&self, act: &str, question: &str) -> Result<(), Failure> {
        if self.globals.yes {
            return Ok(());
        }
        if !ask::can_ask() {
            return Err(Failure::usage(act).because("there is no terminal to ask at").hint("say --yes if it is meant"));
        }
        let given = ask::consent(question).await.map_err(|error| Failure::local("ask", &error))?;
        if given { Ok(()) } else { Err(Failure::new(Exit::Failed, act).because("not confirmed; nothing was changed")) }
    }

    /// A password to be: from a file, or typed twice.
    pub async fn new_password(&self, file: Option<&Path>) -> Result<SecretString, Failure> {
        use secrecy::ExposeSecret as _;
        if let Some(path) = file {
            let source = PasswordSource::file(&self.machine.absolute(path));
            return opening::password(&source, &self.machine, "").await;
        }
        let first = opening::asked("new password: ").await?;
        let second = opening::asked("once more: ").await?;
        if first.expose_secret() == second.expose_secret() {
            Ok(first)
        } else {
            Err(Failure::usage("read the new password").because("the two differ"))
        }
    }

    /// Tells of a fault that ends nothing.
    pub fn problem(&self, class: &'static str, what: &str, error: &RepoError) {
        let problem =
            ReportProblem { class: class.to_owned(), path: Some(what.to_owned()), text: causes(error).join(": ") };
        show_problem(&self.output, &problem, "read");
    }
}

impl Opened {
    /// All snapshots, oldest first, then the index; unreadable ones are told of and make the exit code.
    pub async fn snapshots(&self, session: &Session) -> Result<(Vec<Found>, Exit), Failure> {
        let failed = |error: RepoError| Failure::repository("read the snapshots", &error);
        let snapshots = self.repo.snapshots().await.map_err(failed)?;
        let loaded = self.repo.load_index().await.map_err(|error| Failure::repository("read the index", &error))?;
        let problems: Vec<_> = snapshots.problems.into_iter().chain(loaded.problems).collect();
        for problem in &problems {
            show_problem(&session.output, &problem.clone().into(), "read");
        }
        let exit = if problems.is_empty() { Exit::Done } else { Exit::Damaged };
        Ok((snapshots.found, exit))
    }
}

impl Run {
    /// Time since it began.
    pub fn elapsed(&self) -> Duration {
        self.clock.elapsed().saturating_sub(self.started)
    }
}

/// Who pressed Control-C knows why it ended; a limit may be forgotten.
fn ended(exit: Exit) -> Result<Exit, Failure> {
    if exit != Exit::TimeEnded {
        return Ok(exit);
    }
    Err(Failure::new(exit, "work on the repository")
        .because("time limit reached")
        .hint("repeat the command: it goes on where it stood"))
}

/// Tells of problems outside any unit.
struct Told(Arc<Output>);

impl Monitor for Told {
    fn problem(&self, problem: Problem) {
        show_problem(&self.0, &problem.into(), "run");
    }

    fn progress(&self, progress: Progress) {
        if let Progress::Phase(text) = progress {
            self.0.detail(escape(text.as_bytes()));
        }
    }
}
