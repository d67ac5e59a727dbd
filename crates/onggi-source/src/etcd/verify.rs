//! Proves a snapshot before it is stored: the structure of its file, its content, and the hash that members have of it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use tokio::runtime::Handle;

use super::Etcd;
use super::access::Access;
use super::bolt::{Bolt, BoltError, Slice};
use super::client::HashAnswer;
use super::content::Content;
use super::hashkv::{BATCH_BYTES, HashKv};
use super::model::{ClusterId, FORMAT, HashKvNote, Notes};
use super::select::Found;
use super::survey::Survey;
use crate::context::Context;
use crate::source::{ReadAt, Result, SourceError};

/// How often a member is asked again that has not reached the revision yet.
const ASK_MAX: usize = 5;
const ASK_PAUSE: Duration = Duration::from_millis(300);

/// What was found.
#[derive(Default)]
pub(super) struct Examined {
    pub survey: Survey,
    pub content: Content,
    pub page_bytes: u32,
    /// Keys that exist; `None` if they are too many to be told apart.
    pub live: Option<u64>,
    pub hash_kv: BTreeMap<String, HashKvNote>,
    /// `L0` to `L3`.
    pub level: &'static str,
    /// Why it is not what etcd writes.
    pub fault: Option<String>,
}

impl Examined {
    /// What of it is noted; the rest is known only to who took it.
    pub fn notes(&self, db_size: u64, sha256: &[u8; 32]) -> Notes {
        let Self { survey, content, .. } = self;
        Notes {
            format: FORMAT,
            cluster_version: survey.cluster_version.clone(),
            revision: survey.revision,
            compact_revision: survey.compact_revision,
            consistent_index: survey.consistent_index,
            term: survey.term,
            db_size,
            db_size_in_use: content.census.used * u64::from(self.page_bytes),
            page_size: self.page_bytes,
            free_pages: content.census.free,
            live_keys: self.live,
            tombstones: content.tombstones,
            revisions: content.revisions,
            leases: survey.leases,
            lost_leases: content.lost_leases,
            is_kubernetes: survey.is_kubernetes,
            members: survey.members.iter().map(|(id, name)| (id.to_string(), name.clone())).collect(),
            auth_revision: survey.auth_revision,
            db_sha256: crate::hex::hexadecimal(sha256),
            content_hash: content.hash,
            hash_kv: self.hash_kv.clone(),
            verified: self.level.to_owned(),
            ..Notes::default()
        }
    }
}

/// Whom the file is compared with.
pub(super) struct Members<'a> {
    pub etcd: &'a Etcd,
    pub access: &'a Access,
    pub found: &'a [Found],
    /// The one that the file is of.
    pub source: ClusterId,
}

/// A member's answer, or why there is none.
struct Answered {
    member: ClusterId,
    answer: Result<HashAnswer>,
}

/// Examines a database and compares it with all members. What is wrong with it is a finding; an error means that it
/// could not be examined.
pub(super) async fn examine(
    cx: &Context,
    content: &Arc<dyn ReadAt>,
    db_size: u64,
    members: Option<&Members<'_>>,
) -> Result<Examined> {
    let bytes = Slice::new(cx, &**content, db_size);
    let mut examined = Examined { level: "L0", ..Examined::default() };
    let done = async {
        let bolt = Bolt::open(&bytes, db_size).await?;
        examined.page_bytes = bolt.meta().page_bytes;
        examined.survey = Survey::take(&bolt).await?;
        let survey = &examined.survey;
        // The walk, the members' own hashing and ours take about as long as each other.
        let compared = compare(cx, content, db_size, members, survey);
        let (walked, compared) = tokio::join!(Content::check(&bolt, survey), compared);
        examined.content = walked?;
        examined.level = "L2";
        (examined.live, examined.hash_kv) = compared?;
        Ok(())
    };
    match done.await {
        Ok(()) => {}
        Err(BoltError::Read(error)) => return Err(error),
        Err(BoltError::Structure(what)) => examined.fault = Some(format!("structure: {what}")),
        Err(BoltError::Content(what)) => {
            examined.level = "L1";
            examined.fault = Some(format!("content: {what}"));
        }
    }
    let own = members.and_then(|members| examined.hash_kv.get(&members.source.to_string()));
    if own.is_some_and(HashKvNote::is_equal) {
        examined.level = "L3";
    }
    Ok(examined)
}

