//! Speaks with a cloud: one token for all, renewed before it ends and when it is refused, and what fails on the way is
//! asked again.

mod login;
mod transfer;

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use http::{HeaderValue, Method, header};
use reqwest::{Client as Http, RequestBuilder, Response};
use secrecy::ExposeSecret as _;
use tokio::sync::Mutex;

use self::login::Session;
use super::cloud::{Answer, Ask, Cloud, Fetched, Project, Service};
use super::credential::Credential;
use super::error::{CloudError, Result};
use crate::chain::chain;
use crate::context::{Context, Stop};
use crate::source::ByteStream;

/// Until a connection is there, TLS and all.
const CONNECT: Duration = Duration::from_secs(10);
/// Until an answer begins. Whatever takes longer is a task of the cloud; a snapshot of a server on a volume is not.
const ANSWER: Duration = Duration::from_mins(5);
/// The longest time in which not a byte comes.
const STALL: Duration = Duration::from_mins(1);
/// Repetitions of a request, and the pause before the first; each further one is twice as long.
const RETRIES: u32 = 5;
/// Repetitions while a service has never been reached: what is not there now was hardly there a moment ago.
const RETRIES_FIRST: u32 = 2;
const PAUSE: Duration = Duration::from_secs(1);
const PAUSE_MAX: Duration = Duration::from_mins(1);
/// The largest answer that is no image: the list of 1000 servers has about 5 MB.
const BODY_BYTES_MAX: usize = 64 << 20;
/// What is believed of a `Retry-After`.
const RETRY_AFTER_MAX: Duration = Duration::from_mins(5);

/// One project of a cloud.
pub(super) struct Client {
    http: Http,
    credential: Credential,
    held: Mutex<Option<Arc<Session>>>,
    /// The image store refused a range once.
    is_rangeless: AtomicBool,
    /// Services that have answered, a bit for each; one set for all projects.
    heard: Arc<AtomicU8>,
}

/// Why there is no answer.
enum Fault {
    /// The request was not sent.
    Connect(String),
    /// It may have been.
    Lost(String),
    Stopped(Stop),
}

impl Client {
    /// A client for this login; touches nothing but the file of authorities.
    pub(super) fn new(credential: Credential) -> Result<Self> {
        // Fails when another has installed it before, which is as good.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let unusable =
            |what: &str, error: &dyn std::fmt::Display| CloudError::Configuration(format!("{what}: {error}"));
        let mut authorities = Vec::new();
        if let Some(path) = credential.get("cacert") {
            let pem = std::fs::read(path).map_err(|error| unusable(path, &error))?;
            authorities = reqwest::Certificate::from_pem_bundle(&pem).map_err(|error| unusable(path, &error))?;
        }
        let builder = Http::builder()
            .user_agent(concat!("onggi/", env!("CARGO_PKG_VERSION")))
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(CONNECT)
            .http1_only()
            .referer(false)
            .no_proxy()
            .tls_danger_accept_invalid_certs(credential.is_insecure())
            .tls_certs_merge(authorities);
        let http = builder.build().map_err(|error| unusable("HTTP client", &error))?;
        let (held, heard) = (Mutex::default(), Arc::default());
        Ok(Self { http, credential, held, is_rangeless: AtomicBool::new(false), heard })
    }

    /// The same login in another project.
    pub(super) fn for_project(&self, id: &str) -> Self {
        Self {
            http: self.http.clone(),
            credential: self.credential.for_project(id),
            held: Mutex::default(),
            is_rangeless: AtomicBool::new(false),
            heard: Arc::clone(&self.heard),
        }
    }

    /// A service has answered.
    fn heard(&self, service: Service) {
        self.heard.fetch_or(1 << service as u8, Ordering::Relaxed);
    }

    /// How often a connection to a service is tried again.
    fn calls(&self, service: Service) -> u32 {
        let has_answered = self.heard.load(Ordering::Relaxed) & (1 << service as u8) != 0;
        if has_answered { RETRIES } else { RETRIES_FIRST }
    }

