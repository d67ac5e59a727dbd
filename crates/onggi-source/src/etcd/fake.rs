//! A cluster for tests: members that answer as scripted and serve a file of a real one.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use bytes::Bytes;

use super::access::Access;
use super::client::{Dial, HashAnswer, Member, Named, Piece, Pieces, Status, Told, Watching};
use super::model::ClusterId;
use super::snapshot::TRAILER_BYTES;
use super::{Etcd, EtcdConfig};
use crate::bench::surroundings;
use crate::config::Surroundings;
use crate::context::Context;
use crate::faults::Faults;
use crate::source::{Result, SourceError};

/// What a member of 3.5 wrote; its last revision is 50, compacted up to 43.
pub(super) const FILE: &[u8] = include_bytes!("../../../../testdata/etcd/snapshot-3.5.db");
/// What that member answered for it.
pub(super) const HASH: HashAnswer = HashAnswer::Hash { hash: 1_273_534_603, compact_revision: 43 };

/// A lease that no key has yet.
pub(super) const UNUSED_LEASE: i64 = 70;

/// One member's answers.
#[derive(Clone)]
pub(super) struct FakeMember {
    pub status: Status,
    pub hash: HashAnswer,
    /// One list of messages for each snapshot that is asked for; the last is served for ever.
    pub snapshots: VecDeque<Vec<Piece>>,
    /// It says nothing more where messages of a snapshot are missing, instead of ending the stream.
    pub is_silent: bool,
    /// What a watch tells, message by message; then nothing for ever.
    pub told: VecDeque<Told>,
    pub auth_revision: Option<u64>,
}

/// A cluster by endpoint. Clones share it.
#[derive(Clone, Default)]
pub(super) struct FakeCluster {
    pub members: Arc<Mutex<BTreeMap<String, FakeMember>>>,
    pub faults: Faults,
}

/// The messages of a snapshot, as etcd sends them.
pub(super) fn pieces(file: &[u8]) -> Vec<Piece> {
    let (database, trailer) = file.split_at(file.len() - 32);
    let mut remaining = database.len() as u64;
    let mut pieces = Vec::new();
    for blob in database.chunks(32 << 10).chain([trailer]) {
        remaining = remaining.saturating_sub(blob.len() as u64);
        pieces.push(Piece { remaining, blob: Bytes::copy_from_slice(blob), version: String::new() });
    }
    pieces
}

impl FakeCluster {
    /// Members `http://m1`, `http://m2` and so on; the first leads.
    pub fn new(members: u64) -> Self {
        let cluster = Self::default();
        for number in 1..=members {
            let status = Status {
                cluster_id: ClusterId(9),
                member_id: ClusterId(number),
                version: "3.5.16".to_owned(),
                db_size: FILE.len() as u64 - 32,
                db_size_in_use: FILE.len() as u64 - 32,
                leader: Some(ClusterId(1)),
                applied_index: 100,
                ..Status::default()
            };
            let member = FakeMember {
                status,
                hash: HASH,
                snapshots: VecDeque::from([pieces(FILE)]),
                is_silent: false,
                told: VecDeque::new(),
                auth_revision: None,
            };
            cluster.members.lock().unwrap().insert(format!("http://m{number}"), member);
        }
        cluster
    }

    /// The same, with one member changed.
    pub fn with(self, number: u64, change: impl FnOnce(&mut FakeMember)) -> Self {
        change(self.members.lock().unwrap().get_mut(&format!("http://m{number}")).unwrap());
        self
    }

    /// A source over it, as another process would build it.
    pub fn source(&self) -> Etcd {
        self.source_with(EtcdConfig::default())
    }

    /// The same with more in its configuration.
    pub fn source_with(&self, config: EtcdConfig) -> Etcd {
        let endpoints = self.members.lock().unwrap().keys().cloned().collect();
        let config = EtcdConfig { endpoints, ..config };
        Etcd { dial: Arc::new(FakeDial { cluster: self.clone(), lost: Arc::default() }), ..Etcd::new(config, here()) }
    }
}

/// A private directory for each source, which nobody makes unless something is restored.
fn here() -> Surroundings {
    static NUMBER: AtomicU64 = AtomicU64::new(0);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let state = std::env::temp_dir().join(format!("onggi-etcd-{}-{number}", std::process::id()));
    surroundings("prod", &state)
}

/// A way to the cluster that, once lost, stays lost.
struct FakeDial {
    cluster: FakeCluster,
    lost: Arc<AtomicBool>,
}

struct Connection {
    cluster: FakeCluster,
    lost: Arc<AtomicBool>,
    endpoint: String,
}

