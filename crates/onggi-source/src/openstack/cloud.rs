//! One project of a cloud, as far as this source needs it: the seam between what onggi does there and how it asks.
//!
//! A request is a value; [`Client`](super::client::Client) sends it, and tests answer it from memory. Answers are kept as
//! the documents that they are: fields that nobody here knows are stored like those that are read.

use std::ops::Range;

use async_trait::async_trait;
use bytes::Bytes;
use http::Method;
use serde_json::Value;

use super::error::{CloudError, Result};
use crate::context::Context;
use crate::source::ByteStream;

/// Pages that one list may have.
const PAGES_MAX: usize = 1000;

/// A service of the catalog.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Service {
    /// Nova.
    Compute,
    /// Glance.
    Image,
    /// Cinder.
    Volume,
    /// Neutron.
    Network,
    /// Keystone.
    Identity,
}

/// One request, before it is known who asks.
#[derive(Debug, Clone)]
pub(super) struct Ask {
    pub(super) service: Service,
    pub(super) method: Method,
    /// Below the service's address: `/servers/detail`.
    pub(super) path: String,
    pub(super) body: Option<Value>,
    /// Kind of the body, if not plain JSON.
    pub(super) content_type: Option<&'static str>,
    /// The highest microversion that its answer is understood in; less where the cloud has no more.
    pub(super) version: Option<u32>,
    /// What it starts may take long and uses our token: it must have time left.
    pub(super) is_long: bool,
}

/// What came back.
#[derive(Debug, Clone)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) location: Option<String>,
    pub(super) body: Bytes,
}

/// A download that has begun.
pub(super) struct Fetched {
    /// The offset of the first byte that comes: the one that was asked for, or 0 where the store has no ranges.
    pub(super) from: u64,
    /// Length of the whole.
    pub(super) length: Option<u64>,
    pub(super) pieces: Box<dyn Pieces>,
}

/// The bytes of a download as they come.
#[async_trait]
pub(super) trait Pieces: Send {
    /// The next piece; `None` at the end of what the server sent, which need not be the end of the image.
    async fn next(&mut self, cx: &Context) -> Result<Option<Bytes>>;
}

/// Which project is spoken with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Project {
    pub(super) id: String,
    pub(super) name: String,
    pub(super) region: String,
    /// What the token may do, for messages.
    pub(super) roles: Vec<String>,
}

/// One project of a cloud.
#[async_trait]
pub(super) trait Cloud: Send + Sync {
    /// Who we are there.
    async fn project(&self, cx: &Context) -> Result<Project>;
    /// Whether the catalog has this service.
    async fn has(&self, cx: &Context, service: Service) -> Result<bool>;
    /// Asks until there is an answer, whatever it says.
    async fn ask(&self, cx: &Context, ask: Ask) -> Result<Answer>;
    /// Opens the file of an image at an offset.
    async fn fetch(&self, cx: &Context, image: &str, from: u64) -> Result<Fetched>;
    /// Fetches a short range of an image's file; `None` where the store has no ranges.
    async fn part(&self, cx: &Context, image: &str, range: Range<u64>) -> Result<Option<Bytes>>;
    /// Fills an image with exactly so many bytes.
    async fn fill(&self, cx: &Context, image: &str, length: u64, content: &mut dyn ByteStream) -> Result<()>;
}

impl Ask {
    fn new(service: Service, method: Method, path: impl Into<String>) -> Self {
        Self { service, method, path: path.into(), body: None, content_type: None, version: None, is_long: false }
    }

    pub(super) fn get(service: Service, path: impl Into<String>) -> Self {
        Self::new(service, Method::GET, path)
    }

    pub(super) fn delete(service: Service, path: impl Into<String>) -> Self {
        Self::new(service, Method::DELETE, path)
    }

    pub(super) fn post(service: Service, path: impl Into<String>, body: Value) -> Self {
        Self { body: Some(body), ..Self::new(service, Method::POST, path) }
    }

    pub(super) fn put(service: Service, path: impl Into<String>, body: Value) -> Self {
        Self { body: Some(body), ..Self::new(service, Method::PUT, path) }
    }

    /// Changes properties of an image.
    pub(super) fn patch_image(id: &str, operations: Value) -> Self {
        let content_type = Some("application/openstack-images-v2.1-json-patch");
        let body = Some(operations);
        Self { body, content_type, ..Self::new(Service::Image, Method::PATCH, format!("/images/{id}")) }
    }

    /// Understood up to this microversion.
    pub(super) fn version(self, minor: u32) -> Self {
        Self { version: Some(minor), ..self }
    }

    /// Starts something that may take long.
    pub(super) fn long(self) -> Self {
        Self { is_long: true, ..self }
    }

    /// In words, for messages.
    pub(super) fn act(&self) -> String {
        let path = self.path.split('?').next().unwrap_or_default();
        format!("{} {:?} {path}", self.method, self.service)
    }
}

impl Answer {
    /// The body, if the answer is a good one.
    pub(super) fn document(&self, act: &str) -> Result<Value> {
        if !(200..300).contains(&self.status) {
            return Err(CloudError::Status { status: self.status, act: act.to_owned(), text: self.text() });
        }
        if self.body.is_empty() {
            return Ok(Value::Null);
        }
        serde_json::from_slice(&self.body).map_err(|error| CloudError::Malformed(act.to_owned(), error.to_string()))
    }

