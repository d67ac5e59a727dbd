//! Measures what a snapshot of etcd costs beside etcdctl: `snapshot MANIFEST ETCDCTL [RUNS]`, where ETCDCTL is a program
//! that knows the cluster, such as the lab's `ctl`. Both write to the current folder, in turn; prints the medians of the
//! wall times, their ratio, and the most memory that this process held.
#![expect(clippy::print_stdout, reason = "a tool for the terminal")]

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::os::unix::fs::FileExt as _;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::Bytes;
use jiff::Timestamp;
use onggi_source::carrier::SystemLauncher;
use onggi_source::etcd::{Etcd, EtcdConfig};
use onggi_source::secret::{SecretReference, Secrets};
use onggi_source::{
    Content, Context, Item, Items, Known, Layout, Monitor, Problem, Progress, Purpose, Pushed, ReadAt, ReadError,
    Result, RunId, Source, SourceError, Spool, Surroundings, TreePath, World,
};
use tokio::sync::{Semaphore, watch};

/// The sources' share of memory, in bytes.
const MEMORY_BYTES: usize = 8 << 20;
const RUNS_DEFAULT: usize = 5;
const FILE: &str = "by-etcdctl.db";

struct Real(Instant);

#[async_trait]
impl World for Real {
    fn now(&self) -> Timestamp {
        Timestamp::now()
    }
    fn elapsed(&self) -> Duration {
        self.0.elapsed()
    }
    async fn sleep(&self, duration: Duration) {
        tokio::time::sleep(duration).await;
    }
    fn random(&self) -> u64 {
        0
    }
    async fn spool(&self, _run: &RunId, name: &str) -> Result<Box<dyn Spool>> {
        let file = File::options().read(true).write(true).create(true).truncate(true).open(name).map_err(lost)?;
        fs::remove_file(name).map_err(lost)?;
        Ok(Box::new(SpoolFile { file: Arc::new(file), length: 0 }))
    }
}

struct SpoolFile {
    file: Arc<File>,
    length: u64,
}

#[async_trait]
impl Spool for SpoolFile {
    async fn append(&mut self, bytes: Bytes) -> Result<()> {
        let (file, at, length) = (Arc::clone(&self.file), self.length, bytes.len() as u64);
        let written = tokio::task::spawn_blocking(move || file.write_all_at(&bytes, at)).await;
        written.map_err(std::io::Error::other).flatten().map_err(lost)?;
        self.length += length;
        Ok(())
    }
    fn length(&self) -> u64 {
        self.length
    }
}

#[async_trait]
impl ReadAt for SpoolFile {
    async fn open(&self, _cx: &Context, _known: &Known<'_>) -> Result<Layout, ReadError> {
        Ok(Layout::dense(self.length))
    }
    async fn read(&self, _cx: &Context, offset: u64, buffer: &mut [u8]) -> Result<(), ReadError> {
        Ok(self.file.read_exact_at(buffer, offset).map_err(lost)?)
    }
}

fn lost(error: std::io::Error) -> SourceError {
    SourceError::Incomplete(error.to_string())
}

struct Say;

impl Monitor for Say {
    fn problem(&self, problem: Problem) {
        println!("{problem}");
    }
    fn progress(&self, _progress: Progress) {}
}

/// Takes all and reads nothing: what a repository costs is measured elsewhere.
struct Nowhere;

#[async_trait]
impl Items for Nowhere {
    async fn push(&self, _item: Item, _content: Content<'_>) -> Result<Pushed> {
        Ok(Pushed::New)
    }
    async fn reuse(&self, _item: &Item) -> Result<bool> {
        Ok(false)
    }
    async fn leave(&self, _directory: &TreePath) -> Result<()> {
        Ok(())
    }
}

struct KeyFiles;

#[async_trait]
impl Secrets for KeyFiles {
    async fn fetch(&self, reference: &SecretReference) -> Result<secrecy::SecretString> {
        let SecretReference::File(path) = reference else { return Err(SourceError::Unsupported("this secret")) };
        fs::read_to_string(path).map(Into::into).map_err(lost)
    }
}

fn source(manifest: String) -> Etcd {
    let config = EtcdConfig { manifest: Some(manifest.into()), ..EtcdConfig::default() };
    let surroundings = Surroundings {
        source: "measured".to_owned(),
        host: "here".to_owned(),
        working_directory: std::env::current_dir().unwrap_or_else(|_| PathBuf::from("/")),
        state: PathBuf::from("/nonexistent"),
        never: Vec::new(),
        environment: BTreeMap::new(),
        programs: Vec::new(),
        launcher: Arc::new(SystemLauncher),
        secrets: Arc::new(KeyFiles),
        attended: true,
    };
    Etcd::new(config, surroundings)
}

fn median(mut times: Vec<Duration>) -> f64 {
    times.sort();
    times.get(times.len() / 2).map_or(0.0, Duration::as_secs_f64)
}

#[tokio::main]
async fn main() -> Result<()> {
    let arguments: Vec<_> = std::env::args().collect();
    let [_, manifest, etcdctl, rest @ ..] = arguments.as_slice() else {
        return Err(SourceError::Unsupported("a measurement without MANIFEST and ETCDCTL"));
    };
    let runs = rest.first().and_then(|runs| runs.parse().ok()).unwrap_or(RUNS_DEFAULT);
    let source = source(manifest.clone());
    let (_stop, receiver) = watch::channel(None);
    let (world, memory) = (Arc::new(Real(Instant::now())), Arc::new(Semaphore::new(MEMORY_BYTES)));
    let cx = Context::new(RunId::from("measured"), Purpose::Backup, world, Arc::new(Say), memory, receiver);
    let unit = source.discover(&cx).await?.remove(0);
    let (mut theirs, mut ours, mut proved, mut size) = (Vec::new(), Vec::new(), Vec::new(), 0);
    for _ in 0..runs {
        let started = Instant::now();
        let saved = Command::new(etcdctl).args(["snapshot", "save", FILE]).output().map_err(lost)?;
        if !saved.status.success() {
            return Err(SourceError::Incomplete(String::from_utf8_lossy(&saved.stderr).into_owned()));
        }
        theirs.push(started.elapsed());
        fs::remove_file(FILE).map_err(lost)?;
        let started = Instant::now();
        let mut capture = source.capture(&cx, &unit, None).await?;
        ours.push(started.elapsed());
        let facts = capture.items(&cx, &Nowhere).await?;
        proved.push(started.elapsed());
        size = facts.notes["db-size"].as_u64().unwrap_or_default();
    }
    let status = fs::read_to_string("/proc/self/status").map_err(lost)?;
    let most = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap_or("unknown").trim().to_owned();
    let (theirs, ours, proved) = (median(theirs), median(ours), median(proved));
    println!("{size} bytes: etcdctl {theirs:.2} s, onggi {ours:.2} s, ratio {:.2}", ours / theirs);
    println!("with its proof {proved:.2} s; the most memory {most}");
    Ok(())
}
