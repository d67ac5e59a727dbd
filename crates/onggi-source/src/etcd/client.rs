//! What members of a cluster answer. Each is asked on a connection of its own, since a snapshot is local to its member.

mod error;
mod grpc;
mod watch;

use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;

pub(super) use self::grpc::Grpc;
use super::access::Access;
use super::model::ClusterId;
use crate::context::Context;
use crate::source::{Result, SourceError};

/// Longer than any pause of a member that still sends a snapshot.
pub(super) const SILENCE: Duration = Duration::from_secs(30);

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
    /// The number of its keys.
    async fn count(&self, cx: &Context) -> Result<u64>;
    /// Begins to watch every key, from this revision on.
    async fn watch(&self, cx: &Context, from: i64) -> Result<Box<dyn Watching>>;
    /// All leases.
    async fn leases(&self, cx: &Context) -> Result<Vec<i64>>;
    /// Seconds that a lease was granted for; `None` if it is not there.
    async fn lease_ttl(&self, cx: &Context, id: i64) -> Result<Option<i64>>;
    /// Revision of users and roles; `None` where the member cannot say, before 3.5.
    async fn auth_revision(&self, cx: &Context) -> Result<Option<u64>>;
    /// Begins a snapshot.
    async fn snapshot(&self, cx: &Context) -> Result<Box<dyn Pieces>>;
}

/// A snapshot on its way.
#[async_trait]
pub(crate) trait Pieces: Send {
    /// The next message, as long as there is one.
    async fn next(&mut self, cx: &Context) -> Result<Option<Piece>>;
}

/// A watch that is open.
#[async_trait]
pub(crate) trait Watching: Send {
    /// The next message. May be dropped half-way without loss. A member that stays silent is an error.
    async fn next(&mut self, cx: &Context) -> Result<Told>;
}

/// What a watch tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Told {
    /// Changes in order. The last revision of a fragment may go on in the next message.
    Changes { events: Vec<Event>, is_fragment: bool },
    /// What was asked for is no longer there: all up to this revision is compacted.
    Compacted(i64),
    /// It lives.
    Nothing,
}

/// One change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Event {
    pub is_tombstone: bool,
    /// The record as the member sent it.
    pub record: Bytes,
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
    cx.limited(limit, work).await?.unwrap_or_else(|| {
        Err(SourceError::Unreachable(format!("{what}: no answer within {} seconds", limit.as_secs())))
    })
}
