//! Enters: asks Keystone for a token, reads its catalog, and knows when the token ends.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use http::header;
use reqwest::Response;
use secrecy::{ExposeSecret as _, SecretString};
use serde_json::Value;

use super::{Client, Fault, RETRIES, backoff, body, exchange};
use crate::Timestamp;
use crate::context::Context;
use crate::openstack::cloud::{Project, Service, list, text};
use crate::openstack::error::{CloudError, Result};

/// A token that has less than this to live is fetched anew, so that it does not run out on its way.
const MARGIN: Duration = Duration::from_secs(30);
/// What a cloud does for hours with our token begins with at least this left, or half of its life if that is less.
const MARGIN_LONG: Duration = Duration::from_mins(30);

/// A token and what came with it.
pub(super) struct Session {
    pub(super) token: SecretString,
    pub(super) project: Project,
    /// The highest microversion of Nova, below 2.
    pub(super) compute_max: u32,
    endpoints: BTreeMap<Service, String>,
    life: Duration,
    ends_at: Duration,
}

impl Session {
    /// A service's address.
    pub(super) fn endpoint(&self, service: Service) -> Result<&str> {
        let missing = || CloudError::Unoffered(format!("the catalog has no address for {service:?}"));
        self.endpoints.get(&service).map(String::as_str).ok_or_else(missing)
    }

    fn lasts(&self, now: Duration, is_long: bool) -> bool {
        let wanted = if is_long { MARGIN_LONG.min(self.life / 2) } else { MARGIN.min(self.life / 2) };
        now + wanted < self.ends_at
    }
}

impl Client {
    /// The token that is held, or a fresh one. Several callers wait for one login.
    pub(super) async fn session(&self, cx: &Context, is_long: bool) -> Result<Arc<Session>> {
        let mut held = self.held.lock().await;
        let now = cx.world.elapsed();
        if let Some(session) = held.as_ref().filter(|session| session.lasts(now, is_long)) {
            return Ok(Arc::clone(session));
        }
        self.enter(cx, &mut held).await
    }

    /// Another token than this one, which was refused.
    pub(super) async fn renewed(&self, cx: &Context, refused: &Session) -> Result<Arc<Session>> {
        let mut held = self.held.lock().await;
        // Somebody else may have fetched one meanwhile.
        match held.as_ref() {
            Some(other) if other.token.expose_secret() != refused.token.expose_secret() => Ok(Arc::clone(other)),
            _ => self.enter(cx, &mut held).await,
        }
    }

    async fn enter(&self, cx: &Context, held: &mut Option<Arc<Session>>) -> Result<Arc<Session>> {
        *held = None;
        let base = self.identity(cx).await?;
        let request = self.credential.request();
        let answer = self.knock(cx, Service::Identity, "log in", || {
            let post = self.http.post(format!("{base}/auth/tokens"));
            post.header(header::CONTENT_TYPE, "application/json").body(request.to_string())
        });
        let answer = answer.await?;
        let status = answer.status().as_u16();
        let token = answer.headers().get("X-Subject-Token").and_then(|value| value.to_str().ok());
        let token = token.map(|token| SecretString::from(token.to_owned()));
        let said = body(cx, "log in", answer).await?;
        let answer = crate::openstack::cloud::Answer { status, location: None, body: said };
        if matches!(status, 400 | 401 | 403) {
            return Err(CloudError::Denied(format!("Keystone at {base} does not let us in: {}", answer.text())));
        }
        let document = answer.document("log in")?;
        let token = token.ok_or_else(|| CloudError::Malformed("log in".to_owned(), "no token came".to_owned()))?;
        let mut session = self.read(cx, &base, token, &document["token"])?;
        session.compute_max = self.compute_max(cx, &session).await?;
        let session = Arc::new(session);
        *held = Some(Arc::clone(&session));
        Ok(session)
    }

    fn read(&self, cx: &Context, base: &str, token: SecretString, document: &Value) -> Result<Session> {
        let moment = |key: &str| text(document, key).parse::<Timestamp>().ok();
        // Both are the cloud's own times, so that its clock need not agree with ours.
        let life = match (moment("issued_at"), moment("expires_at")) {
            (Some(from), Some(to)) => Duration::try_from(to.duration_since(from)).unwrap_or_default(),
            _ => MARGIN_LONG,
        };
        let project = &document["project"];
        if text(project, "id").is_empty() {
            return Err(CloudError::Configuration("the login is for no project; name one".to_owned()));
        }
        let (region, endpoints) = self.endpoints(base, document);
        let roles = list(document, "roles").map(|role| text(role, "name").to_owned()).collect();
        let (id, name) = (text(project, "id").to_owned(), text(project, "name").to_owned());
        Ok(Session {
            token,
            project: Project { id, name, region, roles },
            compute_max: 0,
            endpoints,
            life,
            ends_at: cx.world.elapsed() + life,
        })
    }

