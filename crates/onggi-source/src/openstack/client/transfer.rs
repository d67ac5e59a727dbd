//! Images in either direction.

use std::io;
use std::ops::Range;

use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt as _;
use futures::stream;
use http::{StatusCode, header};
use reqwest::Response;
use tokio::sync::mpsc;

use super::{BODY_BYTES_MAX, Client, How, STALL, body, limited_body};
use crate::chain::chain;
use crate::context::{Context, Stop};
use crate::openstack::cloud::{Answer, Fetched, Pieces, Service};
use crate::openstack::error::{CloudError, Result};
use crate::source::{ByteStream, ReadError};

/// Pieces between the repository and a connection.
const PIECES_MAX: usize = 4;
/// The longest upload; it ends earlier when nothing moves.
const UPLOAD_MAX: std::time::Duration = std::time::Duration::from_hours(48);

/// The bytes of an answer.
struct Body {
    image: String,
    answer: Response,
}

#[async_trait]
impl Pieces for Body {
    async fn next(&mut self, cx: &Context) -> Result<Option<Bytes>> {
        let lost = |text: String| CloudError::Unreachable(format!("download image {}", self.image), text);
        match cx.limited(STALL, self.answer.chunk()).await? {
            Some(Ok(piece)) => Ok(piece),
            Some(Err(error)) => Err(lost(chain(&error.without_url()))),
            None => Err(lost(format!("no byte came in {} s", STALL.as_secs()))),
        }
    }
}

/// Opens an image's file. `None`: the store does not give ranges.
pub(super) async fn fetch(client: &Client, cx: &Context, image: &str, from: u64) -> Result<Option<Fetched>> {
    let act = format!("download image {image}");
    let how = How { service: Service::Image, act: &act, is_repeatable: true, is_long: false };
    let answer = client.send(cx, &how, |session| {
        let url = format!("{}/images/{image}/file", session.endpoint(Service::Image)?);
        let request = client.http.get(url);
        Ok(if from > 0 { request.header(header::RANGE, format!("bytes={from}-")) } else { request })
    });
    let answer = answer.await?;
    let header = |name| answer.headers().get(name).and_then(|value| value.to_str().ok()).map(ToOwned::to_owned);
    let whole = |text: Option<String>| text.and_then(|text| text.rsplit('/').next()?.parse().ok());
    let (start, length) = match answer.status() {
        StatusCode::OK | StatusCode::NO_CONTENT => (0, whole(header(header::CONTENT_LENGTH))),
        StatusCode::PARTIAL_CONTENT => match first_byte(&answer) {
            Some(start) if start == from => (start, whole(header(header::CONTENT_RANGE))),
            _ => return Ok(None),
        },
        StatusCode::BAD_REQUEST | StatusCode::RANGE_NOT_SATISFIABLE if from > 0 => return Ok(None),
        status => {
            let said = body(cx, &act, answer).await?;
            let text = Answer { status: status.as_u16(), location: None, body: said }.text();
            return Err(CloudError::Status { status: status.as_u16(), act, text });
        }
    };
    let pieces = Box::new(Body { image: image.to_owned(), answer });
    Ok(Some(Fetched { from: start, length, pieces }))
}

/// Fetches a range of an image's file. `None`: the store does not give ranges.
pub(super) async fn part(client: &Client, cx: &Context, image: &str, range: Range<u64>) -> Result<Option<Bytes>> {
    let act = format!("read image {image}");
    let how = How { service: Service::Image, act: &act, is_repeatable: true, is_long: false };
    let answer = client.send(cx, &how, |session| {
        let url = format!("{}/images/{image}/file", session.endpoint(Service::Image)?);
        Ok(client.http.get(url).header(header::RANGE, format!("bytes={}-{}", range.start, range.end.saturating_sub(1))))
    });
    let mut answer = answer.await?;
    match answer.status() {
        StatusCode::PARTIAL_CONTENT if first_byte(&answer) == Some(range.start) => {}
        // All of it comes, or it is told that a range cannot be had.
        StatusCode::OK | StatusCode::PARTIAL_CONTENT | StatusCode::BAD_REQUEST | StatusCode::RANGE_NOT_SATISFIABLE => {
            return Ok(None);
        }
        status => {
            let said = body(cx, &act, answer).await?;
            let text = Answer { status: status.as_u16(), location: None, body: said }.text();
            return Err(CloudError::Status { status: status.as_u16(), act, text });
        }
    }
    let length = usize::try_from(range.end.saturating_sub(range.start)).unwrap_or(BODY_BYTES_MAX);
    let part = limited_body(cx, &act, &mut answer, length.min(BODY_BYTES_MAX)).await?;
    if part.len() == length {
        return Ok(Some(part));
    }
    Err(CloudError::Unreachable(act, "its answer broke off".to_owned()))
}

/// Where an answer says that its range begins.
fn first_byte(answer: &Response) -> Option<u64> {
    let range = answer.headers().get(header::CONTENT_RANGE)?.to_str().ok()?;
    range.trim_start_matches("bytes ").split('-').next()?.trim().parse().ok()
}

/// Sends an image's file, which must have so many bytes. One attempt: its content flows.
pub(super) async fn fill(
    client: &Client,
    cx: &Context,
    image: &str,
    length: u64,
    content: &mut dyn ByteStream,
) -> Result<()> {
    let act = format!("upload image {image}");
    let session = client.session(cx, true).await?;
    let url = format!("{}/images/{image}/file", session.endpoint(Service::Image)?);
    let (sender, receiver) = mpsc::channel::<io::Result<Bytes>>(PIECES_MAX);
    let stream = stream::unfold(receiver, async |mut receiver| Some((receiver.recv().await?, receiver)));
    let request = client
        .http
        .put(url)
        .header("X-Auth-Token", secrecy::ExposeSecret::expose_secret(&session.token))
        .header(header::CONTENT_TYPE, "application/octet-stream")
        .header(header::CONTENT_LENGTH, length)
        .body(reqwest::Body::wrap_stream(stream.boxed()));
    let feed = async move {
        loop {
            match content.next(cx).await {
                Ok(Some(bytes)) => {
                    if sender.send(Ok(bytes)).await.is_err() {
                        // A server that has answered already takes no more.
                        return Ok(());
                    }
                }
                Ok(None) => return Ok(()),
                Err(error) => {
                    let _ = sender.send(Err(io::Error::other("the content broke off"))).await;
                    return Err(error);
                }
            }
        }
    };
    let limited = cx.within(UPLOAD_MAX, Stop::TimeLimit);
    let (fed, sent) = tokio::join!(feed, limited.unless_stopped(request.send()));
    if let Err(error) = fed {
        return Err(match error {
            ReadError::Unit(crate::source::SourceError::Stopped(stop)) => stop.into(),
            other => CloudError::Malformed(act, other.to_string()),
        });
    }
    let answer = sent?.map_err(|error| CloudError::Unreachable(act.clone(), chain(&error.without_url())))?;
    let status = answer.status().as_u16();
    let said = body(cx, &act, answer).await?;
    Answer { status, location: None, body: said }.document(&act).map(drop)
}
