//! The real members, over gRPC.

use std::error::Error as _;
use std::time::Duration;

use async_trait::async_trait;
use secrecy::ExposeSecret as _;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::metadata::AsciiMetadataValue;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};
use tonic::{Code, Request, Streaming};
use tonic_prost::ProstCodec;

use super::{Dial, HashAnswer, Member, Named, Piece, Pieces, SILENCE, Status, Watching, error, limited, watch};
use crate::context::Context;
use crate::etcd::access::Access;
use crate::etcd::model::ClusterId;
use crate::etcd::pb;
use crate::source::{Result, SourceError};

const CONNECT: Duration = Duration::from_secs(5);
const ANSWER: Duration = Duration::from_secs(5);
/// The member reads its whole database for it.
const HASH: Duration = Duration::from_mins(2);
const PING: Duration = Duration::from_secs(10);
/// Connections that end before the first answer, until that is taken for one.
const ENTER_MAX: u32 = 4;
/// Bytes on the way to us; a snapshot of a far member needs more than the 64 KiB that HTTP/2 begins with.
const WINDOW_BYTES: u32 = 2 << 20;
/// The largest answer: a member may run with a large `--max-request-bytes`.
const MESSAGE_BYTES_MAX: usize = 64 << 20;

/// Connects over the network.
pub(crate) struct Grpc;

#[async_trait]
impl Dial for Grpc {
    async fn dial(&self, cx: &Context, access: &Access, endpoint: &str) -> Result<Box<dyn Member>> {
        let mut connection = enter(cx, access, endpoint).await?;
        if let Some((name, password)) = &access.user {
            let request = pb::AuthenticateRequest { name: name.clone(), password: password.expose_secret().to_owned() };
            let answer: pb::AuthenticateResponse =
                connection.ask(cx, ANSWER, "/etcdserverpb.Auth/Authenticate", request).await?;
            let token = answer.token.parse().map_err(|_| SourceError::Denied("its token is none".to_owned()))?;
            connection.token = Some(token);
        }
        Ok(Box::new(connection))
    }
}

/// A connection on which the member answers. It sees the client certificate only after its own side of the handshake,
/// and if it refuses it, what arrives first is a matter of chance: the alert that says so, or the end.
async fn enter(cx: &Context, access: &Access, endpoint: &str) -> Result<Connection> {
    for _ in 0..ENTER_MAX {
        let channel = limited(cx, CONNECT, "connect", connect(access, endpoint)).await?;
        let connection = Connection { channel, token: None };
        let work = connection.call("/etcdserverpb.Maintenance/Status", pb::StatusRequest {});
        let answer: Result<pb::StatusResponse, _> = limited(cx, ANSWER, "Status", work).await?;
        match answer {
            Err(status) if status.source().is_some() => match error::of_status(&status) {
                SourceError::Unreachable(_) => {}
                error => return Err(error),
            },
            // A user may be needed: that is another matter.
            _ => return Ok(connection),
        }
    }
    let text = "it ends every connection before the first answer, as it does when it refuses the client certificate";
    Err(SourceError::Denied(text.to_owned()))
}

async fn connect(access: &Access, endpoint: &str) -> Result<Channel> {
    let unusable = |error: tonic::transport::Error| error::of_transport(&error);
    let mut builder = Endpoint::from_shared(endpoint.to_owned()).map_err(unusable)?;
    if endpoint.starts_with("https://") {
        let ca = access.ca.as_ref().ok_or_else(|| SourceError::Denied("`tls.ca` is not set".to_owned()))?;
        let mut tls = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(ca));
        if let Some((certificate, key)) = &access.identity {
            tls = tls.identity(Identity::from_pem(certificate, key.expose_secret()));
        }
        builder = builder.tls_config(tls).map_err(|error| SourceError::Denied(format!("certificates: {error}")))?;
    }
    let builder = builder.http2_keep_alive_interval(PING).keep_alive_timeout(ANSWER);
    let builder = builder.initial_stream_window_size(WINDOW_BYTES).initial_connection_window_size(WINDOW_BYTES);
    builder.connect_timeout(CONNECT).connect().await.map_err(unusable)
}

struct Connection {
    channel: Channel,
    token: Option<AsciiMetadataValue>,
}

impl Connection {
    fn request<Q>(&self, message: Q) -> Request<Q> {
        let mut request = Request::new(message);
        if let Some(token) = &self.token {
            request.metadata_mut().insert("token", token.clone());
        }
        request
    }

    async fn ready(&self) -> Result<tonic::client::Grpc<Channel>> {
        let mut grpc = tonic::client::Grpc::new(self.channel.clone()).max_decoding_message_size(MESSAGE_BYTES_MAX);
        grpc.ready().await.map_err(|error| error::of_transport(&error))?;
        Ok(grpc)
    }

