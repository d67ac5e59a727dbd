//! A watch of every key. Answers come in fragments, since many transactions in one message are longer than any message
//! may be; and the member is asked again and again how far it is, so that one that is gone is noticed.

use std::time::Duration;

use async_trait::async_trait;
use futures::channel::mpsc;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::transport::Channel;
use tonic::{Request, Streaming};
use tonic_prost::ProstCodec;

use super::{Event, Told, Watching, error};
use crate::context::{Context, Stop};
use crate::etcd::pb;
use crate::source::{Result, SourceError};

/// How often the member is asked how far it is.
const ASK: Duration = Duration::from_secs(10);
/// Questions that stay without any answer.
const UNANSWERED_MAX: u32 = 3;
/// Requests on their way: the first one and a question.
const REQUESTS: usize = 2;
/// The largest message: a fragment holds what one request wrote, and a member may allow large ones.
const MESSAGE_BYTES_MAX: usize = 64 << 20;
/// Of a change: the key was deleted.
const DELETED: i32 = 1;

pub(super) struct Watch {
    requests: mpsc::Sender<pb::WatchRequest>,
    answers: Streaming<pb::WatchResponse>,
    unanswered: u32,
}

type Requests = mpsc::Receiver<pb::WatchRequest>;

/// Opens a watch from this revision on.
pub(super) async fn open(
    grpc: tonic::client::Grpc<Channel>,
    request: impl FnOnce(Requests) -> Request<Requests>,
    from: i64,
) -> Result<Watch> {
    let (mut requests, receiver) = mpsc::channel(REQUESTS);
    let create = pb::WatchCreateRequest {
        key: vec![0],
        range_end: vec![0],
        start_revision: from,
        progress_notify: true,
        fragment: true,
    };
    let first = pb::WatchRequest { create: Some(create), progress: None };
    let gone = |_| SourceError::Unreachable("the watch has ended".to_owned());
    requests.try_send(first).map_err(gone)?;
    let codec = ProstCodec::<pb::WatchRequest, pb::WatchResponse>::default();
    let path = PathAndQuery::from_static("/etcdserverpb.Watch/Watch");
    let mut grpc = grpc.max_decoding_message_size(MESSAGE_BYTES_MAX);
    let answers = grpc.streaming(request(receiver), path, codec).await;
    let answers = answers.map_err(|status| error::of_status(&status))?.into_inner();
    Ok(Watch { requests, answers, unanswered: 0 })
}

#[async_trait]
impl Watching for Watch {
    async fn next(&mut self, cx: &Context) -> Result<Told> {
        let answer = async { self.answers.message().await.map_err(|status| error::of_status(&status)) };
        let Ok(answer) = cx.within(ASK, Stop::TimeLimit).unless_stopped(answer).await else {
            cx.check()?;
            return self.ask();
        };
        self.unanswered = 0;
        let answer = answer?.ok_or_else(|| SourceError::Unreachable("the watch has ended".to_owned()))?;
        if answer.canceled {
            return match answer.compact_revision {
                0 => Err(SourceError::Unreachable(format!("the watch was ended: {}", answer.cancel_reason))),
                revision => Ok(Told::Compacted(revision)),
            };
        }
        if answer.events.is_empty() {
            return Ok(Told::Nothing);
        }
        let event = |event: pb::Event| Event { is_tombstone: event.kind == DELETED, record: event.record };
        Ok(Told::Changes { events: answer.events.into_iter().map(event).collect(), is_fragment: answer.fragment })
    }
}

impl Watch {
    /// Asks how far the member is. The answer counts as a sign of life only: before 3.4.25 and 3.5.8 it may overtake
    /// changes.
    fn ask(&mut self) -> Result<Told> {
        self.unanswered += 1;
        if self.unanswered > UNANSWERED_MAX {
            return Err(SourceError::Unreachable("the watch is silent".to_owned()));
        }
        // One that waits already asks the same.
        let _ = self.requests.try_send(pb::WatchRequest { create: None, progress: Some(pb::WatchProgressRequest {}) });
        Ok(Told::Nothing)
    }
}
