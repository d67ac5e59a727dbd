//! One line to the service per call: sends what opendal signed, follows no redirect, counts what moves so that a stall
//! is seen, bounds what is taken in, and keeps the true cause of a failure, which opendal would fold into prose.

use super::answer::{Answer, Failure};
use futures::{StreamExt, TryStreamExt, stream};
use http::{Request, Response, header::HeaderName};
use opendal::{Buffer, Error, ErrorKind, HttpBody, HttpTransport};
use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

/// The longest time in which not a single byte moves.
pub(super) const STALL: Duration = Duration::from_mins(2);
const CONNECT: Duration = Duration::from_secs(30);
/// An error's text is short; more of it is not read.
const ERROR_BYTES_MAX: usize = 64 * 1024;
/// How much of a body is given to the connection at once: the grain in which progress is seen.
const PIECE_BYTES: usize = 64 * 1024;

/// What a client needs beside the address.
#[derive(Debug)]
pub(super) struct Trust<'a> {
    pub(super) ca_certificates: &'a [Vec<u8>],
    pub(super) proxy: Option<&'a str>,
}

/// The HTTP client of one storage. Its connections are shared by all calls.
///
/// Speaks HTTP/1.1 only: several connections carry more than the streams of one.
pub(super) fn client(trust: &Trust<'_>) -> Result<reqwest::Client, reqwest::Error> {
    let mut certificates = Vec::new();
    for pem in trust.ca_certificates {
        certificates.extend(reqwest::Certificate::from_pem_bundle(pem)?);
    }
    let builder = reqwest::Client::builder()
        .user_agent(concat!("onggi/", env!("CARGO_PKG_VERSION")))
        .redirect(reqwest::redirect::Policy::none())
        .connect_timeout(CONNECT)
        .http1_only()
        .referer(false)
        .tls_certs_merge(certificates);
    match trust.proxy {
        Some(proxy) => builder.proxy(reqwest::Proxy::all(proxy)?),
        // Proxies of the environment are the engine's to find.
        None => builder.no_proxy(),
    }
    .build()
}

/// What is known of one call while it runs and afterwards.
#[derive(Debug)]
pub(super) struct Line {
    client: reqwest::Client,
    body_bytes_max: u64,
    moved: AtomicU64,
    failure: Mutex<Option<Failure>>,
    sent_md5: Mutex<Option<String>>,
    file_bytes: Mutex<Option<u64>>,
}

impl Line {
    /// A line on which an answer's body may have this many bytes.
    pub(super) fn new(client: reqwest::Client, body_bytes_max: u64) -> Arc<Self> {
        Arc::new(Self {
            client,
            body_bytes_max,
            moved: AtomicU64::new(0),
            failure: Mutex::default(),
            sent_md5: Mutex::default(),
            file_bytes: Mutex::default(),
        })
    }

    /// Bytes and answers so far, either way; equal twice means that nothing moved.
    pub(super) fn moved(&self) -> u64 {
        self.moved.load(Ordering::Relaxed)
    }

