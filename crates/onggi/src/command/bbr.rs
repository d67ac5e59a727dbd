//! `onggi bbr`, or onggi under the name `bbr`: the command line, the exit codes and the artifact directories of the
//! program of that name, for scripts that call it.
//!
//! Nothing of it goes through the rest of the command line: its words, its streams and its codes are its own.

mod act;
mod all;
mod deployment;
mod direct;
mod director;
mod flag;
mod help;
mod host;
mod report;
mod route;
mod signal;
mod store;
mod voice;
mod words;

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::{Arc, Mutex, OnceLock};

use onggi_source::bosh::director::Route;
use onggi_source::bosh::{Owed, VERSION};
use onggi_source::{Context, Monitor, Problem, Progress, Purpose, RunId, Stop};
use tokio::sync::{Semaphore, watch};

use self::signal::Tail;
use self::voice::Voice;
use self::words::{Asked, Parent, Request, Verb};
use crate::machine::Machine;
use crate::world::Machinery;

/// The variable with another version that scripts are told.
const VERSION_VARIABLE: &str = "ONGGI_BBR_VERSION";
/// Bytes of memory that its copies may use; their own bounds are narrower.
const MEMORY_BYTES: usize = 64 << 20;

/// Does what `bbr` does with these words, as a program of its own.
///
/// Backs up and restores BOSH directors and deployments with the scripts of their jobs. Words, streams, exit codes and
/// artifact directories are those of the program `bbr`; a link of that name to onggi takes its place.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  onggi bbr director --host 10.0.0.6 --username bbr --private-key-path bbr.pem pre-backup-check\n  \
                  onggi bbr director --host 10.0.0.6 --username bbr --private-key-path bbr.pem backup --artifact-path /srv\n  \
                  onggi bbr director --host 10.0.0.6 --username bbr --private-key-path bbr.pem restore --artifact-path /srv/10.0.0.6_20261120T111131Z"
)]
pub struct Args {
    /// What `bbr` is given; `onggi bbr help` lists it.
    #[arg(value_name = "WORDS", trailing_var_arg = true, allow_hyphen_values = true)]
    pub words: Vec<OsString>,
}

/// What a run needs, whatever it does.
pub struct Run {
    /// Shows and keeps what is said.
    pub voice: Arc<Voice>,
    /// This machine and its environment.
    pub machine: Machine,
    /// Time, and whether it is to end.
    pub cx: Context,
    /// What is to be undone.
    pub owed: Owed,
    /// The artifact directories that became whole.
    pub made: Mutex<Vec<PathBuf>>,
    /// The detour to all that is reached, once it is known.
    pub route: OnceLock<Result<Arc<Route>, String>>,
}

/// Does it.
pub fn run(words: Vec<OsString>) -> ExitCode {
    let words: Option<Vec<String>> = words.into_iter().map(|word| word.into_string().ok()).collect();
    let Some(words) = words else { return refuse("", "a word of the command line is no text") };
    let Ok(machine) = Machine::read() else { return refuse("", "the working folder cannot be found") };
    let version = machine.variable(&[VERSION_VARIABLE]).unwrap_or(VERSION).to_owned();
    match words::parse(&words, &|names| machine.variable(names).map(str::to_owned)) {
        Ok(Asked::Help(topic)) => tell(&help::text(topic, &version)),
        Ok(Asked::Version) => tell(&format!("bbr version {version}\n")),
        Ok(Asked::Unknown(word)) => {
            tell(&format!("{}{}", words::not_found(&word), help::text(help::Topic::Main, &version)))
        }
        Ok(Asked::Run(request)) => start(&request, machine, &version),
        Err(refusal) => refuse(&refusal.shown(&version), &refusal.error),
    }
}

fn tell(text: &str) -> ExitCode {
    voice::out(text);
    ExitCode::SUCCESS
}

fn refuse(shown: &str, error: &str) -> ExitCode {
    voice::out(shown);
    if !error.is_empty() {
        voice::err(&format!("\x1b[0;31m{error}\x1b[0m\n"));
    }
    ExitCode::FAILURE
}

fn start(request: &Request, machine: Machine, version: &str) -> ExitCode {
    if let Verb::Backup(how @ words::Backup { is_only_stored: true, .. }) = &request.verb {
        return direct::back_up(request, how, machine);
    }
    let Ok(runtime) = tokio::runtime::Runtime::new() else { return refuse("", "no threads can be started") };
    let (stop, stopped) = watch::channel(None);
    let voice = Arc::new(Voice::new(machine.clock(), request.debug));
    let cx = context(&machine, stopped, request.verb.purpose());
    let voice_of_run = Arc::clone(&voice);
    let run =
        Run { voice: voice_of_run, machine, cx, owed: Owed::default(), made: Mutex::default(), route: OnceLock::new() };
    let tail = Tail { run: &run, stop, verb: &request.verb };
    let ended = runtime.block_on(tail.watch(perform(&run, request, version)));
    let code = report::show(&run, request, ended);
    // What still runs in the background has nothing more to say.
    runtime.shutdown_background();
    ExitCode::from(code | store::all(&run, &request.verb))
}

async fn perform(run: &Run, request: &Request, version: &str) -> report::Result {
    let result = match &request.parent {
        Parent::Director(access) => director::perform(run, access, &request.verb, version).await,
        Parent::Deployment(client) => deployment::perform(run, client, &request.verb, version).await,
    };
    if result.is_ok() && request.verb == Verb::Check {
        store::look(run).await;
    }
    result
}

fn context(machine: &Machine, stop: watch::Receiver<Option<Stop>>, purpose: Purpose) -> Context {
    let clock = machine.clock();
    let mut random = [0; 8];
    clock.fill_random(&mut random);
    let id = RunId::new(format!("bbr-{:016x}", u64::from_le_bytes(random)));
    let world = Machinery { clock, spool: machine.state_folder().join("spool") };
    Context::new(id, purpose, Arc::new(world), Arc::new(Silent), Arc::new(Semaphore::new(MEMORY_BYTES)), stop)
}

/// Everything is said as lines of the log.
struct Silent;

impl Monitor for Silent {
    fn problem(&self, _problem: Problem) {}
    fn progress(&self, _progress: Progress) {}
}

impl Verb {
    fn purpose(&self) -> Purpose {
        match self {
            Self::Restore { .. } | Self::RestoreCleanup => Purpose::Restore,
            Self::Check | Self::Backup(_) | Self::BackupCleanup => Purpose::Backup,
        }
    }
}
