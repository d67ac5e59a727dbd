//! A snapshot in the spool: taken of one member, proved and stored at once.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;

use super::Etcd;
use super::blank::Blanked;
use super::bolt::Reached;
use super::cluster::{Cluster, is_tested};
use super::model::{ClusterId, HashKvNote, Notes, SNAPSHOT_FILE};
use super::pki::{self, Asked};
use super::select::Found;
use super::snapshot::{Received, TRAILER_BYTES, receive};
use super::verify::{Examined, Members, examine};
use crate::context::{Context, Problem, Progress, Spool};
use crate::item::{Chunking, Content, Item, Metadata};
use crate::path::TreePath;
use crate::source::{Capture, Facts, Items, ReadAt, Result, SourceError};

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
    proved: Option<Arc<Proved>>,
}

/// What is known of it once it was proved.
struct Proved {
    notes: Notes,
    tags: Vec<String>,
    problems: Vec<Problem>,
    /// The pages that are stored; `None`: all.
    used: Option<Reached>,
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
        let root = self.etcd.root()?;
        if self.etcd.config.zero_free_pages {
            // Which pages are free is known only then.
            self.proved = Some(self.proved(cx).await?);
        }
        let pki = pki::Set::gather(self.etcd, cx, &self.cluster.access).await?;
        let (stored, proved) = tokio::join!(self.store(cx, out, &root, pki.as_ref()), self.proved(cx));
        stored?;
        let proved = self.proved.insert(proved?);
        for problem in &proved.problems {
            cx.problem(problem.clone());
        }
        if let Some(pki) = &pki {
            pki.report(cx, Asked::No);
        }
        let notes = Notes { pki: pki.as_ref().map(pki::Set::notes), ..proved.notes.clone() };
        let notes = serde_json::to_value(&notes).map_err(|error| SourceError::Incomplete(error.to_string()))?;
        let tags = proved.tags.iter().cloned().chain(pki.map(|_| pki::TAG.to_owned())).collect();
        Ok(Facts { roots: vec![root], tags, notes, ..Facts::new(self.started_at) })
    }
}

/// Pushes the file, what is stored beside it, and the directories above.
pub(super) async fn push(
    out: &dyn Items,
    root: &TreePath,
    taken_at: Timestamp,
    size: u64,
    content: &dyn ReadAt,
    pki: Option<&pki::Set>,
) -> Result<()> {
    let top = root.parent().unwrap_or_else(TreePath::root);
    for path in [&top, root] {
        let metadata = Metadata { mode: 0o755, mtime: taken_at, ..Metadata::default() };
        out.push(Item::directory(path.clone()).with_metadata(metadata), Content::None).await?;
    }
    let metadata = Metadata { mode: 0o600, mtime: taken_at, links: 1, size, ..Metadata::default() };
    let file = root.join(SNAPSHOT_FILE).map_err(|error| SourceError::Denied(error.to_string()))?;
    let item = Item::file(file).with_metadata(metadata).with_chunking(CHUNKING);
    out.push(item, Content::At(content)).await?;
    if let Some(pki) = pki {
        pki.push(out, root, taken_at).await?;
    }
    for path in [root, &top] {
        out.leave(path).await?;
    }
    Ok(())
}

impl Taken<'_> {
    /// Stores the file as it came, or without its free pages, and what belongs beside it.
    async fn store(&self, cx: &Context, out: &dyn Items, root: &TreePath, pki: Option<&pki::Set>) -> Result<()> {
        let Received { spool, db_size, .. } = &self.received;
        let (spool, size): (&dyn ReadAt, _) = (&**spool, db_size + TRAILER_BYTES);
        match self.proved.as_ref().and_then(|proved| Some((proved.used.as_ref()?, proved.notes.page_size))) {
            Some((used, page_bytes)) => {
                let blanked = Blanked::new(cx, spool, used, page_bytes, *db_size).await?;
                push(out, root, self.started_at, size, &blanked, pki).await
            }
            None => push(out, root, self.started_at, size, spool, pki).await,
        }
    }

    /// What is known of it; proved once, while it is stored already.
    async fn proved(&self, cx: &Context) -> Result<Arc<Proved>> {
        match &self.proved {
            Some(proved) => Ok(Arc::clone(proved)),
            None => self.prove(cx).await.map(Arc::new),
        }
    }

    async fn prove(&self, cx: &Context) -> Result<Proved> {
        cx.monitor.progress(Progress::Phase("checking the snapshot".to_owned()));
        let Cluster { access, selection, .. } = &self.cluster;
        let source = self.member.status.member_id;
        let members = Members { etcd: self.etcd, access, found: &selection.members, source };
        let content: Arc<dyn ReadAt> = Arc::<dyn Spool>::clone(&self.received.spool);
        let examined = examine(cx, &content, self.received.db_size, Some(&members)).await?;
        let (notes, tags) = (self.notes(&examined), self.tags(&examined));
        let mut proved = Proved { notes, tags, problems: Vec::new(), used: None };
        self.judge(&examined, &mut proved);
        // Of a file that is not as it should be, nobody knows what is free.
        let is_sound = self.etcd.config.zero_free_pages && examined.fault.is_none();
        proved.used = examined.content.used.filter(|_| is_sound);
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
        let status = &self.member.status;
        let nanoseconds = |at: Timestamp| i64::try_from(at.as_nanosecond()).unwrap_or_default();
        let named = |id: ClusterId| (id.to_string(), self.cluster.name(id));
        let missing = self.cluster.missing.iter().map(|one| (one.endpoint.clone(), one.error.to_string()));
        Notes {
            cluster_id: self.cluster.id,
            member_id: status.member_id,
            member: self.cluster.name(status.member_id),
            endpoint: self.member.endpoint.clone(),
            server_version: status.version.clone(),
            stream_version: self.received.version.clone(),
            alarms: self.cluster.selection.alarms.clone(),
            members: self.cluster.names.iter().map(|one| named(one.id)).collect(),
            started_ns: nanoseconds(self.started_at),
            ended_ns: nanoseconds(self.ended_at),
            missing: missing.collect(),
            ..examined.notes(self.received.db_size, &self.received.sha256)
        }
    }
}