    /// What it says of a fault, in one line.
    pub(super) fn text(&self) -> String {
        const SHOWN: usize = 300;
        let value: Option<Value> = serde_json::from_slice(&self.body).ok();
        // {"badRequest": {"message": …}}, {"error": {"message": …}}, {"NeutronError": {"message": …}}
        let message = value.as_ref().and_then(|value| {
            let inner = value.as_object()?.values().next()?;
            inner.get("message").or(Some(inner))?.as_str().map(ToOwned::to_owned)
        });
        let text = message.unwrap_or_else(|| without_tags(&String::from_utf8_lossy(&self.body)));
        text.split_whitespace().collect::<Vec<_>>().join(" ").chars().take(SHOWN).collect()
    }
}

/// Glance answers faults in HTML.
fn without_tags(text: &str) -> String {
    let text = text.split_once("<body>").map_or(text, |(_, body)| body);
    let pieces = text.split('<').map(|piece| piece.split_once('>').map_or(piece, |(_, rest)| rest));
    pieces.collect::<Vec<_>>().join(" ")
}

/// Asks, and answers the document or the refusal.
pub(super) async fn document(cx: &Context, cloud: &dyn Cloud, ask: Ask) -> Result<Value> {
    let act = ask.act();
    let answer = cloud.ask(cx, ask).await?;
    match answer.document(&act) {
        Err(CloudError::Status { status: 403, act, text }) => {
            let roles = cloud.project(cx).await.map(|project| project.roles.join(", ")).unwrap_or_default();
            Err(CloudError::Status { status: 403, act, text: format!("{text} (our roles: {roles})") })
        }
        other => other,
    }
}

/// The same for what may not be there.
pub(super) async fn found(cx: &Context, cloud: &dyn Cloud, ask: Ask) -> Result<Option<Value>> {
    match document(cx, cloud, ask).await {
        Err(error) if error.is_not_found() => Ok(None),
        other => other.map(Some),
    }
}

/// Removes; what is not there is removed.
pub(super) async fn remove(cx: &Context, cloud: &dyn Cloud, service: Service, path: String) -> Result<()> {
    found(cx, cloud, Ask::delete(service, path)).await.map(drop)
}

/// All pages of a list. `key` names the list in each page.
pub(super) async fn pages(
    cx: &Context,
    cloud: &dyn Cloud,
    service: Service,
    path: String,
    key: &str,
    version: Option<u32>,
) -> Result<Vec<Value>> {
    let (mut all, mut path) = (Vec::new(), Some(path));
    for _ in 0..PAGES_MAX {
        let Some(at) = path.take() else { return Ok(all) };
        cx.check()?;
        let mut page = document(cx, cloud, Ask { version, ..Ask::get(service, at.clone()) }).await?;
        let next = next_of(&page, key, &at);
        if let Some(Value::Array(items)) = page.get_mut(key).map(Value::take) {
            all.extend(items);
        }
        path = next;
    }
    Err(CloudError::Malformed(format!("list {key}"), format!("it has more than {PAGES_MAX} pages")))
}

/// Where the page after this one is: Glance says `next`, the others have links. Only what follows the service's own address
/// is taken from it: the host in it may be one that only the cloud sees.
fn next_of(page: &Value, key: &str, asked: &str) -> Option<String> {
    // Cinder's are of one of the list.
    let names = [format!("{key}_links"), format!("{}_links", key.trim_end_matches('s'))];
    let links = names.iter().find_map(|name| page.get(name)).and_then(Value::as_array);
    let linked = links.and_then(|links| links.iter().find(|link| link["rel"] == "next"));
    let href = linked.and_then(|link| link["href"].as_str()).or_else(|| page.get("next").and_then(Value::as_str))?;
    let (path, query) = href.split_once('?')?;
    let own = asked.split('?').next().unwrap_or_default();
    let at = path.rfind(own)?;
    Some(format!("{}?{query}", &path[at..]))
}

/// A member of a document as text; empty where there is none.
pub(super) fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value.get(key).and_then(Value::as_str).unwrap_or_default()
}

/// The elements of a member that is a list.
pub(super) fn list<'a>(value: &'a Value, key: &str) -> impl Iterator<Item = &'a Value> {
    value.get(key).and_then(Value::as_array).into_iter().flatten()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_next_page_is_asked_for_at_our_own_address() {
        let href = |href: &str| json!([{ "rel": "next", "href": href }]);
        let servers = json!({"servers": [], "servers_links": href("http://inside/v2.1/servers/detail?marker=a")});
        assert_eq!(next_of(&servers, "servers", "/servers/detail").unwrap(), "/servers/detail?marker=a");
        let images = json!({"images": [], "next": "/v2/images?marker=b&limit=2"});
        assert_eq!(next_of(&images, "images", "/images?owner=p").unwrap(), "/images?marker=b&limit=2");
        assert_eq!(next_of(&json!({"images": []}), "images", "/images"), None);
        let groups = json!({"security_groups_links": href("http://inside/v2.0/security-groups?marker=c")});
        assert_eq!(next_of(&groups, "security_groups", "/security-groups").unwrap(), "/security-groups?marker=c");
        let types = json!({"volume_type_links": href("http://inside/v3/p/types?marker=d")});
        assert_eq!(next_of(&types, "volume_types", "/types").unwrap(), "/types?marker=d");
    }

    #[test]
    fn a_refusal_is_told_in_one_line() {
        let answer = |body: &str| Answer { status: 400, location: None, body: body.to_owned().into() }.text();
        assert_eq!(answer(r#"{"badRequest": {"code": 400, "message": "no\n such thing"}}"#), "no such thing");
        assert_eq!(answer("<html><body><h1>403 Forbidden</h1>Denied.</body></html>"), "403 Forbidden Denied.");
    }
}
