//! How a client enters: with its secret in every request, or with a token that a UAA gives for it and that runs out.

use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use secrecy::{ExposeSecret as _, SecretString};
use serde::Deserialize;
use tokio::sync::Mutex;

use super::address::Address;
use super::model::Authentication;
use super::wire::{Ask, Wire};
use super::{DirectorError, Result};
use crate::context::Context;

/// The port of a UAA whose address names none.
const UAA_PORT: u16 = 443;
/// A token that has less than this to live is fetched anew, so that it does not run out on its way.
const MARGIN: Duration = Duration::from_secs(30);

/// The way in for one client.
pub(super) enum Entry {
    Basic(SecretString),
    Uaa(Box<Uaa>),
}

/// A UAA and the newest token that it gave.
pub(super) struct Uaa {
    address: Address,
    path: String,
    basic: SecretString,
    token: Mutex<Option<Token>>,
}

struct Token {
    word: SecretString,
    ends_at: Option<Duration>,
}

#[derive(Deserialize)]
struct TokenAnswer {
    token_type: String,
    access_token: String,
    expires_in: Option<u64>,
}

impl Entry {
    pub(super) fn new(how: Authentication, client: &str, secret: &SecretString) -> Result<Self> {
        let pair = BASE64_STANDARD.encode(format!("{client}:{}", secret.expose_secret()));
        let basic = SecretString::from(format!("Basic {pair}"));
        match how.kind.as_str() {
            "basic" => Ok(Self::Basic(basic)),
            "uaa" => {
                let url = how.options.url.ok_or_else(|| DirectorError::Malformed("it names no UAA".to_owned()))?;
                let rest = url.split_once("://").map_or(url.as_str(), |(_, rest)| rest);
                let below = rest.split_once('/').map_or("", |(_, path)| path).trim_matches('/');
                let path = if below.is_empty() { "/oauth/token".to_owned() } else { format!("/{below}/oauth/token") };
                let address = Address::parse(&url, UAA_PORT)?;
                Ok(Self::Uaa(Box::new(Uaa { address, path, basic, token: Mutex::default() })))
            }
            other => Err(DirectorError::Malformed(format!("it lets clients in by {other:?}"))),
        }
    }

    /// The value of the header that lets a request in.
    pub(super) async fn word(&self, cx: &Context, wire: &Wire) -> Result<SecretString> {
        let uaa = match self {
            Self::Basic(word) => return Ok(word.clone()),
            Self::Uaa(uaa) => uaa,
        };
        let mut held = uaa.token.lock().await;
        let now = cx.world.elapsed();
        if let Some(token) = held.as_ref().filter(|token| token.ends_at.is_none_or(|end| now + MARGIN < end)) {
            return Ok(token.word.clone());
        }
        uaa.fetch(cx, wire, &mut held).await
    }

    /// Another word than this one, which was refused; `None` where there is no other.
    pub(super) async fn renewed(
        &self,
        cx: &Context,
        wire: &Wire,
        refused: &SecretString,
    ) -> Result<Option<SecretString>> {
        let Self::Uaa(uaa) = self else { return Ok(None) };
        let mut held = uaa.token.lock().await;
        // Somebody else may have fetched one meanwhile.
        match held.as_ref() {
            Some(token) if token.word.expose_secret() != refused.expose_secret() => Ok(Some(token.word.clone())),
            _ => uaa.fetch(cx, wire, &mut held).await.map(Some),
        }
    }
}

impl Uaa {
    async fn fetch(&self, cx: &Context, wire: &Wire, held: &mut Option<Token>) -> Result<SecretString> {
        *held = None;
        let ask = Ask::form(&self.path, "grant_type=client_credentials");
        let answer = wire.ask(cx, &self.address, &ask, Some(&self.basic)).await?;
        if matches!(answer.status, 400 | 401 | 403) {
            let text = format!("the UAA at {} does not know the client or its secret", self.address);
            return Err(DirectorError::Denied(text));
        }
        let answer: TokenAnswer = answer.successful()?.json()?;
        let word = SecretString::from(format!("{} {}", answer.token_type, answer.access_token));
        let ends_at = answer.expires_in.map(|seconds| cx.world.elapsed().saturating_add(Duration::from_secs(seconds)));
        *held = Some(Token { word: word.clone(), ends_at });
        Ok(word)
    }
}