/// Keys that exist, and how each member's hash compares with that of the file.
async fn compare(
    cx: &Context,
    content: &Arc<dyn ReadAt>,
    db_size: u64,
    members: Option<&Members<'_>>,
    survey: &Survey,
) -> Result<(Option<u64>, BTreeMap<String, HashKvNote>), BoltError> {
    let own = survey.compact_revision;
    let asked = async {
        match members {
            Some(members) => ask_all(cx, members, survey.revision).await,
            None => Ok(Vec::new()),
        }
    };
    let (computed, answers) = tokio::join!(hash_aside(cx, content, db_size, vec![own]), asked);
    let (computed, answers) = (computed?, answers?);
    let compacted = |answered: &Answered| match answered.answer {
        Ok(HashAnswer::Hash { compact_revision, .. }) => Some(compact_revision),
        _ => None,
    };
    // Members that have compacted since are rare, and one more walk.
    let mut later: Vec<i64> = answers.iter().filter_map(compacted).filter(|at| *at > own).collect();
    later.sort_unstable();
    later.dedup();
    let other = if later.is_empty() { None } else { hash_aside(cx, content, db_size, later).await? };
    let at = |compacted| [&computed, &other].into_iter().flatten().find_map(|hashes| hashes.at(compacted));
    let noted = |Answered { member, answer }: Answered| {
        let verdict = if computed.is_some() { note(answer, at) } else { uncomparable(answer) };
        (member.to_string(), verdict)
    };
    Ok((computed.as_ref().map(HashKv::live), answers.into_iter().map(noted).collect()))
}

/// Hashes on a thread of its own.
async fn hash_aside(
    cx: &Context,
    content: &Arc<dyn ReadAt>,
    db_size: u64,
    compacted: Vec<i64>,
) -> Result<Option<HashKv>, BoltError> {
    let _memory = cx.memory.acquire_many(BATCH_BYTES as u32).await;
    let (cx, content, runtime) = (cx.clone(), Arc::clone(content), Handle::current());
    let walk = async move {
        let bytes = Slice::new(&cx, &*content, db_size);
        let bolt = Bolt::open(&bytes, db_size).await?;
        HashKv::compute(&bolt, &compacted).await
    };
    let walked = tokio::task::spawn_blocking(move || runtime.block_on(walk)).await;
    walked.map_err(|error| SourceError::Incomplete(format!("hash the keys: {error}")))?
}

async fn ask_all(cx: &Context, members: &Members<'_>, revision: i64) -> Result<Vec<Answered>> {
    let asked = members.found.iter().map(async |found| {
        let answer = ask(members.etcd, cx, members.access, &found.endpoint, revision).await;
        Answered { member: found.status.member_id, answer }
    });
    let answers = join_all(asked).await;
    cx.check()?;
    Ok(answers)
}

async fn ask(etcd: &Etcd, cx: &Context, access: &Access, endpoint: &str, revision: i64) -> Result<HashAnswer> {
    let member = etcd.dial.dial(cx, access, endpoint).await?;
    let mut answer = member.hash_kv(cx, revision).await?;
    for _ in 0..ASK_MAX {
        if answer != HashAnswer::Future {
            break;
        }
        cx.sleep(ASK_PAUSE).await?;
        answer = member.hash_kv(cx, revision).await?;
    }
    Ok(answer)
}

fn note(answer: Result<HashAnswer>, at: impl Fn(i64) -> Option<u32>) -> HashKvNote {
    let unknown = |verdict: String| HashKvNote { verdict, ..HashKvNote::default() };
    match answer {
        Err(error) => unknown(error.to_string()),
        Ok(HashAnswer::Compacted) => unknown("compacted since".to_owned()),
        Ok(HashAnswer::Future) => unknown("it has not reached this revision".to_owned()),
        Ok(HashAnswer::Hash { hash, compact_revision }) => {
            let local = at(compact_revision);
            let verdict = match local {
                None => "it has compacted less than the snapshot",
                Some(local) if local == hash => HashKvNote::EQUAL,
                _ => HashKvNote::DIFFERENT,
            };
            HashKvNote { remote: Some(hash), local, compact_revision, verdict: verdict.to_owned() }
        }
    }
}

/// What is said where the file's own hash is not known.
fn uncomparable(answer: Result<HashAnswer>) -> HashKvNote {
    let noted = note(answer, |_| None);
    let verdict = if noted.remote.is_some() { "there are too many keys to compare".to_owned() } else { noted.verdict };
    HashKvNote { verdict, ..noted }
}