    async fn call<Q, A>(&self, path: &'static str, message: Q) -> Result<Result<A, tonic::Status>>
    where
        Q: prost::Message + 'static,
        A: prost::Message + Default + 'static,
    {
        let codec = ProstCodec::<Q, A>::default();
        let path = PathAndQuery::from_static(path);
        let answer = self.ready().await?.unary(self.request(message), path, codec).await;
        Ok(answer.map(tonic::Response::into_inner))
    }

    async fn ask<Q, A>(&self, cx: &Context, limit: Duration, path: &'static str, message: Q) -> Result<A>
    where
        Q: prost::Message + 'static,
        A: prost::Message + Default + 'static,
    {
        let work = async { self.call(path, message).await?.map_err(|status| error::of_status(&status)) };
        limited(cx, limit, path.rsplit('/').next().unwrap_or(path), work).await
    }
}

#[async_trait]
impl Member for Connection {
    async fn status(&self, cx: &Context) -> Result<Status> {
        let path = "/etcdserverpb.Maintenance/Status";
        let answer: pb::StatusResponse = self.ask(cx, ANSWER, path, pb::StatusRequest {}).await?;
        let header = answer.header.unwrap_or_default();
        // Absent before 3.4.
        let applied_index = if answer.raft_applied_index == 0 { answer.raft_index } else { answer.raft_applied_index };
        Ok(Status {
            cluster_id: ClusterId(header.cluster_id),
            member_id: ClusterId(header.member_id),
            version: answer.version,
            db_size: answer.db_size.unsigned_abs(),
            db_size_in_use: answer.db_size_in_use.unsigned_abs(),
            leader: Some(ClusterId(answer.leader)).filter(|leader| leader.0 != 0),
            applied_index,
            errors: answer.errors,
            is_learner: answer.is_learner,
        })
    }

    async fn members(&self, cx: &Context) -> Result<Vec<Named>> {
        // What this member knows: a linearizable answer needs a quorum.
        let request = pb::MemberListRequest { linearizable: false };
        let answer: pb::MemberListResponse = self.ask(cx, ANSWER, "/etcdserverpb.Cluster/MemberList", request).await?;
        let named =
            |member: pb::Member| Named { id: ClusterId(member.id), name: member.name, client_urls: member.client_urls };
        Ok(answer.members.into_iter().map(named).collect())
    }

    async fn hash_kv(&self, cx: &Context, revision: i64) -> Result<HashAnswer> {
        let work = self.call("/etcdserverpb.Maintenance/HashKV", pb::HashKvRequest { revision });
        let answer: Result<pb::HashKvResponse, _> = limited(cx, HASH, "HashKV", work).await?;
        match answer {
            Ok(answer) => Ok(HashAnswer::Hash {
                hash: answer.hash,
                // -1 where nothing was compacted yet.
                compact_revision: answer.compact_revision.max(0),
            }),
            Err(status) if status.code() == Code::OutOfRange && status.message().contains("future") => {
                Ok(HashAnswer::Future)
            }
            Err(status) if status.code() == Code::OutOfRange => Ok(HashAnswer::Compacted),
            Err(status) => Err(error::of_status(&status)),
        }
    }

    async fn count(&self, cx: &Context) -> Result<u64> {
        let (key, range_end) = (vec![0], vec![0]);
        let request = pb::RangeRequest { key, range_end, count_only: true };
        let answer: pb::RangeResponse = self.ask(cx, HASH, "/etcdserverpb.KV/Range", request).await?;
        Ok(answer.count.unsigned_abs())
    }

    async fn watch(&self, cx: &Context, from: i64) -> Result<Box<dyn Watching>> {
        let work = watch::open(self.ready().await?, |requests| self.request(requests), from);
        Ok(Box::new(limited(cx, SILENCE, "Watch", work).await?))
    }

    async fn leases(&self, cx: &Context) -> Result<Vec<i64>> {
        let path = "/etcdserverpb.Lease/LeaseLeases";
        let answer: pb::LeaseLeasesResponse = self.ask(cx, ANSWER, path, pb::LeaseLeasesRequest {}).await?;
        Ok(answer.leases.iter().map(|lease| lease.id).collect())
    }

    async fn lease_ttl(&self, cx: &Context, id: i64) -> Result<Option<i64>> {
        let path = "/etcdserverpb.Lease/LeaseTimeToLive";
        let request = pb::LeaseTimeToLiveRequest { id };
        let answer: pb::LeaseTimeToLiveResponse = self.ask(cx, ANSWER, path, request).await?;
        Ok((answer.ttl >= 0).then_some(answer.granted_ttl))
    }

    async fn auth_revision(&self, cx: &Context) -> Result<Option<u64>> {
        let work = self.call("/etcdserverpb.Auth/AuthStatus", pb::AuthStatusRequest {});
        let answer: Result<pb::AuthStatusResponse, _> = limited(cx, ANSWER, "AuthStatus", work).await?;
        match answer {
            Ok(answer) => Ok(Some(answer.auth_revision)),
            Err(status) if status.code() == Code::Unimplemented => Ok(None),
            Err(status) => Err(error::of_status(&status)),
        }
    }

    async fn snapshot(&self, cx: &Context) -> Result<Box<dyn Pieces>> {
        let work = async {
            let codec = ProstCodec::<pb::SnapshotRequest, pb::SnapshotResponse>::default();
            let path = PathAndQuery::from_static("/etcdserverpb.Maintenance/Snapshot");
            let request = self.request(pb::SnapshotRequest {});
            let answer = self.ready().await?.server_streaming(request, path, codec).await;
            answer.map_err(|status| error::of_status(&status))
        };
        let stream = limited(cx, SILENCE, "Snapshot", work).await?.into_inner();
        Ok(Box::new(Messages { stream }))
    }
}

struct Messages {
    stream: Streaming<pb::SnapshotResponse>,
}

#[async_trait]
impl Pieces for Messages {
    async fn next(&mut self, cx: &Context) -> Result<Option<Piece>> {
        let message = cx.unless_stopped(self.stream.message()).await?.map_err(|status| error::of_status(&status))?;
        let piece = |message: pb::SnapshotResponse| Piece {
            remaining: message.remaining_bytes,
            blob: message.blob,
            version: message.version,
        };
        Ok(message.map(piece))
    }
}
