//! Measures what a snapshot of etcd costs beside etcdctl: `snapshot MANIFEST ETCDCTL [RUNS]`, where ETCDCTL is a program
//! that knows the cluster, such as the lab's `ctl`. Both write to the current folder, in turn; prints the medians of the
//! wall times, their ratio, and the most memory that this process held.
#![expect(clippy::print_stdout, reason = "a tool for the terminal")]

mod support;

use std::fs;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use onggi_source::etcd::{Etcd, EtcdConfig};
use onggi_source::secret::{SecretReference, Secrets};
use onggi_source::{
    Content, Context, Item, Items, Monitor, Problem, Progress, Purpose, Pushed, Result, RunId, Source, SourceError,
    TreePath,
};
use support::{Real, lost, surroundings};
use tokio::sync::{Semaphore, watch};

/// The sources' share of memory, in bytes.
const MEMORY_BYTES: usize = 8 << 20;
const RUNS_DEFAULT: usize = 5;
const FILE: &str = "by-etcdctl.db";

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
    Etcd::new(config, surroundings("measured", Arc::new(KeyFiles)))
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
