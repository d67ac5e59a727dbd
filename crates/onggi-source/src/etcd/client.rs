//! What members of a cluster answer. Each is asked on a connection of its own, since a snapshot is local to its member.

mod error;
mod grpc;

use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;

pub(super) use self::grpc::Grpc;
use super::access::Access;
use super::model::ClusterId;
use crate::context::{Context, Stop};
use crate::source::{Result, SourceError};

/// Connects to members.
#[async_trait]
pub(crate) trait Dial: Send + Sync {
    /// Connects, and logs in where there is a user.
    async fn dial(&self, cx: &Context, access: &Access, endpoint: &str) -> Result<Box<dyn Member>>;
}

/// A connection to one member.
#[async_trait]
pub(crate) trait Member: Send + Sync {
    /// How the member is.
    async fn status(&self, cx: &Context) -> Result<Status>;
    /// All members, as this one knows them, with their client URLs.
    async fn members(&self, cx: &Context) -> Result<Vec<Named>>;
    /// The hash of its keys at a revision.
    async fn hash_kv(&self, cx: &Context, revision: i64) -> Result<HashAnswer>;
    /// Begins a snapshot.
    async fn snapshot(&self, cx: &Context) -> Result<Box<dyn Pieces>>;
}

/// A snapshot on its way.
#[async_trait]
pub(crate) trait Pieces: Send {
    /// The next message, as long as there is one.
    async fn next(&mut self, cx: &Context) -> Result<Option<Piece>>;
}

/// A message of a snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Piece {
    /// Bytes of the database that are still to come; 0 in the last of them and in the trailer.
    pub remaining: u64,
    pub blob: Bytes,
    /// The version that wrote it; empty before 3.6.
    pub version: String,
}

/// How a member is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Status {
    pub cluster_id: ClusterId,
    pub member_id: ClusterId,
    pub version: String,
    pub db_size: u64,
    pub db_size_in_use: u64,
    /// The leader that it follows; `None` if it knows none.
    pub leader: Option<ClusterId>,
    pub applied_index: u64,
    /// Alarms and worse, as the member words them.
    pub errors: Vec<String>,
    pub is_learner: bool,
}

/// A member by its name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Named {
    pub id: ClusterId,
    pub name: String,
    pub client_urls: Vec<String>,
}

/// Answer to a question for a hash.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum HashAnswer {
    Hash {
        hash: u32,
        compact_revision: i64,
    },
    /// It has compacted beyond the revision.
    Compacted,
    /// It has not reached the revision yet.
    Future,
}

/// Awaits an answer for so long.
pub(super) async fn limited<T>(
    cx: &Context,
    limit: Duration,
    what: &str,
    work: impl Future<Output = Result<T>>,
) -> Result<T> {
    if let Ok(answer) = cx.within(limit, Stop::TimeLimit).unless_stopped(work).await {
        return answer;
    }
    cx.check()?;
    Err(SourceError::Unreachable(format!("{what}: no answer within {} seconds", limit.as_secs())))
}