    /// What went wrong, if it did so on the wire.
    pub(super) fn failure(&self) -> Option<Failure> {
        self.failure.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// The Content-MD5 (base64) that the last request carried.
    pub(super) fn sent_md5(&self) -> Option<String> {
        self.sent_md5.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The length of the whole file, as the answer to a read of a part told it.
    pub(super) fn file_bytes(&self) -> Option<u64> {
        *self.file_bytes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn fail(&self, failure: Failure) -> Error {
        let error = Error::new(ErrorKind::Unexpected, "the wire failed");
        *self.failure.lock().unwrap_or_else(PoisonError::into_inner) = Some(failure);
        error
    }

    fn note(&self, bytes: usize) {
        self.moved.fetch_add(bytes as u64, Ordering::Relaxed);
    }
}

/// A line as opendal wants it.
pub(super) struct Wire(pub(super) Arc<Line>);

impl HttpTransport for Wire {
    async fn fetch(&self, request: Request<Buffer>) -> opendal::Result<Response<HttpBody>> {
        let line = &self.0;
        let is_head = request.method() == http::Method::HEAD;
        let is_list = request.uri().query().is_some_and(|query| query.contains("list-type=2"));
        let answer = self.send(request).await.map_err(|error| line.fail(Failure::transport(error)))?;
        line.note(1);
        if !answer.status().is_success() {
            let refusal = refusal(answer).await;
            return Err(line.fail(Failure::Answer(refusal)));
        }
        *line.file_bytes.lock().unwrap_or_else(PoisonError::into_inner) = whole_length(answer.headers());
        let length = answer.content_length().filter(|_| !is_head);
        let mut response = Response::builder().status(answer.status());
        if let Some(headers) = response.headers_mut() {
            headers.clone_from(answer.headers());
        }
        let body = if is_list { self.list(answer).await? } else { HttpBody::new(self.incoming(answer), length) };
        response.body(body).map_err(|error| Error::new(ErrorKind::Unexpected, "build response").set_source(error))
    }
}

impl Wire {
    async fn send(&self, request: Request<Buffer>) -> reqwest::Result<reqwest::Response> {
        let (parts, body) = request.into_parts();
        if let Some(md5) = parts.headers.get(HeaderName::from_static("content-md5")) {
            *self.0.sent_md5.lock().unwrap_or_else(PoisonError::into_inner) = md5.to_str().ok().map(Into::into);
        }
        let mut builder = self.0.client.request(parts.method, parts.uri.to_string()).headers(parts.headers);
        if !body.is_empty() {
            builder = builder.body(self.outgoing(body));
        }
        builder.send().await.map_err(reqwest::Error::without_url)
    }

    /// The body in pieces, each counted when the connection takes it.
    fn outgoing(&self, body: Buffer) -> reqwest::Body {
        let line = self.0.clone();
        let pieces = stream::iter(body).flat_map(|mut bytes| {
            stream::iter(std::iter::from_fn(move || {
                let piece = bytes.split_to(bytes.len().min(PIECE_BYTES));
                (!piece.is_empty()).then_some(piece)
            }))
        });
        reqwest::Body::wrap_stream(pieces.map(move |piece| {
            line.note(piece.len());
            Ok::<_, std::convert::Infallible>(piece)
        }))
    }

    /// A page of a listing, whole. Any other well-formed text would pass opendal as an empty one.
    async fn list(&self, answer: reqwest::Response) -> opendal::Result<HttpBody> {
        let page: Vec<Buffer> = self.incoming(answer).try_collect().await?;
        let page: Buffer = page.into_iter().flatten().collect();
        if !String::from_utf8_lossy(&page.to_bytes()).contains("<ListBucketResult") {
            return Err(self.0.fail(Failure::NotAList));
        }
        let length = page.len() as u64;
        Ok(HttpBody::new(stream::iter([Ok(page)]), Some(length)))
    }

    fn incoming(
        &self,
        answer: reqwest::Response,
    ) -> impl futures::Stream<Item = opendal::Result<Buffer>> + Send + Sync + Unpin + 'static {
        let line = self.0.clone();
        let mut left = line.body_bytes_max;
        answer.bytes_stream().map_err(reqwest::Error::without_url).map(move |piece| {
            let piece = piece.map_err(|error| line.fail(Failure::transport(error)))?;
            line.note(piece.len());
            left = left.checked_sub(piece.len() as u64).ok_or_else(|| line.fail(Failure::TooLong))?;
            Ok(Buffer::from(piece))
        })
    }
}

/// The number after the slash in `Content-Range: bytes 0-99/1000`.
fn whole_length(headers: &http::HeaderMap) -> Option<u64> {
    headers.get(http::header::CONTENT_RANGE)?.to_str().ok()?.rsplit_once('/')?.1.parse().ok()
}

/// The answer of a service that did not do it, with the first bytes of its text.
async fn refusal(answer: reqwest::Response) -> Answer {
    let (status, headers) = (answer.status(), answer.headers().clone());
    let mut text = Vec::new();
    let mut pieces = answer.bytes_stream();
    while let Some(Ok(piece)) = pieces.next().await {
        let room = ERROR_BYTES_MAX - text.len();
        text.extend_from_slice(&piece[..piece.len().min(room)]);
        if text.len() == ERROR_BYTES_MAX {
            break;
        }
    }
    Answer::new(status, &headers, &String::from_utf8_lossy(&text))
}