    /// The addresses of the services in our region, by the types that one service is met with.
    fn endpoints(&self, base: &str, document: &Value) -> (String, BTreeMap<Service, String>) {
        let wanted = self.credential.get("region_name");
        let mut found = BTreeMap::from([(Service::Identity, base.to_owned())]);
        let mut region = wanted.unwrap_or_default().to_owned();
        for entry in list(document, "catalog") {
            let (service, version) = match text(entry, "type") {
                "compute" => (Service::Compute, ""),
                "image" => (Service::Image, "/v2"),
                "volumev3" | "block-storage" | "volume" | "block-store" => (Service::Volume, ""),
                "network" => (Service::Network, "/v2.0"),
                _ => continue,
            };
            let ours = list(entry, "endpoints").find(|endpoint| {
                let own = [text(endpoint, "region_id"), text(endpoint, "region")];
                text(endpoint, "interface") == self.credential.interface()
                    && wanted.is_none_or(|wanted| own.contains(&wanted))
            });
            let Some(endpoint) = ours else { continue };
            if region.is_empty() {
                text(endpoint, "region_id").clone_into(&mut region);
            }
            let url = text(endpoint, "url").trim_end_matches('/');
            let url = if url.ends_with(version) { url.to_owned() } else { format!("{url}{version}") };
            found.entry(service).or_insert(url);
        }
        (region, found)
    }

    /// The address of Keystone's version 3. A link that it gives may name a host that only it sees, or http behind a
    /// TLS terminator: only its path is taken.
    async fn identity(&self, cx: &Context) -> Result<String> {
        let given = self.credential.get("auth_url").unwrap_or_default().trim_end_matches('/');
        if given.ends_with("/v3") {
            return Ok(given.to_owned());
        }
        let answer =
            self.knock(cx, Service::Identity, "ask for versions", || self.http.get(format!("{given}/"))).await?;
        let said = body(cx, "ask for versions", answer).await?;
        let said: Value = serde_json::from_slice(&said).unwrap_or_default();
        let versions = list(&said["versions"], "values").chain(list(&said, "versions"));
        let third = versions.into_iter().find(|version| text(version, "id").starts_with("v3"));
        let href = third.and_then(|version| list(version, "links").next()).map(|link| text(link, "href"));
        let path = href.and_then(|href| href.split_once("://")).and_then(|(_, rest)| rest.split_once('/'));
        let origin = given
            .split_once("://")
            .map_or(given.len(), |(scheme, rest)| scheme.len() + 3 + rest.find('/').unwrap_or(rest.len()));
        Ok(match path {
            Some((_, path)) => format!("{}/{}", &given[..origin], path.trim_end_matches('/')),
            None => format!("{given}/v3"),
        })
    }

    /// What Nova offers; its root says it to everybody.
    async fn compute_max(&self, cx: &Context, session: &Session) -> Result<u32> {
        let Ok(endpoint) = session.endpoint(Service::Compute) else { return Ok(1) };
        // Some addresses end with the project; the versions stand above it.
        let root = endpoint.find("/v2").map_or(endpoint, |at| {
            let rest = &endpoint[at + 1..];
            &endpoint[..at + 1 + rest.find('/').unwrap_or(rest.len())]
        });
        let token = session.token.expose_secret();
        let answer = self.knock(cx, Service::Compute, "ask Nova for its versions", || {
            self.http.get(format!("{root}/")).header("X-Auth-Token", token)
        });
        let said = body(cx, "ask Nova for its versions", answer.await?).await?;
        let said: Value = serde_json::from_slice(&said).unwrap_or_default();
        let max = text(&said["version"], "version").rsplit('.').next().and_then(|minor| minor.parse().ok());
        Ok(max.unwrap_or(1))
    }

    /// A request without a token, or about it, sent until there is an answer.
    async fn knock(
        &self,
        cx: &Context,
        service: Service,
        act: &str,
        build: impl Fn() -> reqwest::RequestBuilder,
    ) -> Result<Response> {
        let given_up = |text| {
            let at = self.credential.get("auth_url").unwrap_or_default();
            CloudError::Unreachable(format!("{act} at {at}"), text)
        };
        for turn in 0.. {
            match exchange(cx, build()).await {
                Ok(answer) if turn < RETRIES && matches!(answer.status().as_u16(), 429 | 500 | 502..=504) => {}
                Ok(answer) => {
                    self.heard(service);
                    return Ok(answer);
                }
                Err(Fault::Stopped(stop)) => return Err(stop.into()),
                Err(Fault::Connect(text)) if turn >= self.calls(service) => return Err(given_up(text)),
                Err(Fault::Lost(text)) if turn == RETRIES => return Err(given_up(text)),
                Err(Fault::Connect(_) | Fault::Lost(_)) => {}
            }
            cx.sleep(backoff(cx, turn)).await?;
        }
        unreachable!("the last turn returns")
    }
}
