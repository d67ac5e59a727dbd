//! A snapshot in the spool: taken of one member, proved, and then stored.

use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;

use super::Etcd;
use super::cluster::{Cluster, is_tested};
use super::model::{ClusterId, FORMAT, HashKvNote, Notes, SNAPSHOT_FILE};
use super::select::Found;
use super::snapshot::{Received, TRAILER_BYTES, receive};
use super::verify::{Examined, examine};
use crate::context::{Context, Problem, Progress};
use crate::item::{Chunking, Content, Item, Metadata};
use crate::path::TreePath;
use crate::source::{Capture, Facts, Items, Result, SourceError};

/// Pages are rewritten in place, so chunks are cut at fixed places, and small ones find more that is the same.
const CHUNKING: Chunking = Chunking::Fixed(64 << 10);
/// Pauses before a broken stream is begun anew; before the last, another member is asked.
const PAUSES: [Duration; 3] = [Duration::from_secs(1), Duration::from_secs(5), Duration::from_secs(30)];

/// A snapshot that was read to its end.
pub(super) struct Taken<'a> {
    etcd: &'a Etcd,
    cluster: Cluster,
    member: Found,
    received: Received,
    started_at: Timestamp,
    ended_at: Timestamp,
    proved: Option<Proved>,
}

/// What is known of it once it was proved.
struct Proved {
    notes: Notes,
    tags: Vec<String>,
    problems: Vec<Problem>,
}

/// Reads a snapshot into the spool; again, and at last from another member, if the stream breaks.
pub(super) async fn take<'a>(etcd: &'a Etcd, cx: &Context, cluster: Cluster) -> Result<Taken<'a>> {
    let mut pauses = PAUSES.iter();
    loop {
        let members = &cluster.selection.members;
        let is_last = pauses.len() == 0;
        let member = members.get(usize::from(is_last)).or(members.first()).ok_or(SourceError::Gone)?.clone();
        cx.monitor.progress(Progress::Phase(format!("reading a snapshot of {}", member.endpoint)));
        let started_at = cx.world.now();
        match read(etcd, cx, &cluster, &member).await {
            Ok(received) => {
                let ended_at = cx.world.now();
                return Ok(Taken { etcd, cluster, member, received, started_at, ended_at, proved: None });
            }
            Err(error) if error.is_transient() || matches!(error, SourceError::Incomplete(_)) => {
                let pause = pauses.next().ok_or(error)?;
                cx.sleep(*pause).await?;
            }
            Err(error) => return Err(error),
        }
    }
}

async fn read(etcd: &Etcd, cx: &Context, cluster: &Cluster, member: &Found) -> Result<Received> {
    let connection = etcd.dial.dial(cx, &cluster.access, &member.endpoint).await?;
    receive(cx, &*connection, member.status.db_size).await
}

#[async_trait]
impl Capture for Taken<'_> {
    async fn items(&mut self, cx: &Context, out: &dyn Items) -> Result<Facts> {
        cx.check()?;
        let proved = match self.proved.take() {
            Some(proved) => proved,
            None => self.prove(cx).await?,
        };
        let proved = self.proved.insert(proved);
        for problem in &proved.problems {
            cx.problem(problem.clone());
        }
        let root = self.etcd.root()?;
        let directory = |path: &TreePath| {
            let metadata = Metadata { mode: 0o755, mtime: self.started_at, ..Metadata::default() };
            Item::directory(path.clone()).with_metadata(metadata)
        };
        let top = root.parent().unwrap_or_else(TreePath::root);
        for path in [&top, &root] {
            out.push(directory(path), Content::None).await?;
        }
        let size = self.received.db_size + TRAILER_BYTES;
        let metadata = Metadata { mode: 0o600, mtime: self.started_at, links: 1, size, ..Metadata::default() };
        let file = root.join(SNAPSHOT_FILE).map_err(|error| SourceError::Denied(error.to_string()))?;
        let item = Item::file(file).with_metadata(metadata).with_chunking(CHUNKING);
        out.push(item, Content::At(&*self.received.spool)).await?;
        for path in [&root, &top] {
            out.leave(path).await?;
        }
        let notes = serde_json::to_value(&proved.notes).map_err(|error| SourceError::Incomplete(error.to_string()))?;
        Ok(Facts { roots: vec![root], tags: proved.tags.clone(), notes, ..Facts::new(self.started_at) })
    }
}