impl Connection {
    async fn call<T>(&self, name: &str, work: impl Future<Output = Result<T>>) -> Result<T> {
        if self.lost.load(Ordering::Relaxed) {
            return Err(SourceError::Unreachable("the way is lost".to_owned()));
        }
        let answer = self.cluster.faults.call(format!("{name} {}", self.endpoint), work).await;
        if matches!(&answer, Err(SourceError::Unreachable(text)) if text.contains("scripted")) {
            self.lost.store(true, Ordering::Relaxed);
        }
        answer
    }

    fn member(&self) -> FakeMember {
        self.cluster.members.lock().unwrap()[&self.endpoint].clone()
    }
}

#[async_trait]
impl Dial for FakeDial {
    async fn dial(&self, cx: &Context, _access: &Access, endpoint: &str) -> Result<Box<dyn Member>> {
        cx.check()?;
        let (cluster, lost) = (self.cluster.clone(), Arc::clone(&self.lost));
        Ok(Box::new(Connection { cluster, lost, endpoint: endpoint.to_owned() }))
    }
}

#[async_trait]
impl Member for Connection {
    async fn status(&self, cx: &Context) -> Result<Status> {
        cx.check()?;
        self.call("status", async { Ok(self.member().status) }).await
    }

    async fn members(&self, cx: &Context) -> Result<Vec<Named>> {
        cx.check()?;
        let named = |(url, member): (&String, &FakeMember)| Named {
            id: member.status.member_id,
            name: url.trim_start_matches("http://").to_owned(),
            client_urls: vec![url.clone()],
        };
        Ok(self.cluster.members.lock().unwrap().iter().map(named).collect())
    }

    /// No call that a fault is put at: an answer that cannot be had is a finding, not a failure.
    async fn hash_kv(&self, cx: &Context, _revision: i64) -> Result<HashAnswer> {
        cx.check()?;
        Ok(self.member().hash)
    }

    async fn count(&self, cx: &Context) -> Result<u64> {
        cx.check()?;
        Ok(32)
    }

    async fn watch(&self, cx: &Context, from: i64) -> Result<Box<dyn Watching>> {
        cx.check()?;
        Ok(Box::new(Telling { told: self.member().told, from }))
    }

    async fn leases(&self, cx: &Context) -> Result<Vec<i64>> {
        cx.check()?;
        Ok(vec![UNUSED_LEASE])
    }

    async fn lease_ttl(&self, cx: &Context, _id: i64) -> Result<Option<i64>> {
        cx.check()?;
        Ok(Some(60))
    }

    async fn auth_revision(&self, cx: &Context) -> Result<Option<u64>> {
        cx.check()?;
        Ok(self.member().auth_revision)
    }

    async fn snapshot(&self, cx: &Context) -> Result<Box<dyn Pieces>> {
        cx.check()?;
        let begun = self.call("snapshot", async {
            let mut members = self.cluster.members.lock().unwrap();
            let snapshots = &mut members.get_mut(&self.endpoint).unwrap().snapshots;
            Ok(if snapshots.len() > 1 { snapshots.pop_front().unwrap() } else { snapshots[0].clone() })
        });
        let left = VecDeque::from(begun.await?);
        let connection =
            Self { cluster: self.cluster.clone(), lost: Arc::clone(&self.lost), endpoint: self.endpoint.clone() };
        let misses = left.back().is_none_or(|last| last.blob.len() != TRAILER_BYTES as usize);
        Ok(Box::new(Flowing { connection, left, misses }))
    }
}

struct Flowing {
    connection: Connection,
    left: VecDeque<Piece>,
    /// The trailer is not among them.
    misses: bool,
}

#[async_trait]
impl Pieces for Flowing {
    async fn next(&mut self, cx: &Context) -> Result<Option<Piece>> {
        cx.check()?;
        let left = &mut self.left;
        if left.is_empty() && self.connection.member().is_silent && self.misses {
            return std::future::pending().await;
        }
        self.connection.call("piece", async { Ok(left.pop_front()) }).await
    }
}

struct Telling {
    told: VecDeque<Told>,
    from: i64,
}

#[async_trait]
impl Watching for Telling {
    /// Of what was told before the watch began only the rest is told.
    async fn next(&mut self, cx: &Context) -> Result<Told> {
        use super::key_value::KeyValue;
        cx.check()?;
        let Some(mut told) = self.told.pop_front() else {
            cx.sleep(std::time::Duration::from_secs(10)).await?;
            return Ok(Told::Nothing);
        };
        if let Told::Changes { events, .. } = &mut told {
            events.retain(|event| KeyValue::parse(&event.record).unwrap().mod_revision >= self.from);
        }
        Ok(told)
    }
}
