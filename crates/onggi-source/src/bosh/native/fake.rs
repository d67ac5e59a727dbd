//! A platform in memory: one machine, two jobs, users, locks and artifacts, with a script of faults at every call.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use jiff::Timestamp;
use sha2::{Digest as _, Sha256};
use tokio::sync::mpsc;

use super::capture::member;
use super::listing::Listed;
use super::site::{Examined, Found, Gate, Lease, Made, Of, Site};
use crate::bosh::Artifact;
use crate::bosh::tar::Checksums;
use crate::context::Context;
use crate::faults::Faults;
use crate::hex::hexadecimal;
use crate::item::{Kind, Metadata};
use crate::source::{Result, SourceError, Unit};

const JOBS: [&str; 2] = ["blobstore", "db"];

#[derive(Clone, Default)]
pub(super) struct FakePlatform {
    pub(super) faults: Faults,
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
pub(super) struct State {
    pub(super) users: BTreeSet<String>,
    pub(super) locked: BTreeSet<&'static str>,
    /// What lies where scripts write: artifacts by job, and files by name.
    pub(super) store: BTreeMap<String, BTreeMap<String, Vec<u8>>>,
    /// Marks, and what others put there.
    pub(super) beside: BTreeMap<String, String>,
    /// What was restored.
    pub(super) restored: BTreeMap<String, BTreeMap<String, Vec<u8>>>,
    /// Whether each unlock was told of success.
    pub(super) unlocks: Vec<bool>,
    /// What a dead-man watches, and how often it got a sign.
    pub(super) lease: Lease,
    pub(super) signs: usize,
    /// Files that travelled.
    pub(super) packed: usize,
    /// Whether an archive is on its way: over one connection never a second.
    pub(super) is_packing: bool,
}

impl FakePlatform {
    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What a run could leave there.
    pub(super) fn describe(&self) -> String {
        let state = self.state();
        format!("{:?} {:?} {:?} {:?}", state.users, state.locked, state.store, state.beside)
    }

    async fn call<T>(&self, name: &str, work: impl FnOnce(&mut State) -> T) -> Result<T> {
        self.faults.call(name, async { Ok(work(&mut self.state())) }).await
    }
}

/// The content of an artifact's files.
fn content(job: &str) -> BTreeMap<String, Vec<u8>> {
    let large: Vec<u8> = (0..200_000_u32).map(|number| (number % 251) as u8).collect();
    let files = [("a b", job.as_bytes().to_vec()), ("sub/large", large), ("sub/empty", Vec::new())];
    files.map(|(name, content)| (name.to_owned(), content)).into()
}

#[async_trait]
impl Gate for FakePlatform {
    async fn units(&self, _cx: &Context) -> Result<Vec<Unit>> {
        self.call("units", |_| vec![Unit { id: "uuid/cf".into(), name: "cf".to_owned() }]).await
    }

    async fn under_way(&self, _cx: &Context, _unit: &Unit) -> Result<Vec<String>> {
        self.call("under way", |_| Vec::new()).await
    }

    async fn enter(&self, _cx: &Context, _unit: &Unit, user: &str) -> Result<Box<dyn Site>> {
        self.call("enter", |state| state.users.insert(user.to_owned())).await?;
        Ok(Box::new(FakeSite { platform: self.clone(), user: user.to_owned() }))
    }

    async fn expel(&self, _cx: &Context, _unit: &Unit, user: &str) -> Result<()> {
        self.call("expel", |state| state.users.remove(user)).await.map(drop)
    }
}

struct FakeSite {
    platform: FakePlatform,
    user: String,
}

impl FakeSite {
    async fn call<T>(&self, name: &str, work: impl FnOnce(&mut State) -> T) -> Result<T> {
        self.platform.call(name, work).await
    }
}

#[async_trait]
impl Site for FakeSite {
    fn places(&self) -> Vec<String> {
        vec!["db/id0".to_owned()]
    }

    fn artifacts(&self, _of: Of) -> Vec<Made> {
        let made = |job: &str| {
            let (group, index) = ("db".to_owned(), "0".to_owned());
            Made { place: 0, artifact: Artifact::Instance { group, index, job: job.to_owned() } }
        };
        JOBS.map(made).into()
    }

    fn scripts(&self) -> serde_json::Value {
        serde_json::json!({ "jobs": JOBS })
    }

    fn manifest(&self) -> Option<&str> {
        Some("name: cf\n")
    }

    async fn examine(&self, _cx: &Context, _place: usize, _took: u64) -> Result<Examined> {
        self.call("examine", |_| Examined::default()).await
    }

    async fn look(&self, _cx: &Context, _place: usize) -> Result<Found> {
        let look = |state: &mut State| match state.beside.values().next() {
            Some(text) if text == "foreign" => Found::Foreign,
            Some(text) => Found::Marked(text.clone()),
            None if state.store.is_empty() => Found::Nothing,
            None => Found::Foreign,
        };
        self.call("look", look).await
    }

    async fn mark(&self, _cx: &Context, _place: usize, name: &str, text: &str) -> Result<()> {
        self.call("mark", |state| drop(state.beside.insert(name.to_owned(), text.to_owned()))).await
    }

