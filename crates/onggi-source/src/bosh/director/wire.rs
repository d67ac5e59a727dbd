//! One request and its answer. Each has a connection of its own: between two of them may lie hours.
//!
//! Hyper itself rather than a client above it, because a connection may be a channel of an SSH session, and such clients
//! can be given a proxy's address, not a connection: a listener on this machine would open the tunnel to everybody on it.

use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::future::{Either, select};
use http::{HeaderValue, Method, Request, header};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use secrecy::{ExposeSecret as _, SecretString};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio_rustls::TlsConnector;

use super::address::{Address, path_of};
use super::model::{head, parse};
use super::route::{Route, Stream};
use super::trust::{Authorities, configuration};
use super::{DirectorError, Result, Trace};
use crate::chain::chain;
use crate::context::{Context, Stop};

/// Until a connection is there, TLS and all.
const CONNECT: Duration = Duration::from_secs(30);
/// Until an answer is whole. Whatever takes longer is a task.
const ANSWER: Duration = Duration::from_mins(2);
/// Repetitions of a request that may be repeated, and the pause before each; the reference's.
const RETRIES: u32 = 5;
const PAUSE: Duration = Duration::from_millis(500);
/// The largest answer: the manifest of a large deployment has about 1 MB, the list of 1000 instances about 5 MB.
const BODY_BYTES_MAX: usize = 64 << 20;
/// Answers that lead on, one after another.
pub(super) const REDIRECTS_MAX: u32 = 3;
/// A proxy before a Director that is just being restarted says one of these.
const AGAIN: [u16; 3] = [502, 503, 504];

/// Connects and asks.
pub(super) struct Wire {
    route: Arc<Route>,
    tls: TlsConnector,
    trace: Option<Trace>,
}

/// A request, before it is known who asks.
pub(super) struct Ask {
    method: Method,
    path: String,
    content: Option<(&'static str, Bytes)>,
    from_byte: Option<usize>,
    /// It may be sent twice.
    is_idempotent: bool,
}

/// What came back.
pub(super) struct Answer {
    pub(super) status: u16,
    /// Where it is from.
    pub(super) path: String,
    pub(super) body: Bytes,
    location: Option<String>,
}

/// Why there is no answer.
enum Fault {
    /// The request was not sent.
    Connect(io::Error),
    /// It may have been.
    Lost(String),
    Stopped(Stop),
}

impl Ask {
    pub(super) fn get(path: impl Into<String>) -> Self {
        Self { method: Method::GET, path: path.into(), content: None, from_byte: None, is_idempotent: true }
    }

    /// Changes something, and must not happen twice.
    pub(super) fn post(path: String, content: &impl Serialize) -> Result<Self> {
        let text = serde_json::to_vec(content).map_err(|error| DirectorError::Malformed(error.to_string()))?;
        let content = Some(("application/json", text.into()));
        Ok(Self { method: Method::POST, path, content, from_byte: None, is_idempotent: false })
    }

    pub(super) fn form(path: &str, content: &'static str) -> Self {
        let content = Some(("application/x-www-form-urlencoded", Bytes::from_static(content.as_bytes())));
        Self { method: Method::POST, path: path.to_owned(), content, from_byte: None, is_idempotent: true }
    }

    /// The same; happening twice does no harm.
    pub(super) fn idempotent(self) -> Self {
        Self { is_idempotent: true, ..self }
    }

    /// The same for what follows so many bytes.
    pub(super) fn after(self, offset: usize) -> Self {
        Self { from_byte: Some(offset), ..self }
    }

    pub(super) fn path(&self) -> &str {
        &self.path
    }

    fn request(&self, address: &Address, word: Option<&SecretString>) -> Result<Request<Full<Bytes>>> {
        let mut builder = Request::builder().method(self.method.clone()).uri(&self.path);
        builder = builder.header(header::HOST, address.to_string()).header(header::ACCEPT, "application/json");
        builder = builder.header(header::USER_AGENT, concat!("onggi/", env!("CARGO_PKG_VERSION")));
        if let Some(offset) = self.from_byte {
            builder = builder.header(header::RANGE, format!("bytes={offset}-"));
        }
        let (kind, body) = self.content.clone().unzip();
        if let Some(kind) = kind {
            builder = builder.header(header::CONTENT_TYPE, kind);
        }
        let unusable = |_| DirectorError::Malformed(format!("no request can be made for {:?}", self.path));
        let mut request = builder.body(Full::new(body.unwrap_or_default())).map_err(unusable)?;
        if let Some(word) = word {
            let value = HeaderValue::from_str(word.expose_secret());
            let mut value = value.map_err(|_| DirectorError::Denied("its token is none".to_owned()))?;
            value.set_sensitive(true);
            request.headers_mut().insert(header::AUTHORIZATION, value);
        }
        Ok(request)
    }
}

impl Wire {
    pub(super) fn new(route: Arc<Route>, authorities: &Authorities, trace: Option<Trace>) -> Result<Self> {
        let tls = TlsConnector::from(Arc::new(configuration(authorities)?));
        Ok(Self { route, tls, trace })
    }