    /// Sends until there is an answer, with a token that is renewed once when it is refused. `build` is asked each time.
    async fn send(
        &self,
        cx: &Context,
        what: &How<'_>,
        build: impl Fn(&Session) -> Result<RequestBuilder>,
    ) -> Result<Response> {
        let mut session = self.session(cx, what.is_long).await?;
        let (mut is_renewed, mut turn) = (false, 0);
        loop {
            let mut token = HeaderValue::from_str(session.token.expose_secret())
                .map_err(|_| CloudError::Denied("its token is none".to_owned()))?;
            token.set_sensitive(true);
            let request = build(&session)?.header("X-Auth-Token", token);
            let exchanged = exchange(cx, request).await;
            if exchanged.is_ok() {
                self.heard(what.service);
            }
            let (pause, fault, most) = match exchanged {
                Ok(answer) if answer.status().as_u16() == 401 && !is_renewed => {
                    is_renewed = true;
                    session = self.renewed(cx, &session).await?;
                    continue;
                }
                Ok(answer) if answer.status().as_u16() == 401 => {
                    return Err(CloudError::Denied(format!("{}: a fresh token is refused", what.act)));
                }
                Ok(answer) if turn < RETRIES && what.is_worth_again(answer.status().as_u16()) => {
                    (Some(retry_after(&answer)), String::new(), RETRIES)
                }
                Ok(answer) => return Ok(answer),
                Err(Fault::Stopped(stop)) => return Err(stop.into()),
                Err(Fault::Lost(text)) if !what.is_repeatable => (None, text, RETRIES),
                Err(Fault::Lost(text)) => (Some(Duration::ZERO), text, RETRIES),
                Err(Fault::Connect(text)) => (Some(Duration::ZERO), text, self.calls(what.service)),
            };
            match pause {
                Some(pause) if turn < most => cx.sleep(pause.max(backoff(cx, turn))).await?,
                _ => return Err(CloudError::Unreachable(what.act.to_owned(), fault)),
            }
            turn += 1;
        }
    }
}

/// What may be done with a request that failed.
struct How<'a> {
    service: Service,
    act: &'a str,
    /// It may be sent twice.
    is_repeatable: bool,
    is_long: bool,
}

impl How<'_> {
    fn is_worth_again(&self, status: u16) -> bool {
        match status {
            // Nothing was done.
            429 | 503 => true,
            500 | 502 | 504 => self.is_repeatable,
            _ => false,
        }
    }
}

/// Doubles each turn, and a random part of it is left out, so that many do not come back at once.
fn backoff(cx: &Context, turn: u32) -> Duration {
    let whole = PAUSE.saturating_mul(1 << turn.min(10)).min(PAUSE_MAX);
    let half = whole / 2;
    half + half.mul_f64(f64::from(cx.world.random() as u32) / f64::from(u32::MAX))
}

fn retry_after(answer: &Response) -> Duration {
    let value = answer.headers().get(header::RETRY_AFTER).and_then(|value| value.to_str().ok());
    let seconds = value.and_then(|text| text.trim().parse().ok()).unwrap_or(0);
    Duration::from_secs(seconds).min(RETRY_AFTER_MAX)
}

async fn exchange(cx: &Context, request: RequestBuilder) -> Result<Response, Fault> {
    match cx.limited(ANSWER, request.send()).await.map_err(Fault::Stopped)? {
        Some(Ok(answer)) => Ok(answer),
        Some(Err(error)) if error.is_connect() => Err(Fault::Connect(chain(&error.without_url()))),
        Some(Err(error)) => Err(Fault::Lost(chain(&error.without_url()))),
        None => Err(Fault::Lost("it does not answer in time".to_owned())),
    }
}

/// Takes in a body that is no image.
async fn body(cx: &Context, act: &str, mut answer: Response) -> Result<Bytes> {
    limited_body(cx, act, &mut answer, BODY_BYTES_MAX).await
}