impl Taken<'_> {
    async fn prove(&self, cx: &Context) -> Result<Proved> {
        cx.monitor.progress(Progress::Phase("checking the snapshot".to_owned()));
        let Cluster { access, selection, .. } = &self.cluster;
        let member = self.member.status.member_id;
        let spooled = (&*self.received.spool as _, self.received.db_size);
        let examined = examine(self.etcd, cx, (access, &selection.members, member), spooled).await?;
        let mut proved = Proved { notes: self.notes(&examined), tags: self.tags(&examined), problems: Vec::new() };
        self.judge(&examined, &mut proved);
        Ok(proved)
    }

    /// What is doubtful is stored all the same, since it may be all that there is, but never as if it were good.
    fn judge(&self, examined: &Examined, proved: &mut Proved) {
        let mut doubt = |class: &'static str, tag: Option<&str>, text: String| {
            proved.problems.push(Problem { class, path: None, text });
            proved.tags.extend(tag.map(ToOwned::to_owned).filter(|tag| !proved.tags.contains(tag)));
        };
        let own = self.member.status.member_id.to_string();
        if let Some(fault) = &examined.fault {
            doubt("suspect", Some("suspect"), format!("the snapshot is not what etcd writes: {fault}"));
        }
        if examined.hash_kv.get(&own).is_some_and(HashKvNote::differs) {
            let text = format!("the snapshot's keys are not those of member {own}: their hashes differ");
            doubt("suspect", Some("suspect"), text);
        }
        let others = examined.hash_kv.iter().filter(|(member, note)| **member != own && note.differs());
        let others: Vec<_> = others.map(|(member, _)| member.as_str()).collect();
        if !others.is_empty() {
            let text = format!("members {} hold other keys than {own}: the cluster is inconsistent", others.join(", "));
            doubt("inconsistent", Some("inconsistent"), text);
        }
        if !self.cluster.selection.has_leader {
            let text = "the cluster has no leader: the snapshot is what one member knew last".to_owned();
            doubt("no-quorum", Some("no-quorum"), text);
        }
        for alarm in &self.cluster.selection.alarms {
            let tag = alarm.starts_with("CORRUPT").then_some("suspect");
            doubt("alarm", tag, format!("the cluster has raised an alarm: {alarm}"));
        }
    }

    fn tags(&self, examined: &Examined) -> Vec<String> {
        let mut tags = vec!["full".to_owned(), format!("cid:{}", self.cluster.id)];
        if examined.survey.revision > 0 {
            tags.push(format!("rev:{}", examined.survey.revision));
        }
        if !is_tested(&self.member.status.version) || !examined.survey.unknown.is_empty() {
            tags.push("untested".to_owned());
        }
        tags
    }

    fn notes(&self, examined: &Examined) -> Notes {
        let (status, survey, content) = (&self.member.status, &examined.survey, &examined.content);
        let nanoseconds = |at: Timestamp| i64::try_from(at.as_nanosecond()).unwrap_or_default();
        let named = |id: ClusterId| (id.to_string(), self.cluster.name(id));
        let missing = self.cluster.missing.iter().map(|one| (one.endpoint.clone(), one.error.to_string()));
        Notes {
            format: FORMAT,
            cluster_id: self.cluster.id,
            member_id: status.member_id,
            member: self.cluster.name(status.member_id),
            endpoint: self.member.endpoint.clone(),
            server_version: status.version.clone(),
            stream_version: self.received.version.clone(),
            cluster_version: survey.cluster_version.clone(),
            revision: survey.revision,
            compact_revision: survey.compact_revision,
            consistent_index: survey.consistent_index,
            term: survey.term,
            db_size: self.received.db_size,
            db_size_in_use: content.census.used * u64::from(examined.page_bytes),
            page_size: examined.page_bytes,
            free_pages: content.census.free,
            live_keys: examined.live,
            tombstones: content.tombstones,
            revisions: content.revisions,
            leases: survey.leases,
            lost_leases: content.lost_leases,
            alarms: self.cluster.selection.alarms.clone(),
            members: self.cluster.names.iter().map(|one| named(one.id)).collect(),
            auth_revision: survey.auth_revision,
            started_ns: nanoseconds(self.started_at),
            ended_ns: nanoseconds(self.ended_at),
            db_sha256: hex(&self.received.sha256),
            content_hash: content.hash,
            hash_kv: examined.hash_kv.clone(),
            missing: missing.collect(),
            verified: examined.level.to_owned(),
        }
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |text, byte| text + &format!("{byte:02x}"))
}
