//! A snapshot of one member: stored while it arrives where nothing else is waited for, else out of the spool; and
//! proved while it is stored.

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
use super::snapshot::{Coming, Received, TRAILER_BYTES};
use super::tail::Tail;
use super::verify::{Examined, Members, examine};
use crate::context::{Context, Problem, Progress, Spool};
use crate::item::{Chunking, Content, Item, Metadata};
use crate::path::TreePath;
use crate::source::{Capture, Facts, Items, ReadAt, Result, SourceError};

/// Pages are rewritten in place, so chunks are cut at fixed places, and small ones find more that is the same.
const CHUNKING: Chunking = Chunking::Fixed(64 << 10);
/// Pauses before a broken stream is begun anew; before the last, another member is asked.
const PAUSES: [Duration; 3] = [Duration::from_secs(1), Duration::from_secs(5), Duration::from_secs(30)];

/// A snapshot that is fixed.
pub(super) struct Taken<'a> {
    of: Chosen<'a>,
    /// `None` after an attempt that lost it.
    held: Option<Held>,
}

/// How far it is.
enum Held {
    Begun(Begun),
    Whole(Whole),
}

/// What snapshots are taken of.
struct Chosen<'a> {
    etcd: &'a Etcd,
    cluster: Cluster,
}

/// A snapshot that is on its way.
struct Begun {
    coming: Coming,
    member: Found,
    started_at: Timestamp,
}

/// A snapshot that was read to its end.
struct Whole {
    received: Received,
    member: Found,
    started_at: Timestamp,
    ended_at: Timestamp,
}

/// What is known of it once it was proved.
struct Proved {
    notes: Notes,
    tags: Vec<String>,
    problems: Vec<Problem>,
    /// The pages that are stored; `None`: all.
    used: Option<Reached>,
}

/// Begins a snapshot, and reads it to its end unless its items are asked for at once.
pub(super) async fn take<'a>(etcd: &'a Etcd, cx: &Context, cluster: Cluster) -> Result<Taken<'a>> {
    let of = Chosen { etcd, cluster };
    // Which pages are free is known only at the end.
    let can_wait = !cx.is_prompt || etcd.config.zero_free_pages;
    let held = of.take(cx, can_wait).await?;
    Ok(Taken { of, held: Some(held) })
}

/// Whether another stream may come to its end.
fn is_passing(error: &SourceError) -> bool {
    error.is_transient() || matches!(error, SourceError::Incomplete(_))
}

impl Begun {
    async fn finish(self, cx: &Context, tell: impl Fn(u64)) -> Result<Whole> {
        let Self { coming, member, started_at } = self;
        let received = coming.finish(cx, tell).await?;
        Ok(Whole { received, member, started_at, ended_at: cx.world.now() })
    }
}

