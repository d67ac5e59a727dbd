//! Proves a snapshot before it is stored: the structure of its file, its content, and the hash that members have of it.

use std::collections::BTreeMap;
use std::time::Duration;

use futures::future::join_all;

use super::Etcd;
use super::access::Access;
use super::bolt::{Bolt, BoltError, Slice};
use super::client::HashAnswer;
use super::content::Content;
use super::hashkv::{HashKv, Newest};
use super::model::{ClusterId, FORMAT, HashKvNote, Notes};
use super::select::Found;
use super::survey::Survey;
use crate::context::Context;
use crate::source::{ReadAt, Result};

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
    content: &dyn ReadAt,
    db_size: u64,
    members: Option<&Members<'_>>,
) -> Result<Examined> {
    let bytes = Slice { cx, content };
    let mut examined = Examined { level: "L0", ..Examined::default() };
    let done = async {
        let bolt = Bolt::open(&bytes, db_size).await?;
        examined.page_bytes = bolt.meta().page_bytes;
        examined.survey = Survey::take(&bolt).await?;
        let answers = match members {
            Some(members) => ask_all(cx, members, examined.survey.revision).await?,
            None => Vec::new(),
        };
        let compacted = |answered: &Answered| match answered.answer {
            Ok(HashAnswer::Hash { compact_revision, .. }) => Some(compact_revision),
            _ => None,
        };
        let own = examined.survey.compact_revision;
        let mut wanted: Vec<i64> = answers.iter().filter_map(compacted).filter(|at| *at >= own).collect();
        wanted.sort_unstable();
        wanted.dedup();
        let newest = Newest::find(&bolt, wanted.last().copied().unwrap_or(own).max(own)).await?;
        examined.live = newest.as_ref().map(|newest| newest.live);
        let hash_kv = newest.map(|newest| HashKv::new(newest, wanted));
        examined.content = Content::check(&bolt, &examined.survey, hash_kv).await?;
        examined.level = "L2";
        for Answered { member, answer } in answers {
            examined.hash_kv.insert(member.to_string(), note(answer, examined.content.hash_kv.as_ref()));
        }
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

fn note(answer: Result<HashAnswer>, hash_kv: Option<&HashKv>) -> HashKvNote {
    let unknown = |verdict: String| HashKvNote { verdict, ..HashKvNote::default() };
    match answer {
        Err(error) => unknown(error.to_string()),
        Ok(HashAnswer::Compacted) => unknown("compacted since".to_owned()),
        Ok(HashAnswer::Future) => unknown("it has not reached this revision".to_owned()),
        Ok(HashAnswer::Hash { hash, compact_revision }) => {
            let local = hash_kv.and_then(|hash_kv| hash_kv.at(compact_revision));
            let verdict = match (hash_kv, local) {
                (None, _) => "there are too many keys to compare",
                (_, None) => "it has compacted less than the snapshot",
                (_, Some(local)) if local == hash => HashKvNote::EQUAL,
                _ => HashKvNote::DIFFERENT,
            };
            HashKvNote { remote: Some(hash), local, compact_revision, verdict: verdict.to_owned() }
        }
    }
}