/// Takes in a body that has at most so many bytes.
async fn limited_body(cx: &Context, act: &str, answer: &mut Response, bytes_max: usize) -> Result<Bytes> {
    let lost = |text: String| CloudError::Unreachable(act.to_owned(), text);
    let mut whole = BytesMut::new();
    loop {
        let piece = cx.limited(STALL, answer.chunk()).await?;
        match piece.ok_or_else(|| lost("its answer stopped coming".to_owned()))? {
            Ok(Some(piece)) if whole.len() + piece.len() <= bytes_max => whole.extend_from_slice(&piece),
            Ok(Some(_)) => return Err(CloudError::Malformed(act.to_owned(), "it is too long".to_owned())),
            Ok(None) => return Ok(whole.freeze()),
            Err(error) => return Err(lost(chain(&error.without_url()))),
        }
    }
}

#[async_trait]
impl Cloud for Client {
    async fn project(&self, cx: &Context) -> Result<Project> {
        Ok(self.session(cx, false).await?.project.clone())
    }

    async fn has(&self, cx: &Context, service: Service) -> Result<bool> {
        Ok(self.session(cx, false).await?.endpoint(service).is_ok())
    }

    async fn ask(&self, cx: &Context, ask: Ask) -> Result<Answer> {
        let act = ask.act();
        let is_repeatable = ask.method != Method::POST;
        let how = How { service: ask.service, act: &act, is_repeatable, is_long: ask.is_long };
        // A body that breaks off is asked for again like an answer that never came.
        for turn in 0.. {
            let build = |session: &Session| self.request(session, &ask);
            let answer = self.send(cx, &how, build).await?;
            let status = answer.status().as_u16();
            let location = answer.headers().get(header::LOCATION).and_then(|value| value.to_str().ok());
            let location = location.map(ToOwned::to_owned);
            match body(cx, &act, answer).await {
                Err(CloudError::Unreachable(..)) if is_repeatable && turn < RETRIES => {
                    cx.sleep(backoff(cx, turn)).await?;
                }
                body => return Ok(Answer { status, location, body: body? }),
            }
        }
        unreachable!("the last turn returns")
    }

    async fn fetch(&self, cx: &Context, image: &str, from: u64) -> Result<Fetched> {
        let from = if self.is_rangeless.load(Ordering::Relaxed) { 0 } else { from };
        if let Some(fetched) = transfer::fetch(self, cx, image, from).await? {
            return Ok(fetched);
        }
        self.is_rangeless.store(true, Ordering::Relaxed);
        let whole = transfer::fetch(self, cx, image, 0).await?;
        whole.ok_or_else(|| CloudError::Malformed(format!("download {image}"), "no bytes".to_owned()))
    }

    async fn part(&self, cx: &Context, image: &str, range: Range<u64>) -> Result<Option<Bytes>> {
        if self.is_rangeless.load(Ordering::Relaxed) {
            return Ok(None);
        }
        let part = transfer::part(self, cx, image, range).await?;
        self.is_rangeless.fetch_or(part.is_none(), Ordering::Relaxed);
        Ok(part)
    }

    async fn fill(&self, cx: &Context, image: &str, length: u64, content: &mut dyn ByteStream) -> Result<()> {
        transfer::fill(self, cx, image, length, content).await
    }
}

impl Client {
    fn request(&self, session: &Session, ask: &Ask) -> Result<RequestBuilder> {
        let url = format!("{}{}", session.endpoint(ask.service)?, ask.path);
        let mut request = self.http.request(ask.method.clone(), url).header(header::ACCEPT, "application/json");
        if let (Service::Compute, Some(wanted)) = (ask.service, ask.version) {
            let minor = wanted.min(session.compute_max);
            request = request.header("OpenStack-API-Version", format!("compute 2.{minor}"));
        }
        if let Some(value) = &ask.body {
            let kind = ask.content_type.unwrap_or("application/json");
            request = request.header(header::CONTENT_TYPE, kind).body(value.to_string());
        }
        Ok(request)
    }
}