    /// Asks until there is an answer, whatever it says.
    pub(super) async fn ask(
        &self,
        cx: &Context,
        address: &Address,
        ask: &Ask,
        word: Option<&SecretString>,
    ) -> Result<Answer> {
        for left in (0..=RETRIES).rev() {
            if let Some(trace) = &self.trace {
                trace(&format!("Sending {} request to endpoint 'https://{address}{}'", ask.method, ask.path));
            }
            let request = ask.request(address, word)?;
            let fault = match Box::pin(self.exchange(cx, address, request, &ask.path)).await {
                Ok(answer) if left > 0 && ask.is_idempotent && AGAIN.contains(&answer.status) => None,
                Ok(answer) => return Ok(answer),
                Err(fault) => Some(fault),
            };
            match fault {
                Some(Fault::Stopped(stop)) => return Err(stop.into()),
                Some(Fault::Connect(error)) if is_untrusted(&error) || left == 0 => {
                    return Err(refused(address, &error));
                }
                Some(Fault::Lost(text)) if !ask.is_idempotent || left == 0 => {
                    return Err(DirectorError::Unreachable(address.to_string(), text));
                }
                _ => cx.sleep(PAUSE).await?,
            }
        }
        unreachable!("the last turn returns")
    }

    async fn exchange(
        &self,
        cx: &Context,
        address: &Address,
        request: Request<Full<Bytes>>,
        path: &str,
    ) -> Result<Answer, Fault> {
        let connected = cx.limited(CONNECT, self.connect(address)).await.map_err(Fault::Stopped)?;
        let stream = connected.unwrap_or_else(|| Err(io::ErrorKind::TimedOut.into())).map_err(Fault::Connect)?;
        let answered = cx.limited(ANSWER, answer(stream, request, path)).await.map_err(Fault::Stopped)?;
        answered.unwrap_or_else(|| Err("it does not answer in time".to_owned())).map_err(Fault::Lost)
    }

    async fn connect(&self, address: &Address) -> io::Result<Box<dyn Stream>> {
        let name = ServerName::try_from(address.host.clone()).map_err(io::Error::other)?;
        let stream = self.route.dial(address).await?;
        Ok(Box::new(self.tls.connect(name, stream).await?))
    }
}

impl Answer {
    pub(super) fn is_unauthorized(&self) -> bool {
        self.status == 401
    }

    /// The path that it leads to, if it leads on. The host that it names may be one that only the Director sees.
    pub(super) fn redirect(&self) -> Result<Option<String>> {
        if !matches!(self.status, 301 | 302 | 303 | 307) {
            return Ok(None);
        }
        let path = self.location.as_deref().and_then(path_of);
        path.map(Some).ok_or_else(|| DirectorError::Malformed("it redirects to nowhere".to_owned()))
    }

    /// The same, if it is what was asked for.
    pub(super) fn successful(self) -> Result<Self> {
        match self.status {
            200 | 201 | 204 | 206 => Ok(self),
            status => Err(DirectorError::Status { status, text: head(&self.body) }),
        }
    }

    pub(super) fn json<T: DeserializeOwned>(&self) -> Result<T> {
        parse(&self.body)
    }
}

/// Sends and receives. The connection works beside it; if that ends first, the answer is there or never comes.
async fn answer(stream: Box<dyn Stream>, request: Request<Full<Bytes>>, path: &str) -> Result<Answer, String> {
    let begun = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await;
    let (mut sender, connection) = begun.map_err(|error| chain(&error))?;
    let exchange = async move {
        let (head, body) = sender.send_request(request).await.map_err(|error| chain(&error))?.into_parts();
        let body = Limited::new(body, BODY_BYTES_MAX).collect().await.map_err(|error| chain(&*error))?.to_bytes();
        let location = head.headers.get(header::LOCATION).and_then(|value| value.to_str().ok()).map(ToOwned::to_owned);
        Ok(Answer { status: head.status.as_u16(), path: path.to_owned(), body, location })
    };
    match select(pin!(exchange), pin!(connection)).await {
        Either::Left((answer, _)) => answer,
        Either::Right((_, exchange)) => exchange.await,
    }
}

fn certificate_fault(error: &io::Error) -> Option<&rustls::Error> {
    let fault = error.get_ref()?.downcast_ref::<rustls::Error>()?;
    matches!(fault, rustls::Error::InvalidCertificate(_)).then_some(fault)
}

fn is_untrusted(error: &io::Error) -> bool {
    certificate_fault(error).is_some()
}

fn refused(address: &Address, error: &io::Error) -> DirectorError {
    match certificate_fault(error) {
        Some(fault) => DirectorError::Untrusted(address.to_string(), fault.to_string()),
        None => DirectorError::Unreachable(address.to_string(), chain(error)),
    }
}