    async fn clear(&self, _cx: &Context, _place: usize) -> Result<()> {
        self.call("clear", |state| {
            state.store.clear();
            state.beside.clear();
        })
        .await
    }

    async fn watch(&self, _cx: &Context, _of: Of, _after: Duration) -> Result<()> {
        self.call("watch", |state| state.lease = Lease::Held).await
    }

    async fn renew(&self, _cx: &Context) -> Result<Lease> {
        self.call("renew", |state| {
            state.signs += 1;
            state.lease
        })
        .await
    }

    async fn dismiss(&self, _cx: &Context) -> Result<()> {
        self.call("dismiss", |state| state.lease = Lease::None).await
    }

    async fn lock(&self, cx: &Context, _of: Of) -> Result<()> {
        for job in JOBS {
            cx.check()?;
            self.call("lock", |state| state.locked.insert(job)).await?;
        }
        Ok(())
    }

    async fn work(&self, _cx: &Context, of: Of, _wanted: &[Made]) -> Result<()> {
        self.call("work", |state| match of {
            Of::Backup => state.store.extend(JOBS.map(|job| (job.to_owned(), content(job)))),
            Of::Restore => state.restored.clone_from(&state.store),
        })
        .await
    }

    async fn unlock(&self, _cx: &Context, _of: Of, is_success: bool) -> Result<()> {
        self.call("unlock", |state| {
            state.locked.clear();
            state.unlocks.push(is_success);
        })
        .await
    }

    async fn list(&self, _cx: &Context, made: &Made) -> Result<Vec<Listed>> {
        let mtime: Timestamp = "2026-01-01T00:00:00.5Z".parse().unwrap();
        let listed = |name: &str, kind: Kind, size: u64| {
            let mode = if kind.is_directory() { 0o755 } else { 0o640 };
            let metadata = Metadata { mode, mtime, size, links: 1, ..Metadata::default() };
            Listed { name: name.as_bytes().to_vec(), kind: Some(kind), metadata, own_bytes: size }
        };
        let list = |state: &mut State| {
            let mut all = vec![listed("", Kind::Directory, 0), listed("sub", Kind::Directory, 0)];
            all.push(listed("link", Kind::Symlink(b"a b".to_vec()), 0));
            let files = state.store.get(made.artifact.name()).into_iter().flatten();
            all.extend(files.map(|(name, content)| listed(name, Kind::File, content.len() as u64)));
            all
        };
        self.call("list", list).await
    }

    async fn sums(&self, _cx: &Context, made: &Made, names: &[Vec<u8>]) -> Result<Checksums> {
        let sum = |files: &BTreeMap<String, Vec<u8>>, name: &Vec<u8>| {
            let content = files.get(std::str::from_utf8(name).unwrap())?;
            Some((member(name), hexadecimal(&Sha256::digest(content))))
        };
        self.call("sums", |state| {
            let files = state.store.get(made.artifact.name()).cloned().unwrap_or_default();
            names.iter().filter_map(|name| sum(&files, name)).collect()
        })
        .await
    }

    async fn pack(&self, _cx: &Context, made: &Made, names: &[Vec<u8>], to: mpsc::Sender<Bytes>) -> Result<()> {
        let pack = |state: &mut State| {
            assert!(!std::mem::replace(&mut state.is_packing, true), "two archives share a connection");
            state.packed += names.len();
            let files = &state.store[made.artifact.name()];
            let mut archive = tar::Builder::new(Vec::new());
            for name in names {
                let name = std::str::from_utf8(name).unwrap();
                let mut header = tar::Header::new_gnu();
                header.set_size(files[name].len() as u64);
                header.set_mode(0o640);
                header.set_uid(0);
                header.set_gid(0);
                header.set_mtime(0);
                archive.append_data(&mut header, name, files[name].as_slice()).unwrap();
            }
            archive.into_inner().unwrap()
        };
        let archive = self.call("pack", pack).await?;
        let mut is_taken = true;
        for piece in archive.chunks(7000) {
            is_taken = is_taken && to.send(Bytes::copy_from_slice(piece)).await.is_ok();
        }
        self.platform.state().is_packing = false;
        is_taken.then_some(()).ok_or_else(|| SourceError::Incomplete("nobody takes what comes".to_owned()))
    }

    async fn unpack(&self, _cx: &Context, made: &Made, mut from: mpsc::Receiver<Bytes>) -> Result<()> {
        let mut archive = Vec::new();
        while let Some(piece) = from.recv().await {
            archive.extend_from_slice(&piece);
        }
        let unpack = |state: &mut State| {
            let mut files = BTreeMap::new();
            for member in tar::Archive::new(archive.as_slice()).entries().unwrap() {
                let mut member = member.unwrap();
                let name = String::from_utf8(member.path_bytes().into_owned()).unwrap();
                if member.header().entry_type().is_file() {
                    let mut content = Vec::new();
                    std::io::Read::read_to_end(&mut member, &mut content).unwrap();
                    files.insert(name.strip_prefix("./").unwrap().to_owned(), content);
                }
            }
            state.store.insert(made.artifact.name().to_owned(), files);
        };
        self.call("unpack", unpack).await
    }

    async fn leave(&self, _cx: &Context) -> Result<()> {
        self.call("leave", |state| state.users.remove(&self.user)).await.map(drop)
    }
}