#[async_trait]
impl Capture for Taken<'_> {
    async fn items(&mut self, cx: &Context, out: &dyn Items) -> Result<Facts> {
        cx.check()?;
        let (of, root) = (&self.of, self.of.etcd.root()?);
        let (whole, proved, pki) = match self.held.take() {
            Some(Held::Begun(begun)) => of.store_arriving(cx, out, &root, begun).await?,
            Some(Held::Whole(whole)) => of.store_whole(cx, out, &root, whole).await?,
            None => of.store_whole(cx, out, &root, of.read(cx).await?).await?,
        };
        for problem in proved.problems {
            cx.problem(problem);
        }
        if let Some(pki) = &pki {
            pki.report(cx, Asked::No);
        }
        let notes = Notes { pki: pki.as_ref().map(pki::Set::notes), ..proved.notes };
        let notes = serde_json::to_value(&notes).map_err(|error| SourceError::Incomplete(error.to_string()))?;
        let tags = proved.tags.into_iter().chain(pki.map(|_| pki::TAG.to_owned())).collect();
        let started_at = whole.started_at;
        self.held = Some(Held::Whole(whole));
        Ok(Facts { roots: vec![root], tags, notes, ..Facts::new(started_at) })
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

/// A snapshot that is stored, what is known of it, and what is stored beside it.
type Stored = (Whole, Proved, Option<pki::Set>);

impl Chosen<'_> {
    /// Begins a snapshot; at last of another member.
    async fn begin(&self, cx: &Context, is_last: bool) -> Result<Begun> {
        let Cluster { access, selection, .. } = &self.cluster;
        let members = &selection.members;
        let member = members.get(usize::from(is_last)).or(members.first()).ok_or(SourceError::Gone)?.clone();
        cx.monitor.progress(Progress::Phase(format!("reading a snapshot of {}", member.endpoint)));
        let started_at = cx.world.now();
        let connection = self.etcd.dial.dial(cx, access, &member.endpoint).await?;
        let coming = Coming::begin(cx, &*connection, member.status.db_size).await?;
        Ok(Begun { coming, member, started_at })
    }

    /// Begins a snapshot, and reads it to its end if that is wanted; again after a pause where that may help.
    async fn take(&self, cx: &Context, to_end: bool) -> Result<Held> {
        let mut pauses = PAUSES.iter();
        loop {
            let taken = match self.begin(cx, pauses.len() == 0).await {
                Ok(begun) if to_end => begun.finish(cx, drop).await.map(Held::Whole),
                begun => begun.map(Held::Begun),
            };
            match taken {
                Err(error) if is_passing(&error) => {
                    let pause = pauses.next().ok_or(error)?;
                    cx.sleep(*pause).await?;
                }
                taken => return taken,
            }
        }
    }

    async fn read(&self, cx: &Context) -> Result<Whole> {
        match self.take(cx, true).await? {
            Held::Whole(whole) => Ok(whole),
            Held::Begun(begun) => begun.finish(cx, drop).await,
        }
    }

    /// Stores what comes while it comes, and proves it once it is there.
    async fn store_arriving(&self, cx: &Context, out: &dyn Items, root: &TreePath, begun: Begun) -> Result<Stored> {
        let (tail, started_at, length) = (Tail::new(&begun.coming), begun.started_at, begun.coming.length());
        let receiving = async {
            let whole = match begun.finish(cx, |there| tail.came(there)).await {
                Err(error) if is_passing(&error) => {
                    tracing::info!(error = %error, "the snapshot is read anew");
                    tail.broke();
                    self.read(cx).await?
                }
                finished => finished?,
            };
            tail.ended(&whole.received);
            let proved = self.prove(cx, &whole).await?;
            Ok::<_, SourceError>((whole, proved))
        };
        let storing = async {
            let pki = pki::Set::gather(self.etcd, cx, &self.cluster.access).await?;
            push(out, root, started_at, length, &tail, pki.as_ref()).await?;
            Ok::<_, SourceError>(pki)
        };
        let ((whole, proved), pki) = tokio::try_join!(receiving, storing)?;
        Ok((whole, proved, pki))
    }

    /// Stores what lies in the spool, as it came or without its free pages, and proves it meanwhile.
    async fn store_whole(&self, cx: &Context, out: &dyn Items, root: &TreePath, whole: Whole) -> Result<Stored> {
        let Whole { received: Received { spool, db_size, .. }, started_at, .. } = &whole;
        let (spool, size): (&dyn ReadAt, _) = (&**spool, db_size + TRAILER_BYTES);
        let pki = pki::Set::gather(self.etcd, cx, &self.cluster.access).await?;
        let (proved, stored) = if self.etcd.config.zero_free_pages {
            // Which pages are free is known only then.
            let proved = self.prove(cx, &whole).await?;
            let stored = match &proved.used {
                Some(used) => {
                    let blanked = Blanked::new(cx, spool, used, proved.notes.page_size, *db_size).await?;
                    push(out, root, *started_at, size, &blanked, pki.as_ref()).await
                }
                None => push(out, root, *started_at, size, spool, pki.as_ref()).await,
            };
            (Ok(proved), stored)
        } else {
            tokio::join!(self.prove(cx, &whole), push(out, root, *started_at, size, spool, pki.as_ref()))
        };
        stored?;
        let proved = proved?;
        Ok((whole, proved, pki))
    }

    async fn prove(&self, cx: &Context, whole: &Whole) -> Result<Proved> {
        cx.monitor.progress(Progress::Phase("checking the snapshot".to_owned()));
        let Cluster { access, selection, .. } = &self.cluster;
        let source = whole.member.status.member_id;
        let members = Members { etcd: self.etcd, access, found: &selection.members, source };
        let content: Arc<dyn ReadAt> = Arc::<dyn Spool>::clone(&whole.received.spool);
        let examined = examine(cx, &content, whole.received.db_size, Some(&members)).await?;
        let (notes, tags) = (self.notes(whole, &examined), self.tags(whole, &examined));
        let mut proved = Proved { notes, tags, problems: Vec::new(), used: None };
        self.judge(whole, &examined, &mut proved);
        // Of a file that is not as it should be, nobody knows what is free.
        let is_sound = self.etcd.config.zero_free_pages && examined.fault.is_none();
        proved.used = examined.content.used.filter(|_| is_sound);
        Ok(proved)
    }

    /// What is doubtful is stored all the same, since it may be all that there is, but never as if it were good.
    fn judge(&self, whole: &Whole, examined: &Examined, proved: &mut Proved) {
        let mut doubt = |class: &'static str, tag: Option<&str>, text: String| {
            proved.problems.push(Problem { class, path: None, text });
            proved.tags.extend(tag.map(ToOwned::to_owned).filter(|tag| !proved.tags.contains(tag)));
        };
        let own = whole.member.status.member_id.to_string();
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

    fn tags(&self, whole: &Whole, examined: &Examined) -> Vec<String> {
        let mut tags = vec!["full".to_owned(), format!("cid:{}", self.cluster.id)];
        if examined.survey.revision > 0 {
            tags.push(format!("rev:{}", examined.survey.revision));
        }
        if !is_tested(&whole.member.status.version) || !examined.survey.unknown.is_empty() {
            tags.push("untested".to_owned());
        }
        tags
    }

    fn notes(&self, whole: &Whole, examined: &Examined) -> Notes {
        let status = &whole.member.status;
        let nanoseconds = |at: Timestamp| i64::try_from(at.as_nanosecond()).unwrap_or_default();
        let named = |id: ClusterId| (id.to_string(), self.cluster.name(id));
        let missing = self.cluster.missing.iter().map(|one| (one.endpoint.clone(), one.error.to_string()));
        Notes {
            cluster_id: self.cluster.id,
            member_id: status.member_id,
            member: self.cluster.name(status.member_id),
            endpoint: whole.member.endpoint.clone(),
            server_version: status.version.clone(),
            stream_version: whole.received.version.clone(),
            alarms: self.cluster.selection.alarms.clone(),
            members: self.cluster.names.iter().map(|one| named(one.id)).collect(),
            started_ns: nanoseconds(whole.started_at),
            ended_ns: nanoseconds(whole.ended_at),
            missing: missing.collect(),
            ..examined.notes(whole.received.db_size, &whole.received.sha256)
        }
    }
}
